"""The sections of the report as HTML, for the page and for the app.

Every text from data, models, recipes or paths goes through `visible_text`; numbers and words of our own are the only
other things that are written.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from tamis.reports import drawings
from tamis.reports import written_numbers as written
from tamis.reports.curation_view import Funnel
from tamis.reports.examples_view import CHANGES, MEANING, Example, Examples
from tamis.reports.figures import SERIES
from tamis.reports.folder import Problem
from tamis.reports.load_view import Level
from tamis.reports.measures import Measure
from tamis.reports.metric_names import named
from tamis.reports.systems_view import SPOKEN, PairRow, SystemsView
from tamis.reports.verdict_view import RESULTS, SIGNS, GateRow
from tamis.reports.view import ReportView
from tamis.reports.visible_text import in_html
from tamis.reports.visible_text import line as one_line
from tamis.reports.word_diff import Piece, word_diff

# What tables may hold before the rest is counted instead of shown; together they stay well inside 300 KB.
MOST_GATES, MOST_SLICES, MOST_SYSTEMS, MOST_PROBLEMS, MOST_LEVELS = 30, 10, 40, 20, 40
REMARK = 240  # characters of a note in a table

# Colour by verdict: role of the figures' palette.
TONES = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "unsure", "INVALID": "bad"}


def heading(view: ReportView) -> str:
    """What is reported on, and what identifies it."""
    systems = view.systems
    against = f" {_word('against')} {in_html(view.baseline)}" if view.baseline_row else ""
    who = systems.label(view.arm, view.candidate) if systems else view.candidate
    facts = [f"run {one_line(view.name)}"]
    if systems and systems.items:
        sha = f", sha256 {systems.eval_sha256[:8]}…" if systems.eval_sha256 else ""
        facts.append(f"evaluation set of {written.count(systems.items)} items{sha}")
    if view.model:
        facts.append(f"model {one_line(view.model, 60)}")
    facts += [view.made, f"tamis {view.version}"]
    return (
        f"<header><h1>Release report: {in_html(who)}{against}</h1>"
        f'<p class="muted">{" · ".join(in_html(f) for f in facts)}</p></header>'
    )


def _word(text: str) -> str:
    return f'<span class="thin">{text}</span>'


def banner(view: ReportView) -> str:
    """The verdict, the finding, and one sentence for each gate that did not pass."""
    main = view.verdict.main if view.verdict else None
    tone = TONES.get(view.verdict.verdict, "bad") if view.verdict else "unsure"
    said = f" <span>{in_html(main.sentence)}</span>" if main else ""
    sign = SIGNS.get(view.verdict.verdict, "!") if view.verdict else "…"
    reasons = "".join(f"<li>{in_html(r, REMARK)}</li>" for r in (main.reasons if main else [])[:MOST_GATES])
    reasons = f"<ul>{reasons}</ul>" if reasons else ""
    running = "" if main else _stage_lines(view)
    return (
        f'<section class="banner {tone}" aria-label="verdict"><p class="verdict"><strong>'
        f'<span aria-hidden="true">{sign} </span>{in_html(view.headline)}</strong>{said}</p>'
        f'<p class="finding">{in_html(view.finding)}</p>{reasons}{running}</section>'
    )


def _stage_lines(view: ReportView) -> str:
    """What a run without a verdict has done so far."""
    items = []
    for stage in view.stages:
        far = (
            f", {stage.done:,.0f} of {stage.total:,.0f} {stage.unit}" if stage.done is not None and stage.total else ""
        )
        items.append(f"<li>{in_html(one_line(stage.name))}: {stage.state}{in_html(far)}</li>")
    return f"<ul>{''.join(items)}</ul>" if items else ""


def problems(view: ReportView) -> str:
    """What could not be read, and the command that mends it."""
    return problem_list(view.problems)


def problem_list(found: Sequence[Problem]) -> str:
    """Problems with their places and the commands that mend them."""
    if not found:
        return ""
    broken = any(p.severity != "missing" for p in found)
    title, word = ("What could not be read", "mend") if broken else ("What is missing", "make")
    items = "".join(
        f"<li>{in_html(p.what)} (<code>{in_html(p.where)}</code>). To {word} it: <code>{in_html(p.repair)}</code></li>"
        for p in found[:MOST_PROBLEMS]
    )
    left_out = cut(len(found), min(len(found), MOST_PROBLEMS), "problems")
    return f'<section class="problems"><h2>{title}</h2><ul>{items}</ul>{left_out}</section>'


# -------------------------------------------------------------------------------------------------------- tables


def muted(html: str) -> str:
    """Ready HTML, said less loudly."""
    return f'<span class="muted">{html}</span>'


def nowrap(html: str) -> str:
    """Ready HTML that stays on one line where there is room for it."""
    return f'<span class="nowrap">{html}</span>'


def table(
    head: Sequence[str],
    body: Iterable[Sequence[str]],
    caption: str,
    numeric: Sequence[int] = (),
    kind: str = "",
    notes: Sequence[str] = (),
) -> str:
    """A table of ready HTML cells.

    Args:
        head: names of the columns.
        body: rows; the first cell of a row is its header.
        caption: what the table shows.
        numeric: columns that are right-aligned.
        kind: class of the table; `dense` for many columns.
        notes: ready HTML beneath each row over the whole width, "" for none: a column of its own would be cut on a
            narrow screen, or squeeze all others.
    """

    def cell(i: int, text: str) -> str:
        kind = ' class="num"' if i in numeric else ""
        return f'<th scope="row">{text}</th>' if i == 0 else f"<td{kind}>{text}</td>"

    right = ' class="num"'
    top = "".join(f'<th scope="col"{right if i in numeric else ""}>{h}</th>' for i, h in enumerate(head))
    rows = ""
    for cells, note in itertools.zip_longest(body, notes, fillvalue=""):
        row = "".join(cell(i, c) for i, c in enumerate(cells))
        rows += f'<tr class="noted">{row}</tr>' if note else f"<tr>{row}</tr>"
        rows += f'<tr><td class="more" colspan="{len(head)}">{note}</td></tr>' if note else ""
    # whoever has no pointer scrolls a table that is too wide by its focus
    box = f'<div class="scroll" tabindex="0" role="group" aria-label="{re.sub("<[^>]*>", "", caption)}">'
    return (
        f'{box}<table class="{kind or "plain"}"><caption>{caption}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def gates(view: ReportView) -> str:
    """Every gate with limit, interval, distance and the likeliest lever."""
    main = view.verdict.main if view.verdict else None
    if main is None or not main.gates:
        return ""
    shown = main.worst_first[:MOST_GATES]
    head = ["gate", "limit", "measured", f"{shown[0].measure.per_cent} interval", "distance", "result"]
    caption = (
        "Every gate of the policy, those that failed first; distance: from the limit to what is judged, which is the "
        "interval's worse end unless the gate says otherwise"
    )
    notes = [_gate_note(g) for g in shown]
    shown_table = table(head, [_gate_cells(g) for g in shown], caption, notes=notes)
    left_out = cut(len(main.gates), len(shown), "gates")
    return f'<section id="gates"><h2>Gates</h2>{shown_table}{left_out}</section>'


def _gate_cells(gate: GateRow) -> list[str]:
    return [
        f"<b>{in_html(one_line(gate.id, 40))}</b><br>{muted(in_html(gate.label, REMARK))}",
        f'<span class="nowrap" title="{in_html(gate.require, REMARK)}">{in_html(gate.limit_text)}</span>',
        _measured(gate.measure),
        nowrap(in_html(gate.measure.interval)),
        in_html(gate.distance_text),
        _result(gate.verdict),
    ]


def _gate_note(gate: GateRow) -> str:
    """What is beneath a gate's numbers: the remark, the likeliest lever, the slices."""
    lever = f'<div class="lever"><b>Likeliest lever:</b> {in_html(gate.lever, REMARK)}</div>' if gate.lever else ""
    slices = "".join(
        f"<li>{in_html(one_line(s.name, 40))}: {in_html(s.measure.text)} "
        f"{muted(f'({in_html(s.measure.interval)}, n {written.count(s.measure.n)})')} "
        f"{_result(s.verdict)}</li>"
        for s in gate.slices[:MOST_SLICES]
    )
    slices = f"<details><summary>{len(gate.slices)} slices</summary><ul>{slices}</ul></details>" if slices else ""
    return f"{in_html(gate.remark, REMARK)}{lever}{slices}"


