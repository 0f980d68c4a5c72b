"""What an answer costs: from token prices, or from the price of a machine and what it was measured to answer.

    tokens    (prompt tokens x price in + output tokens x price out) / 10^6, per request
    machine   price of an hour / (3600 x requests per second x utilisation)

A price that is not known is missing, never zero: a model is not free because nobody wrote down what it costs.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tamis import intervals
from tamis.evaluate.evidence import Evidence
from tamis.intervals import Interval
from tamis.recipe import Price

REQUESTS = 1000


@dataclasses.dataclass(frozen=True)
class Tariff:
    """How a system is paid for. All None: unknown, and `why`."""

    machine_hour: float | None = None
    utilisation: float = 0.5
    input_per_million: float | None = None
    output_per_million: float | None = None
    why: str = "no price of its machine or tokens is given (evaluate.price)"

    @classmethod
    def of(cls, evidence: Evidence, price: Price) -> Tariff:
        """Token prices where the system has them, else the machine's hour where it ran on the machine priced.

        A remote endpoint without token prices has no known price: the recipe's machine is not the one that answered.
        """
        tokens = evidence.about.get("token_prices") or {}
        if tokens.get("input_per_million") is not None and tokens.get("output_per_million") is not None:
            return cls(None, price.utilisation, tokens["input_per_million"], tokens["output_per_million"])
        if evidence.about.get("remote"):
            return cls()
        ran_on = str(evidence.environment.get("hardware"))
        if price.hardware is not None and price.hardware.casefold() not in ran_on.casefold():
            return cls(
                why=f"it was measured on {ran_on}, the price is that of {price.hardware} (evaluate.price.hardware)"
            )
        return cls(price.machine_hour, price.utilisation)


def per_1k(evidence: Evidence, price: Price, confidence: float = 0.95) -> Interval:
    """Price of 1,000 requests in the currency of `price`."""
    tariff = Tariff.of(evidence, price)
    if tariff.input_per_million is not None and tariff.output_per_million is not None:
        tokens = (evidence.answers["prompt_tokens"], evidence.answers["output_tokens"])
        if not len(evidence.answers) or any(t is None for column in tokens for t in column):
            return _unknown("the system did not report its tokens for every request", confidence)
        sent, made = (np.asarray(t, dtype=np.float64) for t in tokens)
        each = (sent * tariff.input_per_million + made * tariff.output_per_million) / 1e6
        mean = intervals.mean(each, evidence.answers.components, confidence)
        return dataclasses.replace(mean.scaled(REQUESTS), method=f"token prices, {mean.method}")
    if tariff.machine_hour is None:
        return _unknown(tariff.why, confidence)
    return _from_capacity(throughput(evidence, confidence), tariff.machine_hour, tariff.utilisation)


def _from_capacity(capacity: Interval, machine_hour: float, utilisation: float) -> Interval:
    """Bounds change places: the faster the machine answers, the less an answer costs."""

    def price(rate: float | None) -> float | None:
        if rate is None:
            return None
        return REQUESTS * machine_hour / (3600 * rate * utilisation) if rate > 0 else math.inf

    if not capacity.value > 0:
        return _unknown("its capacity was not measured", capacity.confidence)
    value = price(capacity.value)
    assert value is not None
    method = f"machine hour at {utilisation:.0%} of measured capacity"
    return dataclasses.replace(
        capacity, value=value, lower=price(capacity.upper), upper=price(capacity.lower), method=method
    )


def per_correct(evidence: Evidence, price: Price, confidence: float = 0.95) -> Interval:
    """Price of one right answer: price of a request over accuracy. Infinite where nothing was right.

    The bounds join the dearest request with the lowest accuracy and the cheapest with the highest, each at a
    confidence raised so that both hold together (Bonferroni).
    """
    joint = 1 - (1 - confidence) / 2
    request, right = per_1k(evidence, price, joint), evidence.answers["correct"]
    if math.isnan(request.value) or not right or any(r is None for r in right):
        return _unknown(request.note or "the task has no right answer", confidence)
    share = intervals.proportion(right, evidence.answers.components, joint)

    def over(money: float | None, accuracy: float | None) -> float | None:
        if money is None or accuracy is None:
            return None
        return money / REQUESTS / accuracy if accuracy > 0 else math.inf

    value = over(request.value, share.value)
    assert value is not None
    lower, upper = over(request.lower, share.upper), over(request.upper, share.lower)
    return Interval(
        value, lower, upper, share.n, f"{request.method} / accuracy, Bonferroni", share.over, confidence, request.note
    )


def throughput(evidence: Evidence, confidence: float = 0.95) -> Interval:
    """Requests answered per second over the evaluation's batches; failed ones take time and do not count."""
    batches = evidence.about.get("batches") or []
    return intervals.ratio(
        [b["answered"] for b in batches], [b["seconds"] for b in batches], confidence, over="batches"
    )


def _unknown(why: str, confidence: float) -> Interval:
    return intervals.missing("cost", why, confidence=confidence)
