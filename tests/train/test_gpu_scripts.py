"""The GPU measurements, run where there is no GPU: the same path with a tiny shape. Figures are not looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tamis.small_runs import write_rows

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu" / "measure.py"


def measure(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    places = ["--output", str(folder / "out"), "--scratch", str(folder / "scratch")]
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--device", "cpu", "--shape", "tiny", *places, *more],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )


@pytest.mark.slow
def test_the_parts_run_write_their_table_and_are_not_repeated(tmp_path: Path) -> None:
    done = measure(tmp_path, "--method", "qlora")

    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    modes = ["checkpointed", "packed", "whole"]
    names = sorted(["speed-tiny-qlora-64", "weights-tiny", *(f"memory-tiny-qlora-64-{mode}" for mode in modes)])
    assert sorted(file.stem for file in out.glob("*-*.json")) == names
    results = {name: json.loads((out / f"{name}.json").read_text()) for name in names}
    assert not [result["failed"] for result in results.values() if "failed" in result]
    assert results["memory-tiny-qlora-64-packed"]["packing"]
    assert results["memory-tiny-qlora-64-whole"]["error"] is None  # a process's memory says nothing of the formula
    assert min(results["speed-tiny-qlora-64"][system] for system in ("tamis", "trl")) > 0
    assert "not measurable here" in (out / "table.md").read_text()
    assert '"bitsandbytes"' in done.stderr  # the versions found

    (out / "memory-tiny-qlora-64-whole.json").write_text(json.dumps({**results[names[3]], "failed": "cut off"}))
    again = measure(tmp_path, "--method", "qlora", "--kind", "memory")

    assert again.stderr.count("done before") == 3
    assert "memory-tiny-qlora-64-whole ..." in again.stderr
    assert "failed" not in json.loads((out / "memory-tiny-qlora-64-whole.json").read_text())


@pytest.mark.slow
def test_the_study_goes_on_part_by_part_and_is_not_done_again(tmp_path: Path, tiny_model: Path) -> None:
    made = tmp_path / "full_dirty"
    made.mkdir()
    intents = ("cancel order", "track order", "refund")
    rows = [{"text": f"{i} number {n} please", "intent": i} for i in intents for n in range(6)]
    items = [{"text": f"{i} for {n}", "intent": i} for i in intents for n in ("Mai", "Lan", "Jo")]
    for name, table in (("train", rows), ("test", items)):
        write_rows(made / f"{name}.jsonl", table)
    recipe = {
        "name": "parts",
        "data": {"path": "full_dirty/train.jsonl"},
        "eval": {"path": "full_dirty/test.jsonl"},
        "embedder": "lsa",
        "model": str(tiny_model),
        "train": {"r": 4, "batch": 4, "lr": 1e-3, "epochs": 1},
        "evaluate": {"task": {"kind": "classify", "max_tokens": 12}},
        "study": {"sizes": [6], "methods": ["random"], "seeds": 2, "resamples": 0},
    }
    (tmp_path / "full_dirty.yaml").write_text(json.dumps(recipe))
    script = SCRIPT.with_name("study.py")
    places = [
        f"--{name}={tmp_path / where}" for name, where in (("study", ""), ("scratch", "runs"), ("results", "out"))
    ]

    def parts(*more: str) -> int:
        line = [sys.executable, str(script), "--only", "dirty", *places, *more]
        return subprocess.run(line, capture_output=True, timeout=300, check=False).returncode

    assert parts("--limit", "0.3", "--parts", "1") == 75
    assert parts() == 0
    files = {f: f.stat().st_mtime_ns for f in (tmp_path / "runs").glob("dirty/*/cells/*/stage.json")}
    assert len(files) == 7  # four trainings; two proxies and one of all rows
    assert "Spearman" not in (tmp_path / "out/study-dirty/proxy/table.md").read_text()
    assert json.loads((tmp_path / "out/study-dirty/study/result.json").read_text())["proxy"] is False
    assert parts("--parts", "0") == 0  # nothing is left to do
    assert {f: f.stat().st_mtime_ns for f in files} == files
