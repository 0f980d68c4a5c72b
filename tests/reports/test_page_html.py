"""The one-file report: what it says, what it never does, how large it gets."""

import html.parser
import re

import pytest

from tamis.reports.page_html import LARGEST, write_html
from tamis.run import Run
from tamis.schema import read_json, write_json

VOID = {"meta", "br", "hr", "line", "circle", "rect", "polyline"}


class Reader(html.parser.HTMLParser):
    """Checks nesting, collects tags and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.duplicates = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        names = [n for n, _ in attrs]
        self.duplicates += [(tag, n) for n in set(names) if names.count(n) > 1]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        names = [n for n, _ in attrs]
        self.duplicates += [(tag, n) for n in set(names) if names.count(n) > 1]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def page(finished, tmp_path_factory) -> str:
    return write_html(finished, tmp_path_factory.mktemp("out") / "r.html").read_text(encoding="utf-8")


def test_the_verdict_is_the_first_word_after_the_title(page):
    body = re.sub(r"<[^>]+>", " ", page.split("</header>")[1])
    assert body.split(None, 1)[1].startswith("Do not ship")


def test_every_number_of_the_systems_table_is_that_of_the_comparison(page, finished):
    for system in read_json(finished.comparison)["systems"]:
        assert f"{system['metrics']['accuracy']['value'] * 100:.1f}%" in page


def test_elements_are_nested_and_no_attribute_is_given_twice(page):
    assert read(page).duplicates == []


def test_nothing_is_fetched_and_nothing_runs(page):
    reader = read(page)
    assert not {"script", "link", "iframe", "img", "object", "embed", "form", "base"} & set(reader.tags)
    assert not [n for n, _ in reader.attributes if n in ("src", "href", "action", "srcdoc") or n.startswith("on")]
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_dark_colours_are_for_screens_only(page):
    assert "@media screen and (prefers-color-scheme:dark)" in page
    assert page.count("prefers-color-scheme") == 1


def test_a_failing_gate_shows_distance_and_lever(build, tmp_path):
    run = build(tmp_path / "r", read=400, kept=50, items=40, requests=30)
    raw = read_json(run.verdict)
    raw["arms"]["chosen"]["gates"][2]["lever"] = "lower max_tokens"
    write_json(run.verdict, raw)
    text = write_html(run).read_text()
    assert "short by " in text
    assert "Likeliest lever:</b> lower max_tokens" in text


def test_hostile_text_is_shown_as_text(build, tmp_path):
    run = build(tmp_path / "<b>bad", read=400, kept=50, items=60, requests=20, hostile=True)
    raw = read_json(run.verdict)
    for gate in raw["arms"]["chosen"]["gates"]:
        gate["id"] = gate["note"] = gate["lever"] = "<script>alert(1)</script>\u202e"
    raw["policy"]["path"] = raw["arms"]["chosen"]["requires"] = ["<img src=x onerror=alert(1)>"]
    write_json(run.verdict, raw)
    compared = read_json(run.comparison)
    for system in compared["systems"]:
        system["metrics"]["<svg onload=alert(1)>"] = {"value": 1.0, "note": "<i>"}
    write_json(run.comparison, compared)
    text = write_html(run).read_text(encoding="utf-8")
    reader = read(text)
    assert not {"script", "img", "i", "object"} & set(reader.tags)
    assert not [n for n, _ in reader.attributes if n.startswith("on")]
    assert "&lt;script&gt;" in text
    assert "\x00" not in text
    assert "\u202e" not in text


def test_it_stays_small_whatever_is_behind_it(build, tmp_path):
    run = build(tmp_path / "r", read=3000, kept=300, items=400, requests=20, hostile=True)
    raw = read_json(run.verdict)
    gate = raw["arms"]["chosen"]["gates"][0]
    gate["slices"] = [
        {"slice": f"s{i}" * 200, "verdict": "FAIL", "value": 0.5, "lower": 0.4, "upper": 0.6, "n": 30}
        for i in range(60)
    ]
    raw["arms"]["chosen"]["gates"] = [{**gate, "id": f"g{i}", "note": "<" * 5000} for i in range(60)]
    write_json(run.verdict, raw)
    compared = read_json(run.comparison)
    compared["systems"] += [{**compared["systems"][0], "system": f"api-{i}"} for i in range(200)]
    write_json(run.comparison, compared)
    path = write_html(run)
    assert path.stat().st_size <= LARGEST
    assert "gates shown" in path.read_text()


@pytest.mark.parametrize("make", ["nothing", "curate only"])
def test_an_unfinished_run_gives_a_page_that_says_so(tmp_path, build, make):
    import shutil

    run = Run(tmp_path / "r")
    if make == "curate only":
        run = build(tmp_path / "r", read=400, kept=50, items=20, requests=20)
        shutil.rmtree(run.path / "arms")
        run.verdict.unlink()
        run.comparison.unlink()
    text = write_html(run, tmp_path / "out.html").read_text()
    read(text)
    assert "tamis run" in text
    assert "Traceback" not in text


def test_the_same_run_gives_the_same_bytes(finished, tmp_path):
    assert (
        write_html(finished, tmp_path / "a.html").read_bytes() == write_html(finished, tmp_path / "b.html").read_bytes()
    )
