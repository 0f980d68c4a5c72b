"""The guide to gates in CI: its policy is accepted, its commands exist, its job runs what it says."""

import re
from pathlib import Path

import yaml
from typer.testing import CliRunner

from tamis.cli import app
from tamis.evaluate.policy import load_policy

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "gate-in-ci.md").read_text(encoding="utf-8")
POLICY, JOB = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)


def test_the_policy_is_accepted(tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    assert [g.id for g in load_policy(tmp_path / "policy.yaml").gates][:2] == ["floor", "no-loss"]
    done = CliRunner().invoke(app, ["gate", "--plan", "--policy", str(tmp_path / "policy.yaml")])
    assert done.exit_code == 0, done.output


def test_every_command_and_option_exists():
    commands = re.findall(r"^ {4}(tamis .*?)(?:  .*)?$", GUIDE, re.MULTILINE) + re.findall(r"`(tamis [^`|]*)", GUIDE)
    steps = yaml.safe_load(JOB)["jobs"]["gate"]["steps"]
    commands += [s["run"] for s in steps if s.get("run", "").startswith("tamis")]
    assert len(commands) >= 9
    for command in commands:
        _, name, *words = command.split()
        known = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
        assert known.exit_code == 0, command
        for option in (w for w in words if w.startswith("--")):
            assert option in known.output, command
