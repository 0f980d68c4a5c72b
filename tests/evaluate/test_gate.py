"""Verdicts: what passes, what fails, what is not certain, and what must never pass."""

import datetime
import math
import subprocess
import sys

import numpy as np
import pytest

from tamis.errors import ExitCode
from tamis.evaluate.gate import decide, judge
from tamis.evaluate.metrics import lookup
from tamis.evaluate.policy import load_policy, parse_requirement
from tamis.intervals import Interval
from tamis.schema import read_json, write_json

TODAY = datetime.date(2026, 11, 24)


def hits(count, of):
    """`count` right answers among `of`, spread evenly."""
    marks = np.zeros(of, dtype=int)
    marks[np.linspace(0, of - 1, count).astype(int)] = 1
    return marks.tolist()


def ruled(evaluated, *gate_lines, rest="requires: {same: [], checks: []}", arm=None):
    text = rest + "\ngates:\n" + "\n".join(f"  - {line}" for line in gate_lines)
    return judge(evaluated.run, load_policy(evaluated.policy(text)), arm, today=TODAY)


def gate_of(verdict, place=0, arm="main"):
    return verdict["arms"][arm]["gates"][place]


FLOOR = '{id: floor, metric: accuracy, require: "lower >= 0.80"}'
NO_LOSS = '{id: no-loss, metric: accuracy, require: "delta.lower > -0.05"}'


@pytest.mark.parametrize(
    ("right", "of", "verdict", "code"),
    [(380, 400, "PASS", 0), (280, 400, "FAIL", 1), (328, 400, "INCONCLUSIVE", 3)],
)
def test_an_interval_passes_fails_or_leaves_it_open(evaluated, right, of, verdict, code):
    evaluated.add(right=hits(right, of))

    found = ruled(evaluated, FLOOR)

    assert (found["verdict"], found["exit_code"]) == (verdict, code)
    assert found == {k: v for k, v in read_json(evaluated.run.verdict).items() if k != "schema_version"}


def test_an_open_gate_says_how_many_more_items_would_settle_it(evaluated):
    evaluated.add(right=hits(328, 400))

    needed = gate_of(ruled(evaluated, FLOOR))["needed"]

    assert needed > 100
    # with that many items like these it is settled
    total = 400 + needed
    evaluated.add(right=hits(math.ceil(0.82 * total), total))
    assert ruled(evaluated, FLOOR)["verdict"] == "PASS"


def test_non_inferiority_is_judged_on_the_paired_interval(evaluated):
    base, tuned = hits(340, 400), hits(340, 400)
    evaluated.add(system="base", right=base)
    evaluated.add(right=tuned)

    row = gate_of(ruled(evaluated, NO_LOSS))

    assert row["verdict"] == "PASS"
    assert row["value"] == 0
    assert row["method"] == "tango"
    assert -0.02 < row["lower"] < 0


@pytest.mark.parametrize(("right", "told"), [(8, True), (40, False)])
def test_a_margin_larger_than_what_the_baseline_has_is_named(evaluated, right, told):
    for system in ("base", "tuned"):
        evaluated.add(system=system, right=hits(right, 400))

    row = gate_of(ruled(evaluated, NO_LOSS))

    assert row["verdict"] == "PASS"
    assert ("base has 0.02, so not even 0 would lose" in (row["note"] or "")) == told


def test_two_equal_models_do_not_pass_as_better(evaluated):
    for system in ("base", "tuned"):
        evaluated.add(system=system, right=hits(340, 400))

    assert ruled(evaluated, '{id: a, metric: accuracy, require: "delta.lower > 0"}')["verdict"] == "INCONCLUSIVE"


def test_fifty_agreeing_items_do_not_prove_a_small_margin(evaluated):
    for system in ("base", "tuned"):
        evaluated.add(system=system, right=hits(45, 50))

    row = gate_of(ruled(evaluated, NO_LOSS))

    assert row["verdict"] == "INCONCLUSIVE"
    assert 0 < row["needed"] < 60