def _result(verdict: str) -> str:
    tone, sign = TONES.get(verdict, "bad"), SIGNS.get(verdict, "!")
    return f'<span class="t-{tone} nowrap">{sign} {in_html(RESULTS.get(verdict, verdict))}</span>'


def _measured(m: Measure) -> str:
    return f'<span title="{in_html(m.how, REMARK)}">{in_html(m.text)}</span>' if m.how else in_html(m.text)


def arms(view: ReportView) -> str:
    """Arms side by side: the rows Tamis chose against as many at random."""
    if len(view.arms) < 2 or view.systems is None:
        return ""
    systems, metric = view.systems, view.systems.primary
    label = named(metric).label
    span = f"{systems.confidence * 100:g}% interval"
    head = ["arm", "rows", f"{label} of {in_html(view.candidate)}", span, "training", "verdict"]
    body = []
    for arm in view.arms:
        row, verdict = arm.candidate, arm.verdict
        measure = row.get(metric) if row else Measure(metric, None)
        took = written.duration(row.train_seconds) if row else written.UNKNOWN
        body.append(
            [
                f"<b>{in_html(one_line(arm.name))}</b>",
                written.count(row.train_rows if row else None),
                _measured(measure),
                in_html(measure.interval),
                took,
                f"{_result(verdict.verdict)} {in_html(verdict.word)}" if verdict else written.DASH,
            ]
        )
    shown_table = table(head, body, "The same training on different rows, judged by the same gates")
    says = "".join(f"<p>{in_html(_across(view, p))}</p>" for p in systems.across_arms((view.arm, view.candidate)))
    return f'<section id="arms"><h2>Rows chosen against other rows</h2>{shown_table}{says}</section>'


