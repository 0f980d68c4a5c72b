"""The deployment guide's lines that any machine can run: export, serve, check. The release passes, its base fails."""

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.tamis.calling import tamis
from tests.tamis.test_export_alone import wait_for
from tests.tamis.test_monitor import intent, lines, prompts

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("served")
    for name, n, seed in (("rows", 60, 1), ("items", 90, 2)):
        lines(folder / f"{name}.jsonl", [{"text": p, "intent": intent(p)} for p in prompts(n, seed)])
    recipe = {
        "name": "shop",
        "data": {"path": "rows.jsonl"},
        "eval": {"path": "items.jsonl"},
        "embedder": "lsa",
        "curate": {"deduplicate": {"near": None, "semantic": None}},
        "model": str(tiny_model),
        "train": {"epochs": 12, "r": 8, "lr": 0.005, "batch": 4},
        "evaluate": {"task": {"kind": "classify"}, "systems": ["tuned"], "latency": {"requests": 8, "warmup": 1}},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for command in (("train",), ("evaluate",)):
        done = tamis(*command, str(folder / "recipe.yaml"), "--run", str(folder / "runs" / "shop"), "--quiet")
        assert done.code == 0, done.err
    return folder


def guided():
    """Lines of the guide that any machine can run: export, serve, monitor."""
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "deploy.md").read_text(encoding="utf-8")
    return re.findall(r"^\$ (.+)$", guide.split("## transformers serve")[1].split("\n## ")[0], re.MULTILINE)


@contextlib.contextmanager
def serving(command, folder, port):
    """A server that a shell line starts, until it answers."""
    program = shutil.which("transformers", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    log = folder / "serve.log"
    line = command.replace("8000", str(port))
    environment = {**os.environ, "TRANSFORMERS": program}
    with (
        log.open("w+b") as out,
        subprocess.Popen(f"exec env {line}", shell=True, cwd=folder, env=environment, stdout=out, stderr=out) as server,
    ):
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server, log)
            yield
        finally:
            server.terminate()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow  # trains, and starts two servers that import torch
def test_the_released_weights_pass_and_their_base_fails(folder, tiny_model, monkeypatch):
    pytest.importorskip("uvicorn")
    monkeypatch.chdir(folder)
    export, serve, monitor = guided()
    assert tamis(*shlex.split(export)[1:]).code == 0
    found = {}
    for name in ("released", "base"):
        port = free_port()
        if name == "base":  # in the place of the release, by the same script
            script = Path("runs/shop/arms/main/train/merged/serve.sh")
            shutil.copytree(tiny_model, "base")
            shutil.copy(script, "base/serve.sh")
            serve = serve.replace(str(script), "base/serve.sh")
        with serving(serve, folder, port):
            done = tamis(*shlex.split(monitor.replace("8000", str(port)))[1:], "--quiet", "--json")
            found[name] = json.loads(done.out)
    rows = {name: {row["id"]: row["verdict"] for row in check["rows"]} for name, check in found.items()}
    assert (found["released"]["verdict"], found["released"]["agreement"]) == ("PASS", 1.0), rows
    assert (found["base"]["verdict"], rows["base"]["same-quality"]) == ("FAIL", "FAIL"), rows
