"""A curated run of a few rows and items, for tests of what trains on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tamis import loop
from tamis.recipe import Recipe
from tamis.run import Run

Rows = list[dict[str, str]]


def write_rows(file: Path, rows: Rows) -> str:
    """Write JSONL; the path as a recipe names it."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def curated_run(folder: Path, model: Path, rows: Rows, items: Rows, settings: dict[str, Any]) -> tuple[Run, Recipe]:
    """A run over rows and items of {text, intent}, curated.

    Args:
        folder: to write into; its name is the recipe's.
        model: the base.
        rows: to train on.
        items: to evaluate on.
        settings: the rest of the recipe.
    """
    recipe = Recipe.check(
        {
            "name": folder.name,
            "data": {"path": write_rows(folder / "rows.jsonl", rows)},
            "eval": {"path": write_rows(folder / "items.jsonl", items)},
            "embedder": "lsa",
            "model": str(model),
            **settings,
        }
    )
    run = Run(folder / "run")
    loop.prepare(run, recipe, quiet=True)
    return run, recipe
