"""The reference of the recipe, made from its own classes: `python -m tamis.reference > docs/reference/recipe.md`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import PydanticUndefined

from tamis.recipe import Recipe, Settings, settings_in


def recipe_reference() -> str:
    """Markdown: every key with its type and default."""
    lines = ["# Every key of a recipe", "", "Made by `python -m tamis.reference`; do not edit.", ""]
    lines += ["| key | type | default |", "|---|---|---|"]
    return "\n".join([*lines, *_rows(Recipe, "")]) + "\n"


def _rows(model: type[Settings], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = settings_in(field.annotation)
        default = field.default
        if not inner or not isinstance(default, Settings):
            shown = "required" if default is PydanticUndefined else f"`{default!r}`"
            yield f"| `{prefix}{name}` | `{_type(field.annotation)}` | {shown} |"
        for group in inner:
            kind = f"[{group.model_fields['name'].default}]" if len(inner) > 1 else ""
            yield from _rows(group, f"{prefix}{name}{kind}.")


def _type(annotation: Any) -> str:
    text = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
    text = text if text and "[" not in str(annotation) else str(annotation)
    # a validator prints with its address in memory
    text = re.sub(r"Annotated\[([\w.| ]+), .*?\)\]", r"\1", text)
    for noise in ("typing.", "tamis.recipe."):
        text = text.replace(noise, "")
    return text.replace("|", "or").replace("NoneType", "None")


if __name__ == "__main__":
    print(recipe_reference(), end="")  # noqa: T201 -- this is the command's output
