"""What the app's pages say, and what a reader does on them. The states of a run: `test_states.py`."""

import pytest
from pages import PAGES, opened, sections

from tamis.reports.launch import SETTINGS, command
from tamis.reports.view import load


@pytest.mark.parametrize("page", PAGES)
def test_damaged_files_are_no_traceback(monkeypatch, copy, page):
    for file in copy.path.rglob("*"):
        if file.is_file() and file.suffix in (".json", ".parquet", ".jsonl", ".yaml"):
            file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2])
    opened(monkeypatch, copy.path, page)


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
