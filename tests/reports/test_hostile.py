"""Text of data, models, labels and names is shown as text on every surface: app, HTML, CSV, terminal."""

import csv
import html.parser
import io
import json
import os
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pages import PAGES, opened, sections

from tamis import annotations
from tamis.annotations import Decision
from tamis.reports.examples_csv import examples_csv
from tamis.reports.export import write_report
from tamis.reports.view import load
from tamis.reports.visible_text import in_streamlit
from tamis.run import Run
from tamis.schema import CONFLICTS, SUSPECTS, read_json, write_json, write_parquet

NAME = "![x](http://evil.example/p.png) <img src=x onerror=alert(1)> :material/bolt: :red[x] \u202e\x1b[2J\x00 $x$"
MARKDOWN = ("markdown", "title", "header", "subheader", "caption", "info", "error", "warning", "success")


@pytest.fixture(scope="module")
def hostile(build, tmp_path_factory) -> Run:
    """A run whose data, answers, labels, gates, systems, notes and own name are all hostile."""
    run = build(
        tmp_path_factory.mktemp("hostile") / "<b>![x](h)", read=400, kept=50, items=60, requests=20, hostile=True
    )
    verdict = read_json(run.verdict)
    for gate in verdict["arms"]["chosen"]["gates"]:
        gate["id"] = gate["note"] = gate["lever"] = NAME
        for part in gate.get("slices") or []:
            part["slice"] = NAME
    write_json(run.verdict, verdict)
    compared = read_json(run.comparison)
    other = {**compared["systems"][0], "system": NAME, "train_rows": 5, "uses_arm": True}
    other["metrics"] = {**other["metrics"], NAME: {"value": 1.0, "note": NAME, "unit": NAME}}
    compared["systems"].append(other)
    compared["environment"] = {"hardware": NAME, "versions": {NAME: NAME}}
    write_json(run.comparison, compared)
    text = run.recipe_file.read_text().replace("name: demo", f"name: {json.dumps(NAME)}")
    run.recipe_file.write_text(text)
    return run


@pytest.fixture(scope="module")
def versions(build, tmp_path_factory) -> Run:
    """The first of two curated versions; keys, labels, reasons, likelier labels and reviewers are hostile too."""
    folder = tmp_path_factory.mktemp("versions")
    for name, kept in (("<b>![x](h)", 50), (":red[b] $x$", 80)):
        run = build(folder / name, read=400, kept=kept, items=10, requests=5, hostile=True, arms=("chosen",))
        path = run.curate / "ledger.parquet"
        table = pq.read_table(path)
        for column in ("key", "label", "source", "reason"):
            told = [v and (NAME if i % 2 else v) for i, v in enumerate(table[column].to_pylist())]
            table = table.set_column(table.schema.get_field_index(column), column, [told])
        write_parquet(path, table)
        ids = table["id"].to_pylist()
        suspects = [[ids[1], ids[2]], [NAME, NAME], [NAME, "y"], [0.9, 0.5]]
        write_parquet(run.curate / "suspects.parquet", pa.table(suspects, schema=SUSPECTS))
        conflicts = [[0, 0], [ids[3], ids[4]], [NAME, "y"], [NAME, NAME]]
        write_parquet(run.curate / "conflicts.parquet", pa.table(conflicts, schema=CONFLICTS))
        decisions = [Decision(i[:16], "relabel", NAME, NAME) for i in ids[:6]]
        annotations.append(run.path / "annotations.jsonl", decisions)
    return Run(folder / "<b>![x](h)")


def assert_only_text(app) -> None:
    """Nothing on a page acts, whether Streamlit writes it or our own sections do."""
    for text in markdown_of(app):
        bare = re.sub(r"\\.", "", text)  # what is escaped does not act
        assert not re.search(r"!\[|\]\(|<\w|:\w+\[|:material|\$\w+\$|\u202e|\x1b|\x00", bare), text
        assert "http://" not in text
    assert "\\u202e" not in sections(app)
    for part in app.get("bidi_component"):
        if part.proto.json:
            assert_harmless(json.loads(part.proto.json)["html"])


@pytest.mark.parametrize("queue", ["nearest a limit", "conflicting answers", "suspected labels"])
def test_no_queue_of_the_review_takes_text_for_markdown_or_html(monkeypatch, versions, queue):
    app = opened(monkeypatch, versions.path.parent, "review", run=versions.path.name, reviewer=NAME)
    app.segmented_control[0].set_value(queue).run()
    assert not app.exception
    assert "onerror" in sections(app), "the hostile words are shown"
    assert_only_text(app)


def test_the_diff_of_two_hostile_versions_is_text(monkeypatch, versions):
    other = ":red[b] $x$"
    app = opened(monkeypatch, versions.path.parent, "diff", run=versions.path.name, against=other, kept_in="b")
    assert re.search(r"rows kept by B only", app.subheader[0].value)
    assert "onerror" in sections(app), "the hostile words are shown"
    assert_only_text(app)
    rows = re.findall(r'<b data-key=\\"([0-9a-f-]{20,})', sections(app))
    app.query_params["row"] = rows[1]
    app.run()
    assert_only_text(app)


def test_the_review_table_for_a_spreadsheet_holds_no_formula(versions):
    from tamis.reports import review_queue
    from tamis.reports.ledger_query import said
    from tamis.reports.review_csv import queue_csv

    known = review_queue.decisions(versions.path / "annotations.jsonl")
    for kind in review_queue.KINDS:
        items = review_queue.queue(versions, kind, load(versions).funnel).items
        assert items
        for row in csv.DictReader(io.StringIO(queue_csv(items, said(versions, [i.id for i in items]), known))):
            assert not [cell for cell in row.values() if cell.lstrip().startswith(("=", "+", "-", "@"))]
            assert not re.search("[\x00\x1b\u202e]", "".join(row.values()))


