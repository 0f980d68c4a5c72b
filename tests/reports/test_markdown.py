import json

from tamis.reports.markdown import LONGEST, write_markdown
from tamis.reports.report_json import write_report_json
from tamis.reports.view import load
from tamis.schema import read_json, write_json


def test_it_is_short_and_starts_with_the_verdict(finished, tmp_path):
    lines = write_markdown(finished, tmp_path / "r.md").read_text().splitlines()
    assert lines[0] == "## ✗ Do not ship: demo"
    assert len(lines) <= LONGEST


def test_many_gates_and_systems_do_not_make_it_long(copy, tmp_path):
    raw = read_json(copy.verdict)
    raw["arms"]["chosen"]["gates"] *= 50
    write_json(copy.verdict, raw)
    text = write_markdown(copy, tmp_path / "r.md").read_text()
    assert len(text.splitlines()) <= LONGEST
    assert "(12 of 250 gates shown)" in text


def test_hostile_text_makes_no_link_picture_mention_or_table_cell(build, tmp_path):
    run = build(tmp_path / "r", read=400, kept=50, items=60, requests=20, hostile=True)
    text = write_markdown(run).read_text()
    assert "http://" not in text
    assert "![" not in text
    assert "<script" not in text.replace("\\<", "")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table[:6]}) == 1


def test_the_json_is_valid_and_says_what_the_page_says(finished, tmp_path):
    path = write_report_json(finished, tmp_path / "r.json")
    raw = json.loads(path.read_text())
    view = load(finished)
    assert raw["schema_version"] == 1
    assert raw["headline"] == "Do not ship"
    assert raw["finding"] == view.finding
    assert raw["systems"]["systems"][0]["metrics"]["accuracy"]["value"] == view.candidate_row.get("accuracy").value
