"""`tamis monitor`: is the model in production still the one that passed the gate?

    canary   the run's items through the same gate against the live endpoint, paired with the release
    log      recent prompts against the run's own rows: where they lie, their language, how many answers were cut
    server   vLLM's own figures since the last check: errors, times

Every check is a line of `RUN/monitor/checks.jsonl`; its answers lie in `RUN/monitor/CHECK/`. Nothing else of the run
is written.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tamis import endpoint, intervals, loop, schema, traffic, trend
from tamis.errors import EvidenceError, StageFailed, UserError
from tamis.evaluate import canary, gate, prompt_log, serving
from tamis.evaluate.canary import Limits
from tamis.evaluate.evidence import Evidence, find
from tamis.evaluate.policy import Policy, load_policy, parse_policy
from tamis.evaluate.stage import evaluate_arm
from tamis.recipe import Recipe, SystemSpec
from tamis.run import Run
from tamis.traffic import row

LIVE = "live"  # the system's name in a check's folder
CHECKS = "checks.jsonl"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to check, and how.

    Attributes:
        url: of the endpoint, up to /v1.
        model: the name to ask for; None: the one it serves.
        log: JSONL of recent prompts.
        metrics: address of the server's Prometheus page.
        policy: a policy file; None: the one of the run's verdict, else of its recipe.
        arm, system: the release; None: those of the run's verdict, else the first arm's tuned system.
        key_env: environment variable that holds the endpoint's key.
        external: the run's evaluation items may leave this machine.
        limits: see `canary.Limits`.
    """

    url: str
    model: str | None = None
    log: Path | None = None
    metrics: str | None = None
    policy: Path | None = None
    arm: str | None = None
    system: str | None = None
    key_env: str | None = None
    external: bool = False
    limits: Limits = dataclasses.field(default_factory=Limits)


@dataclasses.dataclass(frozen=True)
class Ground:
    """What a check stands on. `earlier`: the checks of this endpoint, oldest first."""

    run: Run
    recipe: Recipe
    release: Evidence
    policy: Policy | None
    earlier: list[dict[str, Any]]


def monitor(run: Run, wanted: Wanted, *, quiet: bool = False) -> dict[str, Any]:
    """Check a live endpoint against the run it was released from, and write the check down.

    Args:
        run: the released run, locked by the caller.
        wanted: see there.
        quiet: no progress.

    Returns:
        The line of `checks.jsonl`: verdict, exit_code, rows (as gates in `verdict.json`), drift, server, measured,
        trend (of this endpoint's checks), next.

    Raises:
        UserError: a run without a release to compare with, no such file, several models and none named.
        StageFailed: never for an endpoint that is down: that is a verdict, INVALID.
    """
    log = prompt_log.read(wanted.log) if wanted.log is not None else None  # a wrong path before anything is asked
    ground = _ground(run, wanted)
    now = datetime.datetime.now(datetime.UTC)
    check: dict[str, Any] = {
        "at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "check": _free_name(run, now),
        "endpoint": wanted.url,
        "model": wanted.model,
        "release": {
            "arm": ground.release.arm,
            "system": ground.release.system,
            "sha256": ground.release.sha256,
            "measured": canary.measured(ground.release),
        },
        "rows": [],
        "notes": [],
    }
    _try(check, "canary", lambda: _canary(ground, wanted, check, now.date(), quiet))
    if log is not None:
        _try(check, "log", lambda: _log(ground, log, check))
    if wanted.metrics is not None:
        _try(check, "server", lambda: _server(ground, wanted, check))
    for told in check["rows"]:
        if "metric" in told:
            told["said"] = said(told)
    verdict = gate.overall([told for told in check["rows"] if gate.counts(told)])
    check |= {"verdict": verdict, "exit_code": int(gate.EXIT[verdict])}
    check["trend"] = _trend([*ground.earlier, check])
    check["notes"] += _going(check["trend"])
    check["next"] = _next(ground, wanted, check)
    _append(run, check)
    return check


