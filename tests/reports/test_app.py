"""The app's pages, each in the states a run can be in."""

import datetime
import shutil

import pytest
from streamlit.testing.v1 import AppTest

from tamis.reports.launch import APP, ROOT_VARIABLE, SETTINGS, command
from tamis.reports.view import load
from tamis.schema import write_json

PAGES = ["overview", "compare", "examples", "slices", "curation", "training", "runs", "method"]


def opened(monkeypatch, path, page: str = "overview", **query: str) -> AppTest:
    monkeypatch.setenv(ROOT_VARIABLE, str(path))
    app = AppTest.from_file(str(APP), default_timeout=30)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    if page != "overview":  # a test cannot open a page directly, and the first page forgets what only others know
        for name, value in query.items():
            app.query_params[name] = value
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


def test_a_run_picked_in_the_list_can_be_opened(monkeypatch, finished):
    app = opened(monkeypatch, finished.path.parent, "runs")
    app.session_state["runs-table"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    app.run()
    next(b for b in app.button if b.label == "Open demo").click().run()
    assert not app.exception
    assert "Do not ship" in sections(app)


def test_a_loss_that_is_no_number_is_marked_with_its_step(monkeypatch, copy):
    log = copy.train("chosen") / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n')
    app = opened(monkeypatch, copy.path, "training")
    assert "chosen: the loss was not a number at step 2." in app.error[0].value


def test_the_plan_of_a_training_is_shown_with_its_reasons(monkeypatch, finished):
    assert "capacity for 9,120 loss tokens" in sections(opened(monkeypatch, finished.path, "training"))


@pytest.mark.parametrize(
    ("page", "key", "pick"), [("compare", "changes", "broken"), ("slices", "slices-slices", "block card")]
)
def test_a_click_on_an_aggregate_leads_to_its_items(monkeypatch, finished, page, key, pick):
    app = opened(monkeypatch, finished.path, page, baseline="linear")
    app.session_state[f"section-{key}"] = {"picked": pick}
    app.run()
    assert not app.exception
    assert app.title[0].value == "Examples"


def test_examples_can_be_opened_filtered_by_their_url(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "examples", baseline="linear", change="broken")
    broken = [e for e in load(finished, baseline="linear", examples=None).examples.rows if e.change == "broken"]
    assert len(app.dataframe[0].value) == len(broken)