def _across(view: ReportView, pair: PairRow) -> str:
    delta = f"{pair.delta.text} ({pair.delta.per_cent} interval {pair.delta.interval})"
    start = f"{view.arm} less {pair.baseline[0]}: {delta}"
    if pair.sure == 0:
        more = f"; about {written.count(pair.examples_needed)} more items would tell" if pair.examples_needed else ""
        return f"{start}. These items do not tell the two apart{more}."
    return (
        f"{start}. Over these items the {'gain' if pair.sure > 0 else 'loss'} is more than chance; each arm was "
        "trained once, and another training seed would move it."
    )


def systems(view: ReportView) -> str:
    """Every system with every number, and the notes a reader must not miss."""
    systems = view.systems
    if systems is None:
        return ""
    metrics = drawings.systems_metrics(systems)
    head = [
        "system",
        "rows",
        *(in_html(named(m).label.replace("cost per 1,000 requests", "cost / 1,000")) for m in metrics),
    ]
    shown = systems.systems[:MOST_SYSTEMS]
    body = []
    for s in shown:
        what = SPOKEN.get(s.system, "")
        name = f"<b>{in_html(systems.label(s.arm, s.system))}</b><br><small>{muted(in_html(what))}</small>"
        rows = written.count(s.train_rows) if s.train_rows else written.DASH
        body.append([name, rows, *(with_interval(s.get(m)) for m in metrics)])
    numeric = range(1, len(head))
    caption = f"Every system on the same items; beneath each number its {systems.confidence * 100:g}% interval"
    shown_table = table(head, body, caption, list(numeric), "dense")
    notes = "".join(f'<p class="note">{_code(n)}</p>' for n in view.notes)
    left_out = cut(len(systems.systems), len(shown), "systems")
    return f'<section id="systems"><h2>Systems</h2>{shown_table}{left_out}{spending(systems)}{notes}</section>'


