"""Run folders, whole and broken, as view-models."""

import json
import re
import shutil

import pytest

from tamis.reports import written_numbers as written
from tamis.reports.view import load
from tamis.run import Run
from tamis.schema import read_json, write_json


def test_the_finding_names_rows_quality_base_random_rows_and_cost(finished):
    view = load(finished)
    raw = read_json(finished.comparison)
    tuned = next(s for s in raw["systems"] if (s["arm"], s["system"]) == ("chosen", "tuned"))
    value = tuned["metrics"]["accuracy"]["value"]
    assert view.finding.startswith(
        f"Trained on 300 of 3,000 rows (10.0%), the tuned model reaches {value * 100:.1f}% accuracy (95% interval "
    )
    assert "above the untuned base" in view.finding
    assert "the same on as many rows drawn at random" in view.finding
    costs = [next(v["value"] for k, v in s["metrics"].items() if k.endswith("_per_1k")) for s in (tuned, raw_base(raw))]
    share = written.times(costs[0] / costs[1])
    assert view.finding.endswith(f"; 1,000 requests cost ${costs[0]:.4f}, {share} what the untuned base costs.")


def raw_base(comparison: dict) -> dict:
    return next(s for s in comparison["systems"] if s["system"] == "base")


def test_without_a_price_of_the_baseline_the_finding_compares_no_cost(copy):
    raw = read_json(copy.comparison)
    base = raw_base(raw)["metrics"]
    base.pop(next(k for k in base if k.endswith("_per_1k")))
    write_json(copy.comparison, raw)
    assert re.search(r"; 1,000 requests cost \$[\d.]+\.$", load(copy).finding)


def test_a_difference_whose_interval_holds_zero_is_never_called_a_gain(copy):
    raw = read_json(copy.comparison)
    for pair in raw["pairs"]:
        pair["delta"].update(value=0.01, lower=-0.02, upper=0.04)
    write_json(copy.comparison, raw)
    finding = load(copy).finding
    assert "above" not in finding
    assert "not distinguishable from the untuned base (+1.0 points, interval −2.0 to +4.0 points)" in finding


def test_a_loss_is_called_a_loss(copy):
    raw = read_json(copy.comparison)
    for pair in raw["pairs"]:
        pair["delta"].update(value=-0.041, lower=-0.06, upper=-0.02)
    write_json(copy.comparison, raw)
    assert "4.1 points below the untuned base (−6.0 to −2.0 points)" in load(copy).finding


def test_linear_beating_the_tuned_model_is_said(copy):
    raw = read_json(copy.comparison)
    for pair in raw["pairs"]:
        if pair["baseline"]["system"] == "linear":
            pair["delta"].update(value=-0.03, lower=-0.05, upper=-0.01)
    write_json(copy.comparison, raw)
    assert any(n.startswith("`linear`") and "beats the tuned model" in n for n in load(copy).notes)


def test_linear_losing_is_no_news(copy):
    raw = read_json(copy.comparison)
    for pair in raw["pairs"]:
        pair["delta"].update(value=0.3, lower=0.2, upper=0.4)
    write_json(copy.comparison, raw)
    assert not any("linear" in n for n in load(copy).notes)


@pytest.mark.parametrize(
    ("verdict", "word"),
    [("PASS", "Ship"), ("FAIL", "Do not ship"), ("INCONCLUSIVE", "Not certain"), ("INVALID", "Cannot be trusted")],
)
def test_the_headline_is_the_verdict_in_words(build, tmp_path, verdict, word):
    view = load(build(tmp_path / "r", read=400, kept=50, items=100, verdict=verdict))
    assert view.headline == word


def test_the_distance_is_from_the_judged_bound_to_the_limit(finished):
    gates = {g.id: g for g in load(finished).verdict.main.gates}
    assert gates["floor"].distance == pytest.approx(gates["floor"].measure.lower - 0.7)
    assert gates["speed"].distance == pytest.approx(400 - gates["speed"].measure.upper)
    assert gates["speed"].distance_text.startswith("short by ")
    assert gates["floor"].distance_text.endswith("to spare")


def test_examples_come_broken_first_and_the_counts_are_those_of_the_pair_table(finished):
    view = load(finished, baseline="linear", examples=None)
    table = next(
        p["table"]
        for p in read_json(finished.comparison)["pairs"]
        if p["metric"] == "accuracy"
        and p["candidate"]["system"] == "tuned"
        and p["baseline"] == {"arm": "chosen", "system": "linear"}
    )
    assert view.examples.counts == {k: n for k, n in table.items() if n}
    assert view.examples.rows[0].change == "broken"
    assert len(view.examples.rows) == view.examples.total == 200
    first = view.examples.rows[0]
    assert first.baseline == first.expected != first.candidate
    assert "im_start" not in first.prompt  # what a person asked, not what the template made of it


def test_another_arm_can_be_looked_at(finished):
    view = load(finished, arm="random")
    assert view.candidate_row.arm == "random"
    assert view.baseline_row.system == "base"  # evaluated once, in the first arm


