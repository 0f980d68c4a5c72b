"""A verdict as text, JUnit XML, GitHub annotations, Markdown or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

from tamis.schema import jsonable

Verdict = dict[str, Any]
Row = dict[str, Any]

MAX_LINES = 10  # closing lines of a command; the whole lies in verdict.json
MARK = {"PASS": "ok", "FAIL": "FAIL", "INCONCLUSIVE": "not certain", "INVALID": "INVALID"}


def text(verdict: Verdict) -> str:
    """At most ten lines for the terminal: the verdict, what did not pass, where the rest is."""
    arm = verdict["arms"][verdict["arm"]]
    lines = [f"{verdict['verdict']}  (exit code {verdict['exit_code']}, arm {verdict['arm']})"]
    lines += [f"  requires: {why}" for why in arm["requires"]]
    order = sorted(arm["gates"], key=lambda row: row["verdict"] == "PASS")
    lines += [f"  {sentence(row)}" for row in order]
    others = [f"{name} {other['verdict']}" for name, other in verdict["arms"].items() if name != verdict["arm"]]
    tail = [f"  other arms: {', '.join(others)}"] if others else []
    room = MAX_LINES - len(tail)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"  and {len(lines) - room + 1} more in verdict.json"]
    return "\n".join([*lines, *tail])


def sentence(row: Row) -> str:
    """A gate in one line."""
    parts = [f"{MARK[row['verdict']]:11s} {row['id']}: {row['metric']} {measured(row)}; wanted {row['require']}"]
    if row["by"]:
        parts.append(f"by {row['by']}")
    if row["needed"]:
        parts.append(f"needs about {row['needed']:,} more {row['over']}")
    if row["note"] and row["verdict"] != "PASS":
        parts.append(str(row["note"]))
    if row["severity"] == "warn":
        parts.append("(warns only)")
    if waiver := row.get("waiver"):
        parts.append(f"(waived until {waiver['until']} by {waiver['by']})")
    return "; ".join(parts)


def measured(row: Row) -> str:
    """Value and interval with the unit: `0.912 [0.881, 0.935] (n = 416)`."""
    if row["n"] == 0:
        return "not measured"
    unit = f" {row['unit']}" if row["unit"] else ""
    value = number(row["value"])
    if row["lower"] is None and row["upper"] is None:
        return f"{value}{unit} [not resolved] (n = {row['n']:,})"
    return f"{value}{unit} [{number(row['lower'])}, {number(row['upper'])}] (n = {row['n']:,})"


def number(value: float | None) -> str:
    """Four significant digits; what is not known or not finite says so."""
    if value is None:
        return "?"
    if math.isnan(value):
        return "not a number"
    return "infinite" if math.isinf(value) else f"{value:.4g}"


def junit(verdict: Verdict) -> str:
    """JUnit XML: a test suite per arm, a test case per gate and per slice.

    FAIL is a failure; INCONCLUSIVE a failure of that type; INVALID an error; waived or warning gates are skipped.
    """
    root = ElementTree.Element("testsuites", name="tamis gate")
    for name, arm in verdict["arms"].items():
        suite = ElementTree.SubElement(root, "testsuite", name=f"gate {name}")
        properties = ElementTree.SubElement(suite, "properties")
        facts = {
            "verdict": arm["verdict"],
            "policy": verdict["policy"]["path"],
            "policy_sha256": verdict["policy"]["sha256"],
            "evidence_sha256": verdict["evidence_sha256"],
        }
        for key, value in facts.items():
            ElementTree.SubElement(properties, "property", name=key, value=_clean(str(value)))
        counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        for row in _cases(arm):
            counts["tests"] += 1
            if outcome := _case(suite, f"tamis.gate.{name}", row):
                counts[outcome] += 1
        for key, count in counts.items():
            suite.set(key, str(count))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _cases(arm: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for why in arm["requires"]:
        yield {"name": "requires", "verdict": "INVALID", "text": why, "excused": False}
    for row in arm["gates"]:
        excused = row["severity"] == "warn" or bool(row.get("waiver") and row["verdict"] != "INVALID")
        yield {"name": row["id"], "verdict": row["verdict"], "text": sentence(row), "excused": excused}
        for part in row.get("slices") or []:
            name = f"{row['id']} [{row['by']} = {part['slice']}]"
            told = f"{measured(part)}; wanted {row['require']}"
            yield {"name": name, "verdict": part["verdict"], "text": told, "excused": excused}


def _case(suite: ElementTree.Element, classname: str, row: dict[str, Any]) -> str | None:
    case = ElementTree.SubElement(suite, "testcase", classname=_clean(classname), name=_clean(row["name"]))
    told = _clean(row["text"])
    if row["verdict"] == "PASS":
        ElementTree.SubElement(case, "system-out").text = told
        return None
    if row["excused"]:
        ElementTree.SubElement(case, "skipped", message=told)
        return "skipped"
    if row["verdict"] == "INVALID":
        ElementTree.SubElement(case, "error", type="invalid", message=told)
        return "errors"
    ElementTree.SubElement(case, "failure", type=row["verdict"].lower(), message=told)
    return "failures"


def _clean(value: str) -> str:
    """XML 1.0 has no place for most control characters, not even escaped."""
    return "".join(c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff") else "\ufffd" for c in value)


def markdown(verdict: Verdict) -> str:
    """A table per arm, for a job summary or a pull request."""
    blocks = [f"## {verdict['verdict']}: gate on arm `{verdict['arm']}`"]
    for name, arm in verdict["arms"].items():
        blocks.append(f"### Arm `{name}`: {arm['verdict']}")
        blocks += [f"- cannot be trusted: {_escape(why)}" for why in arm["requires"]]
        lines = ["| gate | metric | measured | wanted | verdict | note |", "|---|---|---|---|---|---|"]
        lines += [_table_row(row) for row in arm["gates"]]
        blocks.append("\n".join(lines))
    policy = verdict["policy"]
    blocks.append(f"Policy `{policy['path']}` ({policy['sha256'][:12]}), evidence {verdict['evidence_sha256'][:12]}.")
    return "\n\n".join(blocks) + "\n"


def _table_row(row: Row) -> str:
    more = f"needs about {row['needed']:,} more {row['over']}" if row["needed"] else None
    waiver = f"waived until {row['waiver']['until']}" if row.get("waiver") else None
    warn = "warns only" if row["severity"] == "warn" else None
    note = "; ".join(t for t in (row["note"], more, row["lever"], waiver, warn) if t)
    cells = [row["id"], row["metric"], measured(row), row["require"], row["verdict"], note]
    return "| " + " | ".join(_escape(str(c)) for c in cells) + " |"


def _escape(value: str) -> str:
    """Text that may come from a model or a label: no table breaks, no links, no HTML."""
    value = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\`*_[]|!":
        value = value.replace(character, f"\\{character}")
    return " ".join(value.split())


def github(verdict: Verdict) -> str:
    """Workflow commands: one annotation per gate that does not pass. The table goes to `$GITHUB_STEP_SUMMARY`."""
    lines = []
    for name, arm in verdict["arms"].items():
        for row in _cases(arm):
            if row["verdict"] == "PASS":
                continue
            main = name == verdict["arm"] and not row["excused"]
            level = "error" if main else "warning"
            lines.append(f"::{level} title={_command(row['name'] + ' (' + name + ')', True)}::{_command(row['text'])}")
    if not lines:
        lines.append(f"::notice title=gate::{verdict['verdict']}")
    return "\n".join(lines)


def _command(value: str, is_property: bool = False) -> str:
    """Escaped as the runner wants it (actions/toolkit, command.ts); else a label could forge a command."""
    value = value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return value.replace(":", "%3A").replace(",", "%2C") if is_property else value


def as_json(verdict: Verdict) -> str:
    """The verdict itself."""
    return json.dumps(jsonable(verdict), ensure_ascii=False, indent=1, allow_nan=False)


FORMATS: dict[str, Callable[[Verdict], str]] = {
    "text": text,
    "json": as_json,
    "junit": junit,
    "github": github,
    "md": markdown,
}