LOADS = {"concurrency": "in flight", "rate": "a second"}


def under_load(loads: Sequence[tuple[str, Sequence[Level]]]) -> str:
    """What systems answered a second at each measured load, drawn and in numbers; `loads`: name and levels of each."""
    drawn = "".join(drawings.throughputs(loads, by) or "" for by in LOADS)
    head = ["system", "load", "requests", "failed", "answered a second", "p50", "p95"]
    levels = [(name, x) for name, found in loads for x in found]
    shown, notes, body = levels[:MOST_LEVELS], [], []
    for name, x in shown:
        how = "" if x.arrival == "closed" else f", {in_html(one_line(x.arrival, 20))}"
        numbers = [with_interval(m) for m in (x.throughput, x.p50, x.p95)]
        load = f"{x.at:g} {LOADS[x.by]}{how}"
        body.append([in_html(name), load, written.count(x.requests), written.count(x.failed), *numbers])
        notes.append(f'<span class="t-bad">! no evidence: {in_html(x.invalid, REMARK)}</span>' if x.invalid else "")
    caption = "Each level is a measurement of its own; failed requests count as infinitely slow"
    shown_table = table(head, body, caption, range(2, 7), "dense", notes)
    left_out = cut(len(levels), len(shown), "levels")
    return f'<section id="loads"><h2>Under load</h2>{drawn}{shown_table}{left_out}</section>'


def loads(view: ReportView) -> str:
    """Every system that was measured under load."""
    if view.systems is None:
        return ""
    found = [(view.systems.label(s.arm, s.system), s.loads) for s in view.systems.systems if s.loads]
    return under_load(found[: len(SERIES)]) if found else ""


def spending(systems: SystemsView) -> str:
    """What the systems cost a month, in sentences; nothing where no demand and no two kinds of price are known."""
    lines = "".join(f"<li>{in_html(line, 2000)}</li>" for line in systems.spending[:MOST_SYSTEMS])
    return f"<h3>What it costs</h3><ul>{lines}</ul>" if lines else ""


def with_interval(m: Measure, sign: str = "") -> str:
    """A measure with its interval beneath; `sign`: of ours, after the number."""
    if not m.known:
        return f'<span class="muted" title="{in_html(m.note, REMARK)}">{written.UNKNOWN}</span>'
    return f'{_measured(m)}{sign}<br><span class="muted nowrap">{in_html(m.interval)}</span>'


def _code(text: str) -> str:
    """Escaped, with `words` in backticks as code."""
    parts = in_html(text, 2000).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))


# ------------------------------------------------------------------------------------------------------ pictures


def pictures(view: ReportView) -> str:
    """Whisker and Pareto."""
    if view.systems is None:
        return ""
    label = named(view.systems.primary).label
    label = label[:1].upper() + label[1:]
    cells = [
        _figure(f"{label}, {view.systems.confidence * 100:g}% interval", drawings.quality_whisker(view)),
        _figure(f"{label} against p95 latency {_word('(area: cost per 1,000)')}", drawings.trade_off(view)),
    ]
    return f'<section class="two">{"".join(cells)}</section>' if any(cells) else ""


def _figure(title: str, svg: str | None) -> str:
    return f"<figure><figcaption><h2>{title}</h2></figcaption>{svg}</figure>" if svg else ""