def test_fail_comes_before_invalid_before_inconclusive(evaluated):
    evaluated.add(right=hits(328, 400))
    open_, invalid = FLOOR, '{id: p, metric: perplexity, require: "upper <= 9"}'
    failing = '{id: f, metric: accuracy, require: "lower >= 0.95"}'

    assert ruled(evaluated, open_, invalid, failing)["verdict"] == "FAIL"
    assert ruled(evaluated, open_, invalid)["verdict"] == "INVALID"
    assert ruled(evaluated, open_)["verdict"] == "INCONCLUSIVE"


def test_a_warning_does_not_count(evaluated):
    evaluated.add(right=hits(380, 400))
    warning = '{id: f, metric: accuracy, require: "lower >= 0.99", severity: warn}'

    found = ruled(evaluated, FLOOR, warning)

    assert found["verdict"] == "PASS"
    assert gate_of(found, 1)["verdict"] == "FAIL"


def test_a_waiver_excuses_until_its_last_day_and_an_expired_one_is_as_if_absent(evaluated):
    evaluated.add(right=hits(280, 400))

    def with_waiver(until):
        rest = f"requires: {{same: [], checks: []}}\nwaivers: [{{gate: floor, until: {until}, by: An, reason: x}}]"
        return ruled(evaluated, FLOOR, rest=rest)["verdict"]

    assert with_waiver("2026-11-24") == "PASS"
    assert with_waiver("2026-11-23") == "FAIL"


def test_a_waiver_never_excuses_evidence_that_cannot_be_trusted(evaluated):
    evaluated.add(right=hits(380, 400))
    rest = "requires: {same: [], checks: []}\nwaivers: [{gate: p, until: 2026-12-31, by: An, reason: x}]"

    assert ruled(evaluated, '{id: p, metric: perplexity, require: "upper <= 9"}', rest=rest)["verdict"] == "INVALID"


# ------------------------------------------------------------------------- the matrix: none of these ever exits 0


def no_evaluation(e):
    pass


def no_items(e):
    e.add(right=[])
    e.add(system="base", right=[])


def other_items(e):
    e.add(right=hits(95, 100))
    e.add(system="base", right=hits(10, 100), id=[f"other-{i}" for i in range(100)])


def fewer_items(e):
    e.add(right=hits(99, 100))
    e.add(system="base", right=hits(10, 60))


def other_right_answers(e):
    e.add(right=hits(95, 100))
    e.add(system="base", right=hits(10, 100), expected="perhaps")


def an_item_twice(e):
    e.add(right=hits(95, 100), id=["item-0000"] * 100)
    e.add(system="base", right=hits(10, 100))


def nothing_parsed(e):
    e.add(right=hits(95, 100), parsed=False, answer=None)
    e.add(system="base", right=hits(10, 100))


def nothing_parsed_by_the_baseline(e):
    e.add(right=hits(95, 100))
    e.add(system="base", right=hits(10, 100), parsed=False, answer=None)


def every_request_failed(e):
    e.add(right=hits(95, 100), error="HTTP 500")
    e.add(system="base", right=hits(10, 100))


def no_right_answers(e):
    for system in ("tuned", "base"):
        e.add(system=system, right=hits(95, 100), correct=None)


def no_baseline(e):
    e.add(right=hits(95, 100))


def half_written_samples(e):
    folder = e.add(right=hits(95, 100))
    e.add(system="base", right=hits(10, 100))
    file = folder / "samples.parquet"
    file.write_bytes(file.read_bytes()[:500])


def broken_metrics_file(e):
    folder = e.add(right=hits(95, 100))
    e.add(system="base", right=hits(10, 100))
    (folder / "metrics.json").write_text("{")


EITHER = [FLOOR, NO_LOSS]


@pytest.mark.parametrize(
    ("state", "gates"),
    [
        (no_evaluation, EITHER),
        (no_items, EITHER),
        (other_items, [NO_LOSS]),
        (fewer_items, [NO_LOSS]),
        (other_right_answers, [NO_LOSS]),
        (an_item_twice, [NO_LOSS]),
        (nothing_parsed, EITHER),
        (nothing_parsed_by_the_baseline, [NO_LOSS]),
        (every_request_failed, EITHER),
        (no_right_answers, EITHER),
        (no_baseline, [NO_LOSS]),
        (half_written_samples, EITHER),
        (broken_metrics_file, [NO_LOSS]),
    ],
)
def test_evidence_that_cannot_be_trusted_is_invalid_and_says_why(evaluated, state, gates):
    state(evaluated)
    for gate in gates:
        found = ruled(evaluated, gate, rest="requires: {same: [eval_set], checks: [complete]}")

        assert found["verdict"] == "INVALID", gate
        assert found["exit_code"] == ExitCode.INVALID
        assert gate_of(found)["note"] or found["arms"]["main"]["requires"]


