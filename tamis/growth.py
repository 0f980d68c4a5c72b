"""New rows for a finished run, and what is said of them at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tamis.errors import UserError
from tamis.recipe import Recipe, parse_size
from tamis.run import Run


def grow(
    run: Run, into: Run, data: list[str], rows: str | None, output: Path | None, *, quiet: bool = False
) -> dict[str, Any]:
    """Add new rows to a curated run; see `curate.grow.grow`.

    Args:
        run: the run to grow.
        into: the grown run's folder, locked by the caller.
        data: files, folders or globs.
        rows: how many new rows to keep, as `curate.select.size` is written; None: the run's own share.
        output: where to write all kept rows, or None.
        quiet: no progress.
    """
    from tamis.curate.grow import grow as work
    from tamis.curate.pipeline import training_source
    from tamis.loop import kept_ids
    from tamis.writing import write_rows

    try:
        size = None if rows is None else parse_size(rows)
    except ValueError as error:
        raise UserError(str(error), where="--rows") from None
    found = work(run, into, data, size, quiet=quiet)
    if output is not None:
        write_rows(into.curate / "records", kept_ids(into), training_source(Recipe.of_run(into.path)), output)
    return found


def grown_lines(found: dict[str, Any], run: Path, into: Path, output: Path | None) -> list[str]:
    """A growth for a reader, at most ten lines."""
    before, after = found["before"], found["after"]
    lines = [
        f"kept {found['kept']:,} of {found['read']:,} new rows"
        + (" (nothing changed, nothing done)" if found["skipped"] else "")
    ]
    for stage, reasons in found["dropped"].items():
        if reasons:
            lines.append(f"  {stage:<14}" + ", ".join(f"{reason} {n:,}" for reason, n in list(reasons.items())[:6]))
    if before["rows"]:
        lines.append(
            f"  distance of {before['rows']:,} new rows to the nearest kept row: mean {before['mean']:.3f} -> "
            f"{after['mean']:.3f}, 95th percentile {before['p95']:.3f} -> {after['p95']:.3f}"
        )
    lines.append(
        f"  {found['total']['kept']:,} of {found['total']['read']:,} rows in all; nothing old was decided anew"
    )
    if output:
        lines.append(f"rows    {output}")
    return [*lines, f"next: tamis diff {run} {into}, then tamis run {into}"]
