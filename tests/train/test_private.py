"""Training talks to no one: no telemetry, no kernels from a hub, no look whether a file changed there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.train.making_rows import python

pytest.importorskip("torch")

WATCHED = """
    import socket, sys
    from pathlib import Path

    asked = []

    def refused(*arguments, **_):
        asked.append(arguments[-1] if isinstance(arguments[0], socket.socket) else arguments[0])
        raise OSError("no network in this test")

    socket.getaddrinfo = refused
    socket.socket.connect = refused
    from tamis.run import Run
    from tamis.train.export import export_arm
    from tamis.train.stage import train_arm
    from tests.train.making_rows import recipe, table

    asked_for, run = recipe(Path(sys.argv[1]), epochs=1, lr=5e-2), Run(Path(sys.argv[2]))
    train_arm(run, asked_for, "main", table(20), quiet=True)
    export_arm(run, asked_for, "main", [table(20)])
    print("asked:", asked)
"""


@pytest.mark.slow
def test_training_and_export_open_no_connection(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing in the environment that forbids it."""
    for name in [n for n in os.environ if n.startswith("HF_") or n in ("USE_HUB_KERNELS", "DO_NOT_TRACK", "CI")]:
        monkeypatch.delenv(name)

    done = python(WATCHED, tiny_model, tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "asked: []"
