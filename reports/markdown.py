"""The report for a pull request or a ticket: at most 60 lines of Markdown, and no text in it that acts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tamis.reports import drawings
from tamis.reports import written_numbers as written
from tamis.reports.examples_view import CHANGES
from tamis.reports.metric_names import named
from tamis.reports.verdict_view import RESULTS, SIGNS
from tamis.reports.view import ReportView, load
from tamis.reports.visible_text import in_markdown
from tamis.run import Run
from tamis.schema import write_atomic

LONGEST = 60  # lines; more than that is scrolled past in a ticket
MOST_GATES, MOST_SYSTEMS, MOST_EXAMPLES, MOST_PROBLEMS, MOST_REASONS = 12, 8, 5, 5, 6


def write_markdown(run: Run, path: Path | None = None) -> Path:
    """Write `report/report.md` of a run, or of a file at `path`; returns where it lies."""
    path = path or run.report / "report.md"
    write_atomic(path, markdown(load(run)).encode("utf-8", "replace"))
    return path


def markdown(view: ReportView) -> str:
    """The report as Markdown of at most `LONGEST` lines."""
    sections = [_top(view), _gates(view), _systems(view), _examples(view), _problems(view)]
    lines = [line for section in sections if section for line in [*section, ""]]
    end = f"Make it again: `{view.reproduce.replace('`', '')}` (tamis {view.version}, {view.made})"
    return "\n".join([*lines[: LONGEST - 1], end]) + "\n"


def _top(view: ReportView) -> list[str]:
    main = view.verdict.main if view.verdict else None
    sign = SIGNS.get(view.verdict.verdict, "!") if view.verdict else "…"
    said = f" {main.sentence}" if main else ""
    lines = [
        f"## {sign} {view.headline}: {in_markdown(view.name)}",
        "",
        f"{_escaped(view.finding)}{said and ' Gates:'}{said}",
    ]
    reasons = main.reasons if main else []
    lines += [f"- {_escaped(r)}" for r in reasons[:MOST_REASONS]]
    return lines + _rest(len(reasons), MOST_REASONS, "reasons")


def _gates(view: ReportView) -> list[str]:
    main = view.verdict.main if view.verdict else None
    if main is None or not main.gates:
        return []
    shown = main.worst_first[:MOST_GATES]
    rows = [
        [
            in_markdown(g.id, 40),
            _escaped(f"{g.label} {g.limit_text}"),
            _escaped(g.measure.text),
            _escaped(g.measure.interval),
            f"{SIGNS.get(g.verdict, '!')} {RESULTS.get(g.verdict, in_markdown(g.verdict))}",
            _escaped("; ".join(t for t in (g.remark, g.lever and f"likeliest lever: {g.lever}") if t)),
        ]
        for g in shown
    ]
    table = _table(["gate", "limit", "measured", f"{shown[0].measure.per_cent} interval", "result", "note"], rows)
    return [*table, *_rest(len(main.gates), MOST_GATES, "gates")]


def _systems(view: ReportView) -> list[str]:
    systems = view.systems
    if systems is None:
        return []
    metrics = drawings.systems_metrics(systems)
    rows = []
    for s in systems.systems[:MOST_SYSTEMS]:
        name = in_markdown(systems.label(s.arm, s.system), 40)
        trained = written.count(s.train_rows) if s.train_rows else written.DASH
        first, *others = (s.get(m) for m in metrics)
        cells = [f"{first.text} ({first.interval})" if first.known else first.text, *(m.text for m in others)]
        rows.append([name, trained, *map(_escaped, cells)])
    table = _table(["system", "rows", *(named(m).label for m in metrics)], rows)
    says = [f"tamis {t.kind}: {s}" for t in view.tries for s in t.says[:2]]
    notes = [f"- {_with_code(n)}" for n in (*systems.spending[:MOST_SYSTEMS], *view.notes[:3], *says)]
    return [*table, *_rest(len(systems.systems), MOST_SYSTEMS, "systems"), *([""] if notes else []), *notes]


def _examples(view: ReportView) -> list[str]:
    if view.examples is None:
        return []
    bad = [e for e in view.examples.rows if e.change in ("broken", "failed", "both_wrong")][:MOST_EXAMPLES]
    if not bad:
        return []
    counts = ", ".join(f"{written.count(n)} {CHANGES[c]}" for c, n in view.examples.counts.items())
    lines = [f"Against {in_markdown(view.examples.baseline or 'nothing')}: {counts}.", ""]
    if view.redacted:
        return lines[:1]
    for e in bad:
        said = in_markdown(e.candidate if e.error is None else f"request failed: {e.error}", 60)
        lines.append(
            f"- {CHANGES[e.change]}: {in_markdown(e.prompt)} (expected {in_markdown(e.expected, 60)}, said {said})"
        )
    return lines


def _problems(view: ReportView) -> list[str]:
    shown = [f"- {_escaped(p.what)}: `{p.repair.replace('`', '')}`" for p in view.problems[:MOST_PROBLEMS]]
    return ["What could not be read:", *shown] if shown else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _rest(total: int, shown: int, what: str) -> list[str]:
    return [f"({shown} of {total} {what} shown)"] if total > shown else []


def _with_code(text: str) -> str:
    """A sentence of ours, in which `words` between backticks stay code."""
    return "`".join(part if i % 2 else _escaped(part) for i, part in enumerate(text.split("`")))


def _escaped(text: str) -> str:
    return in_markdown(text, 500)
