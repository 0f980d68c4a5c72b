"""Each page in each state a run can be in shows the values of that run's `report.json`, and says what is not there."""

import datetime
import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from pages import PAGES, html_of, opened

from tamis.reports import written_numbers as written
from tamis.reports.report_json import write_report_json
from tamis.reports.review_queue import MOST
from tamis.run import Run
from tamis.schema import write_json

SMALL = {"read": 900, "kept": 90, "items": 60, "requests": 20}
NOTHING = {
    "compare": "There is no comparison yet",
    "examples": "There are no answers to look at yet",
    "slices": "There are no answers to count yet",
    "study": "No study has been made",
    "choose": "No base was chosen",
    "monitor": "No live model has been checked",
}


def unjudged(run: Run) -> None:
    """Take away what is made last."""
    run.verdict.unlink()
    run.comparison.unlink()


def running(run: Run) -> None:
    """One system is being asked."""
    unjudged(run)
    folder = run.evaluate("chosen", "tuned")
    (folder / "stage.json").unlink()
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = {"done": 96, "total": 200, "unit": "items", "eta_s": 26.0, "updated": now, "pid": 1}
    write_json(folder / "progress.json", told)


def failed(run: Run) -> None:
    """It ended in the middle of an evaluation."""
    unjudged(run)
    folder = run.evaluate("chosen", "tuned")
    for name in ("stage.json", "samples.parquet", "metrics.json"):
        (folder / name).unlink()
    (folder / "samples.jsonl").write_text("")


def alone(run: Run) -> None:
    """There is nothing to compare with."""
    shutil.rmtree(run.evaluate("chosen", "base"))


# sizes of the run, what is done to it, whether another run lies beside it
STATES: dict[str, tuple[dict[str, Any], Callable[[Run], None], bool]] = {
    "normal": (SMALL, lambda run: None, True),
    "running": (SMALL, running, True),
    "failed": (SMALL, failed, True),
    "one run only": ({**SMALL, "arms": ("chosen",)}, alone, False),
    "a million rows": ({"read": 1_000_000, "kept": 5_000, "items": 100, "requests": 20}, lambda run: None, True),
}
SLOW = {"a million rows"}


@pytest.fixture(scope="module")
def made(build, tmp_path_factory):
    """`made(state)`: a run folder in that state and its `report.json`; each is built once."""
    done: dict[str, tuple[Run, dict[str, Any]]] = {}

    def of(state: str) -> tuple[Run, dict[str, Any]]:
        if state not in done:
            sizes, harm, beside = STATES[state]
            folder = tmp_path_factory.mktemp("state")
            run = build(folder / "judged", **sizes)
            harm(run)
            if beside:
                other = build(folder / "other", **{**SMALL, "kept": 120, "items": 10, "arms": ("chosen",)})
                shutil.rmtree(other.path / "arms")
            done[state] = run, json.loads(write_report_json(run, folder / "report.json").read_text())
        return done[state]

    return of


def text_of(app) -> str:
    """All that a page says."""
    kinds = ("title", "subheader", "caption", "info", "success", "markdown")
    said = [element.value for kind in kinds for element in getattr(app, kind)]
    return html_of(app) + "\n".join(map(str, [*said, *(m.value for m in app.metric)]))


def system(raw: dict[str, Any]) -> dict[str, Any]:
    return next(s for s in raw["systems"]["systems"] if (s["arm"], s["system"]) == (raw["arm"], raw["candidate"]))


def percent(value: float) -> str:
    return written.share(value)


def overview(raw: dict[str, Any]) -> list[str]:
    found = [raw["headline"], written.count(raw["funnel"]["kept"])]
    if raw["systems"]:
        metrics = system(raw)["metrics"]
        found += [percent(metrics["accuracy"]["value"]), written.milliseconds(metrics["latency.e2e.p95"]["value"])]
    if raw["verdict"]:
        main = next(a for a in raw["verdict"]["arms"] if a["arm"] == raw["arm"])
        found += [g["id"] for g in main["gates"]]
    return found


def compare(raw: dict[str, Any]) -> list[str]:
    if not raw["systems"]:
        return [NOTHING["compare"]]
    ours = [p for p in raw["systems"]["pairs"] if p["candidate"] == [raw["arm"], raw["candidate"]]]
    accuracy = [p for p in ours if p["metric"] == "accuracy"]
    assert accuracy
    return [written.points(p["delta"]["value"]) for p in accuracy] + [written.count(p["broken"]) for p in accuracy]


def examples(raw: dict[str, Any]) -> list[str]:
    if not raw["examples"]:
        return [NOTHING["examples"]]
    counts = raw["examples"]["counts"]
    return [f"{n:,} {change.replace('_', ' ')}" for change, n in counts.items() if n]


