"""The app's pages, each in the states a run can be in."""

import datetime
import shutil

import pytest
from pages import PAGES, opened, sections

from tamis.reports.launch import SETTINGS, command
from tamis.reports.view import load
from tamis.schema import write_json


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


def test_a_folder_of_the_users_own_is_no_run(monkeypatch, build, tmp_path):
    build(tmp_path / "made", read=400, kept=50, items=10, requests=5, arms=("chosen",))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.yaml").write_text("name: mine\n")
    (tmp_path / "code" / "curate").mkdir(parents=True)
    app = opened(monkeypatch, tmp_path)
    assert app.selectbox[0].options == ["made"]


def test_an_item_chosen_by_the_next_button_wins_over_the_row_still_selected(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "examples")
    app.session_state["list-1-None-None-"] = {"selection": {"rows": [3], "columns": [], "cells": []}}
    app.run()
    shown = load(finished, examples=None).examples.rows
    assert app.query_params["item"] == shown[3].id
    next(b for b in app.button if b.label == "next →").click()
    assert app.run().query_params["item"] == shown[4].id


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


def test_a_run_picked_in_the_list_is_opened(monkeypatch, build, tmp_path):
    small = {"read": 400, "kept": 50, "items": 20, "requests": 10}
    for name, verdict in (("first", "PASS"), ("second", "FAIL")):
        build(tmp_path / name, **small, verdict=verdict)
    app = opened(monkeypatch, tmp_path, "runs", run="second")
    table = sections(app)
    number = table.split(">first<")[0].rsplit("data-key=", 1)[1].strip('\\"')
    app.session_state["section-runs"] = {"picked": number}
    app.run()
    assert not app.exception
    assert app.selectbox[0].value == "first"
    assert "Release report" in sections(app)


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


# ------------------------------------------------------------------------------- the numbers are the report's


def numbers_of(run) -> dict:
    """`report.json` of a run, as a script would read it."""
    import json

    from tamis.reports.report_json import write_report_json

    return json.loads(write_report_json(run).read_text())


def test_every_page_shows_the_numbers_of_report_json(monkeypatch, copy):
    from tamis.reports import written_numbers as written

    raw = numbers_of(copy)
    systems = {(s["arm"], s["system"]): s for s in raw["systems"]["systems"]}
    tuned = systems["chosen", "tuned"]
    accuracy = f"{tuned['metrics']['accuracy']['value'] * 100:.1f}%"
    p95 = written.milliseconds(tuned["metrics"]["latency.e2e.p95"]["value"])
    pair = next(
        p
        for p in raw["systems"]["pairs"]
        if p["candidate"] == ["chosen", "tuned"] and p["baseline"][1] == "base" and p["metric"] == "accuracy"
    )
    funnel, counts = raw["funnel"], raw["examples"]["counts"]
    gate = next(g for g in raw["verdict"]["arms"][0]["gates"] if g["id"] == "slices")
    loss = raw["training"]["chosen"]["final_loss"]
    expected = {
        "overview": [raw["headline"], accuracy, p95, f"{pair['fixed']} fixed", f"{funnel['kept']}"],
        "compare": [written.points(pair["delta"]["value"]), f"{pair['fixed']} fixed", p95],
        "slices": [s["measure"]["metric"] and s["name"] for s in gate["slices"]],
        "curation": [written.count(step["left"]) for step in funnel["steps"]],
        "training": [written.number(loss)],
        "runs": [accuracy, p95, f"{funnel['kept']} of {written.count(funnel['read'])}", raw["headline"]],
        "method": [written.count(raw["systems"]["items"]), raw["verdict"]["policy_sha256"][:12]],
    }
    for page, wanted in expected.items():
        text = sections(opened(monkeypatch, copy.path, page))
        for value in wanted:
            assert str(value) in text, (page, value)
    captions = " ".join(c.value for c in opened(monkeypatch, copy.path, "examples").caption)
    assert all(f"{n:,} {change.replace('_', ' ')}" in captions for change, n in counts.items())


def test_the_map_page_counts_what_lies_in_the_lasso_of_the_url(monkeypatch, finished):
    from tamis.reports.projection import inside, project

    half = "0.0_65535.0_65535.32768_0.32768"
    app = opened(monkeypatch, finished.path, "map", lasso=half)
    shown = project(finished)
    held = inside(shown.xy, [[0, 0], [65535, 0], [65535, 32768], [0, 32768]])
    assert 0 < len(held) < len(shown)
    assert f"{len(held):,} rows in the region" in [s.value for s in app.subheader]


def test_a_lasso_that_was_drawn_goes_into_the_url(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "map")
    assert not app.subheader
    app.session_state["map"] = {"polygon": [[0, 0], [65535, 0], [65535, 65535], [0, 65535]]}
    app.run()
    assert not app.exception
    assert app.query_params["lasso"] == "0.0_65535.0_65535.65535_0.65535"
    assert "rows in the region" in app.subheader[0].value


def test_a_point_that_was_clicked_shows_its_fate(monkeypatch, finished):
    from tamis.reports.projection import project

    app = opened(monkeypatch, finished.path, "map")
    app.session_state["map"] = {"point": 5}
    app.run()
    id_ = project(finished).ids[5].as_py()
    assert app.query_params["row"] == id_
    assert id_ in sections(app)


def test_a_lasso_of_nonsense_in_the_url_is_no_lasso(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "map", lasso="1.2.3_<script>_..")
    assert not app.subheader


@pytest.mark.slow
def test_a_million_ledger_rows_are_no_burden(monkeypatch, build, tmp_path):
    run = build(tmp_path / "big", read=1_000_000, kept=5_000, items=100, requests=20)
    for page in PAGES:
        app = opened(monkeypatch, run.path, page)
        assert sum(len(part.proto.json) for part in app.get("bidi_component")) < 1_000_000, page
        assert sum(len(d.value) for d in app.dataframe) <= 50, page
    assert write_report_size(run) < 300_000


def write_report_size(run) -> int:
    from tamis.reports.page_html import write_html

    return write_html(run).stat().st_size


def test_an_app_that_does_not_want_to_end_is_ended(monkeypatch):
    import subprocess
    import sys

    from tamis.reports import launch

    monkeypatch.setattr(launch, "PATIENCE_S", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as server:
        server.stdout.readline()
        launch.stop(server)
        assert server.returncode == -9
