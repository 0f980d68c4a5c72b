"""What became of one training row, as HTML: its texts, why it was kept or dropped, and the row that decided it."""

from __future__ import annotations

from tamis.reports import html_parts as parts
from tamis.reports import written_numbers as written
from tamis.reports.curation_view import REASONS
from tamis.reports.ledger_query import Fate
from tamis.reports.visible_text import in_html
from tamis.reports.visible_text import line as one_line


def fate_html(known: Fate | None) -> str:
    """The row and its fate; a sentence where the ledger has no such row."""
    if known is None:
        return "<p>The ledger has no such row.</p>"
    r = known.row
    why = (
        "kept" if r["verdict"] == "kept" else f"dropped by {r['stage']}: {REASONS.get(r['reason'] or '', r['reason'])}"
    )
    facts = [
        ("fate", in_html(why)),
        ("prompt", parts.quoted(known.prompt)),
        ("answer", parts.quoted(known.answer)),
    ]
    if r["rank"] is not None:
        facts.append(("place in the order", written.count(r["rank"] + 1)))
    if r["witness"]:
        near = f", similarity {r['similarity']:.3f}" if r["similarity"] is not None else ""
        # selection counts its slack in places, and its witness stands for the row rather than against it
        chosen = r["stage"] == "select"
        slack = f", {abs(r['slack']):.3f} beyond the limit" if r["slack"] is not None and not chosen else ""
        facts.append(
            ("nearest kept row" if chosen else "because of", f"{in_html(one_line(r['witness'], 60))}{near}{slack}")
        )
        facts.append(("its prompt", parts.said(known.witness_prompt, None, known.prompt)))
        facts.append(("its answer", parts.said(known.witness_answer, None, known.answer)))
    place = f"{r['file']}:{r['line']}"
    facts.append(("row", " · ".join(in_html(one_line(x, 80)) for x in (r["key"], r["id"], place, r["label"]) if x)))
    scores = {k.removeprefix("score_"): v for k, v in r.items() if k.startswith("score_") and v is not None}
    if scores:
        facts.append(("scores", in_html(", ".join(f"{k} {written.said(f'{v:.3f}')}" for k, v in scores.items()))))
    return f"<h2>The row</h2>{parts.facts(facts)}"
