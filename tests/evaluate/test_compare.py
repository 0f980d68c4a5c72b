"""Side by side: pairs, tables, the split of a gain, prices."""

import math

import pytest

from tamis.errors import EvidenceError
from tamis.evaluate import cost
from tamis.evaluate.compare import compare, gain
from tamis.evaluate.evidence import find
from tamis.evaluate.stage import write_metrics
from tamis.recipe import Price, Recipe
from tamis.schema import read_json, write_json


def recipe(**price):
    raw = {"name": "x", "data": {"path": "x"}, "evaluate": {"task": {"kind": "classify"}, "price": price}}
    return Recipe.check(raw)


def measured(evaluated, arm, system, right, **more):
    evaluated.add(arm, system, right, **more)
    write_metrics(find(evaluated.run, arm, system), recipe())


@pytest.fixture
def two_arms(evaluated):
    measured(evaluated, "chosen", "base", [0, 0, 0, 1] * 50)
    measured(evaluated, "chosen", "tuned", [1, 1, 0, 1] * 50, times=[0.1] * 80)
    measured(evaluated, "chosen", "linear", [1, 0, 1, 1] * 50)
    measured(evaluated, "random", "tuned", [1, 0, 0, 1] * 50)
    write_json(evaluated.run.path / "arms.json", {"arms": ["chosen", "random"]})
    write_json(evaluated.run.train("chosen") / "stage.json", {"rows": 300, "seconds": 61.5})
    return evaluated


def test_comparison_is_written_and_read_back_equal(two_arms):
    made = compare(two_arms.run, recipe(machine_hour=1.0))

    stored = {k: v for k, v in read_json(two_arms.run.comparison).items() if k != "schema_version"}
    assert stored == made
    assert (made["items"], made["components"], made["primary"]) == (200, 200, "accuracy")


def test_every_system_carries_its_numbers_with_intervals(two_arms):
    made = compare(two_arms.run, recipe(machine_hour=1.0))
    tuned = next(s for s in made["systems"] if (s["arm"], s["system"]) == ("chosen", "tuned"))

    assert (tuned["train_rows"], tuned["train_seconds"], tuned["errors"]) == (300, 61.5, 0)
    accuracy = tuned["metrics"]["accuracy"]
    assert (accuracy["value"], accuracy["n"], accuracy["method"]) == (0.75, 200, "wilson")
    assert accuracy["lower"] < 0.75 < accuracy["upper"]
    assert tuned["metrics"]["latency.e2e.p95"]["unit"] == "ms"
    assert tuned["metrics"]["latency.e2e.p95"]["value"] == pytest.approx(100)
    assert tuned["metrics"]["cost.usd_per_1k"]["unit"] == "USD"
    assert tuned["requests"] == {"timed": 80, "warmup": 2, "failed": 0}


def test_pairs_are_those_that_matter(two_arms):
    made = compare(two_arms.run, recipe())
    pairs = {
        (p["candidate"]["arm"], p["candidate"]["system"], p["baseline"]["arm"], p["baseline"]["system"])
        for p in made["pairs"]
    }

    assert pairs == {
        ("chosen", "tuned", "chosen", "base"),
        ("chosen", "tuned", "chosen", "linear"),
        ("random", "tuned", "chosen", "base"),
        ("chosen", "tuned", "random", "tuned"),
    }


def test_fixed_and_broken_add_up(two_arms):
    made = compare(two_arms.run, recipe())
    pair = made["pairs"][0]

    assert pair["metric"] == "accuracy"
    assert pair["table"] == {"both_right": 50, "fixed": 100, "broken": 0, "both_wrong": 50}
    assert pair["delta"]["value"] == 0.5
    assert pair["delta"]["method"] == "tango"
    assert pair["mcnemar_p"] == pytest.approx(2 * 0.5**100)
    assert pair["examples_needed"] == 0


def test_an_unclear_difference_says_how_many_more_items(evaluated):
    measured(evaluated, "main", "base", [1, 0] * 50)
    measured(evaluated, "main", "tuned", [1, 0] * 49 + [1, 1])

    pair = compare(evaluated.run, recipe())["pairs"][0]

    assert pair["delta"]["lower"] < 0 < pair["delta"]["upper"]
    assert pair["examples_needed"] > 100


