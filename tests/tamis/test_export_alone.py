"""`tamis export`, and what it wrote as a system under test: from its folder, and behind a server."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
import yaml

from tamis.errors import RecipeError
from tests.tamis.calling import called as tamis

pytest.importorskip("torch")

INTENTS = ("cancel order", "track order", "refund")


def recipe(model, systems):
    return {
        "name": "shop",
        "data": {"path": "rows.jsonl"},
        "eval": {"path": "items.jsonl"},
        "embedder": "lsa",
        "curate": {"deduplicate": {"near": None, "semantic": None}},
        "model": str(model),
        "train": {"epochs": 25, "r": 8, "lr": 0.005, "batch": 4},
        "evaluate": {
            "task": {"kind": "classify", "template": "Message: {prompt}\nIntent:"},
            "systems": systems,
            "latency": {"requests": 0},
            "external": False,
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("shop")
    words = ["one", "two", "three", "four", "five"]
    rows = [{"text": f"{intent} number {w} please", "intent": intent} for intent in INTENTS for w in words]
    items = [
        {"text": f"{intent} number {w} please", "intent": intent}
        for intent in INTENTS
        for w in ("Mai", "Lan", "Bo", "An")
    ]
    for name, table in (("rows", rows), ("items", items)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in table))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(tiny_model, ["tuned"])))
    for command in ("train", "evaluate"):
        done = tamis(command, folder / "recipe.yaml", "--run", folder / "run", "--quiet")
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def told(folder):
    done = tamis("export", folder / "run", "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def outputs(folder, system):
    table = pq.read_table(folder / "run" / "arms" / "main" / "evaluate" / system / "samples.parquet").to_pylist()
    return {row["id"]: row["output"] for row in table}


def evaluated(folder, tiny_model, systems):
    (folder / "more.yaml").write_text(yaml.safe_dump(recipe(tiny_model, ["tuned", *systems])))
    done = tamis("evaluate", folder / "more.yaml", "--run", folder / "run", "--quiet", "--json")
    assert done.exit_code == 0, done.output


def test_the_export_lies_where_the_system_merged_looks_and_answers_alike(folder, told, tiny_model):
    assert Path(told["folder"]) == folder / "run" / "arms" / "main" / "train" / "merged"
    assert told["parity"]["holds"]
    tamis("export", folder / "run", "--adapter", "-o", folder / "beside")
    systems = [
        "merged",
        {"name": "theirs", "model": told["folder"]},
        {"name": "beside", "model": str(folder / "beside" / "base"), "adapter": str(folder / "beside")},
    ]

    evaluated(folder, tiny_model, systems)

    expected = outputs(folder, "tuned")
    assert len(set(expected.values())) > 1
    for system in ("merged", "theirs", "beside"):
        assert outputs(folder, system) == expected


def test_the_flags_are_short_for_the_option(folder, told, tmp_path):
    made = [
        json.loads(tamis("export", folder / "run", *flags, "-o", tmp_path / str(i), "--json").stdout)["kind"]
        for i, flags in enumerate((["--adapter"], ["--to", "adapter"], ["--merged"]))
    ]

    assert made == ["adapter", "adapter", "merged"]


def test_an_arm_that_does_not_exist_is_named_with_those_that_do(folder, told):
    with pytest.raises(RecipeError, match="no arm 'mian'") as caught:
        tamis("export", folder / "run", "--arm", "mian")
    assert "'main'" in caught.value.hint


def test_the_labels_are_shown_marked_and_nothing_is_done(folder, told):
    before = sorted(p for p in (folder / "run").rglob("*"))

    shown = tamis("train", folder / "run", "--show-labels", "2").stdout

    assert shown.count("-- row ") == 2
    assert sum(f"\u27e6{intent}<|im_end|>\u27e7" in shown for intent in INTENTS) >= 1
    assert "\x1b" not in shown
    assert sorted(p for p in (folder / "run").rglob("*")) == before
    rows = json.loads(tamis("train", folder / "run", "--show-labels", "2", "--json").stdout)["rows"]
    assert next(text for text, trained in rows[0]["segments"] if trained).endswith("<|im_end|>")


@pytest.mark.slow  # two processes that import torch
def test_on_a_terminal_the_labels_are_green_unless_colours_are_not_wanted(folder, told):
    import pty

    for wanted in (True, False):
        leader, follower = pty.openpty()
        environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | ({} if wanted else {"NO_COLOR": "1"})
        command = [sys.executable, "-m", "tamis.cli", "train", str(folder / "run"), "--show-labels", "1"]
        done = subprocess.run(command, stdout=follower, stderr=subprocess.PIPE, env=environment, timeout=120)
        os.close(follower)
        assert done.returncode == 0, done.stderr
        shown = os.read(leader, 1 << 16).decode()
        os.close(leader)
        assert ("\x1b[1;32m" in shown) is wanted
        assert ("\u27e6" in shown) is not wanted


@pytest.mark.slow
def test_behind_transformers_serve_it_answers_like_what_was_evaluated(folder, told, tiny_model):
    pytest.importorskip("uvicorn")
    program = shutil.which("transformers", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PORT": str(port), "TRANSFORMERS": program}
    log = (folder / "serve.log").open("w+b")
    server = subprocess.Popen(
        ["sh", str(Path(told["folder"]) / "serve.sh"), "transformers"], env=environment, stdout=log, stderr=log
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, folder / "serve.log")
        spec = {"name": "served", "endpoint": f"http://127.0.0.1:{port}/v1", "model": ".", "concurrency": 1}

        evaluated(folder, tiny_model, [spec])

        served = outputs(folder, "served")
        assert served == outputs(folder, "tuned")
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def wait_for(url, server, log):
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"the server did not start: {log.read_text()[-2000:]}")
