"""What becomes of a verdict: it is given where it cannot be written, and goes when the recipe has no gate any more."""

from __future__ import annotations

import subprocess

import pytest

from tamis import loop
from tamis.recipe import Recipe
from tamis.run import Run
from tests.evaluate.conftest import Evaluated
from tests.tamis.calling import tamis

POLICY = 'requires: {same: [], checks: [complete]}\ngates: [{id: a, metric: accuracy, require: "lower >= 0.8"}]'


@pytest.fixture
def disk(tmp_path):
    """A folder that can be mounted again as read-only."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize(("right", "code"), [(390, 0), (200, 1)])
def test_a_run_on_a_read_only_disk_is_judged_and_the_exit_code_counts(disk, tmp_path, right, code):
    evaluated = Evaluated(Run(disk / "run"))
    evaluated.add(right=[1] * right + [0] * (400 - right))
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

    done = tamis("gate", str(evaluated.run.path), "--policy", str(policy))

    assert done.code == code
    assert ("PASS" if code == 0 else "FAIL") in done.out
    assert "the verdict could not be written: Read-only file system" in done.err
    assert "it counts all the same" in done.err
    assert not evaluated.run.verdict.exists()


def test_a_verdict_goes_when_the_gate_leaves_the_recipe(tmp_path):
    evaluated = Evaluated(Run(tmp_path / "run"))
    run, policy = evaluated.run, evaluated.policy(POLICY)
    evaluated.add(right=[1] * 400)
    raw = {"name": "x", "eval": {"path": "e.jsonl"}, "evaluate": {"systems": ["base"], "task": {"kind": "classify"}}}
    loop.write_down(run, Recipe.check(raw | {"gate": str(policy)}))
    loop.judge(run, policy)
    loop.write_down(run, Recipe.check(raw | {"gate": str(policy)}))
    assert run.verdict.is_file()

    loop.write_down(run, Recipe.check(raw))

    assert not run.verdict.exists()
    assert not (run.report / loop.JUNIT).exists()
    loop.judge(run, policy)  # asked for on the command line, of a recipe that never named it
    loop.write_down(run, Recipe.check(raw))
    assert run.verdict.is_file()
