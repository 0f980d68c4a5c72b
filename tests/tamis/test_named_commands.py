"""Every command that Tamis tells the user to type exists, with the options it is told to be typed with."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer

from tamis import cli

ROOT = Path(__file__).parents[2]
FOLDERS = ("tamis", "curate", "train", "evaluate", "reports", "data")
# `tamis` as a word of a sentence; whatever else follows it is taken for a command.
COMMAND = re.compile(r"\btamis ([a-z]+)\b((?:[^\n;]|; (?=--))*)")


def commands() -> dict[str, set[str]]:
    """The options of every command."""
    group = typer.main.get_command(cli.app)
    return {
        name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every string that is no docstring; what is filled in later is left out of it."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # docstrings are for who reads the code
            skipped |= {id(s.value) for s in body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)}
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            parts = (str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
            yield node.lineno, "".join(parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def named() -> Iterator[tuple[str, str, list[str]]]:
    """Where a command is named, which, and the options after it."""
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix == ".py":
                texts = list(strings(ast.parse(file.read_text(encoding="utf-8"))))
            elif file.suffix in (".yaml", ".md"):
                texts = list(enumerate(file.read_text(encoding="utf-8").splitlines(), 1))
            else:
                continue
            for line, text in texts:
                for match in COMMAND.finditer(text):
                    yield f"{file.relative_to(ROOT)}:{line}", match[1], re.findall(r"(?<!\S)-{1,2}[a-z-]+", match[2])


def test_every_named_command_exists_and_has_the_options_named_with_it() -> None:
    known, found = commands(), list(named())
    assert len(found) > 20
    assert [(where, name) for where, name, _ in found if name not in known] == []
    wrong = [(w, n, o) for w, n, options in found if n in known for o in options if o not in known[n]]
    assert wrong == []
