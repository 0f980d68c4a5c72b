"""What rules a base model out before it is asked anything, each in a sentence that says by how much."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the data, the machine and the recipe ask of a base.

    Attributes:
        licenses: that will do; empty: any.
        languages: share of the rows by language that must be spoken, 0 to 1.
        chat_template: whether one is needed.
        tokens_per_word: most that a tokenizer may need; None: any number.
        serving_bytes: memory of the machine that serves.
        concurrency: requests that it serves at once.
    """

    licenses: Sequence[str]
    languages: Mapping[str, float]
    chat_template: bool
    tokens_per_word: float | None
    serving_bytes: float
    concurrency: int


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a base; None is not known, and rules nothing out but by licence.

    Attributes:
        license: as the hub writes it.
        languages: it speaks, ISO 639-1.
        chat_template: whether it has one.
        context: tokens that it reads.
        tokens_p99: 99th percentile of the rows' tokens, answers included.
        tokens_per_word: of these rows.
        training_bytes: planned peak.
        training_refused: why the planner refuses, in its words.
        serving_bytes, weight_bytes, cache_bytes: when serving; the parts of which the first is the sum.
        exact: whether tokens were counted by its own tokenizer, or estimated.
    """

    license: str | None = None
    languages: Sequence[str] | None = None
    chat_template: bool | None = None
    context: int | None = None
    tokens_p99: int | None = None
    tokens_per_word: float | None = None
    training_bytes: float | None = None
    training_refused: str | None = None
    serving_bytes: float | None = None
    weight_bytes: float | None = None
    cache_bytes: float | None = None
    exact: bool = True


def rejections(known: Known, wanted: Wanted) -> list[str]:
    """Every reason why a base cannot be taken; none for one that can."""
    tests = (_licence, _language, _template, _context, _fertility, _training, _serving)
    return [said for test in tests if (said := test(known, wanted))]


def _licence(known: Known, wanted: Wanted) -> str | None:
    if not wanted.licenses or (known.license or "").lower() in {name.lower() for name in wanted.licenses}:
        return None
    allowed = f"the recipe allows {', '.join(wanted.licenses)}"
    if known.license is None:
        return f"its licence is not known; {allowed}"
    return f"its licence is {known.license}; {allowed}"


def _language(known: Known, wanted: Wanted) -> str | None:
    if known.languages is None:
        return None
    lacking = {name: share for name, share in wanted.languages.items() if name not in known.languages}
    if not lacking:
        return None
    told = ", ".join(f"{name} ({share:.0%} of the rows)" if share else name for name, share in lacking.items())
    return f"it speaks {', '.join(known.languages[:8])}, not {told}"


def _template(known: Known, wanted: Wanted) -> str | None:
    if known.chat_template is not False or not wanted.chat_template:
        return None
    return "it has no chat template, so conversations cannot be written for it"


def _context(known: Known, wanted: Wanted) -> str | None:
    if known.context is None or known.tokens_p99 is None or known.tokens_p99 <= known.context:
        return None
    about = "" if known.exact else "about "
    return f"it reads {known.context:,} tokens, and one row in a hundred has {about}{known.tokens_p99:,} or more"


def _fertility(known: Known, wanted: Wanted) -> str | None:
    limit, needs = wanted.tokens_per_word, known.tokens_per_word
    if limit is None or needs is None or needs <= limit:
        return None
    return f"its tokenizer needs {needs:.2f} tokens for a word of these rows; the recipe allows {limit:g}"


def _training(known: Known, wanted: Wanted) -> str | None:
    return known.training_refused


def _serving(known: Known, wanted: Wanted) -> str | None:
    if known.serving_bytes is None or known.serving_bytes <= wanted.serving_bytes:
        return None
    there = f"there are {wanted.serving_bytes / 1e9:.1f}"
    if known.cache_bytes is None:
        return f"its weights alone take {known.serving_bytes / 1e9:.1f} GB to serve; {there}"
    parts = f"weights {(known.weight_bytes or 0) / 1e9:.1f}, keys and values {known.cache_bytes / 1e9:.1f}"
    requests = "1 request" if wanted.concurrency == 1 else f"{wanted.concurrency} requests at once"
    return f"serving {requests} needs {known.serving_bytes / 1e9:.1f} GB ({parts}); {there}"
