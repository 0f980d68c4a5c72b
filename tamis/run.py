"""The run folder: the only way stages meet.

A stage is complete when its `stage.json` exists; that file is written last and atomically, and it holds the
fingerprint of everything the stage depended on. Running again therefore skips what is done, redoes what changed, and
goes on where a killed process stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tamis.errors import RecipeError, RunLocked, UserError
from tamis.record import canonical_json
from tamis.schema import read_json, write_atomic, write_json

PACKAGE = "tamis"
# What only Tamis writes. `.lock` comes first and is hidden, so a copy of a run may lack it.
MARKS = (".lock", "arms.json", "curate/begun.json", "curate/stage.json", "comparison.json")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder. Holds paths only; nothing is read until asked for."""

    path: Path

    @property
    def curate(self) -> Path:
        return self.path / "curate"

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def comparison(self) -> Path:
        return self.path / "comparison.json"

    @property
    def verdict(self) -> Path:
        return self.path / "verdict.json"

    @property
    def champion(self) -> Path:
        """The champion that this run was judged against, if any."""
        return self.path / "champion.json"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def begun(self) -> bool:
        """Whether this is a run that a command has written to. A recipe alone makes none: it may be the user's own."""
        return any((self.path / mark).exists() for mark in MARKS)

    def require(self) -> None:
        """Check that there is a run to go on with.

        Raises:
            RecipeError: the folder is none; says what it holds instead.
        """
        if self.begun():
            return
        recipes = sorted([*self.path.glob("*.yaml"), *self.path.glob("*.yml")], key=lambda f: f != self.recipe_file)
        runs = [r for r in sorted(self.path.glob("*")) if Run(r).begun()]
        if recipes:
            why, hint = f"it holds {_some(recipes)}, which no run wrote", f"tamis run {recipes[0]}"
        elif runs:
            why, hint = f"it holds the runs {_some(runs)}", f"tamis run {runs[0]}"
        else:
            found = sorted(self.path.glob("*"))
            why = f"it holds {_some(found)}" if found else "it is empty" if self.path.is_dir() else "there is none such"
            hint = "tamis run RECIPE --run DIR makes one"
        raise RecipeError("this folder holds no run", where=str(self.path), why=why, hint=hint)

    def train(self, arm: str) -> Path:
        return self.path / "arms" / arm / "train"

    def evaluate(self, arm: str, system: str) -> Path:
        return self.path / "arms" / arm / "evaluate" / system

    def arms(self) -> list[str]:
        """Arms in the order the run made them (`arms.json`), else by name."""
        folder = self.path / "arms"
        if not folder.is_dir():
            return []
        found = sorted(p.name for p in folder.iterdir() if p.is_dir())
        with contextlib.suppress(FileNotFoundError, ValueError):
            order = list(read_json(self.path / "arms.json")["arms"])
            found.sort(key=lambda a: order.index(a) if a in order else len(order))
        return found

    def systems(self, arm: str) -> list[str]:
        """Systems of an arm whose evaluation is complete."""
        folder = self.path / "arms" / arm / "evaluate"
        return sorted(p.parent.name for p in folder.glob("*/stage.json")) if folder.is_dir() else []

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing; the system frees it when the process ends, however it ends.

        Raises:
            RunLocked: another process holds it.
            UserError: the folder cannot be written, or a recipe lies in it that a run would write over.
        """
        import fcntl

        if self.recipe_file.exists() and not self.begun():
            raise UserError(
                "this folder is not a run's, and holds a recipe that a run would write over",
                where=str(self.recipe_file),
                hint="name another folder with --run DIR",
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise _cannot_write(self.path, error) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                file.seek(0)
                raise RunLocked(
                    "another process is writing this run",
                    where=str(self.path),
                    why=f"held by process {file.read().strip() or 'unknown'}",
                    hint="wait for it, or give this run another folder with --run DIR",
                ) from None
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield


def _some(paths: list[Path], most: int = 3) -> str:
    names = ", ".join(p.name for p in paths[:most])
    return names + (f" and {len(paths) - most} more" if len(paths) > most else "")


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        "the run folder cannot be written",
        where=str(path),
        why=error.strerror or str(error),
        hint="name a writable folder with --run DIR",
    )


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage's folder and whether its work is done.

    `begin` says which work the folder holds, `finish` that all of it is there.
    """

    folder: Path
    fingerprint: str

    @property
    def file(self) -> Path:
        return self.folder / "stage.json"

    def complete(self) -> bool:
        """Whether this very stage (same inputs, settings, versions, seed) has finished here."""
        return self._held_by(self.file)

    def begin(self) -> bool:
        """Make the folder ready; work begun under another fingerprint is removed.

        Returns:
            True where earlier, unfinished work of this fingerprint lies in the folder and can be resumed.

        Raises:
            UserError: the folder cannot be written.
        """
        started = self.folder / "begun.json"
        resumable = self._held_by(started)
        try:
            self.file.unlink(missing_ok=True)
            if self.folder.exists() and not resumable:
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            if not resumable:
                write_json(started, {"fingerprint": self.fingerprint})
        except OSError as error:
            raise _cannot_write(self.folder, error) from None
        return resumable

    @contextlib.contextmanager
    def apart(self) -> Iterator[Stage]:
        """The stage to work in: beside other complete work, which stays until this is complete and then gives way.

        An error leaves the old work as it was, and so does a kill; what was begun beside it can be resumed.
        """
        beside, old = (self.folder.with_name(f".{self.folder.name}.{word}") for word in ("next", "old"))
        if not self.file.is_file():
            yield self
        else:
            yield dataclasses.replace(self, folder=beside)
            shutil.rmtree(old, ignore_errors=True)
            self.folder.rename(old)
            beside.rename(self.folder)
        for left in (beside, old):
            shutil.rmtree(left, ignore_errors=True)

    def finish(self, **summary: Any) -> None:
        """Write `stage.json`: from now on the stage is complete."""
        (self.folder / "begun.json").unlink(missing_ok=True)
        (self.folder / "progress.json").unlink(missing_ok=True)
        write_json(self.file, {"fingerprint": self.fingerprint, "finished": _now(), **summary})

    def _held_by(self, file: Path) -> bool:
        try:
            return bool(read_json(file).get("fingerprint") == self.fingerprint)
        except (OSError, ValueError):
            return False


