"""What one system left in the run folder, read back for comparing and judging. No torch, no model."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.errors import EvidenceError
from tamis.evaluate import judged
from tamis.evaluate.metrics import Answers
from tamis.run import Run, file_sha256
from tamis.schema import read_json

UNKNOWN = "unknown (imported)"  # hardware that another tool did not write down
FILES = ("samples.parquet", "requests.parquet", "metrics.json", judged.TABLE, judged.TOLD)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One evaluated system. `folder` is its folder in the run."""

    arm: str
    system: str
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.arm} / {self.system}"

    @functools.cached_property
    def answers(self) -> Answers:
        """Answers to the items, with what a judge said of them where one was asked."""
        samples = read_table(self.folder / "samples.parquet")
        file = self.folder / judged.TABLE
        return Answers(judged.joined(samples, read_table(file)) if file.is_file() else samples)

    @functools.cached_property
    def requests(self) -> pa.Table | None:
        """Timed requests, or None where none were made."""
        return read_table(file) if (file := self.folder / "requests.parquet").is_file() else None

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """`metrics.json`: what was measured, on what machine, from which inputs."""
        return _json(self.folder / "metrics.json")

    @functools.cached_property
    def sha256(self) -> str:
        """Of all files a verdict can rest on."""
        files = [f for name in FILES if (f := self.folder / name).is_file()]
        files += sorted(self.folder.glob("load*"))
        return hashlib.sha256("\n".join(f"{f.name} {file_sha256(f)}" for f in files).encode()).hexdigest()

    @property
    def environment(self) -> dict[str, Any]:
        return dict(self.about.get("environment", {}))


def find(run: Run, arm: str, system: str) -> Evidence:
    """The evidence of a system in an arm; a system that no arm changes is found where it was evaluated.

    Raises:
        EvidenceError: it was never evaluated to the end, or its files cannot be read.
    """
    for place in (arm, *(a for a in run.arms() if a != arm)):
        folder = run.evaluate(place, system)
        if (folder / "stage.json").is_file() and (place == arm or _arm_free(folder)):
            return Evidence(place, system, folder)
    have = sorted({s for a in run.arms() for s in run.systems(a)})
    raise EvidenceError(
        f"there is no complete evaluation of {system!r} for arm {arm!r}",
        where=str(run.evaluate(arm, system)),
        why=f"complete: {', '.join(have) or 'none'}",
        hint="tamis evaluate RECIPE",
    )


def all_of(run: Run) -> list[Evidence]:
    """Every complete evaluation, arms in the order of the run."""
    return [Evidence(arm, system, run.evaluate(arm, system)) for arm in run.arms() for system in run.systems(arm)]


def _arm_free(folder: Path) -> bool:
    return not _json(folder / "metrics.json").get("uses_arm", True)


def read_table(path: Path) -> pa.Table:
    """A Parquet file of the evidence.

    Raises:
        EvidenceError: it cannot be read.
    """
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise EvidenceError("the evidence cannot be read", where=str(path), why=str(error).split("\n")[0]) from None


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise EvidenceError("the evidence cannot be read", where=str(path), why=str(error).split("\n")[0]) from None
