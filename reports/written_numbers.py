"""How numbers are written, once, for the report, the app and the Markdown.

Three significant digits, thousands separated, the unit beside the number, a real minus sign; shares as percentages
with one decimal, differences of shares in points. What is not known is said in words. `tests/reports/
test_written_numbers.py` is the specification, as a table of examples.
"""

from __future__ import annotations

import math
import re

from tamis.reports.metric_names import MetricName, named

MINUS = "−"
DASH = "–"
UNKNOWN = "not measured"
UNRESOLVED = "unresolved"  # a bound that the data cannot give; see tamis/intervals.py

# Currencies with a sign that everybody reads the same way; others are written by their code.
SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}
# Seconds read better than milliseconds from here on.
SECONDS_FROM_MS = 10_000
CLOCK_MS = 0.01  # below, it is the call of the clock that was timed


def known(value: float | None) -> bool:
    """Whether there is a number to write. Infinity is one: every request failed."""
    return value is not None and not math.isnan(value)


def number(value: float | None) -> str:
    """Three significant digits, and every digit before the point: `0.0123`, `12.3`, `1,234`."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "infinite" if value > 0 else f"{MINUS}infinite"
    return _signed(_significant(abs(value)), value < 0)


def count(value: float | None) -> str:
    """Whole things: `52,002`."""
    return UNKNOWN if value is None or not math.isfinite(value) else _signed(f"{abs(value):,.0f}", value < 0)


def share(value: float | None) -> str:
    """A share of a whole as a percentage; only nothing is 0 % and only everything is 100 %."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return number(value)
    if 0 < value < 0.0005:
        return "<0.1%"
    if 0.9995 <= value < 1:
        return ">99.9%"
    text = f"{abs(value) * 100:.1f}"
    return _signed("0" if text == "0.0" else "100" if text == "100.0" else text, value < 0 and text != "0.0") + "%"


def points(value: float | None) -> str:
    """A difference of two shares, in percentage points, with its sign: `+5.5 points`."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return f"{_plus(_one_decimal(abs(value) * 100), value)} points"


def milliseconds(value: float | None) -> str:
    """A duration given in ms: `842 ms`, from ten seconds on `12.3 s`."""
    if value is None or not math.isfinite(value):
        return number(value)
    if abs(value) >= SECONDS_FROM_MS:
        return f"{number(value / 1000)} s"
    if 0 < abs(value) < CLOCK_MS:
        return f"<{CLOCK_MS} ms"
    return f"{number(value)} ms"


def money(value: float | None, currency: str) -> str:
    """An amount: cents from one unit on; below it three significant digits, two below a thousandth; never nothing."""
    if value is None or not math.isfinite(value):
        return number(value)
    sign = SIGNS.get(currency.upper(), f"{currency.upper()} ")
    size = abs(value)
    if 0 < size < 1e-6:
        return f"<{sign}0.000001"
    if size >= 1 or size == 0:
        text = f"{size:,.0f}" if size >= 1000 else f"{size:.2f}"
    else:
        text = _significant(size, 3 if size >= 0.001 else 2)
        text = re.sub(r"^(0\.\d\d)0+$", r"\1", text)  # $0.90 as on a price tag, not $0.900
    return _signed(f"{sign}{text}", value < 0)


def rate(value: float | None) -> str:
    """Requests a second: `14.4/s`, `9,085/s`, `7.83M/s`."""
    if value is None or not known(value):
        return UNKNOWN
    return f"{number(value / 1e6)}M/s" if 1e6 <= abs(value) < math.inf else f"{number(value)}/s"


def times(value: float | None) -> str:
    """A ratio: `1.31×`."""
    return number(value) if value is None or not math.isfinite(value) else f"{number(value)}×"


def duration(seconds: float | None) -> str:
    """How long something took: `0.4 s`, `45 s`, `3 min 24 s`, `2 h 05 min`."""
    if seconds is None or not math.isfinite(seconds):
        return number(seconds)
    if seconds < 10:
        return f"{_one_decimal(seconds)} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def megabytes(value: float | None) -> str:
    """Memory given in MB (10^6 bytes): `812 MB`, `2.31 GB`."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{number(value / 1000)} GB" if value >= 1000 else f"{number(value)} MB"


def p_value(p: float | None) -> str:
    """`p = 0.031`, `p < 0.001`; a p-value below that says nothing more."""
    if p is None or not math.isfinite(p):
        return "p not measured"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.0995 else f"p = {p:.2f}"


# ------------------------------------------------------------------------------------------------- by metric


