"""Would other rows have been chosen, had other rows been there? And do the methods choose the same ones?

Each method draws again from four fifths of its pool, with another seed each time. A row's inclusion probability is the
share of those draws, among the ones that had it, in which it was chosen. By chance it is size / (four fifths of the
pool). Choosing again under resampling: Meinshausen and Bühlmann (2010), "Stability selection", Journal of the Royal
Statistical Society B 72:417. A choice that is no more stable than chance is no argument for its rows one by one; the
method may still choose well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tamis import schema
from tamis.recipe import Recipe
from tamis.record import json_sha256
from tamis.run import Run

SHARE = 0.8
OFTEN = 0.9


def stability(
    run: Run, recipe: Recipe, methods: Sequence[str], sizes: Sequence[int], resamples: int, home: Path
) -> list[dict[str, Any]]:
    """How stable the choice of each method is, and what it shares with the others.

    Writes `stability.parquet` (`schema.STABILITY`) into `home`; read back while curation and settings are the same.

    Args:
        run: curated.
        recipe: its `curate.select` and `seed` count.
        methods: of `draws.POOLS`.
        sizes: rows chosen; those above four fifths of a pool are left out.
        resamples: draws of each method; 0 for none.
        home: the study's folder.

    Returns:
        [{method, size, again (mean inclusion probability of the rows chosen from the whole pool), chance, often (share
        of them with 0.9 or more), shared: {other method: {share, chance}}}].
    """
    if resamples == 0:
        return []
    asked = json_sha256(
        [
            schema.read_json(run.curate / "stage.json")["fingerprint"],
            recipe.curate.select.model_dump(mode="json"),
            recipe.seed,
            list(methods),
            list(sizes),
            resamples,
        ]
    )
    file = home / "stability.json"
    known = schema.read_json(file) if file.is_file() else {}
    if known.get("asked") == asked and (home / "stability.parquet").is_file():
        return list(known["points"])
    points, tables = _measured(run, recipe, methods, sizes, resamples)
    schema.write_parquet(home / "stability.parquet", pa.concat_tables(tables))
    schema.write_json(file, {"asked": asked, "points": points})
    return points


def _measured(
    run: Run, recipe: Recipe, methods: Sequence[str], sizes: Sequence[int], resamples: int
) -> tuple[list[dict[str, Any]], list[pa.Table]]:
    from tamis.curate import draws
    from tamis.curate.sample import Pool

    points: list[dict[str, Any]] = []
    tables: list[pa.Table] = [schema.STABILITY.empty_table()]
    chosen: dict[tuple[str, int], set[str]] = {}
    pools: dict[str, Pool] = {}
    for method in methods:
        pool = pools[method] = draws.pool(run, draws.POOLS[method])
        place = {id: i for i, id in enumerate(pool.ids)}
        here, there = np.zeros((len(sizes), len(place))), np.zeros(len(place))
        for draw in range(resamples):
            rng = np.random.default_rng([recipe.seed, draw])
            part = np.sort(rng.permutation(len(place))[: round(SHARE * len(place))])
            there[part] += 1
            order = draws.ordered(run, recipe, method, recipe.seed + draw, subset(pool, part))
            for row, size in enumerate(sizes):
                here[row, [place[id] for id in order[:size]]] += 1
        whole = draws.ordered(run, recipe, method, recipe.seed, pool)
        for row, size in enumerate(sizes):
            if size > SHARE * len(place):
                continue
            chosen[method, size] = set(whole[:size])
            again = np.divide(here[row], there, out=np.full(len(place), np.nan), where=there > 0)
            ours = np.array([id in chosen[method, size] for id in pool.ids])
            told = again[ours][np.isfinite(again[ours])]
            points.append(
                {
                    "method": method,
                    "size": size,
                    "again": float(told.mean()),
                    "chance": size / round(SHARE * len(place)),
                    "often": float((told >= OFTEN).mean()),
                }
            )
            columns = {
                "id": pool.ids,
                "method": [method] * len(place),
                "size": [size] * len(place),
                "chosen": ours.tolist(),
                "inclusion": [None if np.isnan(v) else float(v) for v in again],
            }
            tables.append(pa.table(columns, schema=schema.STABILITY))
    for point in points:
        mine = chosen[point["method"], point["size"]]
        point["shared"] = {
            other: {
                "share": len(mine & chosen[other, point["size"]]) / len(mine),
                "chance": _chance(mine, pools[other]),
            }
            for other in methods
            if other != point["method"] and (other, point["size"]) in chosen
        }
    return points, tables


def subset(pool: Any, rows: np.ndarray) -> Any:
    """Some rows of a pool, in their order.

    Args:
        pool: `curate.sample.Pool`.
        rows: positions, rising.
    """
    pick = rows.tolist()
    return dataclasses.replace(
        pool,
        ids=[pool.ids[i] for i in pick],
        vectors=pool.vectors[rows],
        quality=pool.quality[rows],
        tokens=pool.tokens[rows],
        labels=[pool.labels[i] for i in pick],
        fields={key: [column[i] for i in pick] for key, column in pool.fields.items()},
    )


def _chance(mine: set[str], pool: Any) -> float:
    """Share of these rows that as many drawn at random from a pool would hold."""
    inside = sum(id in mine for id in pool.ids)
    return inside / len(pool.ids)
