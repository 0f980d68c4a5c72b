"""Run folders for the tests of this folder. They are built once; a test that changes one takes a copy."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from tamis.run import Run

spec = importlib.util.spec_from_file_location("make_run", Path(__file__).parent / "make_run.py")
make_run = importlib.util.module_from_spec(spec)
sys.modules["make_run"] = make_run  # dataclasses look their module up by name
spec.loader.exec_module(make_run)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Run:
    """A finished run of two arms. Not to be changed."""
    return make_run.make_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture
def copy(finished, tmp_path) -> Run:
    """A finished run that a test may damage."""
    shutil.copytree(finished.path, tmp_path / "demo")
    return Run(tmp_path / "demo")


@pytest.fixture(scope="session")
def build():
    """`build(path, read=..., hostile=..., verdict=...)`: a run folder of any size and state."""

    def built(path: Path, **sizes) -> Run:
        return make_run.make_run(path, make_run.Sizes(**sizes))

    return built