def measured(metric: str, value: float | None, unit: str | None = None) -> str:
    """A value of a metric, written as that metric is: `93.3%`, `842 ms`, `$0.12`."""
    name = named(metric)
    if name.kind == "share":
        return share(value)
    if name.kind == "score":
        return f"{value:.3f}".replace("-", MINUS) if value is not None and math.isfinite(value) else number(value)
    if name.kind == "of_hundred":
        return (
            _signed(_one_decimal(abs(value)), value < 0)
            if value is not None and math.isfinite(value)
            else number(value)
        )
    return _with_unit(name, value, unit)


def difference(metric: str, value: float | None, unit: str | None = None) -> str:
    """A difference of two values of a metric, with its sign: `+5.5 points`, `−120 ms`."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if named(metric).kind == "share":
        return points(value)
    return _plus(measured(metric, abs(value), unit), value)


def ratio(value: float | None) -> str:
    """A ratio of two values of a metric."""
    return times(value)


def interval(lower: str, upper: str) -> str:
    """Two written bounds as one range; a unit that both share is written once: `90.4 – 95.3%`.

    Signed bounds are joined by a word, since a dash beside a minus sign cannot be read. Bounds that are written
    alike are written once.
    """
    if lower == upper:
        return lower
    joint = " to " if lower[:1] in f"+{MINUS}±" or upper[:1] in f"+{MINUS}±" else f" {DASH} "
    for sign in ("$", "€", "£"):
        if lower.startswith(sign) and upper.startswith(sign):
            upper = upper.removeprefix(sign)
    for unit in ("%", " points", " ms", " s", "M/s", "/s", "×"):
        if lower.endswith("M/s") != upper.endswith("M/s"):
            break
        if lower.endswith(unit) and upper.endswith(unit):
            return f"{lower.removesuffix(unit)}{joint}{upper}"
    return f"{lower}{joint}{upper}"


def bound(metric: str, value: float | None, unit: str | None = None, of: str = "absolute") -> str:
    """A bound of an interval: None means that the data cannot give it."""
    return UNRESOLVED if value is None else quantity(metric, value, unit, of)


def quantity(metric: str, value: float | None, unit: str | None = None, of: str = "absolute") -> str:
    """A value, a difference (`of="delta"`) or a ratio (`of="ratio"`) of a metric."""
    if of == "ratio":
        return ratio(value)
    return difference(metric, value, unit) if of == "delta" else measured(metric, value, unit)


def limits(metric: str, lower: float | None, upper: float | None, unit: str | None = None, of: str = "absolute") -> str:
    """An interval of a metric, or a dash where there is none at all."""
    if (lower is None or math.isnan(lower)) and (upper is None or math.isnan(upper)):
        return DASH
    return interval(bound(metric, lower, unit, of), bound(metric, upper, unit, of))


def said(sentence: str) -> str:
    """A sentence that was written for a terminal, with real minus signs; the dashes of names and dates stay."""
    return re.sub(r"(?<![\w.)\]-])-(?=\.?\d)", MINUS, sentence)


def tick(text: str) -> str:
    """A written number of an axis, where values are round: without the zeros that say how precise it is.

    The word "points" is left out too: it would leave room for a label or two only, and every value beside carries it.
    """
    text = text.removesuffix(" points")
    return re.sub(r"\.(?!\d)", "", re.sub(r"(\.\d*?)0+(?!\d)", r"\1", text))


# ------------------------------------------------------------------------------------------------- the digits


def _with_unit(name: MetricName, value: float | None, unit: str | None) -> str:
    unit = unit or name.unit
    if unit == "ms":
        return milliseconds(value)
    if unit == "requests/s":
        return rate(value)
    if unit and len(unit) == 3 and unit.isupper():
        return money(value, unit)
    return number(value) if not unit or not known(value) else f"{number(value)} {unit}"


def _significant(size: float, digits: int = 3) -> str:
    if size == 0:
        return "0"
    if size < 1e-6:
        return f"{size:.1e}"
    if size >= 1000:
        return f"{size:,.0f}" if size < 1e15 else f"{size:.2e}"
    rounded = float(f"{size:.{digits - 1}e}")  # to its digits first, so that 9.996 becomes 10.0 and not 10.00
    decimals = max(0, digits - 1 - math.floor(math.log10(rounded)))
    return f"{rounded:,.{decimals}f}"


def _one_decimal(size: float) -> str:
    return f"{size:,.1f}" if math.isfinite(size) else "infinite"


def _signed(text: str, negative: bool) -> str:
    return f"{MINUS}{text}" if negative else text


def _plus(text: str, value: float) -> str:
    """With its sign. A difference that rounds to nothing carries none."""
    if not any(c in "123456789∞i" for c in text):
        return f"±{text}" if value != 0 else text
    return f"{MINUS}{text}" if value < 0 else f"+{text}"
