"""Endpoints under load, with real requests to servers on loopback."""

import contextlib
import json
import math
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from tamis import schema
from tamis.endpoint import Endpoint, Session
from tamis.evaluate import from_guidellm, levels, load
from tamis.evaluate.evidence import Evidence
from tamis.evaluate.measure import absolute
from tamis.evaluate.metrics import durations
from tamis.recipe import Load, Recipe
from tests.evaluate.bare_socket import Bare
from tests.evaluate.loaded_server import serving
from tests.tamis.calling import tamis

ASKED = [{"role": "user", "content": "where is my order?"}]


def test_times_of_two_hundred_requests_are_those_of_the_server():
    with serving(ttft_ms=15, itl_ms=3, tokens=4) as url, Session(Endpoint(url, "m", concurrency=1)) as session:
        session.complete([ASKED] * 3, max_tokens=6)  # opens the connection
        done = session.complete([ASKED] * 200, max_tokens=6)

    assert all(d.error is None for d in done)
    first = statistics.median(1e3 * (d.first_s - d.sent_s) for d in done)
    each = statistics.median(1e3 * (d.last_s - d.first_s) / (d.output_tokens - 1) for d in done)
    assert first == pytest.approx(15, abs=2)
    assert each == pytest.approx(3, abs=2)


# --------------------------------------------------------------------------------------- what a level is worth


def level(tmp_path, rows, arrival="constant", rate=20.0, users=None):
    """A level of requests (due, sent, seconds; inf failed)."""
    table = pa.Table.from_pylist(
        [
            {
                "id": str(i),
                "warmup": False,
                "scheduled_s": due,
                "sent_s": sent,
                "first_s": sent + took / 2 if math.isfinite(took) else None,
                "last_s": sent + took if math.isfinite(took) else None,
                "prompt_tokens": 5,
                "output_tokens": 6,
                "status": "ok" if math.isfinite(took) else "error",
            }
            for i, (due, sent, took) in enumerate(rows)
        ],
        schema=schema.REQUESTS,
    )
    levels.write(tmp_path, [({"arrival": arrival, "rate": rate, "concurrency": users}, table)])
    schema.write_json(tmp_path / "metrics.json", {})
    return levels.levels_of(Evidence("main", "api", tmp_path))[0]


def steady(count=200, rate=20.0, took=0.3):
    return [(i / rate, i / rate + 0.001, took) for i in range(count)]


@pytest.mark.parametrize("took", [0.3, 6.0])
def test_a_load_that_is_carried_is_evidence_however_long_an_answer_takes(tmp_path, took):
    assert levels.invalid_because(level(tmp_path, steady(took=took))) is None


def test_a_queue_that_grows_makes_the_level_invalid(tmp_path):
    # a server that answers 15 a second of the 20 that come
    rows = [(i / 20, i / 20, (i + 1) / 15 - i / 20) for i in range(200)]

    why = levels.invalid_because(level(tmp_path, rows))

    assert why == "15.00 requests a second were answered of 20.00 asked: the load was not carried"


def test_requests_that_end_before_the_first_answer_say_nothing_of_a_rate(tmp_path):
    assert "send more of them" in levels.invalid_because(level(tmp_path, steady(count=40, took=3.0)))


def test_failures_are_infinite_and_do_not_hide_that_the_rest_was_carried(tmp_path):
    rows = [(d, s, math.inf if i % 4 == 0 else t) for i, (d, s, t) in enumerate(steady())]

    found = level(tmp_path, rows)

    assert levels.invalid_because(found) is None
    assert absolute(found, "latency.e2e.p75").value < 400
    assert absolute(found, "latency.e2e.p90").value == math.inf


def test_a_client_too_slow_for_its_users_is_found(tmp_path):
    busy = [(i * 0.1, i * 0.1, 0.39) for i in range(200)]  # 3.9 of 4 users open
    idle = [(i * 0.1, i * 0.1, 0.30) for i in range(200)]

    assert levels.invalid_because(level(tmp_path, busy, "closed", None, 4)) is None
    why = levels.invalid_because(level(tmp_path, idle, "closed", None, 4))
    assert why == "3.0 requests were open at once on average, not 4: the client was too slow"


# ------------------------------------------------------------------------------------------------- the recipe


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"knee": [1, 2, 3]}, "at least five rising"),
        ({"knee": [1, 2, 4, 3, 8]}, "at least five rising"),
        ({"concurrent": [1, 4], "knee": [1, 2, 3, 4, 5]}, "measured twice: 1, 4"),
        ({"poisson": [2.0, 2.0]}, "measured twice: 2"),
        ({"sweep": 4, "concurrent": [1]}, "measured twice: 1"),
        ({"poisson": [0]}, "greater than 0"),
    ],
)
def test_loads_that_make_no_sense_are_refused(keys, says):
    with pytest.raises(ValueError, match=says):
        Load(**keys)


