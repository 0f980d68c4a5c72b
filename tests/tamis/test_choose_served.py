"""A base against itself behind `transformers serve`: both stand in one table."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tamis import choose
from tests.conftest import build_llama
from tests.tamis.small_runs import curated_run
from tests.tamis.test_monitor_served import free_port, serving

pytest.importorskip("torch")

INTENTS = ("cancel order", "track order", "refund")
NOUNS = ("kettle", "lamp", "chair", "rug", "vase", "clock", "desk", "mirror")


@pytest.mark.slow  # starts a server that imports torch
def test_a_transformers_server_is_asked_in_rounds_beside_the_bases(tmp_path, tiny_model):
    pytest.importorskip("uvicorn")
    folder = Path(shutil.copytree(tiny_model, tmp_path / "served"))
    other = build_llama(tmp_path / "other", seed=3)
    rows = [{"text": f"{i} of the {n}", "intent": i} for n in NOUNS for i in INTENTS]
    items = [{"text": f"{i}: my {n}", "intent": i} for n in NOUNS for i in INTENTS]
    port = free_port()
    settings = {
        "curate": {"deduplicate": {"enabled": False}, "decontaminate": {"enabled": False}},
        "evaluate": {"task": {"kind": "classify"}, "latency": {"requests": 2, "warmup": 1}},
        "choose": {
            "candidates": [str(other), {"name": "served", "endpoint": f"http://127.0.0.1:{port}/v1", "model": "."}],
            "catalogue": False,
            "rounds": [6, 12],
            "max_tokens_per_word": None,
        },
    }
    run, recipe = curated_run(tmp_path, tiny_model, rows, items, settings)
    program = shutil.which("transformers", path=str(Path(sys.executable).parent))

    with serving(f"{program} serve . --host 127.0.0.1 --port 8000", folder, port):
        found = choose.choose(run, recipe, quiet=True)

    served = next(r for r in found["candidates"] if r["name"] == "served")
    assert served["kind"] == "endpoint"
    assert served["items"] == found["items"] == 12
    assert served["p95_ms"]["n"] == 2
    assert found["recommended"]["name"] in ("tiny", "other")