@pytest.mark.parametrize(
    ("metric", "require"),
    [
        ("perplexity", "upper <= 5"),
        ("mae", "upper <= 5"),  # the answers are texts, not numbers
        ("latency.e2e.p95", "upper <= 5 ms"),
        ("cost.usd_per_1k", "upper <= 5 usd"),
        ("load.throughput", "lower >= 1 rps"),
    ],
)
def test_a_metric_that_was_not_measured_is_invalid(evaluated, metric, require):
    evaluated.add(right=hits(380, 400), about={"batches": []})

    assert ruled(evaluated, f'{{id: a, metric: {metric}, require: "{require}"}}')["verdict"] == "INVALID"


@pytest.mark.parametrize(
    "interval",
    [
        Interval(math.nan, 0.9, 0.95, 100, "x"),
        Interval(math.inf, 0.9, math.inf, 100, "x"),
        Interval(0.9, math.nan, 0.95, 100, "x"),
        Interval(0.9, 0.85, 0.95, 0, "x"),
        Interval(0.9, None, None, 100, "x"),
        Interval(0.9, None, 0.95, 100, "x"),
        Interval(0.9, 0.85, 0.95, 10, "x"),
    ],
)
def test_no_odd_number_passes(interval):
    metric = lookup("accuracy")

    assert decide(interval, parse_requirement("lower >= 0.8", metric), metric, 20).verdict in (
        "INVALID",
        "INCONCLUSIVE",
    )


def test_an_infinite_latency_is_a_failure_not_a_gap(evaluated):
    evaluated.add(right=hits(90, 100), times=[math.inf] * 100)

    assert ruled(evaluated, '{id: a, metric: latency.e2e.p95, require: "upper <= 800 ms"}')["verdict"] == "FAIL"


def test_a_few_failed_requests_spoil_a_deep_percentile(evaluated):
    evaluated.add(right=hits(90, 100), times=[0.1] * 380 + [math.inf] * 20)

    assert ruled(evaluated, '{id: a, metric: latency.e2e.p95, require: "upper <= 800 ms"}')["verdict"] != "PASS"
    assert ruled(evaluated, '{id: a, metric: latency.e2e.p50, require: "upper <= 800 ms"}')["verdict"] == "PASS"


def test_a_percentile_too_deep_for_its_requests_is_open(evaluated):
    evaluated.add(right=hits(90, 100), times=[0.1] * 71)

    row = gate_of(ruled(evaluated, '{id: a, metric: latency.e2e.p95, require: "upper <= 800 ms"}'))

    assert row["verdict"] == "INCONCLUSIVE"
    assert "needs 72 requests" in row["note"]


def test_latency_measured_elsewhere_is_invalid(evaluated):
    evaluated.add(right=hits(90, 100), times=[0.1] * 100)
    gate = '{{id: a, metric: latency.e2e.p95, at: {{{at}}}, require: "upper <= 800 ms"}}'

    assert ruled(evaluated, gate.format(at="hardware: a machine, concurrency: 1"))["verdict"] == "PASS"
    assert ruled(evaluated, gate.format(at="hardware: an H100"))["verdict"] == "INVALID"
    assert ruled(evaluated, gate.format(at="concurrency: 16"))["verdict"] == "INVALID"
    assert ruled(evaluated, gate.format(at="rate: 4"))["verdict"] == "INVALID"


def test_two_machines_are_not_compared_by_the_clock(evaluated):
    evaluated.add(right=hits(90, 100), times=[0.1] * 100)
    evaluated.add(
        system="base", right=hits(90, 100), times=[0.1] * 100, about={"environment": {"hardware": "another machine"}}
    )

    assert ruled(evaluated, '{id: a, metric: latency.e2e.p50, require: "ratio.upper <= 1.5"}')["verdict"] == "INVALID"


