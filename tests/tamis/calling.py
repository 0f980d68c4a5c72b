"""The command line's entry point in the test's own process: what a user sees, without a second for each start."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import NamedTuple
from unittest import mock

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
