"""What a server says of itself: vLLM's Prometheus page, read as shares and as bounds of percentiles.

Counters run from the server's start, so two pages are subtracted: the difference is what was served between them. A
histogram knows a duration only up to its bucket; a percentile is therefore an interval, the edges of its bucket, and is
judged as one. Names of the metrics: vLLM's documentation, "Production Metrics".
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import TypeVar

import httpx

from tamis.errors import EvidenceError, UserError

LATENCY = "vllm:e2e_request_latency_seconds"
FIRST_TOKEN = "vllm:time_to_first_token_seconds"
FINISHED = "vllm:request_success_total"  # by finished_reason, which may be abort or error in spite of the name
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
FAILED = ("abort", "error")
CUT = "length"

_LINE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Key = TypeVar("Key", str, float)
Sample = tuple[str, dict[str, str], float]


@dataclasses.dataclass(frozen=True)
class Page:
    """One reading.

    Attributes:
        finished: requests by why they ended.
        latency, first_token: cumulative counts by the upper edge of the bucket, seconds; the last edge is infinite.
        running, waiting: requests at this moment; None where the server does not say.
    """

    finished: dict[str, float]
    latency: dict[float, float]
    first_token: dict[float, float]
    running: float | None = None
    waiting: float | None = None

    @property
    def served(self) -> float:
        """Requests that ended, however they did."""
        return sum(self.finished.values())

    def since(self, earlier: Page | None) -> Page:
        """What was served between two readings; all of this one where the server was started anew in between."""
        if earlier is None or _restarted(self, earlier):
            return self
        return dataclasses.replace(
            self,
            finished=_less(self.finished, earlier.finished),
            latency=_less(self.latency, earlier.latency),
            first_token=_less(self.first_token, earlier.first_token),
        )


def _restarted(now: Page, then: Page) -> bool:
    """Whether a counter went backwards."""
    fell = any(now.finished.get(why, 0.0) < count for why, count in then.finished.items())
    pairs = ((now.latency, then.latency), (now.first_token, then.first_token))
    return fell or any(a.get(edge, 0.0) < count for a, b in pairs for edge, count in b.items())


def _less(now: dict[Key, float], then: dict[Key, float]) -> dict[Key, float]:
    return {key: count - then.get(key, 0.0) for key, count in now.items()}


def parse(text: str) -> list[Sample]:
    """The samples of a page in Prometheus's text format: name, labels, value. Comments are skipped.

    Raises:
        ValueError: a line that is none of it.
    """
    found = []
    for line in text.splitlines():
        if not (line := line.strip()) or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"not in Prometheus's text format: {line[:60]!r}")
        found.append((match["name"], dict(_LABEL.findall(match["labels"] or "")), float(match["value"])))
    return found


def page(samples: list[Sample], model: str | None = None) -> Page:
    """What is said of one model, or of all where no sample names it; engines and replicas are added up."""
    named = {labels.get("model_name") for _, labels, _ in samples}
    mine = [s for s in samples if model not in named or s[1].get("model_name") in (None, model)]

    def summed(name: str, label: str) -> dict[str, float]:
        out: dict[str, float] = {}
        for found, labels, value in mine:
            if found == name and label in labels:
                out[labels[label]] = out.get(labels[label], 0.0) + value
        return out

    def gauge(name: str) -> float | None:
        values = [value for found, _, value in mine if found == name]
        return sum(values) if values else None

    def histogram(name: str) -> dict[float, float]:
        return dict(sorted((float(edge), count) for edge, count in summed(f"{name}_bucket", "le").items()))

    finished = summed(FINISHED, "finished_reason")
    return Page(finished, histogram(LATENCY), histogram(FIRST_TOKEN), gauge(RUNNING), gauge(WAITING))


def fetch(url: str, model: str | None, *, timeout_s: float = 10.0) -> Page:
    """Read a server's page.

    Raises:
        EvidenceError: nobody answers, or the page holds nothing of vLLM's.
        UserError: not an address.
    """
    try:
        answer = httpx.get(url, timeout=timeout_s, follow_redirects=True, trust_env=False)
        answer.raise_for_status()
        found = page(parse(answer.text), model)
    except httpx.UnsupportedProtocol as error:
        raise UserError("this is no address", where="--metrics", why=str(error)) from None
    except httpx.HTTPError as error:
        raise EvidenceError(
            "the metrics page cannot be read", where=url, why=str(error) or type(error).__name__
        ) from None
    except ValueError as error:
        raise EvidenceError("the metrics page cannot be read", where=url, why=str(error)) from None
    if not found.latency and not found.finished:
        raise EvidenceError(
            "the metrics page holds none of vLLM's figures", where=url, why=f"neither {LATENCY} nor {FINISHED}"
        )
    return found


def percentile(buckets: dict[float, float], share: float) -> tuple[float, float] | None:
    """Edges, in seconds, of the bucket that holds a percentile; None where nothing was measured.

    Args:
        buckets: cumulative counts by upper edge.
        share: 0.95 for the 95th percentile.
    """
    count = max(buckets.values(), default=0.0)
    if not count:
        return None
    lower = 0.0
    for edge, below in sorted(buckets.items()):
        if below >= share * count:
            return lower, edge
        lower = edge
    return lower, math.inf
