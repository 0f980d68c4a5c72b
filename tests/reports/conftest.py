"""Run folders for the tests of this folder. They are built once; a test that changes one takes a copy."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from tamis.run import Run


def module(name: str):
    """A file of this folder as a module: tests are imported by path and cannot import their neighbours otherwise."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # dataclasses look their module up by name
    spec.loader.exec_module(found)
    return found


make_run, pages = module("make_run"), module("pages")


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
