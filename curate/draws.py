"""How a method with a seed would order the rows of a curated run: any size is a prefix. Nothing is curated again.

Two pools, so that cleaning and choosing can be told apart:

    decontaminated   every readable row that does not leak the evaluation set: what a user without curation trains on
    survivors        what is left of them after rules, scores and deduplication

`cluster` and `random-kept` draw from the survivors, `random`, `stratified`, `longest` and `all` from the decontaminated
rows; `as-found` draws at random from all readable rows, leaks included, and so may flatter itself.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis.curate import sample
from tamis.errors import RecipeError, did_you_mean
from tamis.recipe import Recipe
from tamis.run import Run

POOLS = {
    "cluster": "survivors",
    "random-kept": "survivors",
    "random": "decontaminated",
    "stratified": "decontaminated",
    "longest": "decontaminated",
    "all": "decontaminated",
    "as-found": "readable",
}
"""The pool of each method."""
FIXED = ("longest", "all")
"""Methods whose rows do not depend on a seed."""
_ORDERS = {"random-kept": "random", "all": "random", "as-found": "random"}


def pool(run: Run, name: str) -> sample.Pool:
    """A pool of a curated run, sorted by id; only that of the survivors has vectors.

    Args:
        run: a curated run: its ledger, orders and vectors are read.
        name: survivors, decontaminated or readable.
    """
    columns = ["id", "stage", "tokens", "label", "language", "source", "score_quality"]
    ledger = pq.read_table(run.curate / "ledger.parquet", columns=columns)
    if name == "survivors":
        ledger = ledger.filter(pc.or_kleene(pc.is_null(ledger["stage"]), pc.equal(ledger["stage"], "select")))
    else:
        order = pq.read_table(run.curate / "order.parquet", columns=["method", "id"])
        found = order.filter(pc.equal(order["method"], "found"))["id"]
        keep = pc.is_in(ledger["id"], found.combine_chunks())
        if name == "readable":
            keep = pc.or_(keep, pc.fill_null(pc.equal(ledger["stage"], "decontaminate"), False))
        ledger = ledger.filter(keep)
    ledger = ledger.sort_by("id")
    fields = {key: ledger[key].to_pylist() for key in ("label", "language", "source")}
    return sample.Pool(
        ids=ledger["id"].to_pylist(),
        vectors=_vectors(run, ledger["id"]) if name == "survivors" else np.zeros((len(ledger), 1), np.int8),
        # as rounded when they were scored: the ledger holds them as float32
        quality=np.round(np.nan_to_num(ledger["score_quality"].to_numpy().astype(np.float64)), 4),
        tokens=ledger["tokens"].to_numpy(),
        labels=fields["label"],
        fields=fields,
    )


def _vectors(run: Run, ids: pa.ChunkedArray) -> np.ndarray:
    table = pq.read_table(run.curate / "vectors" / "part-00000.parquet")
    places = pc.index_in(ids.combine_chunks(), table["id"].combine_chunks()).to_numpy()
    lists = table["vector"].combine_chunks()
    matrix = lists.flatten().to_numpy().reshape(len(table), -1)
    return np.ascontiguousarray(matrix[places])


def ordered(run: Run, recipe: Recipe, method: str, seed: int, rows: sample.Pool | None = None) -> list[str]:
    """Ids of a method's pool, best first.

    Args:
        run: a curated run.
        recipe: its `curate.select` counts (clusters; quotas for `cluster`).
        method: of `POOLS`.
        seed: in place of the recipe's; with the recipe's own, `cluster` is the order that `curate` wrote.
        rows: the method's pool, where it is at hand already.

    Raises:
        RecipeError: unknown method.
    """
    if method not in POOLS:
        raise RecipeError(f"there is no method {method!r} to draw rows by", hint=did_you_mean(method, POOLS))
    rows = rows or pool(run, POOLS[method])
    child = recipe.changed({"seed": seed}).seed_for("select")
    settings = recipe.curate.select
    ranked, _ = sample.order(rows, _ORDERS.get(method, method), child, settings.clusters)
    if method == "cluster":
        ranked, _ = sample.take(rows, ranked, None, {str(k): q for k, q in settings.quota.items()}, set())
    return [rows.ids[i] for i in ranked.tolist()]