def rows_and_changes(view: ReportView) -> str:
    """The funnel, and what changed per item."""
    cells = [_funnel(view.funnel), changes(view)]
    return f'<section class="two">{"".join(cells)}</section>' if any(cells) else ""


def _funnel(funnel: Funnel | None) -> str:
    if funnel is None:
        return ""
    why = "".join(
        f"<li>{in_html(step.label)}: "
        + ", ".join(f"{written.count(loss.rows)} {in_html(loss.label)}" for loss in step.losses)
        + "</li>"
        for step in funnel.steps
        if step.losses
    )
    reasons = f"<details><summary>Reasons</summary><ul>{why}</ul></details>" if why else ""
    title = f"Where {written.count(funnel.read)} rows went"
    return f"<figure><figcaption><h2>{title}</h2></figcaption>{drawings.funnel_figure(funnel)}{reasons}</figure>"


def changes(view: ReportView, *, forest: bool = True) -> str:
    """How many items were fixed and broken, and (as a figure) the paired differences to every other system."""
    pair = view.pair
    if pair is None or view.systems is None or not pair.has_table:
        return ""
    base = in_html(view.systems.label(*pair.baseline))
    ours = in_html(view.systems.label(*pair.candidate))

    def cell(change: str, n: int | None, tone: str = "", word: str = "") -> str:
        return f'<span class="t-{tone}" data-key="{change}">{written.count(n)}{word}</span>'

    cells = [
        [f"{ours} right", cell("both_right", pair.both_right), cell("fixed", pair.fixed, "good", " fixed")],
        [f"{ours} wrong", cell("broken", pair.broken, "bad", " broken"), cell("both_wrong", pair.both_wrong)],
    ]
    n = sum(x or 0 for x in (pair.both_right, pair.fixed, pair.broken, pair.both_wrong))
    head = [f"{written.count(n)} items", f"{base} right", f"{base} wrong"]
    shown_table = table(head, cells, "Items that both answered", [1, 2])
    p = f", McNemar {written.p_value(pair.mcnemar_p)}" if pair.mcnemar_p is not None else ""
    figure = (drawings.differences(view) or "") if forest else ""
    delta = f"difference {pair.delta.text}, {pair.delta.per_cent} interval {pair.delta.interval}{p}"
    return (
        f"<figure><figcaption><h2>What changed per item</h2></figcaption>{shown_table}"
        f'<p class="muted">{in_html(delta)}</p>{figure}</figure>'
    )


# ------------------------------------------------------------------------------------------------------ examples


def examples_section(examples: Examples | None, room: int, *, redacted: bool = False) -> str:
    """Items one by one while there is room (bytes); how many there are in all is said. `redacted`: without texts."""
    if examples is None or not examples.rows:
        return ""
    counts = ", ".join(f"{written.count(n)} {CHANGES[c]}" for c, n in examples.counts.items())
    if redacted:
        return _items_without_texts(examples, counts)
    blocks: list[str] = []
    for row in examples.rows:
        block = _example(row, examples)
        room -= len(block.encode("utf-8", "replace"))
        if room < 0:
            break
        blocks.append(block)
    said = f"{len(blocks)} of {written.count(examples.total)} items, broken ones first ({counts})."
    return f'<section id="examples"><h2>Examples</h2><p class="muted">{in_html(said)}</p>{"".join(blocks)}</section>'


def _items_without_texts(examples: Examples, counts: str) -> str:
    said = (
        f"Texts are left out of this report. {len(examples.rows)} of {written.count(examples.total)} items ({counts})."
    )
    body = [
        [in_html(r.id), CHANGES[r.change], in_html(one_line(r.label, 40)), in_html(r.language)] for r in examples.rows
    ]
    shown = table(["item", "change", "label", "language"], body, in_html(said), kind="dense")
    return f'<section id="examples"><h2>Examples</h2>{shown}</section>'