def _try(check: dict[str, Any], part: str, work: Callable[[], None]) -> None:
    """Do a part of the check; evidence that cannot be had is a row of it, and not the end of the others."""
    try:
        work()
    except (EvidenceError, StageFailed) as error:
        check["rows"].append(row(part, "INVALID", str(error).replace("\n", " ")))


# ------------------------------------------------------------------------------------------------ the ground


def _ground(run: Run, wanted: Wanted) -> Ground:
    verdict = _verdict(run)
    arm = wanted.arm or verdict.get("arm") or next(iter(run.arms()), "main")
    system = wanted.system or verdict.get("evidence", {}).get("candidate") or "tuned"
    release = find(run, arm, system)
    recipe = Recipe.of_run(run.path)
    earlier = [c for c in checks(run) if c["endpoint"] == wanted.url]
    return Ground(run, recipe, release, _policy(run, recipe, wanted, verdict), earlier)


def _verdict(run: Run) -> dict[str, Any]:
    """The run's verdict, empty where it was never judged."""
    if not run.verdict.is_file():
        return {}
    try:
        return schema.read_json(run.verdict)
    except (OSError, ValueError) as error:
        raise EvidenceError("the verdict cannot be read", where=str(run.verdict), why=str(error)) from None


def _policy(run: Run, recipe: Recipe, wanted: Wanted, verdict: dict[str, Any]) -> Policy | None:
    if wanted.policy is not None:
        return load_policy(wanted.policy)
    if text := verdict.get("policy", {}).get("text"):
        champion = run.champion if run.champion.is_file() else None
        return parse_policy(text, Path(verdict["policy"]["path"]), champion=champion)
    return load_policy(recipe.gate) if recipe.gate else None


def checks(run: Run) -> list[dict[str, Any]]:
    """Every check of a run, oldest first; a line cut by a crash is left out."""
    file = run.path / "monitor" / CHECKS
    found = []
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        try:
            found.append(schema.from_json(json.loads(line)))
        except ValueError:
            continue
    return found


def _append(run: Run, check: dict[str, Any]) -> None:
    file = run.path / "monitor" / CHECKS
    line = json.dumps(schema.jsonable({"schema_version": schema.SCHEMA_VERSION, **check}), ensure_ascii=False)
    old = file.read_bytes() if file.is_file() else b""
    whole = old if not old or old.endswith(b"\n") else old + b"\n"
    schema.write_atomic(file, whole + line.encode("utf-8", "replace") + b"\n")


def _free_name(run: Run, now: datetime.datetime) -> str:
    stamp, place = now.strftime("%Y%m%dT%H%M%S"), run.path / "monitor"
    return next(n for i in range(1, 1000) if not (place / (n := stamp if i == 1 else f"{stamp}-{i}")).exists())


# ------------------------------------------------------------------------------------------------ the canary


def _canary(ground: Ground, wanted: Wanted, check: dict[str, Any], today: datetime.date, quiet: bool) -> None:
    run = ground.run
    asked = endpoint.Endpoint(wanted.url, wanted.model or "", wanted.key_env)
    served = endpoint.models_of(asked)
    model = check["model"] = wanted.model or _only(served, ground, wanted)
    before = next((c["model"] for c in reversed(ground.earlier) if c["model"]), None)
    if before not in (None, model):
        check["notes"].append(f"the endpoint's model is named {model}; at the last check it was {before}")
    spec = SystemSpec(name=LIVE, endpoint=wanted.url, model=model, key_env=wanted.key_env)
    changes: dict[str, Any] = {"evaluate.load": {}}
    recipe = ground.recipe.changed(changes | ({"evaluate.external": True} if wanted.external else {}))
    folder = Run(run.path / "monitor" / check["check"])
    arm = _arm(ground)
    try:
        evaluate_arm(folder, recipe, arm.name, loop.eval_items(run), _rows(run, arm), [spec], quiet=quiet)
    except StageFailed as error:
        names = ", ".join(served or ()) or "no model that it names"
        error.why = f"{error.why}; it serves {names}"
        raise
    if served is not None and model in served and model not in (endpoint.models_of(asked) or ()):
        raise EvidenceError(f"the endpoint stopped serving {model} during the check", where=wanted.url)
    live = Evidence(arm.name, LIVE, folder.evaluate(arm.name, LIVE))
    found = canary.judge(run, live, ground.release, _reference(ground), ground.policy, wanted.limits, today)
    check["rows"] += [row("requires", "INVALID", why) for why in found.broken] + found.rows
    check["notes"] += [f"not judged: {told}" for told in found.left_out]
    check |= {"agreement": found.agreement, "evidence_sha256": live.sha256, "measured": canary.measured(live)}
    if live.requests is not None and _reference(ground) is None:
        check["notes"].append(
            "same-speed: a first check has nothing to compare with; it is the reference of later ones"
        )


