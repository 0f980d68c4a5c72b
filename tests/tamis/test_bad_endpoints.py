"""Endpoints that misbehave, through the command line: a clear error or honest numbers, and nothing spoiled."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tamis import endpoint as wire
from tamis.schema import read_json
from tests.curate import desks
from tests.evaluate.loaded_server import serving
from tests.tamis.calling import Done, tamis


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with eight items, and no long waits between tries."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wire, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("TAMIS_TEST_KEY", "sk-very-secret")
    items = [{"prompt": f"Question number {i}?", "label": "yes" if i % 2 else "no"} for i in range(8)]
    Path("items.jsonl").write_text("".join(json.dumps(i) + "\n" for i in items))
    return tmp_path


def evaluated(url: str, model: str = "m", kind: str = "classify", **evaluate: Any) -> Done:
    system = {"name": "api", "endpoint": url, "model": model, "key_env": "TAMIS_TEST_KEY"}
    task = {"kind": kind, **({"labels": ["yes", "no"]} if kind == "classify" else {})}
    raw = {
        "name": "r",
        "eval": {"path": "items.jsonl"},
        "evaluate": {"task": task, "systems": [system], "latency": {"requests": 0}, "batch": 4} | evaluate,
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(raw))
    return tamis("evaluate", "recipe.yaml", "--quiet")


def metrics() -> dict[str, Any]:
    return read_json(Path("runs/r/arms/main/evaluate/api/metrics.json"))


class Saying(desks.Desk):
    """Says what the server's state holds, as a whole answer or as it stands."""

    def reply(self, body: dict[str, Any]) -> None:
        state: Any = self.server
        if state.form is None:
            self.say(state.text)
            return
        self.send_response(200)
        self.send_header("content-type", state.form)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(state.text.encode())


BROKEN = {
    "down": ("http://127.0.0.1:9/v1", "m", {}, "ConnectError"),
    "wrong key": (None, "m", {"key": "another"}, "wrong key in TAMIS_TEST_KEY"),
    "wrong model": (None, "other", {}, "no model 'other'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_endpoint_that_answers_nobody_is_an_error_that_spoils_nothing(case):
    address, model, orders, says = BROKEN[case]
    with serving(ttft_ms=1, itl_ms=0, **orders) if address is None else contextlib.nullcontext(address) as url:
        done = evaluated(url, model)

    assert done.code == 5
    assert "'api' does not answer" in done.err
    assert says in done.err
    assert "very-secret" not in done.err
    assert "Traceback" not in done.err
    with serving(ttft_ms=1, itl_ms=0) as url:  # mended, the same command goes on
        assert evaluated(url).code == 0
    assert metrics()["metrics"]["error_rate"]["value"] == 0


def test_html_instead_of_json_names_what_came():
    with desks.opened(Saying, form="text/html", text="<html>log in</html>") as desk:
        done = evaluated(desk.url)

    assert done.code == 5
    assert "not a chat completion but text/html" in done.err


def test_a_stream_that_is_always_cut_is_no_answer():
    cut = 'data: {"choices": [{"delta": {"content": "ye"}}]}\n\n'
    with desks.opened(Saying, form="text/event-stream", text=cut) as desk:
        done = evaluated(desk.url)

    assert done.code == 5
    assert "cut before its end" in done.err


def test_busy_servers_and_cut_streams_are_asked_again_and_counted():
    with serving(ttft_ms=1, itl_ms=0, busy_every=3, drop_every=4) as url:
        done = evaluated(url)

    assert done.code == 0, done.err
    assert metrics()["metrics"]["error_rate"]["value"] == 0
    assert metrics()["retries"] >= 4
    assert read_json(Path("runs/r/comparison.json"))["systems"][0]["retries"] == metrics()["retries"]


def test_a_server_that_dies_halfway_leaves_what_it_answered():
    with desks.opened(Dying, left=6) as desk:
        done = evaluated(desk.url)
        assert done.code == 5
        assert "stopped answering after 4 of 8 items" in done.err
        desk.left = 1000
        assert tamis("evaluate", "recipe.yaml", "--quiet").code == 0
    assert metrics()["metrics"]["error_rate"]["value"] == 0


class Dying(desks.Desk):
    """Answers so many requests, the probe among them, and is out of order from then on."""

    def reply(self, body: dict[str, Any]) -> None:
        state: Any = self.server
        state.left -= 1
        if state.left > 0:
            self.say("yes")
        else:
            self.send_response(503)
            self.send_header("content-length", "0")
            self.end_headers()


def test_answers_of_a_hundred_thousand_characters_are_kept_and_reported():
    with desks.opened(Saying, form=None, text="yes " + "word " * 20_000) as desk:
        done = evaluated(desk.url, kind="generate")

    assert done.code == 0, done.err
    rows = Path("runs/r/arms/main/evaluate/api/samples.jsonl").read_text().splitlines()
    assert {len(json.loads(r)["output"]) for r in rows} == {100_004}
    assert Path("runs/r/report/report.html").stat().st_size < 300_000


def test_an_extractor_that_matches_nothing_makes_a_gate_invalid():
    policy = {
        "evidence": {"candidate": "api"},
        "requires": {"same": [], "checks": ["complete"]},
        "gates": [{"id": "a", "metric": "accuracy", "require": "lower >= 0.0"}],
    }
    Path("policy.yaml").write_text(yaml.safe_dump(policy))
    with desks.opened(Saying, form=None, text="perhaps") as desk:
        assert evaluated(desk.url).code == 0

    done = tamis("gate", "runs/r", "--policy", "policy.yaml")

    assert done.code == 4
    assert "parse rate 0" in done.out


PRICED = {"name": "api", "model": "m", "input_per_million": 1000, "output_per_million": 1000}


def test_rows_do_not_leave_without_consent_and_nothing_is_curated_first():
    away = [PRICED | {"endpoint": "http://192.0.2.1/v1"}]

    done = evaluated("http://127.0.0.1:9/v1", systems=away)

    assert done.code == 2
    assert "rows would go to 192.0.2.1" in done.err
    assert "evaluate.external" in done.err
    assert not Path("runs").exists()


def test_what_costs_more_than_its_limit_is_not_asked_and_a_dry_run_says_how_much():
    with desks.opened(Dying, left=1000) as desk:
        systems = [PRICED | {"endpoint": desk.url}]
        done = evaluated(desk.url, systems=systems, max_cost=0.01, price={"currency": "VND"})
        assert done.code == 2
        assert "asking would cost up to" in done.err
        assert "VND, the limit is 0.01" in done.err
        dry = tamis("evaluate", "recipe.yaml", "--dry-run")
        assert dry.code == 2
        assert "ask api at 127.0.0.1: 9 requests, up to" in dry.out
        assert desk.left == 1000
        assert not Path("runs").exists()
        assert evaluated(desk.url, systems=systems, max_cost=100).code == 0
    tokens = metrics()["prompt_tokens"]
    assert tokens is None  # this server counts none, so the true price stays unknown
