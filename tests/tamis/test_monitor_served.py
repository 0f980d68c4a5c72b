"""`tamis monitor` against `transformers serve`: the released weights pass, their base in the same place fails."""

import contextlib
import json
import os
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
        done = tamis(*command, str(folder / "recipe.yaml"), "--run", str(folder / "run"), "--quiet")
        assert done.code == 0, done.err
    done = tamis("export", str(folder / "run"), "--json")
    assert done.code == 0, done.err
    return folder, Path(json.loads(done.out)["folder"])


@contextlib.contextmanager
def serving(model, log):
    """The address of `transformers serve` on a folder."""
    program = shutil.which("transformers", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "serve", ".", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w+b") as out, subprocess.Popen(command, cwd=model, stdout=out, stderr=out) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


@pytest.mark.slow  # trains, and starts two servers that import torch
def test_the_released_weights_pass_and_their_base_fails(folder, tiny_model):
    pytest.importorskip("uvicorn")
    place, merged = folder
    found = {}
    for name, model in (("released", merged), ("base", tiny_model)):
        with serving(model, place / "serve.log") as url:
            done = tamis("monitor", str(place / "run"), "--endpoint", url, "--model", ".", "--quiet", "--json")
            found[name] = json.loads(done.out)
    rows = {name: {row["id"]: row["verdict"] for row in check["rows"]} for name, check in found.items()}
    assert (found["released"]["verdict"], found["released"]["agreement"]) == ("PASS", 1.0), rows
    assert (found["base"]["verdict"], rows["base"]["same-quality"]) == ("FAIL", "FAIL"), rows
