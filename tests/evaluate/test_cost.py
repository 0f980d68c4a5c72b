"""Prices and joined intervals: how often they miss a truth that is known."""

import types

import numpy as np
import pyarrow as pa
import pytest

from tamis import schema
from tamis.evaluate import cost, measure
from tamis.evaluate.metrics import Answers
from tamis.recipe import Price

DRAWS = 300
MOST = 0.05 + 2.6 * (0.05 * 0.95 / DRAWS) ** 0.5  # two-sided, nominal 5 %, and what so few draws can say


def evidence(rng, *, tokens=False, accuracy=0.7, times=None):
    """A system with answers right by chance, batches of uneven speed (50 a second on average), and timed requests."""
    n = 200
    right = rng.random(n) < accuracy
    rows = [
        {"id": str(i), "batch": 0, "prompt": "", "prompt_sha256": "", "parsed": True, "component": i,
         "correct": bool(hit), "prompt_tokens": int(p), "output_tokens": int(o)}
        for i, (hit, p, o) in enumerate(zip(right, rng.poisson(60, n), rng.geometric(0.1, n), strict=True))
    ]  # fmt: skip
    batches = [{"items": 20, "answered": 20, "seconds": float(rng.gamma(16, 0.4 / 16))} for _ in range(20)]
    prices = {"input_per_million": 10.0, "output_per_million": 50.0} if tokens else None
    requests = None
    if times is not None:
        rows_ = [
            {"id": str(i), "warmup": False, "scheduled_s": 0.0, "sent_s": 0.0, "first_s": t / 2, "last_s": t,
             "prompt_tokens": 5, "output_tokens": 5, "status": "ok"}
            for i, t in enumerate(times)
        ]  # fmt: skip
        requests = pa.Table.from_pylist(rows_, schema=schema.REQUESTS)
    about = {"batches": batches, "token_prices": prices, "environment": {"hardware": "a machine"}}
    return types.SimpleNamespace(
        about=about,
        environment=about["environment"],
        answers=Answers(pa.Table.from_pylist(rows, schema=schema.SAMPLES)),
        requests=requests,
        name="x",
    )


def missed(interval, truth):
    return not (interval.lower <= truth <= interval.upper)


@pytest.mark.parametrize("tokens", [True, False])
def test_prices_and_their_ratio_to_accuracy_cover_the_truth(tokens):
    rng, price = np.random.default_rng(4), Price(machine_hour=1.8, utilisation=0.5)
    each = (60 * 10 + 10 * 50) / 1e6 if tokens else 1.8 / (3600 * 50 * 0.5)
    of_1k = of_correct = 0
    for _ in range(DRAWS):
        made = evidence(rng, tokens=tokens)
        of_1k += missed(cost.per_1k(made, price), 1000 * each)
        of_correct += missed(cost.per_correct(made, price), each / 0.7)

    assert of_1k / DRAWS <= MOST
    assert of_correct / DRAWS <= MOST


@pytest.mark.parametrize("how", ["delta", "ratio"])
def test_joined_percentiles_cover_the_truth(how):
    """Medians of lognormal times, one system a tenth slower: Bonferroni may only miss more rarely than it says."""
    rng, found = np.random.default_rng(5), 0
    for _ in range(DRAWS):
        ours = evidence(rng, times=0.11 * rng.lognormal(0, 0.5, 100))
        theirs = evidence(rng, times=0.10 * rng.lognormal(0, 0.5, 100))
        interval = (measure.delta if how == "delta" else measure.ratio)(ours, theirs, "latency.e2e.p50")
        found += missed(interval, 10.0 if how == "delta" else 1.1)

    assert found / DRAWS <= MOST
