"""What `tamis sweep` and `tamis compare` found is in the report and in the app, number by number."""

import json

import pytest
from pages import html_of, opened

from tamis.reports import written_numbers as written
from tamis.reports.markdown import markdown
from tamis.reports.page_html import LARGEST, page, write_html
from tamis.reports.redact import redacted
from tamis.reports.report_json import report_json
from tamis.reports.view import load
from tamis.schema import write_json


def interval(value: float, half: float = 0.03, unit: str | None = None) -> dict:
    return {"value": value, "lower": value - half, "upper": value + half, "n": 200, "method": "wilson", "unit": unit}


def row(arm: str, value: float, delta: float | None, **more) -> dict:
    told = {
        "arm": arm, "system": "tuned", "metric": "accuracy", "value": interval(value),
        "delta": None if delta is None else interval(delta), "p": 0.01, "p_holm": None if delta is None else 0.031,
        "told_apart": None if delta is None else True, "better": None if delta is None else delta > 0,
        "train_s": 95.6, "evaluate_s": 20.0, "tokens_per_s": 459.8, "peak_mb": 1263.0, "steps": 40, "cost": None,
        "currency": "USD",
    }  # fmt: skip
    return told | more


SWEEP = {
    "metric": "accuracy", "items": 120, "trained_rows": 300, "origin": "rows that were not chosen to train on",
    "planned": {"lr": 2e-4}, "best": {"arm": "lr-0.0006", "settings": {"lr": 6e-4}}, "stages": [],
    "rows": [
        row("planned", 0.90, None, settings={"lr": 2e-4, "target_modules": "all-linear"}),
        row("lr-0.0006", 0.95, 0.05, settings={"lr": 6e-4, "target_modules": ["q_proj", "v_proj"]}),
    ],
    "advice": "lr-0.0006 is better than planned beyond chance: train.lr: 0.0006.",
}  # fmt: skip
COMPARE = {
    "metric": "accuracy", "reference": "qlora", "items": 200, "general": 300,
    "rows": [
        row("base", 0.06, -0.87, train_s=None, tokens_per_s=None),
        row("qlora", 0.93, None, cost=0.0123, forgetting=interval(0.052, 0.01, "bits/byte")),
        row("full", 0.91, -0.02, told_apart=False, forgetting=interval(0.351, 0.01, "bits/byte")),
    ],
    "failed": {"fp4": "training would need 9.1 GB and 4.0 GB are free"},
}  # fmt: skip


@pytest.fixture
def tried(copy):
    write_json(copy.path / "sweep" / "result.json", SWEEP)
    write_json(copy.path / "compare" / "result.json", COMPARE)
    return copy


def test_a_run_without_them_has_no_such_section(finished):
    assert load(finished).tries == ()
    assert "Settings tried" not in page(load(finished))


def numbers(raw: dict) -> list[str]:
    """How each number of a file is written."""
    found = []
    for r in raw["rows"]:
        found += [written.share(r["value"]["value"]), written.limits("accuracy", *bounds(r["value"]))]
        if r["delta"]:
            found += [written.points(r["delta"]["value"]), written.limits("accuracy", *bounds(r["delta"]), of="delta")]
        found += [written.duration(r["train_s"])] if r["train_s"] else []
    return found


def bounds(told: dict) -> tuple[float, float]:
    return told["lower"], told["upper"]


def test_report_and_pages_show_every_number_of_both_files(monkeypatch, tried):
    pages = [html_of(opened(monkeypatch, tried.path, name)) for name in ("training", "overview")]
    for text in (page(load(tried)), *pages):
        assert "Settings tried" in text
        assert "Ways of training compared" in text
        for number in numbers(SWEEP) + numbers(COMPARE):
            assert number in text, number
        assert "target_modules: q_proj, v_proj" in text
        assert "lr-0.0006 is better than planned beyond chance" in text
        assert "fp4 was not trained: training would need 9.1 GB" in text
        assert "0.031" in text, "Holm's p-value"
        assert "$0.0123" in text
        assert "+0.351 bits/byte" in text or "+0.351" in text, "forgetting"


def test_what_is_told_apart_is_marked_and_what_is_not_is_not(tried):
    text = page(load(tried)).split('id="compare"')[1].split("</section>")[0]
    rows = {r.split("</b>")[0]: r for r in text.split('<tr><th scope="row"><b>')[1:]}
    assert "✗" in rows["base"]
    assert "✗" not in rows["full"]
    assert "✓" not in rows["full"]


def test_the_numbers_are_in_the_json_and_the_advice_in_the_markdown(tried):
    raw = report_json(load(tried))
    assert [t["kind"] for t in raw["tries"]] == ["sweep", "compare"]
    assert raw["tries"][0]["rows"][1]["value"]["value"] == 0.95
    assert raw["tries"][1]["rows"][2]["forgetting"]["value"] == 0.351
    assert "better than planned beyond chance" in markdown(load(tried))
    assert len(markdown(load(tried)).splitlines()) <= 60


def test_a_page_open_while_a_sweep_ends_shows_it(monkeypatch, copy):
    app = opened(monkeypatch, copy.path, "training")
    assert "Settings tried" not in html_of(app)
    write_json(copy.path / "sweep" / "result.json", SWEEP)
    assert "Settings tried" in html_of(app.run())


@pytest.mark.parametrize("harm", ["halve", "shape", "newer"])
def test_a_damaged_result_is_named_with_its_command_and_the_rest_stays(tried, harm):
    path = tried.path / "sweep" / "result.json"
    text = path.read_text()
    shapes = {"halve": text[: len(text) // 2], "shape": '{"rows": [3, {"arm": 1}], "metric": "accuracy"}'}
    path.write_text(shapes.get(harm) or json.dumps({**json.loads(text), "schema_version": 99}))
    view = load(tried)
    (problem,) = view.problems
    assert problem.what.startswith("the result of tamis sweep")
    assert problem.where == "sweep/result.json"
    assert ("pip install" if harm == "newer" else f"tamis sweep {tried.path}") in problem.repair
    assert [t.kind for t in view.tries] == ["compare"]


def test_hostile_names_and_many_rows_stay_text_and_small(tried):
    bad = "<img src=x onerror=alert(1)>\u202e ![x](http://e)"
    rows = [row(f"{bad}{i}" * 50, 0.5, -0.1, settings={bad: bad}) for i in range(500)]
    hostile = {"rows": rows, "advice": bad * 100, "origin": bad}
    write_json(tried.path / "sweep" / "result.json", SWEEP | hostile)
    write_json(tried.path / "compare" / "result.json", COMPARE | {"reference": bad, "rows": rows, "failed": {bad: bad}})
    text = write_html(tried).read_text()
    assert "<img" not in text
    assert "\u202e" not in text
    assert len(text.encode()) <= LARGEST
    assert "40 of 500 trainings shown" in text


def test_a_redacted_report_keeps_the_numbers_and_loses_paths_and_people(tried):
    failed = {"fp4": "no room in /home/anna/models, ask anna@example.com"}
    write_json(tried.path / "compare" / "result.json", COMPARE | {"failed": failed})
    text = page(redacted(load(tried)))
    assert "anna" not in text
    assert written.share(0.93) in text
