"""The app's pages, each in the states a run can be in."""

import datetime
import shutil

import pytest
from streamlit.testing.v1 import AppTest

from tamis.reports.launch import APP, ROOT_VARIABLE, SETTINGS, command
from tamis.reports.view import load
from tamis.schema import write_json

PAGES = ["overview", "compare", "examples", "slices", "curation", "map", "training", "runs", "method"]


def opened(monkeypatch, path, page: str = "overview", **query: str) -> AppTest:
    monkeypatch.setenv(ROOT_VARIABLE, str(path))
    app = AppTest.from_file(str(APP), default_timeout=30)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    if page != "overview":
        app.switch_page(f"views/{page}.py").run()
    assert not app.exception, app.exception[0].value
    return app


def sections(app: AppTest) -> str:
    """The HTML of every section on the page."""
    return "".join(part.proto.json for part in app.get("bidi_component"))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_a_finished_run(monkeypatch, finished, page):
    app = opened(monkeypatch, finished.path, page)
    assert not app.error


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_folder_gets_the_commands_that_make_a_run(monkeypatch, tmp_path, page):
    app = opened(monkeypatch, tmp_path, page)
    assert app.title[0].value == "No run here yet"
    assert any("tamis demo" in c.value for c in app.code)


@pytest.mark.parametrize("page", PAGES)
def test_a_running_run_shows_what_there_is_and_how_far_it_is(monkeypatch, copy, page):
    folder = copy.evaluate("chosen", "tuned")
    (folder / "stage.json").unlink()
    copy.verdict.unlink()
    copy.comparison.unlink()
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    write_json(
        folder / "progress.json", {"done": 96, "total": 200, "unit": "items", "eta_s": 26.0, "updated": now, "pid": 1}
    )
    app = opened(monkeypatch, copy.path, page)
    if page == "overview":
        assert "Still running" in sections(app)


@pytest.mark.parametrize("page", PAGES)
def test_a_stopped_run_names_the_command_that_goes_on(monkeypatch, copy, page):
    folder = copy.evaluate("chosen", "tuned")
    for name in ("stage.json", "samples.parquet", "metrics.json"):
        (folder / name).unlink()
    (folder / "samples.jsonl").write_text("")
    copy.verdict.unlink()
    copy.comparison.unlink()
    app = opened(monkeypatch, copy.path, page)
    if page == "overview":
        assert "tamis run" in sections(app)


@pytest.mark.parametrize("page", PAGES)
def test_damaged_files_are_no_traceback(monkeypatch, copy, page):
    for file in copy.path.rglob("*"):
        if file.is_file() and file.suffix in (".json", ".parquet", ".jsonl", ".yaml"):
            file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2])
    opened(monkeypatch, copy.path, page)


@pytest.mark.parametrize("page", PAGES)
def test_one_arm_and_no_baseline_is_enough(monkeypatch, build, tmp_path, page):
    run = build(tmp_path / "one", read=400, kept=50, items=40, requests=20, arms=("chosen",))
    shutil.rmtree(run.evaluate("chosen", "base"))
    opened(monkeypatch, run.path, page)


def test_the_overview_says_what_the_report_says(monkeypatch, finished):
    app, view = opened(monkeypatch, finished.path), load(finished)
    text = sections(app)
    assert "Do not ship" in text
    assert view.finding.split("(")[0] in text
    shown = {m.label: m.value for m in app.metric}
    assert shown["accuracy"] == view.candidate_row.get("accuracy").text
    assert shown["p95 latency"] == view.candidate_row.get("latency.e2e.p95").text


def test_a_slower_candidate_is_not_painted_green(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, baseline="linear")
    slow = next(m for m in app.metric if m.label == "p95 latency")
    assert slow.delta.startswith("+")
    assert slow.proto.color == slow.proto.MetricColor.RED


def test_the_run_arm_and_baseline_of_the_url_are_shown(monkeypatch, finished):
    app = opened(monkeypatch, finished.path.parent, run="demo", arm="random", baseline="base-best")
    assert [s.value for s in app.selectbox[:3]] == ["demo", "random", "base-best"]
    assert "random / tuned" in sections(app)


def test_a_changed_run_is_read_again(monkeypatch, copy):
    app = opened(monkeypatch, copy.path)
    assert "Do not ship" in sections(app)
    copy.verdict.unlink()
    assert "Do not ship" not in sections(app.run())


def test_the_server_listens_here_only_and_reports_to_nobody():
    assert SETTINGS["server.address"] == "127.0.0.1"
    assert SETTINGS["browser.gatherUsageStats"] == "false"
    assert "--server.port=0" in command()
    from streamlit.config import get_config_options

    assert set(SETTINGS) <= set(get_config_options())  # a misspelt setting would be ignored


