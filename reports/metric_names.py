"""What a metric is called in a sentence, how its numbers are written, and which way is better.

The registry in `evaluate/metrics.py` defines the metrics; this file only names them for readers, since `reports` reads
run folders and imports no other folder. A metric it does not know keeps its id.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

Kind = Literal["share", "score", "of_hundred", "unit", "plain"]


@dataclasses.dataclass(frozen=True)
class MetricName:
    """A metric for readers.

    Attributes:
        label: what stands in tables and sentences.
        kind: `share` in per cent, `score` 0 to 1 with three decimals, `of_hundred` 0 to 100 with one decimal, `unit`
            with its unit, `plain` without any.
        direction: whether higher (`up`) or lower (`down`) is better; None where that is not known.
        unit: of `kind="unit"`, where the run folder names none.
    """

    label: str
    kind: Kind
    direction: Literal["up", "down"] | None
    unit: str | None = None


KNOWN: dict[str, MetricName] = {
    "accuracy": MetricName("accuracy", "share", "up"),
    "macro_f1": MetricName("macro F1", "score", "up"),
    "parse_rate": MetricName("parse rate", "share", "up"),
    "exact_match": MetricName("exact match", "share", "up"),
    "error_rate": MetricName("failed requests", "share", "down"),
    "truncation_rate": MetricName("answers cut short", "share", "down"),
    "judge.consistency": MetricName("judge agrees with itself", "share", "up"),
    "flip_rate": MetricName("other answer when asked again", "share", "down"),
    "judge.win_rate": MetricName("judge's win rate", "share", "up"),
    "load.attainment": MetricName("requests in time", "share", "up"),
    "mae": MetricName("mean absolute error", "plain", "down"),
    "rmsle": MetricName("log error (RMSLE)", "score", "down"),
    "bleu": MetricName("BLEU", "of_hundred", "up"),
    "chrf": MetricName("chrF", "of_hundred", "up"),
    "rouge_l": MetricName("ROUGE-L", "score", "up"),
    "perplexity": MetricName("perplexity", "plain", "down"),
    "bits_per_byte": MetricName("bits per byte", "score", "down"),
    "load.throughput": MetricName("throughput", "unit", "up", "requests/s"),
}

_TIMES = {"e2e": "latency", "ttft": "time to first token", "tpot": "time per token", "queue": "time in queue"}
_COSTS = {"1k": "cost per 1,000 requests", "correct": "cost per right answer", "request": "cost per request"}


def named(metric: str) -> MetricName:
    """The name of a metric; its id, without a direction, where the metric is the user's own."""
    if metric in KNOWN:
        return KNOWN[metric]
    if match := re.fullmatch(r"latency\.(\w+)\.p(\d+)", metric):
        return MetricName(f"p{match[2]} {_TIMES.get(match[1], match[1])}", "unit", "down", "ms")
    if match := re.fullmatch(r"cost\.([a-z]{3})_per_(\w+)", metric):
        return MetricName(_COSTS.get(match[2], f"cost per {match[2]}"), "unit", "down", match[1].upper())
    return MetricName(metric, "plain", None)


def metric_order(metric: str) -> tuple[int, str]:
    """Sort key: quality, then time, load, cost, as people read them."""
    families = ("latency.", "load.", "cost.")
    family = next((i + 1 for i, f in enumerate(families) if metric.startswith(f)), 0)
    known = list(KNOWN).index(metric) if metric in KNOWN else len(KNOWN)
    return family * 100 + known, metric
