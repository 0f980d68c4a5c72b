"""The deployment guide's lines that any machine can run, against a real `transformers serve` on loopback.

The release passes and its base fails; a log that changed, a server that slowed down and one that died are told apart.
"""

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
from tests.tamis.slow_proxy import proxy
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


GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "deploy.md").read_text(encoding="utf-8")


def guided(section="transformers serve"):
    """Lines of a section of the guide."""
    return re.findall(r"^\$ (.+)$", GUIDE.split(f"\n## {section}\n")[1].split("\n## ")[0], re.MULTILINE)


def typed(line, *more):
    """A line of the guide as it is typed, and what it printed."""
    return tamis(*shlex.split(line)[1:], *more)


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
            yield server
        finally:
            server.terminate()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def released(folder):
    """The release as the guide serves it, a proxy before it: (server's process, proxy)."""
    pytest.importorskip("uvicorn")
    with contextlib.chdir(folder):
        export, serve, _ = guided()
        assert typed(export).code == 0
        port = free_port()
        with serving(serve, folder, port) as server, proxy(f"http://127.0.0.1:{port}") as before:
            yield server, before


@pytest.fixture
def run(folder, released, tmp_path, monkeypatch):
    """A copy of the released run that was never checked; the guide's lines are typed beside it."""
    released[1].delay_s = 0.0
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "runs", tmp_path / "runs")
    for name in ("rows.jsonl", "items.jsonl"):
        shutil.copy(folder / name, tmp_path / name)
    return Path("runs/shop")


def check(url, *more, run="runs/shop"):
    """Check the served release by the guide's line."""
    line = guided()[2].replace("http://127.0.0.1:8000/v1", url).replace("runs/shop", run)
    done = typed(line, "--quiet", "--json", *more)
    found = json.loads(done.out)
    assert found["exit_code"] == done.code
    return found, {row["id"]: row["verdict"] for row in found["rows"]}


pytestmark = pytest.mark.slow  # trains, and starts servers that import torch


def test_the_release_passes(run, released):
    found, rows = check(released[1].url)
    assert (found["verdict"], found["agreement"]) == ("PASS", 1.0), rows


def test_its_base_in_its_place_fails(run, folder, released, tiny_model):
    script = "runs/shop/arms/main/train/merged/serve.sh"
    shutil.copytree(tiny_model, "base")
    shutil.copy(script, "base/serve.sh")
    port = free_port()
    with serving(guided()[1].replace(script, "base/serve.sh"), Path.cwd(), port):
        found, rows = check(f"http://127.0.0.1:{port}/v1")
    assert (found["verdict"], rows["same-quality"]) == ("FAIL", "FAIL"), rows
    assert found["next"][0].startswith("roll back: serve ")


def test_the_release_before_is_checked_against_its_own_run(run, released):
    shutil.copytree("runs/shop", "runs/shop-previous")
    (line,) = (line for line in guided("The way back") if line.startswith("tamis monitor"))
    done = typed(line.replace("http://127.0.0.1:8000/v1", released[1].url), "--model", ".", "--quiet")
    assert (done.code, done.out.splitlines()[0].split()[0]) == (0, "PASS"), done


def test_a_log_of_the_same_passes_and_a_shifted_one_is_flagged_and_leads_to_a_grown_run(run, released):
    usual = lines(Path("usual.jsonl"), [{"prompt": p, "answer": intent(p)} for p in prompts(60, 3)])
    found, rows = check(released[1].url, "--log", usual)
    assert found["verdict"] == "PASS", found["rows"]
    assert {rows[id_] for id_ in ("prompts", "clusters", "languages", "parsed")} == {"PASS"}
    asked = [f"My cancel button does nothing and error {n} shows on the screen of the app" for n in range(60)]
    shifted = lines(Path("shifted.jsonl"), [{"prompt": p} for p in asked])
    found, rows = check(released[1].url, "--log", shifted)
    assert (found["verdict"], rows["prompts"], rows["same-quality"]) == ("FAIL", "FAIL", "PASS"), found["rows"]

    grow, run_again = (line for line in guided("The way back") if not line.startswith("tamis monitor"))
    written = Path(found["drift"]["prompts"])
    rows = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    lines(written, [row | {"completion": "cancel order", "label": "cancel order"} for row in rows])
    done = typed(re.sub(r"runs/shop/monitor/\S+", str(written), grow), "--quiet")
    assert done.code == 0, done.err
    assert (done.code, done.out.splitlines()[0]) == (0, f"kept {len(rows)} of {len(rows)} new rows")
    assert typed(run_again, "--quiet").code == 0
    assert Path("runs/shop-grown/comparison.json").is_file()


def test_a_slowed_server_is_caught_and_a_dead_one_is_invalid(run, released):
    server, before = released
    assert check(before.url, "--slower", "3")[0]["verdict"] == "PASS"
    before.delay_s = 0.5
    found, rows = check(before.url, "--slower", "3")
    assert (found["verdict"], [i for i, v in rows.items() if v != "PASS"]) == ("FAIL", ["same-speed"]), found["rows"]
    assert found["trend"]["verdicts"] == ["PASS", "FAIL"]
    before.delay_s = 0.0
    server.terminate()  # the last test of this file that needs it
    server.wait(30)
    for url in (before.url, f"http://127.0.0.1:{free_port()}/v1"):
        found, _ = check(url)
        assert (found["verdict"], found["exit_code"]) == ("INVALID", 4)


def test_the_exports_of_the_guide_hold_the_files_that_its_table_names(run):
    table = dict(re.findall(r"^\| .* \| `--to (\w+)` \| (.+?) \|", GUIDE, re.MULTILINE)[:2][::-1])
    for section in ("vLLM with the merged model", "vLLM with the adapter", "Ollama"):
        shutil.rmtree("deploy", ignore_errors=True)  # the sections are alternatives
        export = guided(section)[0]
        done = typed(export)
        assert done.code == 0, done.err
        kind, folder = re.search(r"--to (\w+) -o (\S+)", export).groups()
        names = [*re.findall(r"`([^`]+)`", table[kind]), "README.md", "data_card.md", "manifest.json", "tokenizer.json"]
        assert [n for n in names if not (Path(folder) / n).exists()] == [], section
    assert (Path("deploy/shop") / "Modelfile").is_file()
