"""Reading a run folder that may be half-written, damaged or from another version: never raises, always says why.

What cannot be read becomes a `Problem` with the command that repairs it. Everything else in `reports/` reads through
a `Folder`.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tamis.run import Run
from tamis.schema import SCHEMA_VERSION, read_json

T = TypeVar("T")

# Progress is written once a second; a stage silent for longer than this, whose process is gone, has stopped.
SILENT_S = 30


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that keeps a part of the report from being shown.

    Attributes:
        what: one sentence for people.
        where: the file, relative to the run folder.
        repair: the command that mends it.
        severity: `missing` (not made yet), `damaged` (there, but unreadable), `version` (of another Tamis).
    """

    what: str
    where: str
    repair: str
    severity: Literal["missing", "damaged", "version"]


@dataclasses.dataclass(frozen=True)
class StageState:
    """How far one stage is. `done`, `total` and `eta_s` are those of `progress.json` while it runs."""

    name: str
    folder: str
    state: Literal["complete", "running", "stopped", "not run"]
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    done: float | None = None
    total: float | None = None
    unit: str = ""
    rate: float | None = None
    eta_s: float | None = None
    note: str = ""


class Folder:
    """A run folder being read; `problems` grows with what could not be."""

    def __init__(self, run: Run):
        self.run = run
        self.problems: list[Problem] = []

    # ------------------------------------------------------------------------------------------ the commands

    @property
    def typed(self) -> str:
        """What names this run to a command that takes a recipe or a run."""
        path = _quoted(self.run.path)
        return path if self.run.recipe_file.is_file() else f"RECIPE --run {path}"

    @property
    def rerun(self) -> str:
        """The command that does what is missing and leaves alone what is done."""
        return f"tamis run {self.typed}"

    @property
    def regate(self) -> str:
        return f"tamis gate {_quoted(self.run.path)}"

    @property
    def rechoose(self) -> str:
        return f"tamis choose {_quoted(self.run.path)}"

    @property
    def reproduce(self) -> str:
        """The command that makes this run again somewhere else."""
        path = _quoted(self.run.path)
        return f"tamis run {path if self.run.recipe_file.is_file() else 'RECIPE'} --run {path}-again"

    def redo(self, part: Path) -> str:
        """The command that throws a damaged part away and makes it again."""
        return f"rm -r {_quoted(part)} && {self.rerun}"

    # --------------------------------------------------------------------------------------------- the files

    def json(self, path: Path, what: str, repair: str | None = None, *, part: Path | None = None) -> dict[str, Any]:
        """A JSON file, or `{}` and a problem.

        Args:
            path: the file.
            what: what it holds, for the sentence about it.
            repair: the command that makes it; default: run the recipe again.
            part: folder to throw away when the file is damaged; default: the file alone.
        """
        try:
            return read_json(path)
        except FileNotFoundError:
            self._say(f"{what} not made yet", path, repair or self.rerun, "missing")
        except (OSError, ValueError, RecursionError) as error:
            if "newer Tamis" in str(error):
                self._say(f"{what} written by a newer Tamis", path, "pip install --upgrade tamis", "version")
            else:
                self._say(
                    f"{what} cannot be read ({_first(error)})", path, repair or self.redo(part or path), "damaged"
                )
        return {}

    def built(
        self,
        path: Path,
        what: str,
        repair: str,
        build: Callable[[dict[str, Any]], T],
        where: str | None = None,
    ) -> T | None:
        """What is built of a JSON file, or None and a problem: a file of the wrong shape is damaged, and no crash.

        Args:
            path: the file.
            what: what it holds, for the sentence about it.
            repair: the command that makes it.
            build: takes what the file holds; raises KeyError, TypeError, ValueError, AttributeError or IndexError where
                that has another shape.
            where: the file, as the problem names it; default: its name.
        """
        if not (raw := self.json(path, what, repair)):
            return None
        try:
            return build(raw)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            why = f"{type(error).__name__}: {error}"
            shape = f"{what} has another shape than this Tamis reads ({why[:120]})"
            self.say(shape, where or path.name, repair, "version")
            return None

    def json_if_there(self, path: Path, what: str, *, part: Path | None = None) -> dict[str, Any]:
        """As `json`, but a file that is not there is no problem."""
        return self.json(path, what, part=part) if path.is_file() else {}

    def table(
        self, path: Path, what: str, columns: list[str] | None = None, *, part: Path | None = None
    ) -> pa.Table | None:
        """A Parquet file with (at least) these columns, or None and a problem."""
        if not self.check(path, what, columns, part=part):
            return None
        try:
            return pq.read_table(path, columns=columns)
        except (OSError, pa.ArrowException) as error:
            self._say(f"{what} cannot be read ({_first(error)})", path, self.redo(part or path.parent), "damaged")
            return None

    def check(self, path: Path, what: str, columns: list[str] | None = None, *, part: Path | None = None) -> bool:
        """Whether a Parquet file is there, whole at its end and has these columns; else a problem. Reads no rows."""
        if not path.is_file():
            self._say(f"{what} not made yet", path, self.rerun, "missing")
            return False
        try:
            found = pq.read_schema(path)
        except (OSError, pa.ArrowException) as error:
            self._say(f"{what} cannot be read ({_first(error)})", path, self.redo(part or path.parent), "damaged")
            return False
        version = (found.metadata or {}).get(b"tamis.schema_version", b"1")
        if version.isdigit() and int(version) > SCHEMA_VERSION:
            self._say(f"{what} written by a newer Tamis", path, "pip install --upgrade tamis", "version")
            return False
        if lacking := [c for c in columns or [] if c not in found.names]:
            why = f"the column {lacking[0]!r} is missing"
            self._say(f"{what} cannot be read: {why}", path, self.redo(part or path.parent), "version")
            return False
        return True

    def arms(self) -> list[str]:
        """The arms, in the order the run made them where that can be read."""
        try:
            return self.run.arms()
        except (OSError, RecursionError, KeyError, TypeError) as error:
            self._say(
                f"the order of arms cannot be read ({_first(error)})",
                self.run.path / "arms.json",
                self.rerun,
                "damaged",
            )
        folder = self.run.path / "arms"
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []

    def recipe(self) -> dict[str, Any]:
        """The run's recipe as it was written, unchecked: an old one must still be shown."""
        try:
            raw = yaml.safe_load(self.run.recipe_file.read_text(encoding="utf-8"))
            return raw if isinstance(raw, dict) else {}
        except FileNotFoundError:
            self._say("the recipe is missing", self.run.recipe_file, "tamis init --task classify", "missing")
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            self._say(f"the recipe cannot be read ({_first(error)})", self.run.recipe_file, self.rerun, "damaged")
        return {}

    def stage(self, name: str, folder: Path) -> StageState:
        """Whether a stage is complete, running, stopped half-way or not begun."""
        where = self.relative(folder)
        if (folder / "stage.json").is_file():
            summary = self.json(folder / "stage.json", f"the summary of {name}", part=folder)
            return StageState(name, where, "complete" if summary else "stopped", summary)
        progress = _progress(folder / "progress.json")
        if progress is None:
            begun = (folder / "begun.json").is_file() or (folder / "samples.jsonl").is_file()
            if not begun and (begun := _holds_files(folder)):
                self._say(f"{name} is not complete: stage.json is missing", folder, self.rerun, "damaged")
            return StageState(name, where, "stopped" if begun else "not run")
        return StageState(
            name,
            where,
            "running" if _alive(progress) else "stopped",
            done=_number(progress.get("done")),
            total=_number(progress.get("total")),
            unit=str(progress.get("unit") or ""),
            rate=_number(progress.get("rate")),
            eta_s=_number(progress.get("eta_s")),
            note=str(progress.get("note") or ""),
        )

    def relative(self, path: Path) -> str:
        """A path as it is shown: inside the run folder."""
        try:
            return path.relative_to(self.run.path).as_posix()
        except ValueError:
            return path.as_posix()

    def say(self, what: str, where: str, repair: str, severity: Literal["missing", "damaged", "version"]) -> None:
        """Note a problem found by what reads the contents."""
        problem = Problem(what, where, repair, severity)
        if problem not in self.problems:
            self.problems.append(problem)

    def _say(self, what: str, path: Path, repair: str, severity: Literal["missing", "damaged", "version"]) -> None:
        self.say(what, self.relative(path), repair, severity)


def _holds_files(folder: Path) -> bool:
    try:
        return any(p.is_file() for p in folder.iterdir())
    except OSError:
        return False


def _progress(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def _alive(progress: dict[str, Any]) -> bool:
    """Whether the process that wrote the progress is still at work.

    A run folder may be read on another machine than it is written on, where the process id says nothing: there, only
    the time of the last word counts.
    """
    if _age_s(progress.get("updated")) < SILENT_S:
        return True
    try:
        os.kill(int(progress["pid"]), 0)
    except PermissionError:
        return True
    except (OSError, KeyError, TypeError, ValueError):
        return False
    return _age_s(progress.get("updated")) < 3600  # the id may belong to another process by now


def _age_s(stamp: Any) -> float:
    try:
        then = datetime.datetime.fromisoformat(str(stamp).replace("Z", "+00:00"))
        return (datetime.datetime.now(datetime.UTC) - then).total_seconds()
    except (ValueError, TypeError):
        return float("inf")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