def test_an_empty_folder_says_how_to_fill_it(tmp_path):
    view = load(Run(tmp_path / "nothing"))
    assert view.state == "empty"
    assert view.headline == "Nothing here yet"
    assert all(p.severity == "missing" and "tamis" in p.repair for p in view.problems)


def test_a_running_stage_is_seen_with_its_progress(copy):
    import datetime

    folder = copy.evaluate("chosen", "tuned")
    (folder / "stage.json").unlink()
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    write_json(
        folder / "progress.json",
        {"stage": "e", "done": 96, "total": 200, "unit": "items", "rate": 4.0, "eta_s": 26.0, "updated": now, "pid": 1},
    )
    view = load(copy)
    stage = next(s for s in view.stages if s.state == "running")
    assert (stage.done, stage.total, stage.eta_s) == (96, 200, 26.0)
    assert view.state == "running"


def test_a_stage_whose_process_is_gone_has_stopped(copy):
    folder = copy.evaluate("chosen", "tuned")
    (folder / "stage.json").unlink()
    write_json(
        folder / "progress.json", {"done": 96, "total": 200, "updated": "2020-01-01T00:00:00Z", "pid": 2**22 + 1}
    )
    assert load(copy).state == "stopped"


DAMAGE = {
    "half a file": b'{"schema_version": 1, "verd',
    "empty": b"",
    "not an object": b"[1, 2]",
    "another shape": b'{"schema_version": 1, "systems": 3, "arms": [], "verdict": null, "read": "many", "dropped": []}',
    "nulls": b'{"schema_version": 1, "systems": [null, {"arm": 1}], "pairs": [{}], "arms": {"chosen": null}, '
    b'"verdict": "PASS", "arm": "x", "read": null}',
    "binary": bytes(range(256)),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "file", ["comparison.json", "verdict.json", "curate/funnel.json", "arms/chosen/train/stage.json", "arms.json"]
)
def test_a_damaged_file_is_named_with_the_command_that_repairs_it(copy, file, damage):
    (copy.path / file).write_bytes(DAMAGE[damage])
    view = load(copy)
    assert view.stages
    no_shape = file.endswith(("arms.json", "stage.json"))  # any object will do for these
    if not (no_shape and damage in ("another shape", "nulls")) and file != "arms.json":
        assert any("tamis " in p.repair for p in view.problems if p.severity != "missing")


@pytest.mark.parametrize(
    "file",
    ["curate/eval.parquet", "arms/chosen/evaluate/tuned/samples.parquet", "arms/chosen/evaluate/base/samples.parquet"],
)
def test_a_damaged_parquet_file_costs_only_its_own_part(copy, file):
    (copy.path / file).write_bytes(b"PAR1 but not really")
    view = load(copy)
    assert view.verdict is not None
    assert view.systems is not None
    assert any(file.endswith(p.where) or p.where in file for p in view.problems)


def test_a_folder_of_a_newer_tamis_asks_for_an_upgrade(copy):
    raw = json.loads(copy.verdict.read_text())
    copy.verdict.write_text(json.dumps({**raw, "schema_version": 99}))
    assert [p.repair for p in load(copy).problems] == ["pip install --upgrade tamis"]


@pytest.mark.parametrize(
    "gone", ["verdict.json", "comparison.json", "curate", "arms", "recipe.yaml", "curate/eval.parquet"]
)
def test_a_missing_part_is_no_crash(copy, gone):
    path = copy.path / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert load(copy).problems


def test_a_funnel_that_does_not_add_up_is_reported(copy):
    path = copy.curate / "funnel.json"
    write_json(path, {**read_json(path), "kept": 299})
    assert any("does not add up" in p.what for p in load(copy).problems)


def test_a_path_with_spaces_is_quoted_in_commands(build, tmp_path):
    run = build(tmp_path / "my run; rm -rf", read=400, kept=50, items=20, requests=20)
    run.verdict.unlink()
    assert f"tamis gate '{run.path}'" in [p.repair for p in load(run).problems]


def test_a_run_that_was_only_curated_is_not_called_stopped(build, tmp_path):
    run = build(tmp_path / "r", read=400, kept=50, items=20, requests=20)
    shutil.rmtree(run.path / "arms")
    run.verdict.unlink()
    run.comparison.unlink()
    view = load(run)
    assert view.state == "partial"
    assert view.headline == "No verdict yet"
    assert {p.severity for p in view.problems} == {"missing"}


def test_the_held_out_loss_and_mfu_of_a_training_have_curves(copy):
    """They stand in the log under the names that training gives them."""
    from tamis.reports.folder import Folder
    from tamis.reports.training_view import training_view

    lines = [{"step": n, "loss": 2.0, "held_out_loss": 3.0 - n, "mfu": 0.4} for n in (1, 2)]
    (copy.train("chosen") / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    curves = training_view(Folder(copy), "chosen").curves

    assert curves["evaluation loss"] == [(1.0, 2.0), (2.0, 1.0)]
    assert curves["MFU"] == [(1.0, 0.4), (2.0, 0.4)]
