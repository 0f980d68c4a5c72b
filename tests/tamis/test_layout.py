"""The folders are the architecture: who may import whom, and what must stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("curate", "train", "evaluate", "reports")
# The spine's only modules that know the folders
ON_TOP = {
    "cli",
    "loop",
    "cells",
    "study",
    "stability",
    "sweep",
    "methods",
    "arm_table",
    "growth",
    "monitor",
    "traffic",
    "choose",
    "choose_facts",
    "choose_answer",
    "choose_evidence",
    "choose_words",
}


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_never_import_one_another(folder):
    for file in (ROOT / folder).rglob("*.py"):
        for name in imported(file):
            others = [f for f in FOLDERS if f != folder and (name + ".").startswith(f"tamis.{f}.")]
            assert not others, f"{file.relative_to(ROOT)} imports {name}"
            on_top = [m for m in ON_TOP if (name + ".").startswith(f"tamis.{m}.")]
            assert not on_top, f"{file.relative_to(ROOT)} imports {name}"


def test_only_the_top_of_the_spine_imports_the_folders():
    for file in (ROOT / "tamis").glob("*.py"):
        if file.stem in ON_TOP:
            continue
        for name in imported(file):
            assert not any((name + ".").startswith(f"tamis.{f}.") for f in FOLDERS), f"{file.name} imports {name}"


def test_only_the_hub_module_imports_hugging_faces_evaluate():
    for folder in (*FOLDERS, "tamis"):
        for file in (ROOT / folder).rglob("*.py"):
            names = {name.split(".")[0] for name in imported(file)}
            assert ("evaluate" in names) == (file == ROOT / "evaluate" / "hub.py"), file


def test_no_root_folder_is_a_package_of_its_own():
    assert not [f for folder in (*FOLDERS, "data", "tamis", "tests") for f in (ROOT / folder).rglob("__init__.py")]


@pytest.mark.parametrize(
    "module",
    ["tamis.cli", "tamis.loop", "tamis.curate.pipeline", "tamis.evaluate.gate", "tamis.reports.page_html"],
)
def test_what_gates_and_reports_is_light(module):
    code = (
        f"import {module}, sys\n"
        "heavy = {'torch', 'transformers', 'evaluate', 'sentence_transformers', 'streamlit'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_training_does_not_need_the_curation_engine():
    code = "import tamis.train.stage, tamis.train.sft, sys; assert 'daft' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
