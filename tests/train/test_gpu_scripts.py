"""The GPU measurements, run where there is no GPU: the same path with a tiny shape. Figures are not looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