def test_a_ratio_of_latencies(evaluated):
    rng = np.random.default_rng(1)
    evaluated.add(right=hits(90, 100), times=(0.1 + 0.01 * rng.random(200)).tolist())
    evaluated.add(system="base", right=hits(90, 100), times=(0.2 + 0.01 * rng.random(200)).tolist())

    row = gate_of(ruled(evaluated, '{id: a, metric: latency.e2e.p50, require: "ratio.upper <= 0.6"}'))

    assert row["verdict"] == "PASS"
    assert row["value"] == pytest.approx(0.5, abs=0.05)
    assert row["unit"] is None


def test_below_min_n_nothing_is_certain(evaluated):
    evaluated.add(right=hits(99, 100))
    gate = '{id: a, metric: accuracy, require: "lower >= 0.8", min_n: 150}'

    row = gate_of(ruled(evaluated, gate))

    assert (row["verdict"], row["needed"]) == ("INCONCLUSIVE", 50)


def test_judging_the_value_says_that_the_interval_was_not_looked_at(evaluated):
    evaluated.add(right=hits(81, 100))

    row = gate_of(ruled(evaluated, '{id: a, metric: accuracy, require: "value >= 0.8"}'))

    assert row["verdict"] == "PASS"
    assert "interval was not looked at" in row["note"]


# ------------------------------------------------------------------------------------------------- requirements


@pytest.mark.parametrize("what", ["eval_set", "prompt", "template", "extractor", "decoding", "model"])
def test_a_difference_that_must_not_be_makes_the_verdict_invalid(evaluated, what):
    key = "extractor" if what == "extractor" else f"{what}_sha256"
    evaluated.add(right=hits(380, 400))
    evaluated.add(system="base", right=hits(100, 400), about={key: "other"})
    rest = f"requires: {{same: [{what}], checks: []}}"

    found = ruled(evaluated, NO_LOSS, rest=rest)

    assert found["verdict"] == "INVALID"
    assert gate_of(found)["verdict"] == "PASS"  # the number is good; what it rests on is not
    assert what in found["arms"]["main"]["requires"][0]


def test_an_adapter_not_shown_alive_is_invalid(evaluated):
    rest = "requires: {checks: [adapter_live]}"
    evaluated.add(right=hits(380, 400), about={"adapter": {"alive": False}})

    assert ruled(evaluated, FLOOR, rest=rest)["verdict"] == "INVALID"


def test_an_incomplete_evaluation_is_invalid(evaluated):
    evaluated.add(right=hits(380, 400), about={"items": 416})

    assert ruled(evaluated, FLOOR, rest="requires: {checks: [complete]}")["verdict"] == "INVALID"


def test_decontamination_must_be_in_evidence_when_required(evaluated):
    evaluated.add(right=hits(380, 400))
    rest = "requires: {checks: [no_contamination]}"

    assert ruled(evaluated, FLOOR, rest=rest)["verdict"] == "INVALID"
    write_json(evaluated.run.curate / "decontamination.json", {"checked": True})
    assert ruled(evaluated, FLOOR, rest=rest)["verdict"] == "PASS"
    write_json(evaluated.run.curate / "decontamination.json", {"checked": False})
    assert ruled(evaluated, FLOOR, rest=rest)["verdict"] == "INVALID"


# ------------------------------------------------------------------------------------------------- slices, arms


def test_slices_are_judged_one_by_one_and_the_worst_is_the_gates(evaluated):
    right = [0 if i % 4 == 0 else 1 for i in range(400)]  # all Vietnamese items wrong
    evaluated.add(right=right)

    row = gate_of(ruled(evaluated, '{id: s, metric: accuracy, by: language, require: "lower >= 0.5"}'))

    assert row["verdict"] == "FAIL"
    assert {s["slice"]: s["verdict"] for s in row["slices"]} == {"en": "PASS", "vi": "FAIL"}
    assert "vi" in row["note"]


