"""What is most likely to help a gate that did not pass, read off the evidence itself."""

from __future__ import annotations

import collections

from tamis.evaluate.evidence import Evidence
from tamis.evaluate.metrics import Metric

# Shares from which a cause is named. Below them a sentence would point at noise.
OFTEN_CUT = 0.2
OFTEN_UNPARSED = 0.1
OFTEN_CONFUSED = 0.15


def lever(evidence: Evidence, metric: Metric, verdict: str) -> str | None:
    """One sentence, or None where the evidence points nowhere."""
    if metric.family in ("time", "load", "cost"):
        return _cheaper(evidence)
    answers = evidence.answers
    if not len(answers):
        return None
    failed = sum(e is not None for e in answers["error"])
    if failed:
        return f"{failed} of {len(answers)} requests failed, first: {answers['error'][_first(answers['error'])]}"
    unparsed = sum(not p for p in answers["parsed"]) / len(answers)
    if unparsed > OFTEN_UNPARSED:
        return f"{unparsed:.0%} of the outputs held no answer: train longer, or ask with the template of the training"
    return _confused(evidence)


def _first(errors: list[str | None]) -> int:
    return next(i for i, e in enumerate(errors) if e is not None)


def _confused(evidence: Evidence) -> str | None:
    """The pair of answers most often taken for one another."""
    answers = evidence.answers
    rows = zip(answers["expected"], answers["answer"], answers["correct"], strict=True)
    wrong = [(true, said) for true, said, right in rows if right is False and said is not None]
    if len(wrong) < 3:
        return None
    (true, said), times = collections.Counter(wrong).most_common(1)[0]
    if times < 2 or times < OFTEN_CONFUSED * len(wrong):
        of, count = collections.Counter(true for true, _ in wrong).most_common(1)[0]
        return f"{count} of {len(wrong)} errors are on {of!r}: more training rows of it" if count > 1 else None
    return f"{times} of {len(wrong)} errors say {said!r} for {true!r}: more rows that tell the two apart"


def _cheaper(evidence: Evidence) -> str | None:
    answers = evidence.answers
    cut = sum(f == "length" for f in answers["finish"])
    if len(answers) and cut > OFTEN_CUT * len(answers):
        return f"{cut / len(answers):.0%} of the answers run into the token limit: train the stop, or lower max_tokens"
    return None
