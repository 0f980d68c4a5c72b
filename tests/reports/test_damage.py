"""A run folder that is broken, half-written or of another version: what is wrong, where, what mends it."""

import json
import os
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pages import PAGES, opened, sections

from tamis.errors import UserError
from tamis.reports.export import write_report
from tamis.run import Run
from tamis.schema import LEDGER, read_json, write_json, write_parquet


def halve(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_column(run: Run) -> None:
    path = run.curate / "ledger.parquet"
    write_parquet(path, pq.read_table(path).drop_columns(["witness"]))


def version(path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))


def newer_ledger(run: Run) -> None:
    path = run.curate / "ledger.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({"tamis.schema_version": "99"}), path)


# what was done to the folder, the page that shows it, what it says, the command that mends it
DAMAGE = {
    "a stage without its last file": (
        lambda r: (r.evaluate("chosen", "tuned") / "stage.json").unlink(),
        "method",
        "evaluate chosen / tuned is not complete: stage.json is missing",
        "tamis run",
    ),
    "curation without its last file": (
        lambda r: (r.curate / "stage.json").unlink(),
        "curation",
        "curate is not complete: stage.json is missing",
        "tamis run",
    ),
    "a cut verdict": (lambda r: halve(r.verdict), "overview", "the verdict cannot be read", "tamis gate"),
    "a cut comparison": (lambda r: halve(r.comparison), "compare", "the comparison cannot be read", "tamis run"),
    "a cut ledger": (lambda r: halve(r.curate / "ledger.parquet"), "curation", "the ledger cannot be read", "rm -r"),
    "a cut map": (lambda r: halve(r.curate / "map.parquet"), "map", "the map", "rm -r"),
    "cut answers": (
        lambda r: halve(r.evaluate("chosen", "tuned") / "samples.parquet"),
        "examples",
        "the answers of chosen / tuned cannot be read",
        "rm -r",
    ),
    "a ledger column gone": (drop_column, "curation", "the column 'witness' is missing", "rm -r"),
    "a verdict of a newer Tamis": (
        lambda r: version(r.verdict),
        "overview",
        "the verdict written by a newer Tamis",
        "pip install --upgrade tamis",
    ),
    "a ledger of a newer Tamis": (
        newer_ledger,
        "curation",
        "the ledger written by a newer Tamis",
        "pip install --upgrade tamis",
    ),
    "a comparison of an older Tamis": (
        lambda r: r.comparison.write_text('{"schema_version": 0, "rows": []}'),
        "compare",
        "the comparison has another shape than this Tamis reads",
        "tamis run",
    ),
    "a plan that is no plan": (
        lambda r: halve(r.train("chosen") / "plan.json"),
        "training",
        "the plan of chosen cannot be read",
        "rm -r",
    ),
}


def said_on(app) -> str:
    """What a page says, its own HTML with entities read."""
    import html

    return html.unescape(sections(app).replace("\\u0027", "'").replace('\\"', '"'))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_page_says_what_is_wrong_and_what_mends_it(monkeypatch, copy, damage):
    harm, page, sentence, command = DAMAGE[damage]
    harm(copy)
    text = said_on(opened(monkeypatch, copy.path, page))
    assert sentence in text
    assert command in text


@pytest.mark.parametrize("damage", [d for d in DAMAGE if d not in ("a cut map", "a plan that is no plan")])
def test_the_report_says_it_too(copy, tmp_path, damage):
    harm, _, sentence, command = DAMAGE[damage]
    harm(copy)
    view = write_report(copy, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text().replace("&#x27;", "'")
    assert sentence in text
    assert any(sentence in p.what and command in p.repair for p in view.problems)


@pytest.mark.parametrize(
    ("queue", "file"), [("conflicting answers", "conflicts.parquet"), ("suspected labels", "suspects.parquet")]
)
def test_a_queue_whose_file_is_cut_says_so_and_the_other_queues_stay(monkeypatch, copy, queue, file):
    (copy.curate / file).write_bytes(b"PAR1 and no more")
    app = opened(monkeypatch, copy.path, "review")
    assert "cannot be read" not in said_on(app)
    app.segmented_control[0].set_value(queue).run()
    assert not app.exception
    assert "cannot be read" in said_on(app)
    assert f"rm -r {copy.curate} && tamis run {copy.path}" in said_on(app)


@pytest.mark.parametrize("where", ["end", "middle"])
def test_the_diff_names_the_run_whose_ledger_is_damaged(monkeypatch, copy, where):
    broken = copy.path.with_name("broken")
    shutil.copytree(copy.path, broken)
    file = broken / "curate" / "ledger.parquet"
    data = bytearray(file.read_bytes())
    if where == "end":
        del data[len(data) // 2 :]
    else:
        data[100 : len(data) // 2] = bytes(len(data) // 2 - 100)
    file.write_bytes(data)
    app = opened(monkeypatch, copy.path.parent, "diff", run="demo", against="broken")
    assert f"rm -r {broken / 'curate'}" in said_on(app)
    assert "broken" in said_on(app)
    assert f"rm -r {copy.curate}" not in said_on(app)


def test_an_older_run_shows_its_suspected_labels_without_a_likelier_one(monkeypatch, copy):
    """Before `suspects.parquet` there was only a margin in the ledger and a count in the funnel."""
    path = copy.curate / "ledger.parquet"
    table = pq.read_table(path)
    margins = pa.array([0.9, 0.4] + [-0.5] * (len(table) - 2), pa.float32())
    write_parquet(path, table.append_column("score_label_margin", margins))
    write_json(copy.curate / "funnel.json", read_json(copy.curate / "funnel.json") | {"suspect_labels": 2})
    app = opened(monkeypatch, copy.path, "review")
    app.segmented_control[0].set_value("suspected labels").run()
    assert not app.exception
    assert "another label leads by 0.90" in said_on(app)
    assert next(s for s in app.selectbox if s.label == "Right label").value is None


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("column", ["reason", "slack", "rank"])
def test_no_page_breaks_for_want_of_a_column(monkeypatch, copy, page, column):
    path = copy.curate / "ledger.parquet"
    write_parquet(path, pq.read_table(path).drop_columns([column]))
    opened(monkeypatch, copy.path, page)


def test_every_column_that_the_pages_ask_for_is_one_that_is_checked():
    from tamis.reports.ledger_query import FIELDS, SHOWN

    assert {*SHOWN.split(", "), *FIELDS} <= set(LEDGER.names)


def tamis(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "tamis.cli", *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


def test_the_command_names_the_damage_on_stderr_and_the_report_on_stdout(copy):
    halve(copy.verdict)
    done = tamis("report", str(copy.path))
    assert done.returncode == 0
    assert done.stdout.strip() == str(copy.report / "report.html")
    assert "the verdict cannot be read" in done.stderr
    assert f"To mend it: tamis gate {copy.path}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    (tmp_path / "demo").mkdir()
    with pytest.raises(UserError, match="no such run folder") as caught:
        write_report(Run(tmp_path / "dmo"))
    assert str(tmp_path / "demo") in caught.value.hint
    assert not (tmp_path / "dmo").exists()


def test_an_empty_folder_gets_a_report_that_says_so(tmp_path):
    view = write_report(Run(tmp_path), tmp_path / "out.html")
    assert view.headline == "Nothing here yet"
    assert "tamis run" in (tmp_path / "out.html").read_text()


def test_a_file_of_no_known_ending_is_refused_with_those_that_are(copy, tmp_path):
    with pytest.raises(UserError) as caught:
        write_report(copy, tmp_path / "r.docx")
    assert ".html, .md, .json, .csv" in caught.value.hint
