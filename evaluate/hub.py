"""The only file that imports Hugging Face's `evaluate`: our metrics for it, and its metrics for the user.

    from tamis.evaluate.hub import metric
    metric("rouge_l").compute(predictions=["đơn hàng đã hủy"], references=["đơn hàng đã hủy"])

Nothing on the gate's path comes here. `evaluate` ships no metric itself: `evaluate.load("rouge")` downloads a script
from the hub and runs it. Ours need no network, and combine with others through `evaluate.combine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from evaluate.info import MetricInfo
from evaluate.loading import load as load_from_hub
from evaluate.module import EvaluationModule, Metric

from tamis.errors import UserError, did_you_mean
from tamis.evaluate.measure import of_answers
from tamis.evaluate.metrics import Answers, lookup, signature
from tamis.schema import SAMPLES

TEXTS = ("accuracy", "macro_f1", "exact_match", "bleu", "chrf", "rouge_l")
NUMBERS = ("mae", "rmsle")
AVAILABLE = (*TEXTS, *NUMBERS)


def metric(id: str) -> Metric:
    """One of our metrics as an `evaluate.Metric`. It returns the value with its interval.

    Raises:
        UserError: unknown, or not computable from predictions and references alone.
    """
    if id not in AVAILABLE:
        raise UserError(f"{id!r} is not a metric of predictions and references", hint=did_you_mean(id, AVAILABLE))
    return _Ours(id)


class _Ours(Metric):
    """A registry metric behind `evaluate`'s interface. Every item is a cluster of its own."""

    def __init__(self, id: str, **kwargs: Any):
        self.id = id
        super().__init__(**kwargs)

    def _info(self) -> MetricInfo:
        known = lookup(self.id)
        kind = datasets.Value("float64" if self.id in NUMBERS else "string")
        return MetricInfo(
            description=f"{known.what}. An item without an answer: {known.missing}.",
            citation="",
            inputs_description="predictions and references, one text (or number) per item",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, *, predictions: Sequence[Any] = (), references: Sequence[Any] = (), **_: Any) -> dict[str, Any]:
        interval = of_answers(answers_of([str(p) for p in predictions], [str(r) for r in references]), lookup(self.id))
        told = {f"{self.id}_lower": interval.lower, f"{self.id}_upper": interval.upper}
        signed = {f"{self.id}_signature": text} if (text := signature(self.id)) else {}
        return {self.id: interval.value, **told, **signed}


def answers_of(predictions: Sequence[str], references: Sequence[str]) -> Answers:
    """Predictions and references as `schema.SAMPLES`, each item a component of its own."""
    rows = [
        {
            "id": str(place),
            "batch": 0,
            "prompt": "",
            "prompt_sha256": "",
            "output": said,
            "answer": said,
            "expected": right,
            "correct": said == right,
            "parsed": True,
            "component": place,
        }
        for place, (said, right) in enumerate(zip(predictions, references, strict=True))
    ]
    return Answers(pa.Table.from_pylist(rows, schema=SAMPLES))


def load(name: str, folder: Path) -> EvaluationModule:
    """A metric from the hub or a local script, cached inside the run.

    Runs code from the hub: only for metrics that the user names.

    Raises:
        UserError: it cannot be loaded (no network, no such metric).
    """
    try:
        return load_from_hub(name, cache_dir=str(folder))
    except Exception as error:  # hub, network and script errors have no common base
        raise UserError(
            f"the hub's metric {name!r} cannot be loaded",
            why=" ".join(str(error).split())[:300],
            hint=f"ours need no network: {', '.join(AVAILABLE)}",
        ) from None
