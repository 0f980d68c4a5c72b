"""`tamis gate`, `tamis promote`: the real command line function, its exit codes, and what never exits 0."""

import json
import math
import sys
from xml.etree import ElementTree

import pytest

from tamis import cli
from tamis.run import Run
from tamis.schema import read_json


@pytest.fixture
def tamis(monkeypatch, capsys):
    """Run the command line function as the shell would; what it printed, and its exit code."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tamis", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def floor(limit):
    return (
        f'requires: {{same: [], checks: [complete]}}\ngates: [{{id: a, metric: accuracy, require: "lower >= {limit}"}}]'
    )


def spread(right, of):
    return [int((i * right) // of < ((i + 1) * right) // of) for i in range(of)]


@pytest.mark.parametrize(("right", "limit", "code"), [(380, 0.8, 0), (280, 0.8, 1), (328, 0.8, 3), (0, "x", 2)])
def test_each_verdict_has_its_exit_code(evaluated, tamis, right, limit, code):
    evaluated.add(right=spread(right, 400))

    assert tamis("gate", evaluated.run.path, "--policy", evaluated.policy(floor(limit)))[0] == code


def test_evidence_that_cannot_be_trusted_is_exit_4(evaluated, tamis):
    evaluated.add(right=spread(380, 400), about={"items": 416})

    assert tamis("gate", evaluated.run.path, "--policy", evaluated.policy(floor(0.8)))[0] == 4


# ------------------------------------------------------------------------------ the matrix: none of these exits 0

BAD = {
    "empty": "",
    "no gates": "version: 1",
    "gates empty": "gates: []",
    "gates null": "gates:",
    "only warnings": 'gates: [{id: a, metric: accuracy, require: "lower >= 0.1", severity: warn}]',
    "unknown metric": 'gates: [{id: a, metric: acuracy, require: "lower >= 0.1"}]',
    "unknown slice": 'gates: [{id: a, metric: accuracy, by: intent, require: "lower >= 0.1"}]',
    "unknown unit": 'gates: [{id: a, metric: latency.e2e.p50, require: "upper <= 9 furlongs"}]',
    "no unit": 'gates: [{id: a, metric: latency.e2e.p50, require: "upper <= 9000"}]',
    "unknown key": 'gates: [{id: a, metric: accuracy, requires: "lower >= 0.1"}]',
    "unknown top key": 'gate: [{id: a, metric: accuracy, require: "lower >= 0.1"}]',
    "on_missing": 'defaults: {on_missing: pass}\ngates: [{id: a, metric: accuracy, require: "lower >= 0.1"}]',
    "wrong direction": 'gates: [{id: a, metric: accuracy, require: "upper <= 0.99"}]',
    "the kinder bound": 'gates: [{id: a, metric: accuracy, require: "upper >= 0.1"}]',
    "nan": 'gates: [{id: a, metric: accuracy, require: "lower >= nan"}]',
    "no such day": 'gates: [{id: a, metric: accuracy, require: "lower >= 0.1"}]\n'
    "waivers: [{gate: a, until: 2026-02-30, by: An, reason: x}]",
    "not UTF-8": b"gates: \xff",
    "not YAML": "gates: [",
}


@pytest.mark.parametrize("case", BAD)
def test_a_policy_that_could_pass_anything_is_exit_2(evaluated, tamis, case):
    evaluated.add(right=[1] * 400, times=[0.1] * 100)
    file = evaluated.policy("")
    file.write_bytes(BAD[case] if isinstance(BAD[case], bytes) else BAD[case].encode())

    code, out, err = tamis("gate", evaluated.run.path, "--policy", file)

    assert code == 2
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert not out
    assert not evaluated.run.verdict.exists()


def one(metric, require, **gate):
    more = "".join(f", {k}: {v}" for k, v in gate.items())
    return f'requires: {{same: [], checks: []}}\ngates: [{{id: a, metric: {metric}, require: "{require}"{more}}}]'


DELTA = one("accuracy", "delta.lower > -0.9")
NAN = {"nll": [math.nan] * 50, "nll_tokens": 2, "nll_bytes": 3}
NUMBERS = {"expected": "3.0", "answer": "nan"}
EVIDENCE = {
    "no run": (None, DELTA),
    "nothing evaluated": ([], DELTA),
    "zero items": ([{"right": []}], one("accuracy", "lower >= 0.0")),
    "zero items on both sides": ([{"right": []}, {"system": "base", "right": []}], DELTA),
    "no baseline": ([{"right": [1] * 50}], DELTA),
    "mismatched sets": ([{"right": [1] * 50}, {"system": "base", "right": [0] * 40}], DELTA),
    "other items": (
        [{"right": [1] * 50}, {"system": "base", "right": [0] * 50, "id": [f"x{i}" for i in range(50)]}],
        DELTA,
    ),
    "an item twice": ([{"right": [1] * 50, "id": "same"}, {"system": "base", "right": [0] * 50}], DELTA),
    "a NaN likelihood": ([{"right": [1] * 50, **NAN}], one("bits_per_byte", "upper <= 1e9")),
    "a NaN in one item": (
        [{"right": [1] * 50, **NAN, "nll": [0.1] * 49 + [math.nan]}],
        one("perplexity", "upper <= 1e9"),
    ),
    "missing metric": ([{"right": [1] * 50}], one("perplexity", "upper <= 1e9")),
    "no right answers": ([{"right": [1] * 50, "correct": None}], one("accuracy", "lower >= 0.0")),
    "one item without a right answer": (
        [{"right": [1] * 50, "rows": {7: {"correct": None}}}],
        one("accuracy", "lower >= 0.0"),
    ),
    "every answer is the word nan": ([{"right": [1] * 50, **NUMBERS, "parsed": False}], one("mae", "upper <= 1e9")),
    "nothing timed": ([{"right": [1] * 50}], one("latency.e2e.p50", "upper <= 1e9 ms")),
    "every request failed": (
        [{"right": [1] * 50, "times": [math.inf] * 99}],
        one("latency.e2e.p50", "upper <= 9e9 ms"),
    ),
    "too few requests": ([{"right": [1] * 50, "times": [0.1] * 20}], one("latency.e2e.p99", "upper <= 1e9 ms")),
    "no price": ([{"right": [1] * 50}], one("cost.usd_per_1k", "upper <= 1e9 usd")),
    "nothing parsed": ([{"right": [1] * 50, "parsed": False}], one("accuracy", "lower >= 0.0")),
    "every request an error": ([{"right": [1] * 50, "error": "HTTP 500"}], one("accuracy", "lower >= 0.0")),
    "below min_n": ([{"right": [1] * 50}], one("accuracy", "lower >= 0.0", min_n=51)),
    "measured elsewhere": (
        [{"right": [1] * 50, "times": [0.1] * 99}],
        one("latency.e2e.p50", "upper <= 1e9 ms", at="{hardware: an H100}"),
    ),
    "no champion": ([{"right": [1] * 50}], "evidence: {baseline: champion}\n" + DELTA),
    "no such arm": ([{"right": [1] * 50}], one("accuracy", "lower >= 0.0"), "--arm", "nain"),
}


@pytest.mark.parametrize("case", EVIDENCE)
def test_evidence_with_a_hole_never_exits_0(evaluated, tamis, case):
    systems, policy, *more = EVIDENCE[case]
    for system in systems or []:
        evaluated.add(**system)

    code, out, err = tamis("gate", evaluated.run.path, "--policy", evaluated.policy(policy), *more)

    if case in ("too few requests", "below min_n"):
        assert code == 3
    elif case == "every request failed":
        assert code == 1
    else:
        assert code == 4, out
    assert "Traceback" not in err


def test_a_stale_pass_does_not_outlive_its_evidence(evaluated, tamis):
    folder = evaluated.add(right=[1] * 400)
    policy = evaluated.policy(floor(0.8))
    assert tamis("gate", evaluated.run.path, "--policy", policy)[0] == 0
    (folder / "metrics.json").write_text("{")

    assert tamis("gate", evaluated.run.path, "--policy", policy)[0] == 4
    assert read_json(evaluated.run.verdict)["verdict"] == "INVALID"


def test_nothing_at_all_is_not_a_pass(evaluated, tamis):
    assert tamis("gate")[0] == 2
    assert tamis("gate", evaluated.run.path)[0] == 2
    assert tamis("gate", evaluated.run.path, "--format", "xml")[0] == 2
    assert tamis("gate", evaluated.run.path, "--plan", "--explain")[0] == 2


# -------------------------------------------------------------------------------------- replay, plan, explain


def test_a_replay_gives_the_same_verdict_from_the_files_alone(evaluated, tamis, tmp_path, monkeypatch):
    last = type(evaluated)(Run(tmp_path / "last"))
    last.add(right=spread(340, 400))
    policy = last.policy(floor(0.7))
    assert tamis("gate", last.run.path, "--policy", policy)[0] == 0
    champion = evaluated.run.path / "champion-of-last-week.json"
    evaluated.add(right=spread(345, 400))
    assert tamis("promote", last.run.path, "-o", champion)[0] == 0
    policy = evaluated.policy(f"evidence: {{baseline: {champion.name}}}\n" + one("accuracy", "delta.lower > -0.1"))
    code, said, _ = tamis("gate", evaluated.run.path, "--policy", policy)
    assert code == 0
    before = evaluated.run.verdict.read_bytes()
    for gone in (policy, champion):
        gone.unlink()
    monkeypatch.chdir("/")

    again = tamis("gate", evaluated.run.path, "--replay")

    assert again[:2] == (0, said)
    assert "the same verdict" in again[2]
    assert evaluated.run.verdict.read_bytes() == before


def test_a_replay_notices_a_changed_answer_and_a_changed_verdict(evaluated, tamis):
    evaluated.add(right=spread(280, 400))
    assert tamis("gate", evaluated.run.path, "--policy", evaluated.policy(floor(0.8)))[0] == 1
    assert tamis("gate", evaluated.run.path, "--replay")[0] == 1
    text = evaluated.run.verdict.read_text()
    evaluated.run.verdict.write_text(text.replace('"FAIL"', '"PASS"'))

    code, _, err = tamis("gate", evaluated.run.path, "--replay")
    assert code == 4
    assert "verdict was 'PASS', is 'FAIL'" in err
    evaluated.run.verdict.write_text(text)
    evaluated.add(right=spread(281, 400))
    assert tamis("gate", evaluated.run.path, "--replay")[0] == 4


def test_a_run_that_was_never_judged_has_nothing_to_replay(evaluated, tamis):
    assert tamis("gate", evaluated.run.path, "--replay")[0] == 4


def test_a_plan_needs_no_run_and_says_3_where_the_run_has_too_few(evaluated, tamis):
    policy = evaluated.policy(one("accuracy", "delta.lower > -0.02"))
    code, out, _ = tamis("gate", "--plan", "--policy", policy)
    assert code == 0
    assert "1,963 items" in out
    evaluated.add(right=[1] * 300)
    evaluated.add(system="base", right=[1] * 300)

    code, out, _ = tamis(
        "gate", evaluated.run.path, "--plan", "--policy", policy, "--discordance", "0.1", "--format", "json"
    )

    assert code == 3
    assert json.loads(out)["gates"][0]["have"] == 300
    assert not evaluated.run.verdict.exists()
    assert tamis("gate", "--plan", "--policy", policy, "--power", "80")[0] == 2


def test_explain_names_the_metric_the_method_the_reason_and_the_bound(evaluated, tamis):
    evaluated.add(right=spread(280, 400))
    policy = evaluated.policy(floor(0.8))
    code, out, _ = tamis("gate", evaluated.run.path, "--policy", policy, "--explain")

    assert code == 1
    assert "share of items answered right" in out
    assert "Wilson's score interval" in out
    assert "not even the favourable bound, 0.7428, is >= 0.8" in " ".join(out.split())
    code, out, _ = tamis("gate", "--policy", evaluated.policy(one("accuracy", "delta.lower > -0.02")), "--explain")
    assert code == 0
    assert "a loss of 0.02 or more must be ruled out" in " ".join(out.split())


# ------------------------------------------------------------------------------------------ outputs for a CI job


def test_a_github_job_gets_annotations_a_summary_table_and_junit(evaluated, tamis, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("earlier step\n")
    evaluated.add(right=spread(280, 400))

    code, out, _ = tamis("gate", evaluated.run.path, "--policy", evaluated.policy(floor(0.8)), "--format", "github")

    assert code == 1
    assert out.startswith("::error title=a (main)::")
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("earlier step\n## FAIL")
    assert "| a | accuracy | 0.7 " in summary
    suite = ElementTree.parse(evaluated.run.report / "gates.junit.xml").getroot().find("testsuite")
    assert suite.get("failures") == "1"


def test_promote_names_the_file_the_machine_and_the_next_step(evaluated, tamis):
    evaluated.add(right=spread(380, 400))
    policy = evaluated.policy(floor(0.8))
    assert tamis("promote", evaluated.run.path)[0] == 2
    tamis("gate", evaluated.run.path, "--policy", policy)

    code, out, _ = tamis("promote", evaluated.run.path)

    assert code == 0
    assert (policy.parent / "champion.json").is_file()
    assert "a machine" in out
    assert "baseline: champion" in out


def test_promote_refuses_what_failed_unless_somebody_says_why(evaluated, tamis):
    evaluated.add(right=spread(280, 400))
    tamis("gate", evaluated.run.path, "--policy", evaluated.policy(floor(0.8)))

    assert tamis("promote", evaluated.run.path)[0] == 2
    assert tamis("promote", evaluated.run.path, "--reason", "nothing better yet")[0] == 0
