"""Trainings side by side, as HTML: a table, and the intervals drawn."""

from __future__ import annotations

from tamis.reports import figures
from tamis.reports import html_parts as parts
from tamis.reports import written_numbers as written
from tamis.reports.figures import Dot
from tamis.reports.metric_names import named
from tamis.reports.tries_view import Tries, Try
from tamis.reports.visible_text import in_html
from tamis.reports.visible_text import line as one_line

MOST = 40


def tries_html(found: Tries) -> str:
    """One section: what to make of it, every training with its difference to the reference, the intervals."""
    label, shown = named(found.metric).label, found.rows[:MOST]
    optional = {
        "cost": any(t.cost is not None for t in shown),
        "forgets": any(t.forgetting for t in shown),
        "settings": any(t.settings for t in shown),
    }
    less = f"less {in_html(one_line(found.reference, 40))}"
    head = ["arm", in_html(label), less, "p (Holm)", "training", "tokens/s", "memory"]
    head += [name for key, name in (("cost", "cost"), ("forgets", "forgets, bits/byte")) if optional[key]]
    notes = [_settings(t) for t in shown] if optional["settings"] else []
    items = f" on the same {written.count(found.items)} items" if found.items else ""
    what = in_html(label[:1].upper() + label[1:])
    caption = f"{what}{items}; beneath each number its interval, p-values for all of them together"
    body = [_cells(t, optional) for t in shown]
    table = parts.table(head, body, caption, range(1, len(head)), "dense", notes)
    says = "".join(f"<p>{in_html(s, 1000)}</p>" for s in found.says)
    left = parts.cut(len(found.rows), len(shown), "trainings")
    return f'<section id="{found.kind}"><h2>{found.title}</h2>{says}{table}{left}{_figure(found, shown)}</section>'


def _cells(t: Try, optional: dict[str, bool]) -> list[str]:
    sign = {None: "", False: "", True: " ✓" if t.better else " ✗"}[t.told_apart]
    delta = parts.with_interval(t.delta, sign) if t.delta else written.DASH
    cells = [
        f"<b>{in_html(one_line(t.arm, 60))}</b>",
        parts.with_interval(t.value),
        delta,
        in_html(written.p_value(t.p_holm).removeprefix("p ").removeprefix("= "))
        if t.p_holm is not None
        else written.DASH,
        written.duration(t.train_s) if t.train_s is not None else written.DASH,
        written.count(t.tokens_per_s) if t.tokens_per_s is not None else written.DASH,
        written.megabytes(t.peak_mb),
    ]
    if optional["cost"]:
        cells.append(written.money(t.cost, t.currency))
    if optional["forgets"]:
        cells.append(parts.with_interval(t.forgetting) if t.forgetting else written.DASH)
    return cells


def _settings(t: Try) -> str:
    return in_html(one_line(", ".join(f"{k}: {v}" for k, v in t.settings.items()), 200))


def _figure(found: Tries, shown: tuple[Try, ...]) -> str:
    dots = [
        Dot(
            label=t.arm,
            value=t.value.finite,
            lower=t.value.lower,
            upper=t.value.upper,
            text=t.value.text,
            role="candidate" if t.arm == found.reference else "baseline",
            note=f"{t.arm}: {t.value.text}, interval {t.value.interval}",
            key="",
        )
        for t in shown
        if t.value.known
    ]
    if not dots:
        return ""
    title = f"{named(found.metric).label} of {len(dots)} trainings with intervals"
    return figures.whisker(dots, lambda x: written.measured(found.metric, x), title)
