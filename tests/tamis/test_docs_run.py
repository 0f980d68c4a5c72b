"""Every command line and every block of the documentation is run, or says why it is not and which test does instead."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tamis.cli import app
from tamis.evaluate.policy import load_policy
from tamis.recipe import Recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# In this order: later ones need what earlier ones write.
RUN = ("doctor", "inspect", "curate", "why", "why-not", "init", "report", "grow", "diff")
# What is not run here, why, and the test that runs it. A line is of the first kind whose words it begins with or holds.
ELSEWHERE = {
    "--serve": ("it serves until it is stopped", "tests/reports/test_browser.py"),
    "tamis run": ("it trains a model", "tests/tamis/test_loop.py"),
    "tamis train": ("it trains a model", "tests/tamis/test_stages_alone.py"),
    "tamis evaluate": ("it asks a model", "tests/tamis/test_stages_alone.py"),
    "tamis sweep": ("it trains models", "tests/tamis/test_sweep.py"),
    "tamis compare": ("it trains models", "tests/tamis/test_methods.py"),
    "tamis study": ("it trains models", "tests/tamis/test_study.py"),
    "tamis choose": ("it trains models", "tests/tamis"),
    "tamis gate": ("it needs a model's answers", "tests/evaluate/test_gate_command.py"),
    "tamis promote": ("it needs a model's answers", "tests/evaluate/test_gate_command.py"),
    "tamis export": ("it needs a trained model", "tests/tamis/test_export_alone.py"),
    "tamis monitor": ("it needs a served model", "tests/tamis/test_monitor.py"),
    "tamis import": ("it takes what another tool measured", "tests/evaluate/test_interchange.py"),
    "tamis demo": ("it trains two models", "tests/tamis/test_install.py"),
    "sh ": ("it serves a model", "tests/tamis/test_monitor_served.py"),
    "PORT=": ("it serves a model", "tests/tamis/test_monitor_served.py"),
    "cd deploy": ("Ollama is no package of Python", "docs/guides/deploy.md"),
    "git clone": ("it fetches this repository", "tests/tamis/test_install.py"),
    "make ": ("a test does not start the tests", "Makefile"),
}


def lines() -> list[tuple[str, str]]:
    """Page and command of every line of every console block, without its comment."""
    found = []
    for page in PAGES:
        for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")):
            told = [x.removeprefix("$ ") for x in body.splitlines() if kind == "sh" or x.startswith("$ ")]
            found += [
                (page.relative_to(ROOT).as_posix(), re.split(r"\s{2,}#", x)[0].strip()) for x in told if x.strip()
            ]
    return found


def elsewhere(line: str) -> str | None:
    return next((k for k in ELSEWHERE if line.startswith(k) or (k.startswith("--") and k in line)), None)


def runs_here(line: str) -> bool:
    words = line.split()
    return elsewhere(line) is None and words[0] == "tamis" and words[1] in RUN


@pytest.mark.parametrize(("page", "line"), lines())
def test_a_line_is_run_here_or_says_why_not(page, line):
    if not runs_here(line):
        kind = elsewhere(line)
        assert kind is not None, "neither run here nor marked with why not"
        there = ROOT / ELSEWHERE[kind][1]
        assert there.exists()
        if kind.startswith("tamis ") and there.is_file():
            assert f'"{kind.split()[1]}"' in there.read_text(encoding="utf-8"), "that test does not type it"


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """A folder with the files that the documentation speaks of."""
    monkeypatch.chdir(tmp_path)
    rows = (ROOT / "data" / "tickets.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "tickets.jsonl").write_text("\n".join(rows[:2500]) + "\n", encoding="utf-8")
    (tmp_path / "new.jsonl").write_text("\n".join(rows[2500:2550]) + "\n", encoding="utf-8")
    return tmp_path


def test_every_line_that_can_be_run_here_does_what_it_says(desk):
    wanted = list(dict.fromkeys(line for _, line in lines() if runs_here(line)))
    assert len(wanted) >= 12
    wanted.sort(key=lambda line: RUN.index(line.split()[1]))
    for line in wanted:
        words = shlex.split(line)[1:]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (line, done.output, done.exception)
        for flag in ("-o", "--output"):
            if flag in words:
                assert (desk / words[words.index(flag) + 1]).stat().st_size > 0, line
    kept = (desk / "small.jsonl").read_bytes().splitlines()
    assert kept
    assert set(kept) <= set((desk / "tickets.jsonl").read_bytes().splitlines()), "byte for byte"
    assert json.loads((desk / "runs" / "tickets-grown" / "curate" / "funnel.json").read_text())["read"] == 2550


YAML = [
    (page.relative_to(ROOT).as_posix(), body)
    for page in PAGES
    for kind, body in BLOCK.findall(page.read_text(encoding="utf-8"))
    if kind == "yaml"
]


@pytest.mark.parametrize(("page", "body"), YAML)
def test_a_piece_of_a_recipe_or_policy_is_accepted(page, body, tmp_path):
    piece = yaml.safe_load(body)
    if "jobs" in piece:
        pytest.skip("a job: tests/tamis/test_gate_guide.py runs what it says")
    elif "gates" in piece:
        whole = {"version": 1, "evidence": {"candidate": "tuned", "baseline": "base"}} | piece
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(whole))
        assert len(load_policy(tmp_path / "policy.yaml").gates) == len(piece["gates"])
    else:
        Recipe.check({"name": "x", "data": {"path": "x.jsonl"}} | piece)


def test_there_is_no_block_of_a_kind_that_nobody_looks_at():
    kinds = {kind for page in PAGES for kind, _ in BLOCK.findall(page.read_text(encoding="utf-8"))}
    assert kinds <= {"console", "sh", "yaml"}
