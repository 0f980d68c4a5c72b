"""Reading loses no row: each becomes a record or stands in the quarantine with file, line and reason."""

import gzip
import json

import pyarrow.parquet as pq
import pytest

from tamis.errors import DataError
from tamis.tables import Source, read_records, read_shards, take_records


def write(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def read(path, folder):
    result = read_records(Source([str(path)]), folder)
    return result, read_shards(folder), pq.read_table(folder / "quarantine.parquet")


def test_four_shapes_in_one_file_become_the_same_record(tmp_path):
    rows = [
        {"instruction": "Where is it?", "input": "", "output": "track order"},
        {"conversations": [{"from": "human", "value": "Where is it?"}, {"from": "gpt", "value": "track order"}]},
        {"messages": [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "track order"}]},
        {"prompt": "Where is it?", "completion": "track order"},
    ]
    _, table, _ = read(write(tmp_path / "a.jsonl", rows), tmp_path / "out")
    ids = table["id"].to_pylist()
    assert len({i.split("-")[0] for i in ids}) == 1
    assert sorted(i[-1] for i in ids) == ["0", "1", "2", "3"]


def test_a_half_written_line_is_quarantined_by_line_and_the_rest_is_read(tmp_path):
    file = write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}] * 2)
    with file.open("a") as stream:
        stream.write('{"prompt": "c", "comple')
    result, _, quarantine = read(file, tmp_path / "out")
    assert (result.rows, result.quarantined) == (2, 1)
    assert quarantine.to_pylist()[0]["line"] == 3
    assert quarantine.to_pylist()[0]["reason"] == "bad_json"


def test_keys_that_appear_only_late_are_kept(tmp_path):
    rows = [{"prompt": f"p{i}", "completion": "c"} for i in range(60_000)]
    rows.append({"prompt": "last", "completion": "c", "topic": "late"})
    _, table, _ = read(write(tmp_path / "a.jsonl", rows), tmp_path / "out")
    assert json.loads(table["meta"][-1].as_py()) == {"topic": "late"}


def test_a_bad_byte_costs_one_row(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"prompt": "ok", "completion": "x"}\n{"prompt": "caf\xe9", "completion": "x"}\n')
    result, _, quarantine = read(file, tmp_path / "out")
    assert (result.rows, result.quarantined) == (1, 1)
    assert quarantine["reason"].to_pylist() == ["bad_encoding"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "no rows"),
        ("utf16.jsonl", '{"prompt": "a"}'.encode("utf-16"), "UTF-16"),
        ("odd.jsonl", b'{"foo": 1}\n', "none of the 1 rows can be read"),
        ("latin.jsonl", b'{"prompt": "caf\xe9", "completion": "x"}\n' * 3, "none of the 3"),
        ("broken.parquet", b"PAR1 not really", "not Parquet"),
    ],
)
def test_useless_files_say_what_is_wrong(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_records(Source([str(tmp_path / name)]), tmp_path / "out")


def test_a_missing_file_names_its_likely_neighbour(tmp_path):
    write(tmp_path / "tickets.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(DataError, match=r"did you mean .*tickets\.jsonl"):
        read_records(Source([str(tmp_path / "tickes.jsonl")]), tmp_path / "out")


def test_ids_do_not_depend_on_order_or_split(tmp_path):
    rows = [{"id": f"k{i}", "prompt": f"p{i % 5}", "completion": "c"} for i in range(20)]
    write(tmp_path / "all.jsonl", rows)
    (tmp_path / "two").mkdir()
    write(tmp_path / "two" / "b.jsonl", rows[:7][::-1])
    write(tmp_path / "two" / "a.jsonl", rows[7:])
    _, one, _ = read(tmp_path / "all.jsonl", tmp_path / "x")
    _, two, _ = read(tmp_path / "two", tmp_path / "y")
    pairs = [dict(zip(t["key"].to_pylist(), t["id"].to_pylist(), strict=True)) for t in (one, two)]
    assert pairs[0] == pairs[1]
    assert len(set(pairs[0].values())) == 20


def test_offsets_find_the_bytes_of_a_row_in_gzip_too(tmp_path):
    body = "".join(json.dumps({"prompt": f"đơn {i}", "completion": "c"}, ensure_ascii=False) + "\n" for i in range(9))
    with gzip.open(tmp_path / "a.jsonl.gz", "wb") as stream:
        stream.write(body.encode())
    _, table, _ = read(tmp_path / "a.jsonl.gz", tmp_path / "out")
    row = table.slice(6, 1).to_pylist()[0]
    assert json.loads(body.encode()[row["offset"] : row["offset"] + row["length"]])["prompt"] == "đơn 6"


def test_records_are_taken_in_the_order_asked_for(tmp_path):
    _, table, _ = read(
        write(tmp_path / "a.jsonl", [{"prompt": f"p{i}", "completion": "c"} for i in range(9)]), tmp_path / "o"
    )
    ids = table["id"].to_pylist()
    assert take_records(tmp_path / "o", [ids[7], ids[2]])["id"].to_pylist() == [ids[7], ids[2]]
    with pytest.raises(DataError, match="1 of 2 rows are not"):
        take_records(tmp_path / "o", [ids[0], "nobody"])