def _example(row: Example, examples: Examples) -> str:
    tone = {"broken": "bad", "failed": "bad", "fixed": "good", "both_wrong": "unsure"}.get(row.change, "muted")
    badge = f'<span class="badge t-{tone}" title="{MEANING[row.change]}">{CHANGES[row.change]}</span>'
    where = " · ".join(in_html(one_line(x, 30)) for x in (row.label, row.language) if x)
    parts = [
        ("asked", quoted(row.prompt)),
        ("expected", quoted(row.expected)),
        (f"{in_html(examples.candidate)} said", said(row.candidate, row.error, row.expected)),
    ]
    if examples.baseline:
        parts.append((f"{in_html(examples.baseline)} said", said(row.baseline, None, row.expected)))
    body = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in parts)
    head = f"<bdi>{in_html(one_line(row.prompt, 110))}</bdi>{_confusion(row)}"
    return (
        f'<details class="ex"><summary>{badge} {head}</summary><dl>{body}</dl>'
        f'<p class="muted">{where}{" · " if where else ""}item {in_html(one_line(row.key or row.id, 60))}</p></details>'
    )


def _confusion(row: Example) -> str:
    """`expected → answered`, where both are short enough to be read at a glance."""
    if row.candidate_right is not False or not row.expected or not row.candidate_answer:
        return ""
    if max(len(row.expected), len(row.candidate_answer)) > 40:
        return ""
    return f' <span class="muted">{in_html(one_line(row.expected))} → {in_html(one_line(row.candidate_answer))}</span>'


def quoted(text: str | None) -> str:
    """A foreign text of any length, cut, as text."""
    return f"<bdi>{in_html(text)}</bdi>" if text else '<span class="muted">nothing</span>'


def said(output: str | None, error: str | None, expected: str | None) -> str:
    """An output with the words that differ from the expected answer marked."""
    if error:
        return f'<span class="t-bad">request failed: {in_html(one_line(error))}</span>'
    if not output:
        return '<span class="muted">nothing</span>'
    if expected is None or len(output) > 2000 or len(expected) > 2000:
        return quoted(output)
    shown = "".join(
        in_html(p.text) if p.how == "same" else f"<{TAGS[p.how]}>{in_html(p.text)}</{TAGS[p.how]}>"
        for p in _within(word_diff(expected, output))
    )
    return f"<bdi>{shown}</bdi>"


TAGS = {"missing": "del", "added": "ins"}


def _within(pieces: Sequence[Piece], most: int = 60) -> Iterable[Piece]:
    return itertools.islice(pieces, most)


# -------------------------------------------------------------------------------------------------- end of page


def method(view: ReportView, *, titled: bool = True) -> str:
    """How the numbers were made, and the command that makes them again. `titled`: False on a page of that title."""
    lines = "".join(f"<li>{in_html(t, 1000)}</li>" for t in view.method)
    hashes = []
    if view.verdict:
        hashes.append(f"policy {view.verdict.policy_path} {view.verdict.policy_sha256[:12]}")
        hashes.append(f"evidence {view.verdict.evidence_sha256[:12]}")
    if view.seed is not None:
        hashes.append(f"seed {view.seed}")
    title = "<h2>Method</h2>" if titled else ""
    trail = f'<p class="muted">{in_html(" · ".join(hashes))}</p>' if hashes else ""
    return (
        f'<section id="method">{title}<ul>{lines}</ul>{trail}'
        f"<h2>Make it again</h2><pre><code>{in_html(view.reproduce)}</code></pre></section>"
    )


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and ready HTML values, as a list of definitions."""
    return f'<dl class="facts">{"".join(f"<dt>{in_html(name)}</dt><dd>{value}</dd>" for name, value in pairs)}</dl>'


def cut(total: int, shown: int, what: str) -> str:
    """What is not shown, where a table does not hold all."""
    return f'<p class="muted">{shown} of {written.count(total)} {what} shown.</p>' if total > shown else ""
