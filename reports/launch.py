"""Start the app on this machine only, with the settings it needs.

tamis report RUN --serve
python -m tamis.reports.launch runs/          (the same for a folder of runs)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tamis.reports.figures import DARK, LIGHT
from tamis.run import Run

PATIENCE_S = 5  # for open pages, when the app is to end
APP = Path(__file__).parent / "app.py"
ROOT_VARIABLE = "TAMIS_RUNS"  # how the app, a script of Streamlit's, learns which folder to show

SETTINGS: dict[str, str] = {
    "server.address": "127.0.0.1",
    "server.headless": "true",  # no browser is opened, no e-mail address asked for
    "server.fileWatcherType": "none",  # the installed package does not change under a running app
    "server.maxUploadSize": "20",  # MB; only annotation files are uploaded
    "browser.gatherUsageStats": "false",  # else the page posts to data.streamlit.io
    "client.showErrorLinks": "false",  # else errors link to search engines and chat bots
    "client.toolbarMode": "minimal",
    "theme.light.primaryColor": LIGHT["candidate"],
    "theme.light.textColor": LIGHT["ink"],
    "theme.light.backgroundColor": LIGHT["ground"],
    "theme.light.secondaryBackgroundColor": "#f4f6fa",
    "theme.dark.primaryColor": DARK["candidate"],
    "theme.dark.textColor": DARK["ink"],
    "theme.dark.backgroundColor": DARK["ground"],
    "theme.dark.secondaryBackgroundColor": "#16213a",
    # fonts of the system: the defaults are loaded from the package, these need no loading at all
    "theme.font": "sans-serif",
}


def command(port: int = 0) -> list[str]:
    """The command line that starts the app."""
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    return [sys.executable, "-m", "streamlit", "run", str(APP), f"--server.port={port}", *flags]


def environment(run_or_root: Run | Path | str) -> dict[str, str]:
    """The environment of the app: the folder to show."""
    path = run_or_root.path if isinstance(run_or_root, Run) else Path(run_or_root)
    return {**os.environ, ROOT_VARIABLE: str(path.resolve())}


def serve(run_or_root: Run | Path | str, port: int = 0) -> int:
    """Show a run, or all runs of a folder, until Ctrl-C.

    Args:
        run_or_root: a run folder or a folder of run folders.
        port: 0 takes a free one. The address is printed by Streamlit.

    Returns:
        The exit code of the server; 0 after Ctrl-C.
    """
    with subprocess.Popen(command(port), env=environment(run_or_root)) as server:
        try:
            return server.wait()
        except KeyboardInterrupt:
            stop(server)
            return 0


def stop(server: subprocess.Popen[Any]) -> None:
    """End the app. With a page still open Streamlit may wait for it forever; then it is ended by force."""
    server.terminate()
    try:
        server.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1] if len(sys.argv) > 1 else "runs"))
