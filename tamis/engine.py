"""Daft, native or on Ray: one way to run a function over all records and get a narrow table back.

Text goes into the function and never into a shuffle: what comes back is ids and small columns, sorted by id, so the
result does not depend on how many files, partitions or workers there were.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.errors import MissingExtra, TamisError
from tamis.recipe import Engine

# Daft counts its users unless told not to; it must be told before it is imported.
os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

# From so many rows on, functions run in processes of their own, since Python holds one thread at a time: two cores then
# do 60,000 rows of 600 characters in 8 s instead of 12. Below, starting the processes takes longer than they save.
APART_FROM = 50_000


def use(engine: Any) -> None:
    """Choose the runner, once a process: native, or the Ray cluster the recipe names.

    Raises:
        MissingExtra: Ray is asked for and not installed.
    """
    import daft

    if not isinstance(engine, Engine):
        if daft.get_or_infer_runner_type() != "native":
            daft.set_runner_native()
        return
    try:
        import ray  # noqa: F401
    except ImportError:
        raise MissingExtra("ray", "ray", "engine: {ray: ...}") from None
    if daft.get_or_infer_runner_type() != "ray":
        daft.set_runner_ray(None if engine.ray == "auto" else engine.ray, noop_if_initialized=True)


def map_records(
    folder: Path,
    function: Callable[[pa.Table], pa.Table],
    result: pa.Schema,
    columns: tuple[str, ...] = ("id", "messages", "label"),
    *,
    engine: Any = "native",
    morsel: int = 8192,
    partitions: int | None = None,
) -> pa.Table:
    """Run `function` over the record shards of `folder`.

    Args:
        folder: holds `part-*.parquet` (schema.RECORD).
        function: gets some rows (`columns`) as a table, returns as many rows (`result`); it must not care which rows
            come together.
        result: schema of what it returns; must hold `id`.
        columns: columns it needs.
        engine: the recipe's engine.
        morsel: rows handed to one call.
        partitions: split the input into so many pieces (Ray only; no effect on the native runner).

    Returns:
        All rows, sorted by id.
    """
    import daft
    from daft import DataType

    use(engine)
    shards = [str(p) for p in sorted(folder.glob("part-*.parquet"))]
    if not shards:
        return result.empty_table()
    dtype = DataType.struct({f.name: DataType.from_arrow_type(f.type) for f in result})

    raised = folder / ".raised"
    raised.unlink(missing_ok=True)  # nothing that we did not write is read as an error
    apart = not isinstance(engine, Engine) and sum(pq.read_metadata(s).num_rows for s in shards) >= APART_FROM

    @daft.func.batch(return_dtype=dtype, batch_size=morsel, use_process=apart)  # type: ignore[untyped-decorator]
    def run(*series: daft.Series) -> pa.Array:
        rows = pa.table({n: s.to_arrow() for n, s in zip(columns, series, strict=True)})
        try:
            out = function(rows).select(result.names).cast(result).combine_chunks()
        except TamisError as error:
            if apart:  # of what a process raises, Daft brings home the text alone
                raised.write_bytes(pickle.dumps(error))
            raise
        return pa.StructArray.from_arrays(
            [c.chunk(0) if c.num_chunks else pa.array([], f.type) for c, f in zip(out.columns, result, strict=True)],
            fields=list(result),
        )

    frame = daft.read_parquet(shards).select(*columns)
    if partitions:
        frame = frame.into_partitions(partitions)
    try:
        out = frame.select(run(*[daft.col(c) for c in columns]).alias("row")).to_arrow()
    except Exception as error:
        if raised.is_file():
            try:
                raise pickle.loads(raised.read_bytes()) from None
            finally:
                raised.unlink()
        if isinstance(cause := getattr(error, "cause", None), TamisError):  # Ray wraps what a worker raises
            raise cause from None
        raise
    rows = out["row"].combine_chunks()
    if isinstance(rows, pa.ChunkedArray):
        rows = pa.concat_arrays(rows.chunks)
    table = pa.table({f.name: rows.field(f.name) for f in result}).cast(result)
    return table.sort_by("id")
