"""The engine: functions over records, in this process or in others."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from tamis import engine
from tamis.errors import UserError
from tamis.tables import Source, read_records

RESULT = pa.schema([("id", pa.string()), ("size", pa.int64()), ("process", pa.int64())])


@pytest.fixture
def records(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"prompt": "question {i}", "completion": "answer"}}\n' for i in range(40)))
    read_records(Source((str(file),)), tmp_path / "records")
    return tmp_path / "records"


def measure(table: pa.Table) -> pa.Table:
    sizes = [len(turns[0]["content"]) for turns in table["messages"].to_pylist()]
    return pa.table({"id": table["id"], "size": sizes, "process": [os.getpid()] * len(table)}, schema=RESULT)


def test_many_rows_go_to_other_processes_and_come_back_the_same(records, monkeypatch):
    here = engine.map_records(records, measure, RESULT)
    monkeypatch.setattr(engine, "APART_FROM", 1)
    apart = engine.map_records(records, measure, RESULT)

    assert here.drop(["process"]).equals(apart.drop(["process"]))
    assert here["process"].unique().to_pylist() == [os.getpid()]
    assert os.getpid() not in apart["process"].unique().to_pylist()


@pytest.mark.parametrize("apart_from", [1, 1000])
def test_a_users_mistake_arrives_as_it_was_raised(records, monkeypatch, apart_from):
    def fail(table: pa.Table) -> pa.Table:
        raise UserError("the rule fails", where="rules.py:3", hint="mend it")

    monkeypatch.setattr(engine, "APART_FROM", apart_from)
    with pytest.raises(UserError, match="the rule fails") as caught:
        engine.map_records(records, fail, RESULT)
    assert "rules.py:3" in str(caught.value)
    assert "mend it" in str(caught.value)
