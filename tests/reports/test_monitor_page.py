"""The page of a model in production: the last check, what to do, and how its numbers went."""

import json

from pages import opened, sections

from tamis.reports.folder import Folder
from tamis.reports.monitor_view import monitor_view

URL = "http://127.0.0.1:8000/v1"


def check(n, verdict="PASS", endpoint=URL, accuracy=0.95, **more):
    """A line as `tamis monitor` writes it (tests/tamis/test_monitor.py holds that it does)."""
    said = "accuracy -0.0100 [-0.03, 0.01] (n = 100); wanted delta.lower > -0.05"
    row = {"id": "same-quality", "verdict": verdict, "severity": "required", "metric": "accuracy", "said": said}
    return {
        "schema_version": 1, "at": f"2026-01-{n:02d}T09:00:00Z", "check": f"c{n}", "endpoint": endpoint,
        "model": "shop", "verdict": verdict, "exit_code": 0, "agreement": 0.98, "rows": [row],
        "notes": [], "next": ["the same command on a schedule; exit code 0"],
        "measured": {"accuracy": accuracy, "latency.e2e.p50": 100.0 + n},
        "release": {"arm": "chosen", "system": "tuned", "measured": {"accuracy": 0.96, "latency.e2e.p50": 90.0}},
        "trend": {"checks": n, "verdicts": ["PASS"], "accuracy": {"values": [], "direction": "falling", "p": 0.003}},
        **more,
    }  # fmt: skip


def written(run, checks, tail=""):
    (run.path / "monitor").mkdir(exist_ok=True)
    text = "".join(json.dumps(c, ensure_ascii=False) + "\n" for c in checks) + tail
    (run.path / "monitor" / "checks.jsonl").write_text(text, encoding="utf-8")
    return run


def test_checks_are_grouped_by_endpoint_and_followed(copy):
    mine = [check(n, accuracy=(96 - n) / 100) for n in range(1, 5)]
    written(copy, [check(1, endpoint="http://127.0.0.1:9/v1"), *mine, {**check(5), "drift": {"distance": 0.1}}])
    found = monitor_view(Folder(copy))
    assert [(w.endpoint, len(w.checks)) for w in found] == [(URL, 5), ("http://127.0.0.1:9/v1", 1)]
    series = {s.metric: s for s in found[0].series}
    assert series["accuracy"].points == ((1, 0.95), (2, 0.94), (3, 0.93), (4, 0.92), (5, 0.95))
    assert (series["accuracy"].released, series["accuracy"].direction) == (0.96, "falling")
    assert series["drift"].points == ((5, 0.1),)
    assert series["latency.e2e.p50"].direction is None


def test_the_page_leads_with_the_last_verdict_and_draws_the_trend(monkeypatch, copy):
    ends = check(3, "FAIL", accuracy=0.8, next=["roll back: serve runs/shop/arms/main/train/adapter again"])
    app = opened(monkeypatch, written(copy, [check(1), check(2), ends]).path, "monitor")
    text = sections(app)
    assert text.index("roll back: serve") < text.index("wanted delta.lower")
    assert "accuracy by check: falling" in text
    assert text.index("2026-01-03 09:00:00") < text.index("2026-01-02 09:00:00") < text.index("2026-01-01 09:00:00")


def test_a_run_that_was_never_checked_gets_the_command(monkeypatch, copy):
    app = opened(monkeypatch, copy.path, "monitor")
    assert any("tamis monitor" in c.value for c in app.code)


def test_a_line_cut_by_a_crash_is_said_and_one_of_an_older_version_is_shown(monkeypatch, copy):
    old = check(1)
    for key in ("measured", "trend"):
        del old[key]
    del old["rows"][0]["said"]
    old["rows"][0]["require"] = "delta.lower > -0.05"
    app = opened(monkeypatch, written(copy, [old], '{"at": "2026-').path, "monitor")
    text = sections(app)
    assert "1 of 2 checks of the live model cannot be read" in text
    assert "accuracy; wanted delta.lower" in text


def test_texts_of_a_server_are_text(monkeypatch, copy):
    bad = "<script>alert(1)</script>:red[x]"
    hostile = check(1, endpoint=bad, model=bad, next=[bad], notes=[bad], at=bad, verdict=bad)
    hostile["rows"] = [{"id": bad, "verdict": bad, "said": bad}, 7]
    hostile["measured"] = {bad: 1.0}
    text = sections(opened(monkeypatch, written(copy, [hostile, hostile]).path, "monitor"))
    assert "<script>" not in text.replace("\\u003c", "<")