def markdown_of(app) -> list[str]:
    """Everything on a page that Streamlit takes for Markdown."""
    found = [element.value for kind in MARKDOWN for element in getattr(app, kind)]
    for kind in ("button", "selectbox", "text_input", "checkbox", "slider", "multiselect", "metric"):
        found += [element.label for element in getattr(app, kind)]
    found += [m.delta for m in app.metric] + [str(m.help) for m in app.metric]
    return [text for text in found if text]


@pytest.mark.parametrize("page", PAGES)
def test_no_page_of_the_app_takes_text_for_markdown_or_html(monkeypatch, hostile, page):
    app = opened(monkeypatch, hostile.path, page)
    assert_only_text(app)


def assert_harmless(text: str) -> None:
    """No element that loads or runs anything, and no attribute that does."""
    found: list[tuple[str, str]] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.extend((tag, name) for name, _ in [("", ""), *attrs])

    Reader().feed(text)
    assert found
    assert not {tag for tag, _ in found} & {"script", "img", "iframe", "object", "embed", "link", "style", "a", "form"}
    assert not [n for _, n in found if n.startswith("on") or n in ("src", "href", "style", "action", "srcdoc")]


def test_streamlits_own_signs_lose_their_meaning():
    shown = in_streamlit(NAME)
    assert ":material" not in shown
    assert ":red" not in shown
    assert "\\$x\\$" in shown


def test_a_spreadsheet_finds_no_formula_and_every_cell_whole(hostile):
    view = load(hostile, examples=None)
    rows = list(csv.DictReader(io.StringIO(examples_csv(view))))
    assert len(rows) == 60
    for row in rows:
        assert None not in row
        for cell in row.values():
            assert not cell.lstrip().startswith(("=", "+", "-", "@"))
            assert not re.search("[\x00\x1b\u202e]", cell)
    assert any("HYPERLINK" in row["prompt"] for row in rows)


@pytest.mark.parametrize("cell", ["=1+1", " =1+1", "\t=1+1", "＝1+1", "-2+3", "@SUM(A1)"])
def test_a_prompt_that_is_a_formula_is_text_in_the_csv(build, tmp_path, cell):
    from tamis.reports.examples_csv import rows_csv

    view = load(build(tmp_path / "r", read=400, kept=50, items=20, requests=10), examples=None)
    import dataclasses

    row = dataclasses.replace(view.examples.rows[0], prompt=cell)
    assert next(csv.DictReader(io.StringIO(rows_csv([row]))))["prompt"].startswith("'")


def test_a_megabyte_in_one_cell_makes_no_page_large(copy, monkeypatch, tmp_path):
    import pyarrow.parquet as pq

    from tamis.schema import write_parquet

    path = copy.evaluate("chosen", "tuned") / "samples.parquet"
    table = pq.read_table(path)
    huge = ["=" + "x" * 1_000_000, *table["output"].to_pylist()[1:]]
    table = table.set_column(table.schema.get_field_index("output"), "output", [huge])
    write_parquet(path, table)
    assert write_report(copy, tmp_path / "r.html").problems == ()
    assert (tmp_path / "r.html").stat().st_size < 300_000
    assert len(sections(opened(monkeypatch, copy.path, "examples"))) < 1_000_000
    write_report(copy, tmp_path / "r.csv")
    cells = csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text(encoding="utf-8-sig")))
    assert max(len(row["candidate"]) for row in cells) < 32_767


def test_the_terminal_gets_no_escape_codes_from_data(tmp_path):
    rows = [{"prompt": f"q{i} \x1b[31m\u202e", "completion": f"a{i}\x1b]0;owned\x07"} for i in range(8)]
    data = tmp_path / "d\x1b[2J.jsonl"
    data.write_text("".join(json.dumps({**r, "label": "x\x1b[31m\x07"}) + "\n" for r in rows))
    environment = {**os.environ, "NO_COLOR": "1"}
    for arguments in (
        ["inspect", data.name],
        ["curate", data.name, "--embedder", "lsa", "--quiet"],
        ["why", "runs/d", "x\x1b[2J"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "tamis.cli", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", done.stdout), arguments
        assert not re.search("[\x1b\x07\u202e]", done.stderr), arguments


def test_nothing_of_the_data_is_in_a_redacted_report(hostile, tmp_path):
    verdict = read_json(hostile.verdict)
    secret = "0912 345 678 anna@example.com"
    verdict["arms"]["chosen"]["gates"][0]["note"] = secret
    verdict["policy"]["path"] = "/home/anna/policy.yaml"
    run = Run(hostile.path)
    write_json(run.verdict, verdict)
    asked = {e.prompt for e in load(run).examples.rows}
    for form in (".html", ".md", ".json", ".csv"):
        write_report(run, tmp_path / f"r{form}", redact=True)
        text = (tmp_path / f"r{form}").read_text()
        assert not [p for p in asked if p[:14] in text]
        assert "anna" not in text
        assert "0912" not in text
        assert str(run.path.parent) not in text
    plain = load(run)
    assert json.loads((tmp_path / "r.json").read_text())["finding"] == plain.finding
    assert json.loads((tmp_path / "r.json").read_text())["verdict"]["verdict"] == plain.verdict.verdict