def fingerprint(inputs: dict[str, Any], packages: tuple[str, ...] = ()) -> str:
    """SHA-256 of a stage's inputs and of the versions of the packages that can change its result.

    Args:
        inputs: JSON-able: data hashes, the stage's part of the recipe, the seed.
        packages: distribution names; one that is absent counts as such.
    """
    versions = {name: package_version(name) for name in (PACKAGE, *packages)}
    return hashlib.sha256(canonical_json({"inputs": inputs, "versions": versions}).encode()).hexdigest()


def package_version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def disk_full(error: BaseException) -> bool:
    """Whether an error means that a disk is full. All that torch.save says is that its file is shorter than written."""
    told = ("No space left", "iostream error", "unexpected pos")
    return getattr(error, "errno", None) == errno.ENOSPC or any(text in str(error) for text in told)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclasses.dataclass
class Progress:
    """How far a stage is: one JSON file for the app, one line on stderr for the person.

    A terminal gets a line that is rewritten; anything else gets a plain line every 30 seconds.
    """

    folder: Path
    name: str
    total: float
    unit: str = "rows"
    quiet: bool = False

    def __post_init__(self) -> None:
        self.start = time.monotonic()
        self._written = self._printed = 0.0
        self.first: float | None = None

    def update(self, done: float, note: str = "") -> None:
        """Say that `done` of `total` is done. Cheap: writes at most once a second."""
        now = time.monotonic()
        if self.first is None:
            self.first = done  # a resumed stage must not count the work of its predecessor into its rate
        if now - self._written < 1 and done < self.total:
            return
        self._written = now
        rate = (done - self.first) / (now - self.start) if now > self.start else 0.0
        eta = (self.total - done) / rate if rate > 0 else None
        write_atomic(
            self.folder / "progress.json",
            json.dumps(
                {
                    "stage": self.name,
                    "done": done,
                    "total": self.total,
                    "unit": self.unit,
                    "rate": rate,
                    "eta_s": eta,
                    "peak_mb": peak_memory_mb(),
                    "note": note,
                    "updated": _now(),
                    "pid": os.getpid(),
                }
            ).encode(),
        )
        self._print(now, done, rate, eta, note)

    def _print(self, now: float, done: float, rate: float, eta: float | None, note: str) -> None:
        import sys

        if self.quiet:
            return
        tty = sys.stderr.isatty()
        if not tty and now - self._printed < 30 and done < self.total:
            return
        self._printed = now
        left = f"{eta:.0f} s left" if eta is not None else "starting"
        line = (
            f"{self.name}: {done:,.0f} of {self.total:,.0f} {self.unit}, {rate:,.1f}/s, {left}, "
            f"{peak_memory_mb():,.0f} MB {note}"
        ).rstrip()
        end = "\r" if tty and done < self.total else "\n"
        print(f"\x1b[2K{line}" if tty else line, end=end, file=sys.stderr, flush=True)


def peak_memory_mb() -> float:
    """Peak resident memory of this process, in MB (10^6 bytes)."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
