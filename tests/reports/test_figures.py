"""Figures: nothing cut off, nothing hidden, no reference to anything outside."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from tamis.reports import figures
from tamis.reports.figures import WIDTH, Curve, Dot, Limit, Point, Step
from tests.reports.colours import contrast

LONG = "a system with a very long name indeed, longer than any sensible person would choose"


def percent(x: float) -> str:
    return f"{x * 100:.1f}%"


def texts(svg: str) -> list[tuple[float, float, str, str]]:
    """(left, right, anchor, text) of every text, by the figure's own estimate of widths."""
    found = []
    for element in ET.fromstring(svg).iter():
        if not element.tag.endswith("}text") or element.get("fill") == "none":  # a rim: the same text stands on it
            continue
        x, anchor, text = float(element.get("x")), element.get("text-anchor"), element.text or ""
        wide = figures._width(text)
        left = x - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
        found.append((left, left + wide, anchor, text))
    return found


TUNED = Dot(LONG, 0.93, 0.9, 0.95, "93.0%")
BASE = Dot("base", 0.04, None, None, "4.0%")
AGAINST = Dot("against base", -0.2, -0.3, -0.1, "−20.0 points", "bad")
CLOSE = [
    Point("tuned · $0.12", 840, 0.803, 0.12, "t"),
    Point("ft-52k · $0.12", 845, 0.797, 0.12, "t"),
    Point("api-s · $0.12", 910, 0.82, 0.61, "t"),
    Point("api-l · $0.12", 1720, 0.874, 5.26, "t"),
    Point("base · $0.12", 640, 0.61, None, "t"),
]
FAR = [
    Point(LONG, 0.02, 0.1, 0.0, ""),
    Point("slow", 900.0, 0.9, 9.0, ""),
    Point("never", math.inf, 0.5, 1.0, ""),
]
STEPS = [Step("read", 1_000_000, 0), Step("deduplicate", 999_999, 1), Step(LONG, 0, 999_999)]
TIMES = [Curve("tuned", [1.0, 5.0, 3.0, math.inf], []), Curve("base", [2.0] * 1000, [])]
STACKS = [("kept", "bar", [1, 0]), ("dropped", "bad", [3, 2])]


def ms(x: float) -> str:
    return f"{x:,g} ms"


SVGS = {
    "whisker": figures.whisker([TUNED, BASE], percent, "t", limit=Limit(0.97, "limit ≥ 97.0%")),
    "one dot": figures.whisker([Dot("a", 0.5, 0.5, 0.5, "50%")], percent, "t"),
    "no dots": figures.whisker([], percent, "t"),
    "forest": figures.forest([AGAINST], percent, "t", margin=Limit(-0.02, "margin")),
    "pareto": figures.pareto(
        CLOSE, ms, percent, "t", x_name="p95 latency", y_name="accuracy", x_limit=800, y_limit=0.8
    ),
    "pareto log": figures.pareto(FAR, ms, percent, "t", x_name="x", y_name="y", log=True),
    "funnel": figures.funnel(STEPS, "t"),
    "ecdf": figures.ecdf(TIMES, ms, "t", x_name="latency"),
    "histogram": figures.histogram([0, 0.5, 1], STACKS, ms, "t", limit=Limit(0.5, "threshold")),
}


@pytest.mark.parametrize("name", SVGS)
def test_no_text_is_cut_off_at_either_side(name):
    for left, right, _, text in texts(SVGS[name]):
        assert left >= -1, text
        assert right <= WIDTH + 1, text


@pytest.mark.parametrize("name", SVGS)
def test_every_coordinate_is_a_number_inside_the_figure(name):
    assert "nan" not in SVGS[name]
    assert "inf" not in re.sub(r"[^\"]*infinite[^\"]*", "", SVGS[name])
    height = float(re.search(r'viewBox="0 0 \d+ (\d+)"', SVGS[name])[1])
    for element in ET.fromstring(SVGS[name]).iter():
        for attribute, most in (
            ("x", WIDTH),
            ("cx", WIDTH),
            ("x2", WIDTH),
            ("y", height),
            ("cy", height),
            ("y2", height),
        ):
            if (value := element.get(attribute)) is not None:
                assert -1 <= float(value) <= most + 1


@pytest.mark.parametrize("name", SVGS)
def test_it_has_a_name_for_screen_readers_and_refers_to_nothing(name):
    root = ET.fromstring(SVGS[name])
    assert root.get("role") == "img"
    assert root.get("aria-label") == "t"
    assert not [a for e in root.iter() for a in e.attrib if "href" in a]


def test_labels_of_close_points_do_not_overlap():
    labels = [(left, right, text) for left, right, anchor, text in texts(SVGS["pareto"]) if "·" in text]
    rows = {
        t: float(e.get("y")) for e in ET.fromstring(SVGS["pareto"]).iter() if (t := e.text) and "·" in t and e.get("y")
    }
    for i, (l1, r1, t1) in enumerate(labels):
        for l2, r2, t2 in labels[i + 1 :]:
            assert r1 <= l2 or r2 <= l1 or abs(rows[t1] - rows[t2]) >= figures.SIZE - 1, (t1, t2)


def test_a_system_without_latency_is_named_not_drawn():
    assert "not drawn, no latency or no value: never" in SVGS["pareto log"]


def test_a_failed_request_keeps_the_ecdf_below_one():
    svg = figures.ecdf([Curve("a", [1.0, math.inf], [])], str, "t", x_name="x")
    heights = [float(p.split(",")[1]) for p in re.search(r'polyline points="([^"]+)"', svg)[1].split()]
    top = figures.ecdf([Curve("a", [1.0, 2.0], [])], str, "t", x_name="x")
    assert min(heights) > min(float(p.split(",")[1]) for p in re.search(r'polyline points="([^"]+)"', top)[1].split())


def test_hostile_labels_are_text():
    svg = figures.whisker([Dot("<script>&\u202e", 1, 0, 2, '"><x>')], str, "<t>")
    assert "<script>" not in svg
    ET.fromstring(svg)


@pytest.mark.parametrize("palette", [figures.LIGHT, figures.DARK])
@pytest.mark.parametrize("role", ["ink", "muted", "candidate", "good", "bad", "unsure"])
def test_text_colours_can_be_read_on_their_ground(palette, role):
    assert contrast(palette[role], palette["ground"]) >= 4.5  # WCAG 2.2 AA
