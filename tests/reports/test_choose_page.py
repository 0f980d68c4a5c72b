"""The choice of a base in the report and the app: what was chosen, who fell and why, who was ruled out."""

import pytest
from make_run import HOSTILE
from pages import opened, sections

from tamis.reports.choose_parts import choosing
from tamis.reports.export import write_report
from tamis.reports.view import load
from tamis.schema import write_json


def interval(value, n=256):
    return {
        "value": value,
        "lower": value - 0.05,
        "upper": value + 0.05,
        "n": n,
        "method": "wilson",
        "confidence": 0.95,
    }


def candidate(name, **told):
    row = {"name": name, "kind": "base", "origin": "recipe", "status": "asked", "rejected": [], "on_front": False}
    return row | told


def result(name="whole"):
    return {
        "metric": "accuracy",
        "items": 256,
        "rounds": [{"items": 16}, {"items": 64}, {"items": 256}],
        "currency": "USD",
        "method": "Jamieson and Talwalkar 2016",
        "candidates": [
            candidate(
                name,
                items=256,
                value=interval(0.77),
                bits_per_byte=interval(0.9),
                p95_ms=interval(41.0, 72) | {"unit": "ms"},
                cost_per_1k=interval(0.002) | {"unit": "USD"},
                memory_gb=1.3,
                on_front=True,
            ),
            candidate("weak", items=16, value=interval(0.2, 16), fell={"after": 16, "why": "of the weaker half"}),
            candidate(
                "head", kind="encoder", items=256, value=interval(0.9), p95_ms=interval(4.0, 72) | {"unit": "ms"}
            ),
            candidate("large", status="rejected", rejected=["training needs 21.3 GB, cpu has 8.0 GB free"]),
            candidate("far", origin="catalogue", status="not here"),
        ],
        "front": [name, "head"],
        "recommended": {"name": name, "model": "org/whole", "why": "accuracy 0.770 on 256 items, more than chance"},
        "calls": {"asked": 624, "everything": 1536, "timed": 154},
        "recipe": "runs/x/choose/recipe.yaml",
    }


@pytest.fixture
def decided(copy):
    write_json(copy.path / "choose" / "result.json", result())
    return copy


def test_the_report_says_which_base_and_why(decided, tmp_path):
    write_report(decided, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    section = text.split('<section id="base">')[1].split("</section>")[0]
    assert "<b>whole</b>: accuracy 0.770 on 256 items, more than chance" in section
    assert "fell after 16 items: of the weaker half" in section
    assert "training needs 21.3 GB, cpu has 8.0 GB free" in section
    assert "624 model calls, where asking everyone everything takes 1,536" in section
    assert "Would fit, not on this machine: far" in section
    assert "77.0%" in section
    assert "41.0 ms" in section
    assert section.count("<svg") == 1


def test_the_page_shows_what_the_report_shows(monkeypatch, decided):
    app = opened(monkeypatch, decided.path, "choose")
    shown = sections(app)
    assert "training needs 21.3 GB" in shown
    assert "fell after 16 items" in shown
    assert any("tamis run runs/x/choose/recipe.yaml" in c.value for c in app.code)


def test_a_run_without_a_choice_says_how_to_make_one_and_its_report_has_no_section(monkeypatch, finished, tmp_path):
    app = opened(monkeypatch, finished.path, "choose")
    assert any("tamis choose" in c.value for c in app.code)
    write_report(finished, tmp_path / "r.html")
    assert 'id="base"' not in (tmp_path / "r.html").read_text()
    assert load(finished).choosing is None


def test_a_choice_that_cannot_be_read_is_a_problem_with_its_command(decided, monkeypatch):
    file = decided.path / "choose" / "result.json"
    file.write_bytes(file.read_bytes()[:100])
    view = load(decided)
    assert view.choosing is None
    assert any("the choice of a base" in p.what and "tamis choose" in p.repair for p in view.problems)
    opened(monkeypatch, decided.path, "choose")
    write_json(file, {"candidates": 3})
    assert any("another shape" in p.what for p in load(decided).problems)


def test_names_from_files_do_not_act(copy):
    write_json(copy.path / "choose" / "result.json", result(HOSTILE))
    text = choosing(load(copy).choosing)
    assert "<script" not in text
    assert "<img" not in text
