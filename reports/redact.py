"""A report without personal data and raw text: what may be shown to people who may not see the data.

Prompts, answers, the users' keys and error texts go, whatever they hold. What is left (names of labels, slices, arms
and systems, notes of the gate) is looked through for addresses and numbers of people, and paths lose their folders.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from tamis.reports.examples_view import Example, Examples
from tamis.reports.view import ReportView

LEFT_OUT = "left out"

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
# Seven digits and more, grouped or not. A date has eight and is none of these; a hash goes on with letters.
_NUMBER = re.compile(r"(?<![\w.,])(?!\d{4}-\d\d-\d\d)\+?\(?\d(?:[ ().\-]{0,2}\d){6,}(?![\w])")
_PATH = re.compile(r"(?<![\w<])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\'\"`:,;)]+){2,}")
# Fields that hold what Tamis wrote itself: times, versions, hashes.
_OURS = {"made", "version", "id", "eval_sha256", "policy_sha256", "evidence_sha256", "fingerprint", "finished"}


def redacted(view: ReportView) -> ReportView:
    """The same report, fit to be shown to people who may not see the data.

    The verdict, every number and the ids of rows and items stay, so that whoever has the run folder can look them up.
    """
    bare = dataclasses.replace(view, examples=_without_texts(view.examples), path="RUN", redacted=True)
    found: ReportView = _cleaned(bare)
    return found


def without_people(text: str) -> str:
    """A text without e-mail addresses, long numbers and the folders of paths."""
    text = _EMAIL.sub(f"[{LEFT_OUT}]", text)
    text = _PATH.sub(lambda m: re.split(r"[/\\]", m[0])[-1], text)
    return _NUMBER.sub(f"[{LEFT_OUT}]", text)


def _without_texts(examples: Examples | None) -> Examples | None:
    if examples is None:
        return None
    return dataclasses.replace(examples, rows=tuple(map(_without_text, examples.rows)))


def _without_text(row: Example) -> Example:
    nothing = dict.fromkeys(("key", "expected", "candidate", "baseline", "candidate_answer", "baseline_answer"))
    return dataclasses.replace(row, prompt="", error=row.error and LEFT_OUT, **nothing)  # type: ignore[arg-type]


def _cleaned(value: Any, name: str = "") -> Any:
    """Every text below a value looked through, dataclasses, mappings and their keys included."""
    if isinstance(value, str):
        return value if name in _OURS else without_people(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _cleaned(getattr(value, f.name), f.name) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    if isinstance(value, dict):
        return {_cleaned(k): _cleaned(v, k if isinstance(k, str) else "") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cleaned(v, name) for v in value)
    return value
