"""`tamis run`, killed without warning in the middle of every stage: typing it again ends where it would have ended.

The real command line in processes of its own, ended by SIGKILL from outside as soon as a file says that a stage is
under way. Timings are measured again, so they are all that may differ.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tamis.run import Run
from tamis.schema import read_json

pytest.importorskip("torch")

INTENTS = ("cancel order", "track order", "refund")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
NAMES = ("Mai", "Lan", "Jo", "Minh", "Ana", "Kofi", "Lea", "Omar")
# Written by timing something; all other numbers are the same whatever happened on the way.
TIMED = ("latency", "load", "cost")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A recipe whose stages last long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("killed")
    rows = [{"text": f"{i} number {n} please", "intent": i} for i in INTENTS for n in NUMBERS]
    items = [{"text": f"{i} for {n}", "intent": i} for i in INTENTS for n in NAMES]
    for name, table in (("rows", rows), ("items", items)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in table))
    gate = {"id": "floor", "metric": "accuracy", "require": "lower >= 0.99"}
    policy = {"evidence": {"candidate": "tuned", "baseline": "base"}, "defaults": {"min_n": 5}, "gates": [gate]}
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    recipe = {
        "name": "killed",
        "data": {"path": "rows.jsonl"},
        "eval": {"path": "items.jsonl"},
        "embedder": "lsa",
        "curate": {"select": {"size": 18}},
        "model": str(tiny_model),
        "train": {"epochs": 2, "r": 4, "batch": 2, "lr": 1e-3, "save_steps": 2},
        "evaluate": {
            "task": {"kind": "classify"},
            "systems": ["base", "tuned", "linear"],
            "latency": {"requests": 4, "warmup": 1},
            "batch": 2,
        },
        "gate": "policy.yaml",
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def start(folder: Path, run: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tamis.cli", "run", str(folder / "recipe.yaml"), "--run", str(run), "--quiet"],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path, run: Path) -> str:
    """Run to the end; what was printed."""
    process = start(folder, run)
    out, err = process.communicate(timeout=170)
    assert process.returncode == 0, err
    return out


def kill_when(folder: Path, run: Path, under_way: Callable[[Path], bool]) -> None:
    """Run until something is there, then SIGKILL."""
    process = start(folder, run)
    try:
        while process.poll() is None and not under_way(run):
            time.sleep(0.001)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0


ARM = Path("arms") / "main"
# Stage, when it is under way, what shows that it was not yet done.
KILLS: list[tuple[str, Callable[[Path], bool], Path]] = [
    ("curate", lambda run: (run / "curate/records/part-00000.parquet").is_file(), Path("curate/stage.json")),
    ("train", lambda run: lines(run / ARM / "train/log.jsonl") >= 5, ARM / "train/stage.json"),
    ("evaluate", lambda run: lines(run / ARM / "evaluate/tuned/samples.jsonl") >= 4, ARM / "evaluate/tuned/stage.json"),
    ("conclude", lambda run: (run / "comparison.json").is_file(), Path("report/report.html")),
]


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Run:
    finish(folder, folder / "undisturbed")
    return Run(folder / "undisturbed")


def outcomes(run: Run) -> dict[str, Any]:
    """Ledger, adapter, answers and quality metrics of a run; bytes where no time is in them."""
    train = run.train("main")
    found: dict[str, Any] = {
        name: (run.curate / name).read_bytes()
        for name in ("ledger.parquet", "order.parquet", "eval.parquet", "vectors/part-00000.parquet")
    }
    found["tokens"] = (train / "tokens.parquet").read_bytes()
    for file in sorted((train / "adapter").iterdir()):
        found[f"adapter/{file.name}"] = file.read_bytes()
    for system in run.systems("main"):
        evaluated = run.evaluate("main", system)
        found[f"{system}/answers"] = (evaluated / "samples.parquet").read_bytes()
        metrics = read_json(evaluated / "metrics.json")["metrics"]
        found[f"{system}/metrics"] = {k: v for k, v in metrics.items() if not k.startswith(TIMED)}
    found["pairs"] = read_json(run.comparison)["pairs"]
    found["verdict"] = {name: arm["verdict"] for name, arm in read_json(run.verdict)["arms"].items()}
    return found


def differing(one: Run, other: Run) -> list[str]:
    a, b = outcomes(one), outcomes(other)
    assert set(a) == set(b)
    return [name for name in a if a[name] != b[name]]


@pytest.mark.slow
def test_killed_in_every_stage_and_run_again_it_ends_the_same(folder: Path, undisturbed: Run) -> None:
    """One folder, one command, killed in each stage in turn."""
    run = folder / "killed"
    for stage, under_way, done in KILLS:
        kill_when(folder, run, under_way)
        assert under_way(run), stage
        assert not (run / done).exists(), f"the kill came after {stage}"

    printed = finish(folder, run)

    assert "nothing changed" not in printed
    assert (run / "report" / "report.html").is_file()
    assert {"base", "linear", "tuned"} == set(Run(run).systems("main"))
    assert differing(Run(run), undisturbed) == []


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "under_way", "done"), KILLS, ids=[k[0] for k in KILLS])
def test_killed_in_one_stage_it_keeps_the_stages_before(
    folder: Path, undisturbed: Run, tmp_path: Path, stage: str, under_way: Callable[[Path], bool], done: Path
) -> None:
    kill_when(folder, tmp_path, under_way)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("stage.json")}

    finish(folder, tmp_path)

    assert not (set(before) & {tmp_path / done}), stage
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert differing(Run(tmp_path), undisturbed) == []
