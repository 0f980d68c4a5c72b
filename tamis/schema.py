"""The Arrow schemas of everything in a run folder, and how its JSON is written.

Readable without Tamis: `duckdb -c "select reason, count(*) from 'runs/x/curate/ledger.parquet' group by 1"`.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 1

MESSAGES = pa.list_(
    pa.struct(
        [
            pa.field("role", pa.string()),
            pa.field("content", pa.string()),
            pa.field("rest", pa.string()),  # JSON of tool calls, names, weights; null where there is nothing
        ]
    )
)

# One row per readable input row.
RECORD = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string()),  # the user's own id
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("label", pa.string()),
        pa.field("source", pa.string()),
        pa.field("license", pa.string()),
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),  # counted from 1; for Parquet and JSON arrays the row number
        pa.field("offset", pa.int64(), nullable=False),  # bytes; -1 where the source has no lines
        pa.field("length", pa.int64(), nullable=False),  # bytes of the source line, line end included
        pa.field("meta", pa.string()),  # JSON of the other fields
    ]
)

# Rows that could not be read. They are in the ledger too, as dropped by `clean`.
QUARANTINE = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # hash of the row's bytes
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)

# What was changed in the rows, beside the records: one row per changed value.
EDITS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # masked | relabelled
        pa.field("path", pa.string(), nullable=False),  # JSON list: keys and positions in the row as the user has it
        pa.field("value", pa.string(), nullable=False),  # JSON of what stands there now
        pa.field("was", pa.string()),  # the label before; null where personal data stood there
        pa.field("reviewer", pa.string()),
    ]
)

STAGES = ("clean", "split", "score", "decontaminate", "deduplicate", "select")

# One row per input row, none missing, sorted by id. `score_NAME` columns (float32) follow.
LEDGER = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string()),
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("license", pa.string()),
        pa.field("label", pa.string()),
        pa.field("language", pa.string()),
        pa.field("tokens", pa.int32()),  # estimate
        pa.field("verdict", pa.string(), nullable=False),  # kept | dropped
        pa.field("stage", pa.string()),  # of STAGES; null when kept
        pa.field("reason", pa.string()),  # null when kept
        # the row it duplicates (kept by that stage), the evaluation item it leaks, or, where only the size leaves it
        # out, the nearest kept row of its cluster
        pa.field("witness", pa.string()),
        pa.field("similarity", pa.float32()),  # to the witness
        pa.field("slack", pa.float32()),  # distance to the limit that decided; negative = beyond it
        pa.field("cluster", pa.int32()),
        pa.field("rank", pa.int32()),  # place in the selection order, 0 first; null when dropped before selection
        pa.field("truncated", pa.bool_()),  # text longer than the embedder's window
    ]
)

# One total order of all surviving rows per method: any size is a prefix.
ORDER = pa.schema(
    [
        pa.field("method", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
    ]
)

# The evaluation items as every system sees them.
EVAL = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string()),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("label", pa.string()),
        pa.field("language", pa.string()),
        pa.field("component", pa.int32(), nullable=False),  # near-duplicate component: the cluster of the statistics
    ]
)

# A place in the plane for every row that was embedded, for people to look at.
MAP = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("x", pa.float32(), nullable=False),  # no unit: only who is near whom means something
        pa.field("y", pa.float32(), nullable=False),
    ]
)

# Same prompt, different answer or label: reported, never settled silently.
CONFLICTS = pa.schema(
    [
        pa.field("group", pa.int32(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("answer", pa.string()),
    ]
)

# Rows whose label the rows around them contradict, the worst first.
SUSPECTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("likelier", pa.string(), nullable=False),
        pa.field("margin", pa.float32(), nullable=False),  # how far it leads the row's own label, see curate/agreement
    ]
)

# What became of every training row's tokens.
TOKENS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),  # whole conversation
        pa.field("trained", pa.int32(), nullable=False),  # tokens with a label
        pa.field("truncated", pa.int32(), nullable=False),  # tokens cut off
        pa.field("dropped", pa.string()),  # reason the row was not trained on, else null
    ]
)

# One row per evaluation item and system.
SAMPLES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("batch", pa.int32(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),  # exactly as the system saw it
        pa.field("prompt_sha256", pa.string(), nullable=False),  # of the token ids, or of the text where there are none
        pa.field("output", pa.string()),  # raw; null when the request failed
        pa.field("answer", pa.string()),  # extracted; null when nothing could be extracted
        pa.field("expected", pa.string()),
        pa.field("correct", pa.bool_()),  # null where the task has no right answer
        pa.field("parsed", pa.bool_(), nullable=False),
        pa.field("finish", pa.string()),  # stop | length | error
        pa.field("prompt_tokens", pa.int32()),
        pa.field("output_tokens", pa.int32()),
        pa.field("nll", pa.float64()),  # nats, summed over the reference answer's tokens
        pa.field("nll_tokens", pa.int32()),
        pa.field("nll_bytes", pa.int32()),
        pa.field("error", pa.string()),
        # from the evaluation item, so that this file alone is enough for paired statistics and slices
        pa.field("component", pa.int32(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("language", pa.string()),
    ]
)

# One row per timed request, warm-up included and marked.
REQUESTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("warmup", pa.bool_(), nullable=False),
        pa.field("scheduled_s", pa.float64(), nullable=False),  # seconds on a monotonic clock from the first request
        pa.field("sent_s", pa.float64(), nullable=False),
        pa.field("first_s", pa.float64()),  # first non-empty content
        pa.field("last_s", pa.float64()),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("output_tokens", pa.int32()),
        pa.field("status", pa.string(), nullable=False),  # ok | error
    ]
)

# One row per training of a study, a sweep or a comparison (tamis/cells.py).
CELLS = pa.schema(
    [
        pa.field("cell", pa.string(), nullable=False),
        pa.field("method", pa.string()),  # how its rows were drawn
        pa.field("size", pa.int32(), nullable=False),  # rows asked for
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("system", pa.string(), nullable=False),
        pa.field("about", pa.string(), nullable=False),  # JSON: the recipe keys changed, and what else is said
        pa.field("rows", pa.int32(), nullable=False),  # trained on
        pa.field("trained_tokens", pa.int64()),  # with a label, in one epoch
        pa.field("tokens", pa.int64()),  # in all epochs
        pa.field("steps", pa.int32()),
        pa.field("final_loss", pa.float64()),
        pa.field("train_s", pa.float64()),
        pa.field("evaluate_s", pa.float64()),
        pa.field("peak_mb", pa.float64()),
        pa.field("metrics", pa.list_(pa.struct([("metric", pa.string()), ("value", pa.float64())]))),
        # Item by item, in the order of `items`, so that cells can be compared pair by pair
        pa.field("items", pa.list_(pa.string()), nullable=False),
        pa.field("components", pa.list_(pa.int32()), nullable=False),  # near-duplicates: the clusters of the statistics
        pa.field(
            "outcomes",  # sufficient statistics of each metric, `width` numbers an item
            pa.list_(pa.struct([("metric", pa.string()), ("width", pa.int32()), ("values", pa.list_(pa.float64()))])),
        ),
    ]
)

# A study: how often a row is chosen again from other samples of the rows, by method and size.
STABILITY = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("size", pa.int32(), nullable=False),
        pa.field("chosen", pa.bool_(), nullable=False),  # from the whole pool, with the recipe's own seed
        pa.field("inclusion", pa.float64()),  # null where no sample held it
    ]
)


def jsonable(value: Any) -> Any:
    """`value` with non-finite floats written as `{"value": null, "state": ...}`; JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"value": None, "state": "nan" if math.isnan(value) else "infinite"}
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):  # a numpy scalar
        return jsonable(value.item())
    return value