def test_a_load_without_an_endpoint_is_refused():
    with pytest.raises(Exception, match="load is measured on endpoints"):
        Recipe.check({"name": "x", "data": {"path": "x"}, "evaluate": {"load": {"poisson": [1]}}})


def test_the_scenario_holds_no_key_and_the_environment_holds_it(monkeypatch):
    monkeypatch.setenv("TAMIS_TEST_KEY", "sk-very-secret")
    monkeypatch.setenv("GUIDELLM__SPEC__BACKEND__VERIFY", "false")
    target = Endpoint("https://api.example.com/openai/v4", "m", "TAMIS_TEST_KEY")
    recipe = Recipe.check({"name": "x", "data": {"path": "x"}})
    setting = type("Setting", (), {"recipe": recipe})

    made = load.scenario({"kind": "poisson", "rate": [2]}, target, setting)
    told = load.environment(target, {"kind": "poisson"})

    backend = made["spec"]["backend"]
    assert backend["target"] == "https://api.example.com"
    assert backend["api_routes"][load.ROUTE] == "openai/v4/chat/completions"
    assert backend["verify"] is True
    assert "very-secret" not in json.dumps(made)
    assert told["GUIDELLM__SPEC__BACKEND__API_KEY"] == "sk-very-secret"
    assert "GUIDELLM__SPEC__BACKEND__VERIFY" not in told


# --------------------------------------------------------------------------------------------------- GuideLLM


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """`tamis evaluate` of an endpoint under a load; its folder and the closing lines."""
    pytest.importorskip("guidellm")
    monkeypatch.chdir(tmp_path)
    items = [{"prompt": f"question {i}", "completion": "so a a a a a"} for i in range(12)]
    Path("items.jsonl").write_text("".join(json.dumps(i) + "\n" for i in items))

    def run(url, gates=(), key_env=None, **asked):
        raw = {
            "name": "r",
            "eval": {"path": "items.jsonl"},
            "evaluate": {
                "task": {"kind": "generate", "max_tokens": 12},
                "systems": [{"name": "api", "endpoint": url, "model": "m", "key_env": key_env}],
                "latency": {"requests": 0},
                "load": {"requests": 200, "warmup": 5, "max_seconds": 60} | asked,
            },
        }
        if gates:
            policy = {
                "evidence": {"candidate": "api"},
                "requires": {"same": [], "checks": ["complete"]},
                "gates": list(gates),
            }
            Path("policy.yaml").write_text(yaml.safe_dump(policy))
            raw["gate"] = "policy.yaml"
        Path("recipe.yaml").write_text(yaml.safe_dump(raw))
        done = tamis("evaluate", "recipe.yaml")
        assert done.code == 0, done.err
        return Evidence("main", "api", Path("runs/r/arms/main/evaluate/api")), done

    return run


AT = {"arrival": "poisson", "rate": 40.0}


@pytest.mark.slow  # GuideLLM takes seven seconds to start
def test_a_load_is_measured_gated_and_not_measured_again(measured, monkeypatch):
    monkeypatch.setenv("TAMIS_TEST_KEY", "sk-very-secret")
    gate = {"id": "e2e", "metric": "latency.e2e.p50", "at": AT, "require": "upper <= 900 ms"}
    with serving(key="sk-very-secret", fail_every=40, path="/llm/v4/chat/completions") as url:
        evidence, done = measured(url, [gate], key_env="TAMIS_TEST_KEY", poisson=[40.0], requests=100)
        assert "-- load on api, poisson: 105 requests" in done.err
        (found,) = levels.levels_of(evidence)
        rows = found.measured.to_pylist()
        assert 90 <= sum(not r["warmup"] for r in rows) <= 105
        assert {r["status"] for r in rows} == {"ok", "error"}
        assert absolute(found, "latency.e2e.p50").value == pytest.approx(45, abs=25)
        assert absolute(found, "latency.e2e.p99").value == math.inf  # 2.5 % of the requests failed
        gaps = np.diff([r["scheduled_s"] for r in rows if not r["warmup"]])
        assert 0.6 < np.std(gaps) / np.mean(gaps) < 1.4  # 1 for a Poisson process; 0 for a clock
        assert tamis("gate", "runs/r").code in (0, 4)  # 4 where this machine was too busy to send in time
        before = {f: f.read_bytes() for f in evidence.folder.glob("load*")}

        again = tamis("evaluate", "recipe.yaml")

        assert "nothing changed, nothing done" in again.out
        assert {f: f.read_bytes() for f in evidence.folder.glob("load*")} == before
        assert not any(b"very-secret" in f.read_bytes() for f in Path("runs").rglob("*") if f.is_file())
    recipe = yaml.safe_load(Path("recipe.yaml").read_text())
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe | {"evaluate": recipe["evaluate"] | {"load": {}}}))
    assert tamis("evaluate", "recipe.yaml").code == 0  # the server is gone: no answer is asked for again
    assert not list(evidence.folder.glob("load*"))


