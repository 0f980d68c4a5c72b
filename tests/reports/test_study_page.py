"""The study in the report and in the app: the recommended size, the curve, the sentence; and nothing where none was."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from pages import opened, sections

from tamis.reports import study_html
from tamis.reports.page_html import page
from tamis.reports.view import load
from tamis.run import Run
from tamis.schema import write_json
from tamis.study_answer import Plan, answer


def result(proxy: bool = False, **truth: float) -> dict:
    """The answer to cells that are right on a given share of 400 items, as `tamis study` writes it."""
    rng = np.random.default_rng(1)
    hard, rows = rng.random(400), []
    for name, accuracy in truth.items():
        method, size = name.split("_")
        for _ in range(1 if proxy and method == "all" else 3):
            right = (hard < accuracy + 0.002 * rng.standard_normal()).astype(float)
            outcome = {"metric": "accuracy", "width": 1, "values": right.tolist()}
            row = {"method": method, "size": int(size), "outcomes": [outcome], "components": list(range(400))}
            rows.append({**row, "tokens": None if proxy else 40 * int(size), "train_s": None if proxy else 9.0})
    found = answer(rows, Plan(0.04, [100, 200], ["cluster", "random"], 3, proxy=proxy))
    rest = {"items": 400, "curation_s": 3.0, "stability": [], "agreement": None, "left_out": 0}
    return {**found, **rest}


TRUTH = {"cluster_100": 0.7, "cluster_200": 0.9, "random_100": 0.5, "random_200": 0.8, "all_1000": 0.9}


def test_the_report_says_the_size_the_sentence_and_every_point(copy: Run):
    write_json(copy.path / "study" / "result.json", result(**TRUTH))
    html = page(load(copy))
    assert "How few rows are enough: 200 of 1,000 rows are enough, drawn by cluster" in html
    assert "at 100 rows cluster is better than random" in html
    assert "random: no size tried is enough" in html
    section = html.split('<section id="study">')[1].split("</section>")[0]
    assert section.count("<tr") == 6  # a header, four points, all rows
    assert "20.0%" in section  # of the tokens of all rows
    assert "NOT by training" not in section


def test_a_minus_sign_is_written_one_way_in_table_and_sentences(copy: Run):
    write_json(copy.path / "study" / "result.json", result(**TRUTH))
    (found,) = load(copy).studies
    assert "at worst −" in found.sentences[1]
    html = study_html.study(found)
    assert html.count("−") > 10
    assert not re.search(r"(?<![\w.])-\d", re.sub("<svg.*?</svg>|<[^>]+>", " ", html))


def test_intervals_and_the_limit_are_in_the_curve(copy: Run):
    write_json(copy.path / "study" / "result.json", result(**TRUTH))
    (found,) = load(copy).studies
    svg = study_html.curve(found)
    assert found.limit == pytest.approx(found.reference.value.value - 0.04)
    assert "all less the margin" in svg
    drawn = ET.fromstring(svg)
    assert len(drawn.findall(".//{*}circle")) == 5
    lines = [line for line in drawn.findall(".//{*}line") if line.get("stroke-width") == "1.5"]
    assert len(lines) == 6  # five intervals and the limit


def test_training_comes_before_the_proxy_and_the_proxy_is_called_one(copy: Run):
    write_json(copy.path / "proxy" / "result.json", result(proxy=True, **TRUTH))
    write_json(copy.path / "study" / "result.json", result(**TRUTH))
    view = load(copy)
    assert [s.judged_by for s in view.studies] == ["training", "a quick proxy, not by training"]
    assert page(view).count('<section id="study">') == 2


def test_a_study_that_cannot_be_read_is_said_to_be_and_the_rest_is_shown(copy: Run):
    write_json(copy.path / "study" / "result.json", {"metric": "accuracy"})
    view = load(copy)
    assert view.studies == ()
    assert any("the study has another shape" in p.what for p in view.problems)
    assert "Gates" in page(view)


def test_the_apps_page_shows_it_or_names_the_command(monkeypatch, copy: Run):
    app = opened(monkeypatch, copy.path, "study")
    assert any("tamis study RECIPE" in c.value for c in app.code)
    write_json(copy.path / "study" / "result.json", result(**TRUTH))
    assert "200 of 1,000 rows are enough" in sections(opened(monkeypatch, copy.path, "study"))
