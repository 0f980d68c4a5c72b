"""The whole line on a tiny model: raw rows in, a verdict and a report out, and nothing done twice."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tamis.loop import Arm, run_all
from tamis.recipe import Recipe
from tamis.run import Run

INTENTS = ("cancel order", "track order", "refund")
POLICY = """
evidence: {candidate: tuned, baseline: base}
defaults: {min_n: 5}
gates:
  - {id: floor, metric: accuracy, require: "lower >= 0.99"}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("loop")
    rows = [
        {"text": f"{intent} number {w} please", "intent": intent}
        for intent in INTENTS
        for w in ["one", "two", "three", "four", "five", "six"]
    ]
    items = [{"text": f"{intent} for {w}", "intent": intent} for intent in INTENTS for w in ("Mai", "Lan", "Jo")]
    for name, table in (("rows", rows), ("items", items)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in table))
    (folder / "policy.yaml").write_text(POLICY)
    recipe = Recipe.check(
        {
            "name": "loop",
            "data": {"path": str(folder / "rows.jsonl")},
            "eval": {"path": str(folder / "items.jsonl")},
            "embedder": "lsa",
            "curate": {"select": {"size": 6}},
            "model": str(tiny_model),
            "train": {"epochs": 1, "r": 4},
            "evaluate": {
                "task": {"kind": "classify"},
                "systems": ["base", "tuned", "majority"],
                "latency": {"requests": 2, "warmup": 1},
            },
            "gate": str(folder / "policy.yaml"),
        }
    )
    run = Run(folder / "run")
    arms = [Arm("chosen"), Arm("random", "found", 6)]
    return run, recipe, arms, run_all(run, recipe, arms, quiet=True)


def test_a_run_ends_with_a_verdict_on_each_arm_and_a_report(finished):
    run, _, _, found = finished
    assert set(found["verdict"]["arms"]) == {"chosen", "random"}
    assert found["verdict"]["exit_code"] in (1, 3, 4)  # six rows do not teach a random model
    page = (run.report / "report.html").read_text(encoding="utf-8")
    assert len(page) < 300_000
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (run.report / "gates.junit.xml").is_file()


def test_shared_systems_are_evaluated_once(finished):
    run, *_ = finished
    assert run.systems("chosen") == ["base", "majority", "tuned"]
    assert run.systems("random") == ["majority", "tuned"]


def test_a_second_run_does_nothing(finished):
    run, recipe, arms, _ = finished
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("stage.json")}
    assert run_all(run, recipe, arms, quiet=True)["skipped"]
    assert {p: p.stat().st_mtime_ns for p in run.path.rglob("stage.json")} == before


def test_another_policy_is_a_change_although_no_stage_has_work(finished):
    run, recipe, arms, found = finished
    Path(recipe.gate).write_text(POLICY.replace("0.99", "0.0"))

    again = run_all(run, recipe, arms, quiet=True)

    assert again["verdict"] != found["verdict"]
    assert again["skipped"] is False
    assert run_all(run, recipe, arms, quiet=True)["skipped"] is True


def test_a_report_that_was_not_written_yet_is_work(finished):
    run, recipe, arms, _ = finished
    (run.report / "report.html").unlink()

    assert run_all(run, recipe, arms, quiet=True)["skipped"] is False


def moved(recipe, part, folder):
    """The recipe with one of its files in another folder."""
    there = shutil.copy(getattr(recipe, part).path, folder)
    return recipe.model_copy(update={part: getattr(recipe, part).model_copy(update={"path": str(there)})})


def test_a_moved_evaluation_file_changes_nothing(finished, tmp_path):
    run, recipe, arms, _ = finished
    run_all(run, recipe, arms, quiet=True)

    assert run_all(run, moved(recipe, "eval", tmp_path), arms, quiet=True)["skipped"] is True


def test_moved_data_is_read_again_but_not_trained_on_again(finished, tmp_path):
    """The ledger names the file of each row, which must lead there; an adapter does not depend on it."""
    run, recipe, arms, _ = finished

    found = run_all(run, moved(recipe, "data", tmp_path), arms, quiet=True)

    assert found["funnel"]["skipped"] is False
    assert [a["skipped"] for a in found["arms"].values()] == [True, True]
    ledger = pq.read_table(run.curate / "ledger.parquet")
    assert set(ledger["file"].to_pylist()) == {str(tmp_path / "rows.jsonl")}
