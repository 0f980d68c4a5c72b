"""The user's own rules: they see the whole row, and their mistakes are shown with file, line and row."""

import json
import pickle
import re

import pyarrow.parquet as pq
import pytest

from tamis import userfile
from tamis.curate import rules
from tamis.curate.pipeline import curate
from tamis.errors import UserError
from tamis.recipe import Recipe
from tamis.record import Message, Record
from tamis.run import Run

RULES = """
import re

WORD = re.compile("internal")

def by_text(record):
    return "internal_note" if WORD.search(record.prompt) else None

def by_attributes(record):
    return "old_export" if record.source == "2019" and "x" in (record.meta or "") and record.key else None

def crashes(record):
    if record.label == "bad":
        return record.nothing_of_this_name

def returns_true(record):
    return True
"""
ROWS = [
    {"id": "a", "prompt": "an internal note", "label": "good"},
    {"id": "b", "prompt": "where is it", "label": "good", "source": "2019", "extra": "x"},
    {"id": "c", "prompt": "where is she", "label": "bad", "source": "2020"},
]


@pytest.fixture
def made(tmp_path):
    (tmp_path / "mine.py").write_text(RULES)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))

    def recipe(*names, **more):
        custom = [f"{tmp_path / 'mine.py'}:{name}" for name in names]
        source = {"name": "c", "data": {"path": str(tmp_path / "in.jsonl")}, "embedder": "lsa"}
        return Recipe.check({**source, "curate": {"rules": {"custom": custom}}, **more})

    return recipe


def test_rules_see_text_and_attributes_and_the_first_reason_counts(made, tmp_path):
    run = Run(tmp_path / "run")
    curate(run, made("by_text", "by_attributes"), quiet=True)
    ledger = pq.read_table(run.curate / "ledger.parquet").to_pylist()
    assert {r["key"]: r["reason"] for r in ledger} == {"a": "internal_note", "b": "old_export", "c": None}


def test_a_crash_in_a_run_names_file_line_and_row(made, tmp_path):
    with pytest.raises(UserError, match=r"mine.py:14") as error:
        curate(Run(tmp_path / "run"), made("crashes"), quiet=True)
    assert "fails on row" in str(error.value)
    assert "nothing_of_this_name" in str(error.value)


def test_what_is_no_reason_is_refused(made, tmp_path):
    with pytest.raises(UserError, match="must return a reason or None"):
        curate(Run(tmp_path / "run"), made("returns_true"), quiet=True)


@pytest.mark.parametrize(
    ("text", "name", "what"),
    [
        ("def rule(record)\n", "rule", "mine.py:1"),
        ("import json\n1 / 0\n", "rule", "mine.py:2"),
        ("rule = 3\n", "rule", "is not a function"),
        ("", "rule", "no function 'rule'"),
    ],
)
def test_a_broken_rule_file_is_found_before_any_row_is_read(made, tmp_path, text, name, what):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=what):
        rules.load_custom(f"{tmp_path / 'mine.py'}:{name}")


def test_a_rule_travels_to_another_process_without_its_file(made, tmp_path):
    rule = rules.load_custom(f"{tmp_path / 'mine.py'}:by_text")
    packed = pickle.dumps(rule)
    (tmp_path / "mine.py").unlink()
    userfile.function.cache_clear()
    assert pickle.loads(packed)(Record("x", (Message("user", "internal"),))) == "internal_note"


@pytest.mark.slow
def test_rules_and_their_crashes_on_ray(made, tmp_path):
    """In a process of its own: a process has one runner for all its life."""
    import subprocess
    import sys

    pytest.importorskip("ray")
    code = """
import pathlib, sys
from tamis.curate.pipeline import curate
from tamis.recipe import Recipe
from tamis.run import Run

for file, run in zip(sys.argv[1::2], sys.argv[2::2]):
    print(curate(Run(pathlib.Path(run)), Recipe.load(file), quiet=True)["dropped"]["score"], flush=True)
"""
    arguments = []
    for name, recipe in (
        ("good", made("by_text", engine={"ray": "auto"})),
        ("bad", made("crashes", engine={"ray": "auto"})),
    ):
        (tmp_path / f"{name}.yaml").write_text(recipe.dump())
        arguments += [str(tmp_path / f"{name}.yaml"), str(tmp_path / name)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert "{'internal_note': 1}" in done.stdout
    assert re.search(
        r"^tamis.errors.UserError: the rule .*crashes fails on row \w+-\w+-0\n  where: .*mine.py:14\n",
        done.stderr,
        re.M,
    )
