"""A study killed without warning in the middle of a training: typed again, no cell is trained twice, and it ends alike.

The real command line in processes of its own; one study of random rows, two seeds, six rows and all eighteen.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tamis.schema import read_json
from tests.tamis.small_runs import write_rows

pytest.importorskip("torch")

INTENTS = ("cancel order", "track order", "refund")
SECONDS = ("train_s", "evaluate_s", "cost", "curation_s")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("study_killed")
    rows = [{"text": f"{i} number {n} please", "intent": i} for i in INTENTS for n in range(6)]
    items = [{"text": f"{i} for {n}", "intent": i} for i in INTENTS for n in ("Mai", "Lan", "Jo")]
    for name, table in (("rows", rows), ("items", items)):
        write_rows(folder / f"{name}.jsonl", table)
    recipe = {
        "name": "killed",
        "data": {"path": "rows.jsonl"},
        "eval": {"path": "items.jsonl"},
        "embedder": "lsa",
        "model": str(tiny_model),
        "train": {"epochs": 4, "r": 4, "batch": 1, "lr": 1e-3, "save_steps": 2},
        "evaluate": {"task": {"kind": "classify", "max_tokens": 12}},
        "study": {"margin": 0.3, "sizes": [6], "methods": ["random"], "seeds": 2, "resamples": 2},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def start(folder: Path, run: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "tamis.cli", "study", "recipe.yaml", "--run", run, "--even-so", "--quiet"]
    return subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, run: str) -> None:
    process = start(folder, run)
    _, err = process.communicate(timeout=170)
    assert process.returncode in (0, 3), err


def outcome(run: Path) -> str:
    """The answer without what was timed."""

    def timeless(value):
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k not in SECONDS}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    return json.dumps(timeless(read_json(run / "study" / "result.json")))


def test_killed_in_a_training_and_typed_again_it_ends_as_if_nothing_had_been(folder: Path) -> None:
    finish(folder, "whole")

    log = folder / "killed/study/arms/random-6-s8/train/log.jsonl"  # the third of four cells
    process = start(folder, "killed")
    while process.poll() is None and not (log.is_file() and log.read_bytes().count(b"\n") >= 5):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert process.returncode == -9, "it ended before it could be killed"
    done = {f: f.stat().st_mtime_ns for f in (folder / "killed").glob("study/cells/*/stage.json")}
    trained = {f: f.stat().st_mtime_ns for f in (folder / "killed").glob("study/arms/*/train/stage.json")}
    assert sorted(f.parent.name for f in done) == ["all-18-s7", "random-6-s7"]

    finish(folder, "killed")

    assert {f: f.stat().st_mtime_ns for f in done} == done
    assert {f: f.stat().st_mtime_ns for f in trained} == trained
    assert len(list((folder / "killed").glob("study/cells/*/stage.json"))) == 4
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(1, 25))  # gone on from a checkpoint: no step twice, none left out
    assert outcome(folder / "killed") == outcome(folder / "whole")