def _only(served: list[str] | None, ground: Ground, wanted: Wanted) -> str:
    """The model to ask for where none is named: the only one, else that of the last check."""
    names = served or []
    before = next((c["model"] for c in reversed(ground.earlier) if c["model"]), None)
    if len(names) == 1:
        return names[0]
    if before is not None and (before in names or not names):
        return str(before)
    told = f"it serves {', '.join(names[:10])}" if names else "it does not say what it serves"
    raise UserError("which model of the endpoint?", where=wanted.url, why=told, hint="--model NAME")


def _arm(ground: Ground) -> loop.Arm:
    return next((a for a in loop.arms_of(ground.run) if a.name == ground.release.arm), loop.MAIN[0])


def _rows(run: Run, arm: loop.Arm) -> Any:
    """The arm's training rows, whose labels are answers too; None in a folder that came without its records."""
    return loop.rows_of(run, arm) if any((run.curate / "records").glob("*.parquet")) else None


def _reference(ground: Ground) -> Evidence | None:
    """The first check of this endpoint that passed: an endpoint that slows down a little each day is caught too."""
    for check in ground.earlier:
        arm = check["release"]["arm"]
        folder = Run(ground.run.path / "monitor" / check["check"]).evaluate(arm, LIVE)
        if check["verdict"] == "PASS" and (folder / "requests.parquet").is_file():
            return Evidence(arm, LIVE, folder)
    return None


# --------------------------------------------------------------------------------------------------- the log


def _log(ground: Ground, log: prompt_log.Log, check: dict[str, Any]) -> None:
    run, arm = ground.run, _arm(ground)
    found = traffic.judge(run, ground.recipe, ground.release, log, _rows(run, arm))
    check["drift"], check["rows"], check["notes"] = (
        found.about,
        check["rows"] + found.rows,
        check["notes"] + found.notes,
    )
    if found.farthest:
        file = run.path / "monitor" / check["check"] / "prompts.jsonl"
        traffic.write_prompts(run, ground.recipe, found.farthest, file)
        check["drift"]["prompts"] = str(file)


# ------------------------------------------------------------------------------------------------ the server