def test_items_in_clusters_are_not_counted_one_by_one(evaluated):
    # ten near-duplicates each, fixed or not as a whole: 200 items, twenty opinions
    clusters = [place // 10 for place in range(200)]
    measured(evaluated, "main", "base", [0] * 200, component=clusters)
    measured(evaluated, "main", "tuned", [int(c in (3, 8)) for c in clusters], component=clusters)

    pair = compare(evaluated.run, recipe())["pairs"][0]

    assert pair["delta"]["lower"] < 0 < pair["delta"]["value"]
    assert pair["mcnemar_p"] is None  # over the items it would be 2e-6
    assert 200 < pair["examples_needed"] < 260  # 23 clusters more; counted one by one the items would be enough


def test_systems_of_two_evaluation_sets_are_not_compared(evaluated):
    evaluated.add("main", "base", [1, 0])
    evaluated.add("main", "tuned", [1, 0], about={"eval_set_sha256": "other"})

    with pytest.raises(EvidenceError, match="different evaluation sets"):
        compare(evaluated.run, recipe())


def test_a_run_without_evaluations_says_so(evaluated):
    with pytest.raises(EvidenceError, match="nothing was evaluated"):
        compare(evaluated.run, recipe())


def test_form_and_skill_sum_to_the_gain(evaluated):
    parsed = [i % 2 == 0 for i in range(100)]
    evaluated.add("main", "base", [1 if p and i % 4 == 0 else 0 for i, p in enumerate(parsed)], parsed=parsed)
    evaluated.add("main", "tuned", [1] * 90 + [0] * 10)
    base, tuned = (find(evaluated.run, "main", s).answers for s in ("base", "tuned"))

    parts = gain(tuned, base)

    # parse rate 0.5 to 1.0, right given parsed 0.5 to 0.9
    assert parts["format"] == pytest.approx(0.5 * 0.7)
    assert parts["skill"] == pytest.approx(0.4 * 0.75)
    assert parts["format"] + parts["skill"] == pytest.approx(0.65)


def test_skill_that_was_never_shown_is_unknown_not_zero(evaluated):
    evaluated.add("main", "base", [0] * 10, parsed=False)
    evaluated.add("main", "tuned", [1] * 10)
    base, tuned = (find(evaluated.run, "main", s).answers for s in ("base", "tuned"))

    assert gain(tuned, base) == {"format": 1.0, "skill": None}


# --------------------------------------------------------------------------------------------------------- cost


def test_a_machines_price_is_its_hour_over_what_it_answers(evaluated):
    evaluated.add(right=[1] * 100, about={"batches": [{"items": 32, "answered": 32, "seconds": 1.6}] * 4})
    found = cost.per_1k(find(evaluated.run, "main", "tuned"), Price(machine_hour=3.6, utilisation=0.5))

    # 20 requests a second, half of it used: 36,000 an hour for 3.60
    assert found.value == pytest.approx(0.10)


def test_a_faster_machine_is_a_cheaper_one_so_bounds_change_places(evaluated):
    batches = [{"items": 32, "answered": 32, "seconds": s} for s in (1.5, 1.6, 1.7, 1.6)]
    evaluated.add(right=[1] * 100, about={"batches": batches})
    evidence = find(evaluated.run, "main", "tuned")
    found, rate = cost.per_1k(evidence, Price(machine_hour=3.6)), cost.throughput(evidence)

    assert found.lower == pytest.approx(1000 * 3.6 / (3600 * rate.upper * 0.5))
    assert found.lower < found.value < found.upper


def test_an_unknown_price_is_missing_never_zero(evaluated):
    evaluated.add(right=[1] * 100)
    evidence = find(evaluated.run, "main", "tuned")

    assert cost.per_1k(evidence, Price()).n == 0
    assert math.isnan(cost.per_correct(evidence, Price()).value)


def test_a_remote_endpoint_is_not_priced_by_our_machine(evaluated):
    evaluated.add(right=[1] * 100, about={"remote": True})

    assert cost.per_1k(find(evaluated.run, "main", "tuned"), Price(machine_hour=1)).n == 0


def test_tokens_are_priced_by_the_million(evaluated):
    prices = {"input_per_million": 2.0, "output_per_million": 10.0}
    evaluated.add(right=[1] * 100, about={"remote": True, "token_prices": prices}, prompt_tokens=[19, 21] * 50)

    found = cost.per_1k(find(evaluated.run, "main", "tuned"), Price())

    assert found.value == pytest.approx(1000 * (20 * 2 + 2 * 10) / 1e6)


def test_tokens_that_were_not_reported_have_no_price(evaluated):
    prices = {"input_per_million": 2.0, "output_per_million": 10.0}
    evaluated.add(right=[1] * 100, about={"remote": True, "token_prices": prices}, rows={5: {"output_tokens": None}})

    assert cost.per_1k(find(evaluated.run, "main", "tuned"), Price()).n == 0


def test_a_right_answer_costs_more_the_rarer_it_is(evaluated):
    evaluated.add("main", "tuned", [1, 1, 1, 0] * 25)
    evaluated.add("main", "base", [0] * 100)
    price = Price(machine_hour=1)
    good, none = (find(evaluated.run, "main", s) for s in ("tuned", "base"))

    found = cost.per_correct(good, price)
    assert found.value == pytest.approx(cost.per_1k(good, price).value / 1000 / 0.75)
    assert found.lower < found.value < found.upper
    assert cost.per_correct(none, price).value == math.inf
