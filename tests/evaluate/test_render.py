"""A verdict in each format, and text from models and labels that must stay text."""

import datetime
import json
from xml.etree import ElementTree

import pytest

from tamis.evaluate import render
from tamis.evaluate.gate import judge
from tamis.evaluate.policy import load_policy

POLICY = """\
requires: {same: [], checks: []}
gates:
  - {id: floor, metric: accuracy, require: "lower >= 0.99"}
  - {id: near, metric: accuracy, require: "lower >= 0.82"}
  - {id: ok, metric: accuracy, require: "lower >= 0.5"}
  - {id: gone, metric: perplexity, require: "upper <= 9"}
  - {id: slices, metric: accuracy, by: label, require: "lower >= 0.7", severity: warn}
"""
HOSTILE = "evil\n::error::x|<script>\x00"


@pytest.fixture
def verdict(evaluated):
    labels = [HOSTILE if i % 2 else "plain" for i in range(400)]
    evaluated.add(right=[int(i % 20 > 2) for i in range(400)], label=labels)
    policy = load_policy(evaluated.policy(POLICY))
    return judge(evaluated.run, policy, today=datetime.date(2026, 11, 24))


def test_text_leads_with_the_verdict_and_the_exit_code(verdict):
    lines = render.text(verdict).splitlines()

    assert lines[0].startswith("FAIL  (exit code 1")
    assert any("floor: accuracy 0.85 [0.81" in line for line in lines)
    assert "needs about" in render.text(verdict)


def test_text_has_at_most_ten_lines(evaluated):
    evaluated.add(right=[1] * 100)
    gates = "\n".join(f'  - {{id: g{i}, metric: accuracy, require: "lower >= 0.99{i}"}}' for i in range(30))
    policy = load_policy(evaluated.policy(f"requires: {{same: [], checks: []}}\ngates:\n{gates}"))

    lines = render.text(judge(evaluated.run, policy)).splitlines()

    assert len(lines) == 10
    assert "more in verdict.json" in lines[-1]


def test_junit_has_a_case_per_gate_and_slice(verdict):
    root = ElementTree.fromstring(render.junit(verdict))
    suite = root.find("testsuite")
    cases = {c.get("name"): c for c in suite.findall("testcase")}

    assert suite.get("tests") == str(len(cases)) == "7"
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("2", "1", "0")
    assert cases["floor"].find("failure").get("type") == "fail"
    assert cases["near"].find("failure").get("type") == "inconclusive"
    assert cases["gone"].find("error") is not None
    assert cases["ok"].find("system-out") is not None


def test_junit_skips_what_only_warns(evaluated):
    evaluated.add(right=[1] * 50 + [0] * 50)
    text = POLICY.replace('by: label, require: "lower >= 0.7"', 'by: label, require: "lower >= 0.9"')
    root = ElementTree.fromstring(render.junit(judge(evaluated.run, load_policy(evaluated.policy(text)))))

    assert root.find("testsuite").get("skipped") == "2"  # the gate and its one slice


def test_github_gets_one_line_per_gate_and_no_forged_command(verdict):
    lines = render.github(verdict).splitlines()

    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in lines)
    assert sum(line.startswith("::error ") for line in lines) == 3
    assert not any(line.startswith("::error::x") for line in lines)


def test_markdown_escapes_labels(verdict):
    for row in verdict["arms"]["main"]["gates"]:
        row["note"] = HOSTILE
    text = render.markdown(verdict)

    assert "<script>" not in text
    assert "evil ::error::x\\|&lt;script&gt;" in text
    assert all(line.startswith("|") for line in text.splitlines() if "evil" in line)


def test_json_is_strict(verdict):
    assert json.loads(render.as_json(verdict), parse_constant=lambda c: pytest.fail(c))["verdict"] == "FAIL"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "?"), (float("nan"), "not a number"), (float("inf"), "infinite"), (0.91234, "0.9123")]
)
def test_numbers_that_are_none_say_so(value, text):
    assert render.number(value) == text