def _server(ground: Ground, wanted: Wanted, check: dict[str, Any]) -> None:
    """The server's figures as alarms: FAIL where even the favourable edge of a bucket or bound is beyond the limit.

    A quiet night or a limit inside a bucket leaves them silent; what is shown by measuring is the canary's part.
    """
    assert wanted.metrics is not None
    now = serving.fetch(wanted.metrics, check["model"])
    pages = [_page(c["server"]["page"]) for c in ground.earlier if c.get("server")]
    served = now.since(pages[-1] if pages else None)
    edges = {share: serving.percentile(served.latency, share) for share in (0.5, 0.95)}
    check["server"] = {
        "page": {**dataclasses.asdict(now), "latency": _edges(now.latency), "first_token": _edges(now.first_token)},
        "served": served.served,
        "p50_s": edges[0.5],
        "p95_s": edges[0.95],
        "first_token_p95_s": serving.percentile(served.first_token, 0.95),
        "running": now.running,
        "waiting": now.waiting,
    }
    if (released := check["release"]["measured"].get("latency.e2e.p50")) and edges[0.5]:
        where = ground.release.environment.get("hardware") or "the machine of the release"
        # another machine and no queue, so that it is told and not judged
        check["notes"].append(
            f"server: median request {_span(edges[0.5])}; at release {released / 1e3:.3g} s, {where}, one at a time"
        )
    check["rows"] += [_errors_row(served)]
    ended = served.served - sum(served.finished.get(why, 0.0) for why in serving.FAILED)
    if ended:
        cut = min(served.finished.get(serving.CUT, 0.0), ended)
        check["rows"].append(traffic.cut_row("server cut", ground.release, round(cut), round(ended), "served"))
    first = next((c["server"]["p50_s"] for c in ground.earlier if c.get("server") and c["verdict"] == "PASS"), None)
    if edges[0.5] and first:
        check["rows"].append(_pace_row(edges[0.5], first, wanted.limits.slower))
    for asked in ground.policy.gates if ground.policy else ():
        share = {"latency.e2e.p50": 0.5, "latency.e2e.p95": 0.95}.get(asked.metric)
        if share and edges[share] and asked.requirement.of == "absolute" and asked.at is None:
            check["rows"].append(_limit_row(f"server {asked.id}", edges[share], share, asked.requirement.limit / 1e3))


def _edges(buckets: dict[float, float]) -> list[list[float]]:
    return [[edge, count] for edge, count in buckets.items()]


def _page(stored: dict[str, Any]) -> serving.Page:
    buckets = {key: {float(e): float(n) for e, n in stored[key]} for key in ("latency", "first_token")}
    return serving.Page(**{**stored, **buckets})


def _errors_row(served: serving.Page) -> dict[str, Any]:
    failed, n = sum(served.finished.get(why, 0.0) for why in serving.FAILED), served.served
    if not n:
        return row("server errors", "PASS", "nothing was served since the last check")
    lower, upper = intervals.wilson(failed, n)
    verdict = "FAIL" if lower > canary.MOST_ERRORS else "PASS"
    said = (
        f"{failed / n:.1%} [{lower:.1%}, {upper:.1%}] of {n:,.0f} requests failed; wanted <= {canary.MOST_ERRORS:.0%}"
    )
    return row("server errors", verdict, said)


def _pace_row(now: tuple[float, float], first: tuple[float, float], slower: float) -> dict[str, Any]:
    """The median's bucket against the first passing check's: FAIL where even the nearest edges are too far."""
    verdict = "FAIL" if now[0] > slower * first[1] else "PASS"
    said = f"median request {_span(now)}, at the first check {_span(first)}; wanted <= {slower:g} times that"
    return row("server pace", verdict, said)


def _limit_row(id: str, edges: tuple[float, float] | None, share: float, limit_s: float) -> dict[str, Any]:
    assert edges is not None
    verdict = "FAIL" if edges[0] >= limit_s else "PASS"
    return row(id, verdict, f"p{100 * share:.0f} of the server's requests {_span(edges)}; wanted <= {limit_s:g} s")


def _span(edges: tuple[float, float]) -> str:
    return f"{edges[0]:g} to {edges[1]:g} s"


# ------------------------------------------------------------------------------------------------- past checks


def _trend(every: list[dict[str, Any]]) -> dict[str, Any]:
    """Each measured number over the checks of an endpoint, the oldest first: see `trend.trend`."""
    names = dict.fromkeys(name for c in every for name in c.get("measured") or {})
    series = {name: [(c.get("measured") or {}).get(name) for c in every] for name in names}
    if any(c.get("drift") for c in every):
        series["drift"] = [(c.get("drift") or {}).get("distance") for c in every]
    return {
        "checks": len(every),
        "verdicts": [c["verdict"] for c in every][-trend.MOST :],
        **{name: trend.trend(values) for name, values in series.items()},
    }


