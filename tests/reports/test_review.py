"""Rows are judged in the app or in a spreadsheet, and the next curation does as told."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pages import opened, sections
from typer.testing import CliRunner

from tamis import annotations, schema
from tamis.annotations import Decision
from tamis.cli import app as command_line
from tamis.errors import DataError
from tamis.reports.folder import Folder
from tamis.reports.review_csv import decisions_of, queue_csv
from tamis.reports.review_queue import MOST, decisions, file_of, queue
from tamis.reports.view import load
from tamis.run import Run

PARCEL = (
    "My parcel with the blue garden chairs has been at the depot in Leeds for nine days, when will it be delivered?"
)
ROWS = {
    "best": (PARCEL, "track"),
    "near": ("Hi " + PARCEL + "!!!!", "track"),
    "money": ("Give me my money back", "track"),
    "again": ("Give me my money back", "refund"),
    "card": ("Please block the card that I lost", "block"),
    "lamp": ("Can I open the box of the lamp before I pay for it?", "lamp"),
}


@pytest.fixture
def curated(tmp_path, monkeypatch) -> Run:
    """A curated run of six rows: a near copy, and one question answered in two ways."""
    monkeypatch.chdir(tmp_path)
    lines = [{"id": k, "prompt": p, "completion": a, "label": a} for k, (p, a) in ROWS.items()]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    (tmp_path / "recipe.yaml").write_text(
        "name: small\ndata: {path: data.jsonl}\nembedder: lsa\ncurate: {deduplicate: {near: 0.8, semantic: null}}\n"
    )
    return curate(tmp_path)


def curate(folder) -> Run:
    done = CliRunner().invoke(command_line, ["curate", "recipe.yaml", "--quiet"])
    assert done.exit_code == 0, done.output
    return Run(folder / "runs" / "small")


def fates(run: Run) -> dict[str, dict]:
    return {r["key"]: r for r in pq.read_table(run.curate / "ledger.parquet").to_pylist()}


def fallen(run: Run) -> str:
    """Which of the two parcels fell as the near copy of the other."""
    return next(k for k in ("best", "near") if fates(run)[k]["reason"] == "near")


def press(app, label: str):
    next(b for b in app.button if b.label == label).click()
    return app.run()


def written(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.path / "annotations.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------- what is to be judged


def test_the_queue_holds_the_rows_nearest_their_limits_the_closest_first(finished):
    found = queue(finished, "limits", load(finished).funnel)
    slacks = [abs(i.row["slack"]) for i in found.items]
    ledger = pq.read_table(finished.curate / "ledger.parquet", columns=["slack", "stage", "reason"]).to_pylist()
    known = sorted(
        abs(r["slack"])
        for r in ledger
        if r["slack"] is not None and r["stage"] != "select" and r["reason"] not in ("exact", "leak_exact")
    )
    assert found.total == len(known) > 0
    assert len(slacks) == min(MOST, len(known))
    assert slacks == known[:MOST]
    assert all(f"{abs(i.row['slack']):.3f} beyond" in i.why for i in found.items)


def test_the_queue_holds_conflicting_duplicates_question_by_question(curated):
    found = queue(curated, "conflicts", load(curated).funnel)
    assert sorted(i.row["key"] for i in found.items) == ["again", "money"]
    assert found.items[0].why == "question 1: 2 rows, answers differ"


def test_as_many_labels_are_suspected_as_curation_counted_the_worst_first(copy):
    ledger = pq.read_table(copy.curate / "ledger.parquet")
    margins = [0.9, None, 0.4, 0.3, 0.1] + [-0.5] * (len(ledger) - 5)
    ledger = ledger.append_column("score_label_margin", pa.array(margins, pa.float32()))
    schema.write_parquet(copy.curate / "ledger.parquet", ledger)
    funnel = schema.read_json(copy.curate / "funnel.json") | {"suspect_labels": 3}
    schema.write_json(copy.curate / "funnel.json", funnel)
    found = queue(copy, "labels", load(copy).funnel)
    assert [i.id for i in found.items] == ledger["id"].take([0, 2, 3]).to_pylist()
    assert [i.why for i in found.items] == [f"another label leads by {x}" for x in ("0.90", "0.40", "0.30")]


@pytest.fixture
def mislabelled(tmp_path, monkeypatch) -> Run:
    """A curated run of 48 rows of two labels; one of them carries the other's."""
    monkeypatch.chdir(tmp_path)
    card = ["block my card", "my card is lost", "the card was stolen", "stop the card", "freeze my credit card"]
    trip = ["where is my parcel", "the parcel is late", "track my parcel", "when does the parcel come", "parcel lost"]
    rows = [(f"{card[i % 5]} now, number {i}", "card") for i in range(24)]
    rows += [(f"{trip[i % 5]}, order {i}", "parcel") for i in range(24)]
    rows[7] = (rows[7][0], "parcel")
    lines = [{"id": f"r{i}", "prompt": p, "completion": a, "label": a} for i, (p, a) in enumerate(rows)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    (tmp_path / "recipe.yaml").write_text(
        "name: small\ndata: {path: data.jsonl}\nembedder: lsa\ncurate: {deduplicate: {near: null, semantic: null}}\n"
    )
    return curate(tmp_path)


def test_of_many_suspected_labels_the_worst_come_first_and_all_are_counted(copy):
    ids = pq.read_table(copy.curate / "ledger.parquet", columns=["id"])["id"].to_pylist()[: MOST + 50]
    margins = [0.3 + 0.001 * (i * 7 % len(ids)) for i in range(len(ids))]
    table = pa.table([ids, ["a"] * len(ids), ["b"] * len(ids), margins], schema=schema.SUSPECTS)
    schema.write_parquet(copy.curate / "suspects.parquet", table)
    found = queue(copy, "labels", load(copy).funnel)
    assert found.total == len(ids)
    worst = sorted(zip(margins, ids, strict=True), reverse=True)[:MOST]
    assert [i.id for i in found.items] == [id_ for _, id_ in worst]
    assert found.items[0].why == f"b leads by {worst[0][0]:.2f}"


def test_a_suspected_label_comes_with_the_likelier_one_which_a_click_takes(monkeypatch, mislabelled, tmp_path):
    found = queue(mislabelled, "labels", load(mislabelled).funnel)
    assert [(i.row["key"], i.row["label"], i.likelier) for i in found.items] == [("r7", "parcel", "card")]
    assert found.items[0].why.startswith("card leads by 0.")
    table = next(csv.DictReader(io.StringIO(queue_csv(found.items, {}, {}))))
    assert (table["label"], table["likelier"], table["new_label"]) == ("parcel", "card", "")
    app = opened(monkeypatch, mislabelled.path, "review", reviewer="lan")
    app.segmented_control[0].set_value("suspected labels").run()
    assert next(s for s in app.selectbox if s.label == "Right label").value == "card"
    press(app, "→ Relabel")
    assert written(mislabelled)[0]["label"] == "card"
    assert fates(curate(tmp_path))["r7"]["label"] == "card"


def test_the_demo_made_again_does_as_was_decided_on_its_page(tmp_path):
    """A line that is no decision stops it at once, which shows that the file is read."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "annotations.jsonl").write_text('{"decision": "kep"}\n')
    done = CliRunner().invoke(command_line, ["demo", "--run", str(tmp_path / "demo"), "--quiet"])
    assert isinstance(done.exception, DataError)
    assert done.exception.where.endswith("annotations.jsonl:1")


# -------------------------------------------------------------------------------------------------- in the app


def test_what_is_decided_in_the_app_changes_the_next_curation(monkeypatch, curated, tmp_path):
    before, near = fates(curated), fallen(curated)
    assert before["card"]["verdict"] == before["money"]["verdict"] == "kept"
    app = opened(monkeypatch, curated.path, "review", reviewer="lan", row=before[near]["id"])
    assert "beyond the limit" in sections(app)
    press(app, "✓ Keep")
    app.segmented_control[0].set_value("conflicting answers").run()
    app.query_params["row"] = before["money"]["id"]
    app.run()
    next(s for s in app.selectbox if s.label == "Right label").set_value("refund").run()
    press(app, "→ Relabel")
    assert not app.exception
    assert sorted(written(curated), key=lambda d: d["decision"]) == [
        {"content": before[near]["id"][:16], "decision": "keep", "reviewer": "lan"},
        {"content": before["money"]["id"][:16], "decision": "relabel", "reviewer": "lan", "label": "refund"},
    ]
    after = fates(curate(tmp_path))
    assert (after[near]["verdict"], after["money"]["label"]) == ("kept", "refund")
    card = json.loads((curated.curate / "card.json").read_text())
    assert card["review"]["reviewers"] == {"lan": {"keep": 1, "relabel": 1}}


def test_after_a_decision_the_next_row_without_one_is_shown(monkeypatch, curated):
    ids = {fates(curated)[k]["id"] for k in ("money", "again")}
    app = opened(monkeypatch, curated.path, "review", reviewer="lan", queue="conflicting answers")
    app.segmented_control[0].set_value("conflicting answers").run()
    press(app, "✗ Drop")
    dropped = next(i for i in ids if i[:16] == written(curated)[0]["content"])
    assert app.query_params["row"] == next(iter(ids - {dropped}))


def test_a_decision_can_be_taken_back_and_others_stay_as_they_were(monkeypatch, curated):
    other = b'{"content": "ffffffffffffffff", "decision": "drop",   "reviewer": "minh"}'
    (curated.path / "annotations.jsonl").write_bytes(other)  # by hand: odd blanks, no line end
    near = fates(curated)[fallen(curated)]["id"]
    app = opened(monkeypatch, curated.path, "review", reviewer="lan", row=near)
    app = press(app, "✗ Drop")
    assert [d["content"] for d in written(curated)] == ["f" * 16, near[:16]]
    app.query_params["row"] = near
    press(app.run(), "Undo")
    assert (curated.path / "annotations.jsonl").read_bytes() == other + b"\n"


def test_without_a_name_nothing_is_saved(monkeypatch, curated):
    app = press(opened(monkeypatch, curated.path, "review"), "✓ Keep")
    assert "names its reviewer" in " ".join(c.value for c in app.code)
    assert not (curated.path / "annotations.jsonl").exists()


def test_a_file_that_cannot_be_read_is_named_with_its_line(monkeypatch, curated):
    (curated.path / "annotations.jsonl").write_text('{"content": "0123456789abcdef", "decision": "kep"}\n')
    app = opened(monkeypatch, curated.path, "review")
    assert "annotations.jsonl:1" in app.code[0].value
    assert "did you mean 'keep'" in app.code[0].value


def test_the_file_that_the_recipe_names_is_the_one_that_is_written(curated):
    assert file_of(curated, Folder(curated).recipe()) == curated.path / "annotations.jsonl"
    assert str(file_of(curated, {"curate": {"annotations": "mine.jsonl"}})) == "mine.jsonl"


# ----------------------------------------------------------------------------------------------- by CSV round trip


def filled_in(text: str, **cells) -> bytes:
    """The table as a reviewer brings it back."""
    rows = list(csv.DictReader(io.StringIO(text)))
    rows[0] |= cells
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=";")  # as spreadsheets of half of Europe write it
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8-sig")


def test_a_filled_in_table_changes_the_next_curation(curated, tmp_path):
    before = fates(curated)
    found = queue(curated, "limits", load(curated).funnel)
    table = queue_csv(found.items, {}, {})
    back = filled_in(table, decision=" Keep ", reviewer="minh")
    new = decisions_of(back, {}, "lan", "table.csv")
    assert new == [Decision(found.items[0].content, "keep", "minh")]
    annotations.append(curated.path / "annotations.jsonl", new)
    known = decisions(curated.path / "annotations.jsonl")
    assert decisions_of(back, known, "lan", "table.csv") == [], "what is saved already is not saved again"
    near = fallen(curated)
    assert before[near]["verdict"] == "dropped"
    assert fates(curate(tmp_path))[near]["verdict"] == "kept"


def test_a_table_brought_back_in_the_app_is_saved(monkeypatch, curated):
    found = queue(curated, "limits", load(curated).funnel)
    back = filled_in(queue_csv(found.items, {}, {}), decision="relabel", new_label="=1+1")
    app = opened(monkeypatch, curated.path, "review", reviewer="lan")
    app.file_uploader[0].set_value(("table.csv", back, "text/csv")).run()
    press(app, "Save 1 decisions")
    assert written(curated)[0]["label"] == "=1+1"


def test_a_label_that_looks_like_a_formula_comes_back_as_it_was(curated):
    item = queue(curated, "limits", load(curated).funnel).items[0]
    known = {item.content: Decision(item.content, "relabel", "lan", "=SUM(A1)")}
    table = queue_csv([item], {item.id: ("=1", "@x")}, known)
    assert ",'=SUM(A1)," in table
    assert ",'=1,'@x," in table
    assert decisions_of(table.encode(), known, "", "t.csv") == []
    assert decisions_of(table.encode(), {}, "", "t.csv") == list(known.values())


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"id,why\nx,y\n", "no column 'decision'"),
        (b"", "no column 'decision'"),
        (b"id,decision\n0123456789abcdef-0000-0,kep\n", r"t\.csv:2"),
        (b"id,decision\n0123456789abcdef-0000-0,keep\n", "names its reviewer"),
        (b"id,decision\n1.23E+15,keep\n", "names no row"),
        ("id,decision\nkhóa,keep\n".encode("cp1258", "replace"), "not UTF-8"),
    ],
)
def test_a_table_with_a_bad_row_is_refused_as_a_whole(data, what):
    with pytest.raises(DataError, match=what):
        decisions_of(data, {}, "", "t.csv")


def test_reading_a_table_leaves_other_readers_of_the_process_their_long_fields():
    decisions_of(b"id,decision\n", {}, "An", "t.csv")
    assert len(next(csv.reader(["x" * 200_000]))[0]) == 200_000
