"""The user's own metrics. They get intervals and gate like ours.

    file.py:function    the function's score of every output (see below)
    regex:PATTERN       share of outputs that the pattern is found in (Python's `re`)
    contains:TEXT       share of outputs that hold the text; case and Unicode form do not matter
    forbidden:TEXT      share of outputs that hold a text they must not hold: better low
    json_schema:FILE    share of outputs that are JSON valid by the schema

A function takes any of `output`, `answer`, `expected`, `prompt`, `label`, `language` by these names and says with its
return annotation what it gives: `-> bool` for a yes or no (Wilson, Tango), `-> float` for a score (clustered t).

    def short(output: str, expected: str) -> float:
        return min(1.0, len(expected) / max(1, len(output)))

    short.span = (0.0, 1.0)      # least and largest score, if there are any
    short.direction = "up"       # or "down", where less is better; up if not said
    short.unit = None            # of the number, for policies: "words"

A function that fails, or gives what is no number, makes the evidence INVALID: the error names file and line. A failed
request never reaches the function; it gets the worst score of the span.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tamis.errors import EvidenceError, UserError
from tamis.evaluate.metrics import Answers, Family, Metric
from tamis.intervals import Floats
from tamis.userfile import function, place

ARGUMENTS = ("output", "answer", "expected", "prompt", "label", "language")
FORMS = ("regex:PATTERN", "contains:TEXT", "forbidden:TEXT", "json_schema:FILE", "file.py:function")

Test = Callable[[str], bool]


def metric(spec: str) -> Metric | None:
    """The metric of a name; None where the name is not one of the user's own.

    Raises:
        UserError: there is no such file or function, the pattern or schema is wrong, the function does not say what it
            gives.
    """
    head, colon, tail = spec.partition(":")
    if colon and head in _TESTS:
        if not tail:
            raise UserError(f"{head}: what?", where=spec, hint=f"write {_form(head)}")
        return _test_metric(spec, head, _TESTS[head](tail))
    file, colon, _ = spec.rpartition(":")
    if not colon or not file.endswith(".py"):
        return None
    return _function_metric(spec, file, _read(file, spec))


def source(spec: str) -> str | None:
    """What the file behind a metric holds, so that a changed file is noticed; None for metrics without one."""
    head, colon, tail = spec.partition(":")
    if head == "json_schema":
        return _read(tail, spec)
    return _read(spec.rpartition(":")[0], spec) if colon and head not in _TESTS else None


def _form(head: str) -> str:
    return next(f for f in FORMS if f.startswith(head))


def _read(file: str, spec: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError("the file of a metric cannot be read", where=spec, why=error.strerror) from None
    except UnicodeDecodeError as error:
        raise UserError("the file of a metric is not UTF-8", where=file, why=str(error)) from None


# --------------------------------------------------------------------------------------------------- yes or no


def _regex(pattern: str) -> Test:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError("this is no regular expression", where=f"regex:{pattern}", why=str(error)) from None
    return lambda output: compiled.search(output) is not None


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _contains(text: str) -> Test:
    wanted = _folded(text)
    return lambda output: wanted in _folded(output)


def _json_schema(file: str) -> Test:
    import jsonschema  # type: ignore[import-untyped]

    spec = f"json_schema:{file}"
    try:
        schema = json.loads(_read(file, spec))
        kind = jsonschema.validators.validator_for(schema)
        kind.check_schema(schema)
    except ValueError as error:
        raise UserError("the schema is not JSON", where=file, why=str(error)) from None
    except jsonschema.SchemaError as error:
        raise UserError("this is no JSON schema", where=file, why=str(error.message)) from None
    validator = kind(schema)

    def valid(output: str) -> bool:
        try:
            value = json.loads(output, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return False
        return bool(validator.is_valid(value))

    return valid


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_TESTS: dict[str, Callable[[str], Test]] = {
    "regex": _regex,
    "contains": _contains,
    "forbidden": _contains,
    "json_schema": _json_schema,
}
_SAYS = {
    "regex": "share of outputs that the pattern is found in",
    "contains": "share of outputs that hold the text",
    "forbidden": "share of outputs that hold the forbidden text",
    "json_schema": "share of outputs that are JSON valid by the schema",
}


def _test_metric(spec: str, head: str, test: Test) -> Metric:
    down = head == "forbidden"

    def rows(answers: Answers) -> Floats:
        return _scored(
            answers, spec, lambda a: [_tested(test, o, spec) if o is not None else down for o in a["output"]]
        )

    missing = "a failed request counts as one that holds it" if down else "does not count"
    return Metric(spec, "down" if down else "up", "proportion", _SAYS[head], missing, rows=rows)


def _tested(test: Test, output: str, spec: str) -> bool:
    try:
        return test(output)
    except Exception as error:  # an unresolvable $ref, say
        raise EvidenceError(f"the metric {spec} fails", why=" ".join(str(error).split())[:300]) from None


# ---------------------------------------------------------------------------------------------------- functions


@functools.lru_cache(maxsize=32)
def _function_metric(spec: str, file: str, source: str) -> Metric:
    score = function(spec, source)
    where = f"{file}:{score.__code__.co_firstlineno}" if hasattr(score, "__code__") else file
    try:
        signature = inspect.signature(score)
    except (TypeError, ValueError):
        raise UserError("a metric must be a plain function", where=where) from None
    names = list(signature.parameters)
    needed = [n for n, p in signature.parameters.items() if p.default is inspect.Parameter.empty]
    if unknown := [n for n in needed if n not in ARGUMENTS]:
        raise UserError(
            f"a metric is given no {unknown[0]!r}", where=where, hint=f"name its arguments: {', '.join(ARGUMENTS)}"
        )
    family = _family(signature.return_annotation, where)
    down = _is_down(getattr(score, "direction", "up"), where)
    span = (0.0, 1.0) if family == "proportion" else _span(getattr(score, "span", None), where)
    worst = span[1] if down else span[0]
    taken = [n for n in names if n in ARGUMENTS]

    def all_scores(answers: Answers) -> list[float]:
        columns = [answers[n] for n in taken]
        failed = answers["error"]
        found = []
        for at, values in enumerate(zip(*columns, strict=True) if columns else [()] * len(answers)):
            if failed[at] is not None:
                found.append(_worst(worst, spec, where))
                continue
            given = {n: v if n != "output" else v or "" for n, v in zip(taken, values, strict=True)}
            found.append(checked(_called(score, given, spec, file, answers["id"][at]), answers["id"][at]))
        return found

    def checked(value: Any, item: str) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        allowed = number in (0.0, 1.0) if family == "proportion" else math.isfinite(number)
        if not (allowed and span[0] <= number <= span[1]):
            wanted = "True or False" if family == "proportion" else f"a number within [{span[0]:g}, {span[1]:g}]"
            raise EvidenceError(f"the metric {spec} gives {value!r} on item {item}, not {wanted}", where=where)
        return number

    what = inspect.getdoc(score) or f"the user's function {spec.rpartition(':')[2]}"
    return Metric(
        spec,
        "down" if down else "up",
        family,
        what.split("\n")[0].rstrip("."),
        "a failed request gets the worst score",
        unit=getattr(score, "unit", None),
        span=span,
        rows=lambda answers: _scored(answers, spec + source, all_scores),
    )


def _is_down(direction: object, where: str) -> bool:
    if direction not in ("up", "down"):
        raise UserError(f"a metric's direction is 'up' or 'down', not {direction!r}", where=where)
    return direction == "down"


def _family(returns: Any, where: str) -> Family:
    if returns in (bool, "bool"):
        return "proportion"
    if returns in (float, int, "float", "int"):
        return "mean"
    raise UserError(
        "a metric must say what it gives", where=where, hint="write -> bool or -> float behind its arguments"
    )


def _span(span: Any, where: str) -> tuple[float, float]:
    if span is None:
        return (-math.inf, math.inf)
    try:
        low, high = (float(v) for v in span)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        raise UserError(f"span is the least and the largest score, not {span!r}", where=where)
    return (low, high)


def _worst(worst: float, spec: str, where: str) -> float:
    if math.isinf(worst):
        raise EvidenceError(
            f"a request failed, and {spec} has no worst score for it",
            where=where,
            hint="name the least and largest score: function.span = (0.0, 1.0)",
        )
    return worst


def _called(score: Callable[..., Any], given: dict[str, Any], spec: str, file: str, item: str) -> Any:
    try:
        return score(**given)
    except (Exception, SystemExit) as error:  # a metric that leaves with code 0 must not make a gate pass
        raise EvidenceError(
            f"the metric {spec} fails on item {item}", where=place(error, file), why=repr(error)
        ) from None


def _scored(answers: Answers, key: str, scores: Callable[[Answers], list[Any]]) -> Floats:
    """Scores as a column, computed once for the same answers: a gate by slice asks for them dozens of times."""
    kept: dict[str, Floats] = answers.__dict__.setdefault("_own", {})
    if key not in kept:
        kept[key] = np.asarray(scores(answers), dtype=np.float64).reshape(-1, 1)
    return kept[key]
