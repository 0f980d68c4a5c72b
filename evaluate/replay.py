"""Judge again what was judged, from the files of the run alone, and say whether it is the same verdict."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tamis.errors import EvidenceError
from tamis.evaluate.gate import verdict_on
from tamis.evaluate.policy import parse_policy
from tamis.run import Run
from tamis.schema import read_json

TOLERANCE = 1e-9  # of two numbers that are the same: another scipy may round the last digits otherwise
SHOWN = 5  # differences named in the error


def stored(run: Run) -> dict[str, Any]:
    """The verdict that a run holds.

    Raises:
        EvidenceError: there is none, or it cannot be read.
    """
    try:
        found = read_json(run.verdict)
    except FileNotFoundError:
        raise EvidenceError(
            "this run was never judged", where=str(run.verdict), hint=f"tamis gate {run.path}"
        ) from None
    except (OSError, ValueError) as error:
        raise EvidenceError("the verdict cannot be read", where=str(run.verdict), why=str(error)) from None
    if not {"verdict", "arm", "policy", "judged", "arms"} <= found.keys() or "text" not in found["policy"]:
        raise EvidenceError(
            "this verdict does not hold its policy, so it cannot be replayed",
            where=str(run.verdict),
            hint=f"tamis gate {run.path} judges anew",
        )
    return found


def replay(run: Run) -> dict[str, Any]:
    """The stored verdict, found again with the stored policy on the stored day.

    Nothing is written. The champion, if one was compared with, is the run's own copy.

    Raises:
        EvidenceError: the same policy on the same day no longer gives this verdict: a file of the evidence was changed,
            or the verdict itself was.
    """
    then = stored(run)
    policy = parse_policy(then["policy"]["text"], Path(then["policy"]["path"]), champion=run.champion)
    now = verdict_on(run, policy, then["arm"], datetime.date.fromisoformat(then["judged"]))
    then.pop("schema_version", None)
    if differences := list(_differences(then, now)):
        more = f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        raise EvidenceError(
            "the files of this run no longer give the verdict that it holds",
            where=str(run.verdict),
            why="; ".join(differences[:SHOWN]) + more,
            hint=f"tamis gate {run.path} judges what is there now",
        )
    return now


def _differences(then: Any, now: Any, place: str = "") -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in (*then, *(k for k in now if k not in then)):
            yield from _differences(then.get(key), now.get(key), f"{place}.{key}" if place else str(key))
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for index, (a, b) in enumerate(zip(then, now, strict=True)):
            yield from _differences(a, b, f"{place}.{index}")
    elif not _same(then, now):
        yield f"{place} was {_short(then)}, is {_short(now)}"


def _same(then: Any, now: Any) -> bool:
    if isinstance(then, float) and isinstance(now, (float, int)):
        return (math.isnan(then) and math.isnan(now)) or math.isclose(then, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(then == now)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