# ------------------------------------------------------------------------------------- what a reader does


def select_row(app: AppTest, key: str, row: int) -> AppTest:
    app.session_state[key] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return app.run()


def shown(app: AppTest) -> str:
    assert not app.exception, app.exception[0].value
    return sections(app)


def test_examples_can_be_filtered_by_url_and_one_is_shown_whole(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "examples", baseline="linear", change="broken")
    broken = [e for e in load(finished, baseline="linear", examples=None).examples.rows if e.change == "broken"]
    assert len(app.dataframe[0].value) == len(broken)
    assert broken[0].key in shown(app)
    app = opened(monkeypatch, finished.path, "examples", baseline="linear", item=broken[1].id)
    assert broken[1].key in shown(app)


def test_a_filter_that_empties_the_list_is_named_and_can_be_cleared(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "examples", q="no such text at all")
    assert "“Text” removes the most, 200 of 200" in app.info[0].value
    app.button[0].click().run()
    assert not app.info
    assert len(app.dataframe[0].value) == 25


def test_the_next_button_goes_to_the_next_item(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "examples")
    rows = load(finished, examples=None).examples.rows
    assert rows[0].key in shown(app)
    next(b for b in app.button if b.label.startswith("next")).click().run()
    assert f"{rows[1].key} " in shown(app)


def test_a_dropped_row_shows_its_fate_and_witness(monkeypatch, finished):
    from tamis.reports.ledger_query import Filter, fate, page

    row = page(finished, Filter(reason="near"))[0]
    app = opened(monkeypatch, finished.path, "curation", row=row["id"])
    known = fate(finished, row["id"])
    text = shown(app)
    assert "near duplicates" in text
    assert known.witness["id"] in text
    assert f"{known.row['similarity']:.3f}" in text


def test_the_rows_behind_a_reason_are_those_of_the_funnel(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "curation", stage="deduplicate", reason="exact")
    assert any("180 rows; click one" in c.value for c in app.caption)


def test_what_if_counts_come_from_the_stored_scores(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "curation")
    app.slider[0].set_value(0.5).run()
    shown(app)
    from tamis.reports.ledger_query import what_if

    threshold = app.slider[0].value
    assert any(
        f"lie {what_if(finished, 'quality', threshold)['kept']} of the 300 kept rows" in c.value for c in app.caption
    )


def test_a_lasso_counts_its_rows_and_lists_them(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "map")
    app.session_state["map"] = {"polygon": [[-1, -1], [70_000, -1], [70_000, 70_000], [-1, 70_000]], "row": None}
    app.run()
    text = shown(app)
    assert "2,856 rows inside the lasso" in [s.value for s in app.subheader]
    assert "not needed" in text


@pytest.mark.parametrize("by", ["cluster", "label", "score quality"])
def test_the_map_can_be_coloured_and_searched(monkeypatch, finished, by):
    shown(opened(monkeypatch, finished.path, "map", colour=by))
    assert shown(opened(monkeypatch, finished.path, "map", map_q="parcel")) is not None


def test_a_row_clicked_on_the_map_is_shown(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "map")
    from tamis.reports.projection import project

    app.session_state["map_row"] = project(finished).ids[17]
    app.run()
    assert project(finished).ids[17] in shown(app)


def test_a_run_picked_in_the_list_can_be_opened(monkeypatch, finished):
    app = opened(monkeypatch, finished.path.parent, "runs")
    select_row(app, "runs-table", 0)
    shown(app)
    assert app.get("page_link")[0].proto.label == "→ Open demo"


def test_a_loss_that_is_no_number_is_marked_with_its_step(monkeypatch, copy):
    log = copy.train("chosen") / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n')
    app = opened(monkeypatch, copy.path, "training")
    assert "chosen: the loss was not a number at step 2." in app.error[0].value


def test_another_metric_can_be_compared(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "compare", metric="parse_rate")
    assert "parse rate, paired on the same 200 items" in shown(app)


def test_hostile_text_is_no_element_on_any_page(monkeypatch, build, tmp_path):
    run = build(tmp_path / "bad", read=400, kept=50, items=40, requests=20, hostile=True)
    for page in PAGES:
        text = shown(opened(monkeypatch, run.path, page))
        assert "<script" not in text
        assert "<img" not in text
        assert "\\u202e" not in text
        assert not [m for m in opened(monkeypatch, run.path, page).markdown if "script>" in m.value]