def from_json(value: Any) -> Any:
    """The inverse of `jsonable`: `infinite` becomes inf, `nan` and `missing` become nan."""
    if isinstance(value, dict):
        if value.keys() == {"value", "state"} and value["value"] is None:
            return math.inf if value["state"] == "infinite" else math.nan
        return {k: from_json(v) for k, v in value.items()}
    if isinstance(value, list):
        return [from_json(v) for v in value]
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write `value` with its schema version, atomically: a reader sees the old file or the new one."""
    write_atomic(path, json_text(value).encode("utf-8", "replace"))


def json_text(value: dict[str, Any]) -> str:
    """`value` with its schema version, as JSON text."""
    return json.dumps(
        jsonable({"schema_version": SCHEMA_VERSION, **value}), ensure_ascii=False, indent=1, allow_nan=False
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON, or comes from a newer Tamis.
    """
    value = from_json(json.loads(path.read_bytes()))
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    if (version := value.get("schema_version", SCHEMA_VERSION)) > SCHEMA_VERSION:
        raise ValueError(f"{path} was written by a newer Tamis (schema {version}, this one reads {SCHEMA_VERSION})")
    return value


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# Rows of a Parquet row group. Readers work on groups in parallel and pass over those that cannot hold what is asked
# for; in one group of a million rows, looking up an id decodes every id (94 ms instead of 6 on one core).
ROW_GROUP = 1 << 15


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically, with the schema version in its metadata."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    table = table.replace_schema_metadata({b"tamis.schema_version": str(SCHEMA_VERSION).encode()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
