"""`transformers serve` with the packaged model on loopback: asked, timed against a wire between, gated."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml

from tamis.evaluate.evidence import Evidence
from tamis.evaluate.metrics import durations
from tamis.models import resolve
from tests.evaluate.wiretap import tapped
from tests.tamis.calling import tamis

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
DELAY_MS = 40
TIMED, WARMUP, ITEMS = 20, 3, 4


@contextlib.contextmanager
def transformers_serve(folder, log):
    """The port of a server of a model's folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            for _ in range(240):
                assert server.poll() is None, log.read_text()[-2000:]
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).read()
                    break
                time.sleep(0.5)
            yield port
        finally:
            server.kill()


@pytest.mark.slow  # half a minute: the server loads torch and a model
def test_a_real_server_is_timed_as_the_wire_saw_it(tmp_path, monkeypatch):
    pytest.importorskip("uvicorn")
    model = resolve(MODEL)
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"Say the number {i} in words.", "completion": "some word"} for i in range(ITEMS)]
    Path("items.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    policy = {"evidence": {"candidate": "served"}, "gates": [
        {"id": "late", "metric": "latency.ttft.p50", "require": f"upper <= {DELAY_MS} ms"}]}  # fmt: skip
    Path("policy.yaml").write_text(yaml.safe_dump(policy))
    with transformers_serve(model.path, tmp_path / "serve.log") as port, tapped(port, DELAY_MS) as (url, seen):
        raw = {
            "name": "r",
            "eval": {"path": "items.jsonl"},
            "gate": "policy.yaml",
            "evaluate": {
                "task": {"kind": "generate", "max_tokens": 8},
                "systems": [{"name": "served", "endpoint": url, "model": str(model.path), "concurrency": 1}],
                "latency": {"requests": TIMED, "warmup": WARMUP},
            },
        }
        Path("recipe.yaml").write_text(yaml.safe_dump(raw))
        done = tamis("evaluate", "recipe.yaml", "--quiet")
        assert done.code == 0, done.err
        time.sleep(0.3)  # the last line of the wire

    evidence = Evidence("main", "served", Path("runs/r/arms/main/evaluate/served"))
    answers = evidence.answers
    assert all(output for output in answers["output"])
    assert set(answers["finish"]) <= {"stop", "length"}
    timed = seen[-TIMED:]
    first = np.array([1e3 * (s["first"] - s["arrived"]) for s in timed])
    whole = np.array([1e3 * (s["last"] - s["arrived"]) for s in timed])
    ours_first, ours_whole = durations(evidence.requests, "ttft"), durations(evidence.requests, "e2e")
    assert len(ours_first) == TIMED
    assert np.median(np.abs(ours_first - first)) <= 2
    assert np.median(np.abs(ours_whole - whole)) <= 2
    assert np.min(ours_first) > DELAY_MS
    tokens = np.array([r["output_tokens"] for r in evidence.requests.to_pylist() if not r["warmup"]])
    tpot = (whole - first)[tokens > 1] / (tokens[tokens > 1] - 1)
    assert np.median(np.abs(durations(evidence.requests, "tpot") - tpot)) <= 2
    assert tamis("gate", "runs/r").code == 1  # later than the delay alone, whatever the machine
