"""The command line's entry point in the test's own process: what a user sees, without a second for each start."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any, NamedTuple
from unittest import mock

from typer.testing import CliRunner, Result

from tamis import cli


class Done(NamedTuple):
    code: int
    out: str
    err: str


def tamis(*arguments: str) -> Done:
    """What `tamis ARGUMENTS` exits with and prints."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["tamis", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as left:
            code = int(left.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def called(*arguments: Any) -> Result:
    """The command itself, below the entry point: an error comes as it was raised."""
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done
