"""The report as JSON: the same object that the page is drawn from, with raw numbers and a schema version."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tamis.reports.view import ReportView, load
from tamis.run import Run
from tamis.schema import json_text as schema_text
from tamis.schema import write_json


def write_report_json(run: Run, path: Path | None = None) -> Path:
    """Write `report/report.json` of a run; returns where it lies."""
    path = path or run.report / "report.json"
    write_json(path, report_json(load(run)))
    return path


def json_text(view: ReportView) -> str:
    """The report as JSON text."""
    return schema_text(report_json(view))


def report_json(view: ReportView) -> dict[str, Any]:
    """The view as plain values, with the words a reader sees beside the codes a script reads."""
    raw = dataclasses.asdict(view)
    raw["headline"] = view.headline
    main = view.verdict.main if view.verdict else None
    if main is not None:
        raw["sentence"], raw["reasons"] = main.sentence, main.reasons
    return raw
