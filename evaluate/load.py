"""Endpoints under load: GuideLLM sends, `from_guidellm` reads its report, `levels` keeps the requests.

A level is one load: so many requests a second that arrive whether or not earlier ones are answered (open loop), or so
many users who each wait for their answer (closed loop). Only the first says what users of a service wait at a rate; in
the second a slow server slows its own users down. Latencies at an open load count from when a request was due.

The levels have a fingerprint of their own in `load.json`: another load is measured without asking for answers again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from tamis import endpoint as wire
from tamis.errors import StageFailed, require
from tamis.evaluate import from_guidellm, levels, timing
from tamis.evaluate.remote import asked_as, endpoint_of
from tamis.evaluate.systems import Setting
from tamis.recipe import Load, SystemSpec
from tamis.run import fingerprint
from tamis.schema import read_json

ROUTE = "/v1/chat/completions"  # GuideLLM's name for the format of the request
STARTING_S = 120.0  # to import GuideLLM and start its workers, on a slow disk
DRAINING_S = 60.0  # between two levels
SAID = 12  # last lines of GuideLLM's output that an error shows

Level = tuple[dict[str, Any], pa.Table]


def wanted_by(spec: str | SystemSpec, load: Load) -> bool:
    """Whether a system is measured under load: endpoints are, where the recipe names a load."""
    return isinstance(spec, SystemSpec) and spec.endpoint is not None and bool(load.profiles())


def ensure(folder: Path, spec: str | SystemSpec, setting: Setting, *, quiet: bool = False) -> bool:
    """Measure what the recipe asks for and is not measured yet; remove what it no longer asks for.

    Args:
        folder: of the system in the run; its answers are complete.
        spec: the system.
        setting: of the arm.
        quiet: no line on stderr.

    Returns:
        Whether anything was measured.

    Raises:
        MissingExtra: GuideLLM is not installed.
        StageFailed: GuideLLM stopped without a report.
    """
    load = setting.recipe.evaluate.load
    if not isinstance(spec, SystemSpec) or not wanted_by(spec, load):
        _forget(folder)
        return False
    mark = _fingerprint(spec, setting)
    if _mark_of(folder) == mark:
        return False
    require(("guidellm",), "load", "measuring an endpoint under load")
    _forget(folder)
    found: list[Level] = []
    knee: dict[str, Any] | None = None
    for profile, count in load.profiles():
        if not quiet:
            requests = count * (load.requests + load.warmup)
            sys.stderr.write(f"-- load on {spec.name}, {profile['kind']}: {requests:,} requests\n")
        report = _report(profile, count, spec, setting)
        found += from_guidellm.levels(report, str(spec.endpoint))
        knee = from_guidellm.knee(report) or knee
    levels.write(folder, found, mark, knee)
    return True


def _fingerprint(spec: SystemSpec, setting: Setting) -> str:
    asked = [[i.id, i.messages] for i in setting.items]
    inputs = {
        "items": asked,
        "endpoint": [spec.endpoint, spec.model, *([] if spec.prompt == "plain" else [spec.prompt])],
        "load": setting.recipe.evaluate.load.model_dump(mode="json"),
        "tokens": setting.recipe.evaluate.task.answer_tokens,
        "seed": setting.recipe.seed,
    }
    return fingerprint(inputs, ("guidellm",))


def _mark_of(folder: Path) -> str | None:
    try:
        return read_json(folder / levels.FILE).get("fingerprint")
    except (OSError, ValueError):
        return None


def _forget(folder: Path) -> None:
    """Remove levels that were measured here; imported ones have no fingerprint and stay."""
    if _mark_of(folder) is not None:
        for file in (folder / levels.FILE, *folder.glob("load-*.parquet")):
            file.unlink(missing_ok=True)


def _report(profile: dict[str, Any], count: int, spec: SystemSpec, setting: Setting) -> dict[str, Any]:
    """One run of GuideLLM, `count` levels of one kind: its report."""
    load = setting.recipe.evaluate.load
    target = endpoint_of(spec)
    with tempfile.TemporaryDirectory(prefix="tamis-load-") as name:
        place = Path(name)
        rows = timing.drawn(
            setting.items, count * (load.requests + load.warmup), setting.recipe.seed_for("evaluate.load")
        )
        turns = asked_as(spec, setting)
        lines = (json.dumps({"messages": turns(item)}, ensure_ascii=False) + "\n" for item in rows)
        (place / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
        (place / "scenario.json").write_text(json.dumps(scenario(profile, target, setting)), encoding="utf-8")
        limit = STARTING_S + count * (load.max_seconds + target.timeout_s + DRAINING_S)
        said = _guidellm(place, environment(target, profile), limit, target)
        report = place / "report.json"
        if not report.is_file():
            raise StageFailed(
                "GuideLLM ended without a report",
                where=target.url,
                why=" / ".join(said.strip().splitlines()[-SAID:]) or "it said nothing",
                hint="mend the cause and run the same command; the answers are kept",
            )
        return dict(json.loads(report.read_bytes()))


def _guidellm(place: Path, variables: dict[str, str], limit: float, target: wire.Endpoint) -> str:
    """Run it in a folder that is thrown away; what it said on both streams."""
    command = [sys.executable, "-m", "tamis.evaluate.drive_guidellm", "scenario.json"]
    with (place / "said.txt").open("w+", encoding="utf-8", errors="replace") as out:
        # a session of its own: its workers must not outlive it when it is stopped
        with subprocess.Popen(
            command, cwd=place, env=variables, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        ) as process:
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                raise StageFailed(
                    f"GuideLLM did not end within {limit:,.0f} s",
                    where=target.url,
                    hint="fewer requests, a shorter evaluate.load.max_seconds, or a lower load",
                ) from None
            finally:
                _end(process)
        out.seek(0)
        return out.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and the workers it started."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.wait()


def scenario(profile: dict[str, Any], target: wire.Endpoint, setting: Setting) -> dict[str, Any]:
    """What GuideLLM shall do (its `BenchmarkScenario`): the same bodies that `tamis.endpoint` sends. No key in it."""
    load, parts = setting.recipe.evaluate.load, urlsplit(target.target)
    body = {
        "max_tokens": setting.recipe.evaluate.task.answer_tokens,
        "temperature": 0,
        "seed": setting.recipe.seed_for("evaluate.endpoint"),
    }
    return {
        "spec": {
            "backend": {
                "kind": "openai_http",
                "target": f"{parts.scheme}://{parts.netloc}",
                "api_routes": {ROUTE: parts.path.lstrip("/")},
                "request_format": ROUTE,
                "model": target.model,
                "timeout": target.timeout_s,
                "verify": True,  # of the server's certificate: GuideLLM's own default does not
                "validate_backend": False,  # asks for /health, which most endpoints do not have
                "extras": {"body": body},
            },
            "profile": {**profile, "warmup": {"mode": "requests", "value": load.warmup}},
            "constraints": [
                {"kind": "max_requests", "count": load.requests + load.warmup},
                {"kind": "max_duration", "seconds": load.max_seconds},
            ],
            "data": [{"kind": "json_file", "path": "prompts.jsonl"}],
            "outputs": [{"kind": "json", "path": "report.json"}],
            "metrics": {"kind": "generative", "sample_size": 0},  # every request's times, no request's texts
            "seed": {"kind": "static", "value": setting.recipe.seed_for("evaluate.load")},
        }
    }


def environment(target: wire.Endpoint, profile: dict[str, Any]) -> dict[str, str]:
    """Variables for GuideLLM's process: the key, nothing of the user's own settings of it, no hub, no shared cache."""
    found = {k: v for k, v in os.environ.items() if not k.startswith("GUIDELLM__")}
    found |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": "cache", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if profile["kind"] in ("poisson", "constant", "sweep"):
        # several workers draw the same delays from the same seed: arrivals in twos and threes are no Poisson process
        found["GUIDELLM__MAX_WORKER_PROCESSES"] = "1"
    if target.local:
        found |= dict.fromkeys(("NO_PROXY", "no_proxy"), target.host)
    if (key := wire.key_of(target)) is not None:
        found["GUIDELLM__SPEC__BACKEND__API_KEY"] = key
    return found