def test_many_slices_make_a_chance_failure_no_failure(evaluated):
    """One of 20 equal slices is below by chance: alone it would fail, among 20 it may not."""
    labels = [f"intent {i % 20:02d}" for i in range(800)]
    right = [1] * 800
    wrong = [i for i in range(800) if labels[i] == "intent 07"][:13]
    for i in wrong:
        right[i] = 0
    evaluated.add(right=right, label=labels)
    gate = '{id: s, metric: accuracy, by: label, require: "lower >= 0.82"}'

    adjusted = gate_of(ruled(evaluated, gate))
    rest = "requires: {same: [], checks: []}\ndefaults: {multiplicity: none}"
    alone = gate_of(ruled(evaluated, gate, rest=rest))

    def verdict_of(row):
        return next(s["verdict"] for s in row["slices"] if s["slice"] == "intent 07")

    assert verdict_of(alone) == "FAIL"
    assert verdict_of(adjusted) == "INCONCLUSIVE"


def test_the_runs_verdict_is_that_of_its_first_arm(evaluated):
    evaluated.add(arm="chosen", right=hits(380, 400))
    evaluated.add(arm="random", right=hits(280, 400))
    write_json(evaluated.run.path / "arms.json", {"arms": ["chosen", "random"]})

    found = ruled(evaluated, FLOOR)

    assert (found["arm"], found["verdict"]) == ("chosen", "PASS")
    assert found["arms"]["random"]["verdict"] == "FAIL"
    assert ruled(evaluated, FLOOR, arm="random")["exit_code"] == 1


def test_a_base_evaluated_in_the_first_arm_serves_the_others(evaluated):
    evaluated.add(arm="chosen", system="base", right=hits(100, 400))
    evaluated.add(arm="chosen", right=hits(380, 400))
    evaluated.add(arm="random", right=hits(380, 400))
    write_json(evaluated.run.path / "arms.json", {"arms": ["chosen", "random"]})

    assert ruled(evaluated, NO_LOSS)["arms"]["random"]["verdict"] == "PASS"


def test_an_adapter_of_one_arm_never_serves_another(evaluated):
    evaluated.add(arm="chosen", right=hits(380, 400))
    evaluated.add(arm="random", system="majority", right=hits(10, 400))

    assert ruled(evaluated, FLOOR)["arms"]["random"]["verdict"] == "INVALID"


def test_a_baseline_may_lie_in_another_run(evaluated, tmp_path):
    from tamis.run import Run

    other = type(evaluated)(Run(tmp_path / "last-week"))
    other.add(right=hits(340, 400))
    evaluated.add(right=hits(342, 400))
    rest = f"requires: {{same: [eval_set], checks: []}}\nevidence: {{baseline: '{other.run.path}:tuned'}}"

    assert ruled(evaluated, NO_LOSS, rest=rest)["verdict"] in ("PASS", "INCONCLUSIVE")


def test_champion_without_a_champion_is_invalid(evaluated):
    evaluated.add(right=hits(342, 400))
    rest = "requires: {same: [], checks: []}\nevidence: {baseline: champion}"

    assert ruled(evaluated, NO_LOSS, rest=rest)["verdict"] == "INVALID"


def test_a_price_gate_reads_the_runs_own_recipe(evaluated):
    evaluated.add(right=hits(380, 400))
    gate = '{id: a, metric: cost.usd_per_1k, require: "upper <= 0.04 usd"}'

    assert ruled(evaluated, gate)["verdict"] == "INVALID"  # no price known
    evaluated.price(machine_hour=1.0)
    row = gate_of(ruled(evaluated, gate))
    assert row["verdict"] == "PASS"
    assert row["value"] == pytest.approx(1000 / (3600 * 32 / 1.7 * 0.5), rel=0.01)
    evaluated.price(machine_hour=1.0, currency="EUR")
    assert ruled(evaluated, gate)["verdict"] == "INVALID"


def test_a_failing_gate_names_the_likeliest_lever(evaluated):
    evaluated.add(right=hits(200, 400), answer="no", expected=["yes", "perhaps"] * 200)

    assert "more rows that tell the two apart" in gate_of(ruled(evaluated, FLOOR))["lever"]


def test_judging_imports_neither_torch_nor_hugging_faces_evaluate():
    code = (
        "import sys; import tamis.evaluate.gate, tamis.evaluate.compare, tamis.evaluate.render, tamis.evaluate.stage;"
        "print([m for m in ('torch', 'transformers', 'evaluate', 'datasets') if m in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
