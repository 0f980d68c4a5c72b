"""Personal data is found with precision, counted always, and once masked it stands in no output."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis import data
from tamis.curate.personal import Personal, find, number
from tamis.curate.pipeline import curate, training_source
from tamis.errors import DataError
from tamis.recipe import PERSONAL, Recipe
from tamis.run import Run
from tamis.tables import Source, read_shards
from tamis.writing import write_rows

DATA = Path(next(iter(data.__path__)))


def rows(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def write(path, values):
    path.write_text("".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to lan.tran+shop@mail.example.vn!", [("email", "lan.tran+shop@mail.example.vn")]),
        ("SĐT 0912.345.678 và 0987 654 321", [("phone", "0912345678"), ("phone", "0987654321")]),
        ("goi cho em so 0912345678 nhe", [("phone", "0912345678")]),
        ("+84 912 345 678, 0084912345678, (+84)912345678, +84 (0)912 345 678", [("phone", "0912345678")] * 4),
        ("gọi (028) 3822 1234", [("phone", "02838221234")]),
        ("ring 07700 900123 or 020 7946 0958", [("phone", "07700900123"), ("phone", "02079460958")]),
        ("06 12 34 56 78", [("phone", "0612345678")]),
        ("call me at 555-0142 or (415) 555-2671", [("phone", "5550142"), ("phone", "14155552671")]),
        ("+1 555 0101 401.", [("phone", "15550101401")]),
        ("paid the order with card 4111-1111-1111-1111", [("card", "4111111111111111")]),
        ("thẻ 9704000000000018 của em", [("card", "9704000000000018")]),
        ("STK Vietcombank 0071000123456", [("account", "0071000123456")]),
        ("số tài khoản của em là 1903 4567 8910 11", [("account", "19034567891011")]),
        ("stk 0912345678 mb bank", [("account", "0912345678")]),
        ("IBAN GB82 WEST 1234 5698 7654 32", [("account", "GB82WEST12345698765432")]),
        ("CCCD: 001099012345", [("cccd", "001099012345")]),
        ("079201012345 là số của em", [("cccd", "079201012345")]),
        ("can cuoc 123456789", [("cccd", "123456789")]),
        ("MST công ty 0312345678", [("mst", "0312345678")]),
        ("0100109106-001", [("mst", "0100109106001")]),
    ],
)
def test_each_kind_is_found_and_spelt_in_one_way(text, expected):
    assert [(f.kind, f.value) for f in find(text)] == expected


@pytest.mark.parametrize(
    "text",
    [
        "đơn hàng 0912345678 chưa tới",
        "order 4111111111111111 is late",
        "mã vận đơn 079201012345",
        "the price is 1.500.000 đồng, not 12.500.000",
        "4111 1111 1111 1112 fails the check digit",
        "4000000000000000000000000000",
        "on 2024-11-24 10:30, call me on 24-11-2024",
        "0 9 16 7 5 13 4 8 12 0 9 3",
        "deliveries 252 642 7293 4833",
        "logo@2x.png and @lan and a@b",
        "https://shop.example/item/0912345678?ref=0912345678",
        "0100109107-001 has a wrong check digit",
        "GB82 WEST 1234 5698 7654 33",
        "call 1-800-555-2671 or 1900 1234",
        "3.14159265358979",
        "SKU-0912345678, #0912345678",
        "999999999999",
    ],
)
def test_numbers_that_are_no_personal_data_are_left_alone(text):
    assert find(text) == []


def test_the_key_of_a_value_says_what_it_is():
    assert [f.kind for f in find("912345678", "phone")] == ["phone"]
    assert [f.kind for f in find("912345678", "phone_number")] == ["phone"]
    assert find("912345678", "quantity") == []


def test_all_planted_personal_data_is_found_and_nothing_else():
    planted = {(r["key"], r["type"]) for r in rows("truth.jsonl") if r["kind"] == "personal"}
    found = set()
    for row in rows("tickets.jsonl"):
        one = Personal()
        one.row(json.dumps(row, ensure_ascii=False).encode(), row)
        found |= {(row["ticket_id"], kind) for kind in PERSONAL if one.rows[kind]}
    assert len(planted) == 60
    assert found == planted


def test_megabytes_in_one_row_do_not_take_forever():
    """Linear in the text: a search that starts anew at each digit or letter would not end."""
    for text in ("9" * 3_000_000, "a" * 3_000_000 + "@", "1 " * 600_000, "x@example.com " * 50_000):
        assert len(find(text)) in (0, 50_000)


PEOPLE = {
    "email": "lan.tran@example.com",
    "phone": "0912 345 678",
    "card": "4111 1111 1111 1111",
    "account": "0071000123456",
    "cccd": "001099012345",
    "mst": "0312345678",
}


def planted():
    """Rows of every shape with personal data in every place a row has."""
    p = PEOPLE
    out = [
        {"prompt": f"Parcel {i} is late, write to {p['email']} or call me: {p['phone']}", "completion": f"yes {i}"}
        for i in range(6)
    ]
    out += [
        {"instruction": "Refund me", "input": f"card {p['card']}", "output": f"STK {p['account']}", "id": p["email"]},
        {"prompt": "Xuất hóa đơn giúp em", "completion": "dạ", "mst": p["mst"], "cccd": p["cccd"]},
        {"prompt": "Who am I?", "completion": "you", "phone": int(p["phone"].replace(" ", "")), "source": p["email"]},
        {"text": f"my phone is {p['phone'].replace(' ', '.')}", "label": p["email"]},
        {"prompt": "contacts", "completion": "ok", "people": {p["email"]: "wife"}},
        {
            "messages": [
                {"role": "user", "content": f"CCCD {p['cccd']}", "name": p["email"]},
                {"role": "assistant", "content": "ok", "tool_calls": [{"arguments": f'{{"phone": "{p["phone"]}"}}'}]},
            ]
        },
        {p["email"]: "a row of no known shape", "phone": p["phone"]},
        {"messages": [{"role": p["email"], "content": "a role that is none"}]},
    ]
    return out + [{"prompt": f"ticket number {i} about the lamp", "completion": "lamp"} for i in range(10)]


def recipe(path, held=None, **curation):
    return Recipe.check(
        {
            "name": "people",
            "data": {"path": str(path)},
            "eval": {"path": str(held)} if held else None,
            "embedder": "lsa",
            "curate": {"mask": list(PERSONAL), **curation},
        }
    )


def everything(folder):
    """All that a folder holds, as text: Parquet is read, all else is taken as it stands."""
    out = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        out.append(str(file.relative_to(folder)))
        if file.suffix == ".parquet":
            out.append(json.dumps(pq.read_table(file).to_pylist(), ensure_ascii=False, default=str))
        else:
            out.append(file.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(out)


def spellings(value):
    bare = value.replace(" ", "")
    return {value, bare, bare.lstrip("0"), value.replace(" ", "."), value.replace(" ", "-")}


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    file = write(folder / "in.jsonl", planted())
    with file.open("a", encoding="utf-8") as stream:
        stream.write(f'{{"prompt": "half a row of {PEOPLE["email"]}\n')
    held = write(folder / "eval.jsonl", [{"prompt": f"Is {PEOPLE['email']} right?", "completion": "yes"}])
    run = Run(folder / "run")
    curate(run, recipe(file, held), quiet=True)
    ids = read_shards(run.curate / "records", ["id"])["id"].to_pylist()
    write_rows(run.curate / "records", ids, training_source(recipe(file)), run.path / "out.jsonl")
    return run, file, held


def test_masked_values_stand_in_no_output(masked, capfd):
    run, *_ = masked
    text = everything(run.path)
    found = {kind: [s for s in spellings(value) if s in text] for kind, value in PEOPLE.items()}
    assert found == {kind: [] for kind in PEOPLE}
    assert {kind for kind in PERSONAL if f"<{kind.upper()}_1>" in text} == set(PERSONAL)


def test_without_masking_the_same_search_finds_them_and_the_card_counts_them(masked, tmp_path):
    """The search above can fail, and counting does not depend on masking."""
    _, file, held = masked
    run = Run(tmp_path)
    curate(run, recipe(file, held, mask=[]), quiet=True)
    text = everything(run.path)
    assert all(value in text for value in PEOPLE.values())
    card = json.loads((run.curate / "card.json").read_text())
    masked_card = json.loads((masked[0].curate / "card.json").read_text())
    assert card["personal"] == masked_card["personal"]
    assert card["personal"]["rows"]["phone"] == {"mentions": 10, "rows": 10, "values": 1}
    assert card["personal"]["items"]["email"]["rows"] == 1


def test_only_the_kinds_that_are_named_are_masked(masked, tmp_path):
    _, file, _ = masked
    run = Run(tmp_path)
    curate(run, recipe(file, mask=["phone"]), quiet=True)
    text = everything(run.path)
    assert PEOPLE["phone"] not in text
    assert "<PHONE_1>" in text
    assert PEOPLE["email"] in text


def test_written_rows_are_masked_in_place_and_all_else_is_as_it_was(masked):
    run, file, _ = masked
    before = file.read_text(encoding="utf-8").splitlines()
    after = (run.path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert after[-1] == before[23], "an unedited row is written byte for byte"
    alpaca = json.loads(after[6])
    assert alpaca == {
        "instruction": "Refund me",
        "input": "card <CARD_1>",
        "output": "STK <ACCOUNT_1>",
        "id": "<EMAIL_1>",
    }
    assert list(json.loads(after[0])) == ["prompt", "completion"]
    assert json.loads(after[10])["people"] == {"<EMAIL_1>": "wife"}
    edits = pq.read_table(run.curate / "records" / "edits.parquet").to_pylist()
    assert len({e["id"] for e in edits}) == 12
    assert {e["kind"] for e in edits} == {"masked"}


@pytest.mark.parametrize("shape", ["parquet", "csv"])
def test_other_formats_are_masked_too(tmp_path, shape):
    table = pa.table(
        {"prompt": ["call me", "hello there"], "completion": ["a", "b"], "phone": [912345678, 7], "n": [1, 2]}
    )
    if shape == "parquet":
        pq.write_table(table, tmp_path / "in.parquet")
    else:
        table.to_pandas().to_csv(tmp_path / "in.csv", index=False)
    made = recipe(tmp_path / f"in.{shape}")
    run = Run(tmp_path / "run")
    curate(run, made, quiet=True)
    ids = read_shards(run.curate / "records", ["id"])["id"].to_pylist()
    write_rows(run.curate / "records", ids, training_source(made), tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert out["phone"] == ["<PHONE_1>", "7"]
    assert out["n"] == ([1, 2] if shape == "parquet" else ["1", "2"])


def test_placeholders_and_ids_do_not_depend_on_order_or_split(tmp_path):
    values = [f"call me: 09{i:08d}, {i % 7}" for i in range(200)]
    same = [{"prompt": v, "completion": "ok", "ticket_id": f"T{i}"} for i, v in enumerate(values)]
    same += [
        {"prompt": "call me: 0912345678", "completion": "ok"},
        {"prompt": "call me: 0987654321", "completion": "ok"},
    ]
    tables = []
    for name, files in (("one", 1), ("three", 3)):
        shuffled = random.Random(name).sample(same, len(same))
        (tmp_path / name).mkdir()
        for i in range(files):
            write(tmp_path / name / f"{i}.jsonl", shuffled[i::files])
        run = Run(tmp_path / f"run-{name}")
        curate(run, recipe(tmp_path / name), quiet=True)
        ledger = pq.read_table(run.curate / "ledger.parquet").drop_columns(["file", "line"])
        records = read_shards(run.curate / "records", ["id", "messages"]).sort_by("id")
        tables.append((ledger, records, pq.read_table(run.curate / "records" / "edits.parquet")))
    assert all(a.equals(b) for a, b in zip(*tables, strict=True))
    assert len(set(tables[0][1]["id"].to_pylist())) == 202


def test_a_placeholder_is_a_rank_and_not_a_digest(tmp_path):
    """Who holds the outputs can try all numbers of a country against a digest, and learns next to nothing of a rank."""
    file = write(tmp_path / "a.jsonl", [{"prompt": f"call me: 09{i:08d}"} for i in range(50)])
    ranks = {seed: number([Source([str(file)])], ["phone"], seed)["phone"] for seed in (1, 2)}
    assert sorted(ranks[1].values()) == list(range(1, 51))
    assert list(ranks[1]) != list(ranks[2]), "the order is keyed by the seed"
    assert list(ranks[1]) != sorted(ranks[1]), "and it is not that of the numbers"


def test_the_id_of_a_masked_row_does_not_come_from_its_values(tmp_path):
    ids = []
    for name, value in (("a", "0912345678"), ("b", "0987654321")):
        file = write(tmp_path / f"{name}.jsonl", [{"prompt": f"call me: {value}", "completion": "ok"}])
        run = Run(tmp_path / name)
        curate(run, recipe(file), quiet=True)
        ids.append(read_shards(run.curate / "records", ["id"])["id"].to_pylist())
    assert ids[0] == ids[1]


def test_a_source_that_changed_is_not_written_over_with_edits_for_another_row(masked, tmp_path):
    run, file, _ = masked
    ids = read_shards(run.curate / "records", ["id"])["id"].to_pylist()
    before = file.read_bytes()
    try:
        file.write_bytes(before.replace(b'"completion"', b'"c0mpletion"').replace(b'"prompt"', b'"pr0mpt"'))
        with pytest.raises(DataError, match="source has changed"):
            write_rows(run.curate / "records", ids, training_source(recipe(file)), tmp_path / "out.jsonl")
    finally:
        file.write_bytes(before)
