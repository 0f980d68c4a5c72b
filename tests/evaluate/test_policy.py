"""A policy that could not fail is refused before any number is read."""

import datetime

import pytest

from tamis.errors import ExitCode, PolicyError
from tamis.evaluate.metrics import lookup
from tamis.evaluate.policy import load_policy, parse_requirement

GOOD = """\
version: 1
evidence: {candidate: tuned, baseline: base-best}
defaults: {confidence: 0.95, min_n: 200}
requires: {same: [eval_set], checks: [complete, adapter_live]}
gates:
  - {id: floor, metric: accuracy, require: "lower >= 0.82"}
  - {id: no-loss, metric: accuracy, require: "delta.lower > -0.02"}
  - {id: ttft, metric: latency.ttft.p95, at: {concurrency: 1}, require: "upper <= 0.8 s"}
  - {id: speed, metric: latency.e2e.p50, require: "ratio.upper <= 1.10"}
  - {id: price, metric: cost.usd_per_1k, require: "upper <= 0.40 usd"}
  - {id: slices, metric: accuracy, by: language, min_n: 40, require: "delta.lower > -0.05", severity: warn}
waivers: [{gate: slices, until: 2026-12-31, by: An, reason: "few Vietnamese items"}]
"""


def gates(*lines):
    return "gates:\n" + "\n".join(f"  - {line}" for line in lines)


def test_the_surveys_example_is_understood(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)

    policy = load_policy(path)

    assert [g.id for g in policy.gates] == ["floor", "no-loss", "ttft", "speed", "price", "slices"]
    assert policy.gates[2].requirement.limit == 800  # seconds in milliseconds
    assert policy.evidence.baseline == "base-best"
    assert len(policy.sha256) == 64
    assert policy.waiver_for("slices", datetime.date(2026, 12, 31))
    assert not policy.waiver_for("slices", datetime.date(2027, 1, 1))


FLOOR = '{id: floor, metric: accuracy, require: "lower >= 0.8"}'

WRONG = {
    "empty file": ("", "mapping"),
    "a list": ("- a", "mapping"),
    "not YAML": ("gates: [", "not YAML"),
    "no gates": ("version: 1", "'gates' is missing"),
    "empty gates": ("gates: []", "without gates"),
    "unknown key": (gates(FLOOR) + "\ndefault: {min_n: 3}", "did you mean 'defaults'"),
    "unknown gate key": (gates('{id: a, metric: accuracy, requires: "lower >= 0.8"}'), "requires"),
    "unknown metric": (gates('{id: a, metric: acuracy, require: "lower >= 0.8"}'), "did you mean 'accuracy'"),
    "unknown slice": (
        gates('{id: a, metric: accuracy, by: intent, require: "lower >= 0.8"}'),
        "unknown slice 'intent'",
    ),
    "unknown unit": (gates('{id: a, metric: latency.e2e.p95, require: "upper <= 800 sec"}'), "unknown unit 'sec'"),
    "no unit": (gates('{id: a, metric: latency.e2e.p95, require: "upper <= 800"}'), "has a unit"),
    "unit too many": (gates('{id: a, metric: accuracy, require: "lower >= 82 %"}'), "has no unit"),
    "other currency": (gates('{id: a, metric: cost.eur_per_1k, require: "upper <= 1 usd"}'), "unknown unit 'usd'"),
    "wrong direction": (gates('{id: a, metric: accuracy, require: "upper <= 0.8"}'), "wrong way round"),
    "wrong direction of a time": (
        gates('{id: a, metric: latency.e2e.p95, require: "lower >= 8 ms"}'),
        "wrong way round",
    ),
    "the kinder bound": (gates('{id: a, metric: accuracy, require: "upper >= 0.8"}'), "kinder bound"),
    "no operator": (gates('{id: a, metric: accuracy, require: "lower 0.8"}'), "not understood"),
    "not a number": (gates('{id: a, metric: accuracy, require: "lower >= nan"}'), "not understood"),
    "two limits": (gates('{id: a, metric: accuracy, require: "lower >= 0.8 or 0.7"}'), "not understood"),
    "ratio of quality": (gates('{id: a, metric: accuracy, require: "ratio.lower >= 1"}'), "delta.lower"),
    "at on quality": (gates('{id: a, metric: accuracy, at: {rate: 4}, require: "lower >= 0.8"}'), "`at` is for"),
    "same id twice": (gates(FLOOR, FLOOR), "used twice"),
    "key twice": (gates(FLOOR) + "\ngates: []", "there twice"),
    "only warnings": (gates(FLOOR[:-1] + ", severity: warn}"), "nothing could fail"),
    "waiver of nothing": (
        gates(FLOOR) + "\nwaivers: [{gate: flor, until: 2026-12-31, by: me, reason: x}]",
        "did you mean 'floor'",
    ),
    "waiver without reason": (gates(FLOOR) + "\nwaivers: [{gate: floor, until: 2026-12-31, by: me}]", "reason"),
    "unknown requirement": (gates(FLOOR) + "\nrequires: {same: [eval_sett]}", "did you mean 'eval_set'"),
    "unknown check": (gates(FLOOR) + "\nrequires: {checks: [complet]}", "did you mean 'complete'"),
    "on_missing": (gates(FLOOR) + "\ndefaults: {on_missing: pass}", "on_missing"),
    "confidence above one": (gates(FLOOR) + "\ndefaults: {confidence: 95}", "less than"),
    "future version": (gates(FLOOR) + "\nversion: 2", "1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_policy_is_refused_with_the_place_and_the_way_out(tmp_path, case):
    text, says = WRONG[case]
    path = tmp_path / "policy.yaml"
    path.write_text(text)

    with pytest.raises(PolicyError) as caught:
        load_policy(path)

    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_missing_policy_is_refused(tmp_path):
    with pytest.raises(PolicyError, match="no such policy"):
        load_policy(tmp_path / "none.yaml")


def test_the_line_of_a_mistake_is_named(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\n" + gates(FLOOR, '{id: b, metric: accurac, require: "lower >= 0.8"}'))

    with pytest.raises(PolicyError) as caught:
        load_policy(path)

    assert f"{path}:4" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "of", "bound", "op", "limit"),
    [
        ("lower >= 0.82", "absolute", "lower", ">=", 0.82),
        ("delta.lower>-0.02", "delta", "lower", ">", -0.02),
        ("value > .5", "absolute", "value", ">", 0.5),
    ],
)
def test_requirements_are_read(text, of, bound, op, limit):
    found = parse_requirement(text, lookup("accuracy"))

    assert (found.of, found.bound, found.op, found.limit) == (of, bound, op, limit)