def slices(raw: dict[str, Any]) -> list[str]:
    if not raw["examples"]:
        return [NOTHING["slices"]]
    gates = [g for a in raw["verdict"]["arms"] if a["arm"] == raw["arm"] for g in a["gates"]]
    return [s["measure"]["metric"] and s["name"] for g in gates for s in g["slices"]]


def curation(raw: dict[str, Any]) -> list[str]:
    steps = raw["funnel"]["steps"]
    return [written.count(s["left"]) for s in steps] + [written.count(x["rows"]) for s in steps for x in s["losses"]]


def lost(raw: dict[str, Any], *stages: str) -> dict[str, int]:
    """Rows by reason that these stages dropped."""
    return {x["reason"]: x["rows"] for s in raw["funnel"]["steps"] if s["stage"] in stages for x in s["losses"]}


def review(raw: dict[str, Any]) -> list[str]:
    near = {r: n for r, n in lost(raw, "decontaminate", "deduplicate").items() if r not in ("exact", "leak_exact")}
    total = sum(near.values())
    said = f"{min(total, MOST):,} rows"
    return [f"{said} of {total:,}, the most doubtful first" if total > MOST else f"{said}; 0 of them decided"]


def diff(raw: dict[str, Any]) -> list[str]:
    return [f"A: judged, {raw['funnel']['read']:,} rows"]


def training(raw: dict[str, Any]) -> list[str]:
    assert raw["training"]
    return [written.number(t["final_loss"]) for t in raw["training"].values()]


def runs(raw: dict[str, Any]) -> list[str]:
    funnel = raw["funnel"]
    found = [f"{written.count(funnel['kept'])} of {written.count(funnel['read'])}"]
    return found + ([raw["headline"], percent(system(raw)["metrics"]["accuracy"]["value"])] if raw["verdict"] else [])


def method(raw: dict[str, Any]) -> list[str]:
    found = [s["name"] for s in raw["stages"]]
    return found + ([raw["verdict"]["policy_sha256"][:12]] if raw["verdict"] else [])


def map_header(app) -> dict[str, Any]:
    """What the browser is told about the map's points."""
    block = next(part.proto.bytes for part in app.get("bidi_component") if part.proto.bytes)
    return json.loads(block[4 : 4 + int.from_bytes(block[:4], "little")])


EXPECTED = {
    "overview": overview, "compare": compare, "examples": examples, "slices": slices, "curation": curation,
    "review": review, "diff": diff, "training": training, "runs": runs, "method": method,
    "study": lambda raw: [NOTHING["study"]], "choose": lambda raw: [NOTHING["choose"]],
    "monitor": lambda raw: [NOTHING["monitor"]],
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("state", [pytest.param(s, marks=pytest.mark.slow if s in SLOW else ()) for s in STATES])
def test_a_page_shows_the_values_of_report_json(monkeypatch, made, state, page):
    run, raw = made(state)
    app = opened(monkeypatch, run.path.parent, page, run="judged")
    assert not app.error
    if page == "map":
        told, early = map_header(app), lost(raw, "clean", "score", "decontaminate")
        assert told["n"] == raw["funnel"]["read"] - sum(early.values())
        assert dict(zip(told["names"], told["counts"], strict=True))["kept"] == raw["funnel"]["kept"]
        return
    if page == "diff" and state == "one run only":
        assert "Two are needed" in app.info[0].value
        return
    text = text_of(app)
    wanted = EXPECTED[page](raw)
    assert wanted
    for value in wanted:
        assert value in text, value
    assert sum(len(part.proto.json) for part in app.get("bidi_component")) < 1_000_000
    assert sum(len(d.value) for d in app.dataframe) <= 50


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_an_empty_folder_says_which_commands_make_a_run(monkeypatch, tmp_path, page):
    app = opened(monkeypatch, tmp_path, page)
    assert app.title[0].value == "No run here yet"
    assert any("tamis demo" in c.value for c in app.code)


@pytest.mark.parametrize("state", ["running", "failed"])
def test_what_is_not_finished_says_how_far_it_is_or_how_to_go_on(monkeypatch, made, state):
    run, raw = made(state)
    app = opened(monkeypatch, run.path.parent, run="judged")
    stage = next(s for s in raw["stages"] if s["name"] == "evaluate chosen / tuned")
    if state == "running":
        assert raw["state"] == "running"
        assert f"{stage['done']:,.0f} of {stage['total']:,.0f} items" in text_of(app)
    else:
        assert raw["state"] == "stopped"
        assert stage["state"] == "stopped"
        assert f"tamis run {run.path}" in text_of(app)


@pytest.mark.slow
def test_the_report_of_a_million_rows_is_small(made):
    from tamis.reports.page_html import LARGEST, write_html

    run, raw = made("a million rows")
    file = write_html(run, run.path.parent / "report.html")
    assert file.stat().st_size <= LARGEST
    assert written.count(raw["funnel"]["read"]) in file.read_text()
