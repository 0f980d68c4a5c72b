"""The user's own functions, named `file.py:function`: rules of curation, metrics of evaluation."""

from __future__ import annotations

import functools
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tamis.errors import UserError

# What may stand before the name of a file that is no Python, in the name of a metric.
FILE_KINDS = ("json_schema",)
PATTERN_KINDS = ("regex", "contains", "forbidden")


@functools.lru_cache(maxsize=32)
def function(spec: str, source: str) -> Callable[..., Any]:
    """The function that a file defines.

    Args:
        spec: `file.py:function`.
        source: the file's text; given, so that a function can travel to a process that has no such file.

    Raises:
        UserError: the file is not Python, fails, or defines no such function; with file and line.
    """
    file, _, name = spec.rpartition(":")
    module = types.ModuleType(f"tamis_user_{Path(file).stem}")
    module.__file__ = file
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except SyntaxError as error:
        raise UserError("the file is not Python", where=f"{file}:{error.lineno}", why=error.msg) from None
    except (Exception, SystemExit) as error:  # a file that leaves with code 0 must not make a gate pass
        raise UserError("the file fails", where=place(error, file), why=repr(error)) from None
    found = module.__dict__.get(name)
    if found is None:
        raise UserError(f"the file defines no function {name!r}", where=file)
    if not callable(found):
        raise UserError(f"{name!r} is not a function", where=file)
    made: Callable[..., Any] = found
    return made


def place(error: BaseException, file: str) -> str:
    """`file:line` of the last step of an error inside a file; the file alone where it never passed through it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return f"{file}:{frames[-1].lineno}" if frames else file


def relocated(spec: str, folder: Path) -> str:
    """A name that holds a file's name, counted from a folder; other names as they are."""
    head, colon, tail = spec.partition(":")
    if colon and head in FILE_KINDS:
        return f"{head}:{_within(tail, folder)}"
    if head in PATTERN_KINDS:
        return spec
    file, colon, name = spec.rpartition(":")
    return f"{_within(file, folder)}:{name}" if colon and file.endswith(".py") else spec


def _within(file: str, folder: Path) -> str:
    return file if Path(file).is_absolute() or str(folder) == "." else str(folder / file)
