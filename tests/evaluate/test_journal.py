"""The journal survives being killed anywhere, and holds no item twice."""

import pytest

from tamis.evaluate.journal import Journal, batch_plan
from tamis.evaluate.systems import text_length
from tamis.evaluate.task import Item

ITEMS = [Item(f"i{n:02d}", ({"role": "user", "content": "x" * (n * 7 % 23)},), "x", "a", n) for n in range(20)]
PLAN = batch_plan(ITEMS, 6, text_length)
NO_ERROR = {"error": None}


def rows_of(batch):
    return [
        {
            "id": i,
            "prompt": "p",
            "prompt_sha256": "s",
            "output": f"said {i}",
            "parsed": True,
            "component": 0,
            "error": None,
        }
        for i in PLAN[batch]
    ]


def filled(folder, batches):
    journal = Journal(folder, PLAN)
    assert journal.resume() == set()
    for batch in batches:
        journal.append(batch, rows_of(batch), 0.5)
    return journal


def test_the_plan_holds_every_item_once_in_batches_of_like_length():
    lengths = {i.id: len(i.turns[0]["content"]) for i in ITEMS}

    assert sorted(i for batch in PLAN for i in batch) == [i.id for i in ITEMS]
    assert [lengths[i] for batch in PLAN for i in batch] == sorted(lengths.values())
    assert batch_plan(ITEMS[::-1], 6, text_length) == PLAN  # of the set, not of its order


def test_a_resumed_journal_knows_its_whole_batches(tmp_path):
    filled(tmp_path, [0, 1])

    again = Journal(tmp_path, PLAN)

    assert again.resume() == {0, 1}
    assert [r["id"] for r in again.rows] == PLAN[0] + PLAN[1]


def test_killed_at_any_byte_it_resumes_to_the_same_file(tmp_path):
    filled(tmp_path, range(len(PLAN)))
    whole = (tmp_path / "samples.jsonl").read_bytes()
    for cut in [0, 1, 57, len(whole) // 3, len(whole) // 2, len(whole) - 1, len(whole)]:
        (tmp_path / "samples.jsonl").write_bytes(whole[:cut])
        journal = Journal(tmp_path, PLAN)
        done = journal.resume()
        for batch in range(len(PLAN)):
            if batch not in done:
                journal.append(batch, rows_of(batch), 0.5)

        assert (tmp_path / "samples.jsonl").read_bytes() == whole, cut
        assert journal.table([i.id for i in ITEMS]).column("id").to_pylist() == [i.id for i in ITEMS]


def test_garbage_in_the_middle_costs_what_follows_and_nothing_before(tmp_path):
    filled(tmp_path, [0, 1, 2])
    lines = (tmp_path / "samples.jsonl").read_bytes().splitlines(keepends=True)
    lines[8] = b'{"id": "broken\n'
    (tmp_path / "samples.jsonl").write_bytes(b"".join(lines))

    assert Journal(tmp_path, PLAN).resume() == {0}


def test_answers_of_another_plan_are_not_used(tmp_path):
    filled(tmp_path, [0, 1])

    assert Journal(tmp_path, batch_plan(ITEMS, 5, text_length)).resume() == set()


def test_answers_that_belong_to_another_batch_are_refused(tmp_path):
    with pytest.raises(ValueError, match="do not belong"):
        Journal(tmp_path, PLAN).append(1, rows_of(0), 0.5)


def test_a_lone_surrogate_in_an_output_reaches_parquet(tmp_path):
    journal = Journal(tmp_path, PLAN)
    rows = rows_of(0)
    rows[0]["output"] = "broken \ud83d"
    journal.append(0, rows, 0.5)

    assert Journal(tmp_path, PLAN).resume() == {0}
    assert journal.table([PLAN[0][0]]).column("output")[0].as_py() == "broken ?"


def test_failed_requests_do_not_count_as_answered(tmp_path):
    journal = Journal(tmp_path, PLAN)
    rows = rows_of(0)
    rows[2]["error"] = "HTTP 500"
    journal.append(0, rows, 2.0)

    assert journal.batches() == [{"items": 6, "answered": 5, "seconds": 2.0}]