@contextlib.contextmanager
def mocked(tmp_path, **delays):
    """GuideLLM's own mock server."""
    command = [sys.executable, str(Path(__file__).with_name("mock_guidellm.py")), "mock-server", "--host", "127.0.0.1"]
    command += ["--port", "18427", "--model", "m", "--output-tokens", str(delays["tokens"])]
    command += ["--ttft-ms", str(delays["ttft_ms"]), "--itl-ms", str(delays["itl_ms"])]
    with (tmp_path / "mock.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen("http://127.0.0.1:18427/health", timeout=1).read()
                    break
                except OSError:
                    time.sleep(0.5)
            yield "http://127.0.0.1:18427/v1"
        finally:
            server.terminate()


@pytest.mark.slow  # a minute each: 200 requests one after the other
@pytest.mark.parametrize("server", ["ours", "guidellm"])
def test_a_servers_delays_are_measured_to_two_milliseconds(measured, tmp_path, server):
    """As a bare socket sees them: GuideLLM's server is a millisecond later than it was told (benchmarks/timing.md)."""
    delays = {"ttft_ms": 60, "itl_ms": 10, "tokens": 12}
    with serving(**delays) if server == "ours" else mocked(tmp_path, **delays) as url:
        wire_first, wire_each = np.median(Bare(url, ASKED, 12).ask(65)[5:], axis=0)
        evidence, _ = measured(url, concurrent=[1], requests=200)
    (found,) = levels.levels_of(evidence)
    first, each = durations(found.requests, "ttft"), durations(found.requests, "tpot")
    print(f"{server}: TTFT {np.median(first):.2f} ms, TPOT {np.median(each):.2f} ms, {len(first)} requests")
    print(f"on the wire {wire_first:.2f} and {wire_each:.2f} ms")

    assert len(first) >= 195
    assert np.median(first) == pytest.approx(wire_first, abs=2)
    assert np.median(each) == pytest.approx(wire_each, abs=2)
    assert np.median(each) == pytest.approx(10, abs=2)
    if server == "ours":  # which keeps to its delays
        assert np.median(first) == pytest.approx(60, abs=2)


@pytest.mark.slow  # GuideLLM twice
def test_a_stall_of_two_seconds_is_seen_in_an_open_loop(measured):
    with serving(stall_at=100, stall_s=2) as url:
        evidence, _ = measured(url, constant=[30.0])
    (found,) = levels.levels_of(evidence)
    assert absolute(found, "latency.e2e.p99").value > 1800
    assert absolute(found, "latency.e2e.p50").value < 900
    # in a closed loop one user waits once: the same stall is one slow request of two hundred
    with serving(stall_at=100, stall_s=2) as url:
        evidence, _ = measured(url, concurrent=[1])
    (found,) = levels.levels_of(evidence)
    assert np.sort(durations(found.requests, "e2e"))[-2] < 900 < np.max(durations(found.requests, "e2e"))


@pytest.mark.slow  # six levels
def test_a_sweep_and_a_knee_are_levels_too(measured):
    with serving(ttft_ms=30, itl_ms=1) as url:
        evidence, _ = measured(url, sweep=4, knee=[2, 3, 4, 6, 8], requests=60)
    kinds = [(e.level["arrival"], e.level["concurrency"]) for e in levels.levels_of(evidence)]
    assert kinds[:2] == [("closed", 1), ("closed", None)]
    assert [k[0] for k in kinds[2:4]] == ["constant", "constant"]
    assert [k[1] for k in kinds[4:]] == [2, 3, 4, 6, 8]
    told = schema.read_json(evidence.folder / levels.FILE)["knee"]
    assert set(told) == {"found", "users", "why"}


def test_a_knee_is_read_from_the_report():
    said = {"status": "ok", "reason": "fits", "saturation_concurrency": 4.0}
    content = {"conclusions": [{"kind": "knee_detection", "final": {"throughput": said}}]}

    assert from_guidellm.knee(content) == {"found": True, "users": 4.0, "why": "fits"}
    assert from_guidellm.knee({"conclusions": None}) is None