def _going(found: dict[str, Any]) -> list[str]:
    """Numbers that go one way, in words: no single check need be out of bounds for that."""
    moving = {name: t for name, t in found.items() if isinstance(t, dict) and t["direction"] in ("rising", "falling")}
    return [
        f"{name} is {t['direction']} over the last {len(t['values'])} checks, from {t['values'][0]:.4g} to "
        f"{t['values'][-1]:.4g}, p = {t['p']:.2g}"
        for name, t in moving.items()
    ]


# --------------------------------------------------------------------------------------------------- closing


def _next(ground: Ground, wanted: Wanted, check: dict[str, Any]) -> list[str]:
    """What to do about it, a line for each cause; a model that is not the released one comes before all else."""
    bad = {r["id"] for r in check["rows"] if r["verdict"] == "FAIL" and gate.counts(r)}
    canary_ids = {r["id"] for r in check["rows"] if "metric" in r}
    slow = {r["id"] for r in check["rows"] if r.get("metric", "").startswith("latency.") or "server" in r["id"]}
    slow.discard("server cut")
    told = []
    if check["verdict"] == "INVALID":
        told.append("mend what is INVALID, then the same command; nothing was shown of the model")
    if bad & (canary_ids - slow):
        adapter = ground.run.train(ground.release.arm) / "adapter"
        told.append(f"roll back: serve {adapter} again (tamis export {ground.run.path}), then the same command")
    if bad & {"prompts", "clusters", "languages"}:
        file = check["drift"]["prompts"]
        told.append(f"retrain: answer the prompts in {file}, then tamis grow {ground.run.path} {file}")
    if "parsed" in bad and not bad & canary_ids:
        told.append("answers lack the form that the items get: compare the logged prompts with README.md of the export")
    if bad & {"cut", "server cut"}:
        told.append("answers are cut: raise max_tokens of whoever asks, or evaluate.task.max_tokens and evaluate anew")
    if bad & slow:
        waiting = check.get("server", {}).get("waiting")
        queue = f" ({waiting:.0f} requests wait)" if waiting else ""
        told.append(
            f"the server is slow or fails{queue}: fewer requests at once, or another server; the model is not at fault"
        )
    if check["verdict"] == "INCONCLUSIVE":
        told.append("too little to tell: a larger --margin, more evaluation items, or a longer log")
    return told or [f"the same command on a schedule; exit code {check['exit_code']}"]


def said(told: dict[str, Any]) -> str:
    """What a gate's row says, without its verdict."""
    from tamis.evaluate.render import measured

    note = f"; {told['note']}" if told.get("note") and told["verdict"] != "PASS" else ""
    return f"{told['metric']} {measured(told)}; wanted {told['require']}{note}"


def lines(check: dict[str, Any], run: Run) -> list[str]:
    """A check for a reader, about ten lines: what did not pass first."""
    from tamis.evaluate.render import MARK, sentence

    told = [
        f"{check['verdict']}  (exit code {check['exit_code']}, {check['model'] or 'no model'} at {check['endpoint']})"
    ]
    if (same := check.get("agreement")) is not None:
        release = f"{check['release']['arm']} / {check['release']['system']}"
        told.append(f"  {same:.1%} of the items answered as {release} did at release")
    order = sorted(check["rows"], key=lambda r: r["verdict"] == "PASS")
    rows = [sentence(r) if "metric" in r else f"{MARK[r['verdict']]:11s} {r['id']}: {r['said']}" for r in order]
    rows += check["notes"]
    told += [f"  {row}" for row in rows[:_ROOM]]
    if len(rows) > _ROOM:
        told.append(f"  and {len(rows) - _ROOM} more in {run.path / 'monitor' / CHECKS}")
    return [*told, *[f"next: {line}" for line in check["next"]]]


_ROOM = 6  # rows and notes in the closing lines
