"""The champion: one evaluated system as a single file small enough to commit, so that CI compares without weights.

    tamis promote runs/support            writes champion.json beside the policy
    evidence: {baseline: champion}        in the policy: later gates pair with it, item by item

The file holds what a gate can ask of a baseline and nothing else: what was said to each item and whether that was
right, the timed requests, the evaluation set's hash, engine and hardware. Prompts and weights stay where they are.
A hash over all of it makes a later edit visible.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from tamis import schema
from tamis.errors import EvidenceError, UserError
from tamis.evaluate.evidence import Evidence
from tamis.evaluate.metrics import Answers
from tamis.record import json_sha256
from tamis.run import Run

FILE = "champion.json"
# Prompts are the evaluation set, which has its own file; the batch says nothing once the answers are whole.
LEFT_OUT = ("batch", "prompt")


@dataclasses.dataclass(frozen=True)
class Champion(Evidence):
    """A baseline read from a champion file. `folder` is that file."""

    content: dict[str, Any]

    @property
    def name(self) -> str:
        return f"champion ({self.content['run']}, {self.arm} / {self.system})"

    @functools.cached_property
    def answers(self) -> Answers:
        return Answers(_table(self.content["items"], schema.SAMPLES, self.content["columns"]))

    @functools.cached_property
    def requests(self) -> pa.Table | None:
        rows = self.content["requests"]
        return None if rows is None else _table(rows, schema.REQUESTS, schema.REQUESTS.names)

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        about: dict[str, Any] = self.content["about"]
        return about

    @functools.cached_property
    def sha256(self) -> str:
        return str(self.content["sha256"])


def _table(rows: list[dict[str, Any]], whole: pa.Schema, columns: list[str]) -> pa.Table:
    """Only the columns that are there: a metric that needs another one must fail, not read nulls."""
    return pa.Table.from_pylist(rows, schema=pa.schema([whole.field(name) for name in columns]))


def promote(
    run: Run,
    evidence: Evidence,
    file: Path,
    *,
    verdict: dict[str, Any] | None,
    reason: str | None,
    outputs: bool = True,
) -> dict[str, Any]:
    """Write a system as the champion.

    Args:
        run: where it was evaluated.
        evidence: the system.
        file: where to write; what lies there is replaced.
        verdict: the run's verdict on it, None where it was never judged.
        reason: why it is promoted although no gate passed it; None where one did.
        outputs: keep the texts of the answers. Without them the file is small and holds nothing a user wrote, and
            metrics of texts cannot be compared.

    Returns:
        What was written.

    Raises:
        UserError: no gate passed these very answers, and no reason is given.
        EvidenceError: the evaluation cannot be read.
    """
    if reason is None:
        _require_pass(run, evidence, verdict)
    # an answer to a closed question is a label or a number, and what F1 and errors are made of
    texts = (
        () if outputs else ("output",) if evidence.about["kind"] in ("classify", "regress") else ("output", "answer")
    )
    columns = [n for n in schema.SAMPLES.names if n not in (*LEFT_OUT, *texts)]
    judged = None
    if verdict is not None:
        judged = {
            "verdict": verdict["arms"].get(evidence.arm, {}).get("verdict"),
            "policy_sha256": verdict["policy"]["sha256"],
            "evidence_sha256": verdict["evidence_sha256"],
            "judged": verdict["judged"],
        }
    content: dict[str, Any] = {
        "schema_version": schema.SCHEMA_VERSION,
        "run": run.path.name,
        "arm": evidence.arm,
        "system": evidence.system,
        "judged": judged,
        "reason": reason,
        "about": evidence.about,
        "columns": columns,
        "requests": None if evidence.requests is None else evidence.requests.to_pylist(),
        "items": evidence.answers.table.select(columns).to_pylist(),
    }
    content = schema.jsonable(content)
    content["sha256"] = _sha256(content)
    schema.write_atomic(file, _lines(content).encode("utf-8", "replace"))
    return content


def _require_pass(run: Run, evidence: Evidence, verdict: dict[str, Any] | None) -> None:
    arm = (verdict or {}).get("arms", {}).get(evidence.arm)
    hint = f"tamis gate {run.path}; or all the same: tamis promote {run.path} --reason TEXT"
    if verdict is None or arm is None:
        raise UserError(f"no gate has judged {evidence.name}", where=str(run.verdict), hint=hint)
    if verdict["evidence"]["candidate"] != evidence.system or evidence.sha256 not in {
        side["sha256"] for side in arm["evidence"]
    }:
        raise UserError(f"the verdict is not about these answers of {evidence.name}", where=str(run.verdict), hint=hint)
    if arm["verdict"] != "PASS":
        raise UserError(f"the gate's verdict on {evidence.name} is {arm['verdict']}", where=str(run.verdict), hint=hint)


def load(file: Path) -> Champion:
    """Read a champion file.

    Raises:
        EvidenceError: there is none, it is no champion, or it was changed by hand.
    """
    try:
        raw = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise EvidenceError(
            "there is no champion to compare with", where=str(file), hint=f"tamis promote RUN --output {file}"
        ) from None
    except (OSError, ValueError) as error:
        raise EvidenceError("the champion cannot be read", where=str(file), why=str(error).split("\n")[0]) from None
    if not isinstance(raw, dict) or not {"about", "columns", "items", "requests", "sha256"} <= raw.keys():
        raise EvidenceError("this file is no champion", where=str(file), hint="tamis promote RUN writes one")
    if raw["schema_version"] > schema.SCHEMA_VERSION:
        raise EvidenceError("the champion was written by a newer Tamis", where=str(file), hint="pip install -U tamis")
    if raw["sha256"] != _sha256(raw):
        raise EvidenceError(
            "the champion was changed after it was made",
            where=str(file),
            why="its hash is not that of what it holds",
            hint=f"take it from version control, or tamis promote RUN --output {file}",
        )
    content = schema.from_json(raw)
    return Champion(content["arm"], content["system"], file, content)


def _sha256(content: dict[str, Any]) -> str:
    return json_sha256({k: v for k, v in content.items() if k != "sha256"})


def _lines(content: dict[str, Any]) -> str:
    """JSON with a line for each item and each request, so that a diff shows which answers changed."""
    parts = []
    for key, value in content.items():
        if key in ("items", "requests") and value:
            rows = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in value)
            parts.append(f'"{key}": [\n{rows}\n]')
        else:
            parts.append(f'"{key}": {json.dumps(value, ensure_ascii=False, allow_nan=False)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"
