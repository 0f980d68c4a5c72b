"""`tamis why` on a large ledger: a few thousand rows are read to find one by its id, and nothing heavy is imported."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis import schema
from tamis.curate.why import fate

ROWS = 100_000


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """100,000 rows; the key of row 7 looks like a place, that of row 8 is the id of row 9."""
    path = tmp_path_factory.mktemp("why") / "ledger.parquet"
    ids = [f"{i:016x}-0000-0" for i in range(ROWS)]
    keys = [f"k{i}" for i in range(ROWS)]
    keys[7], keys[8] = "chat:12", ids[9]
    columns = {"id": ids, "key": keys, "file": ["data/in.jsonl"] * ROWS, "line": range(1, ROWS + 1)}
    rest = {"verdict": ["kept"] * ROWS, "stage": pa.nulls(ROWS, pa.string())}
    schema.write_parquet(path, pa.table(columns | rest))
    return path


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        (f"{70_000:016x}-0000-0", 70_001),
        ("k70000", 70_001),
        ("in.jsonl:70001", 70_001),
        ("data/in.jsonl:1", 1),
        ("chat:12", 8),
        (f"{9:016x}-0000-0", 10),  # an id before a key
    ],
)
def test_a_row_is_found_by_id_key_or_place(ledger, wanted, line):
    found = fate(ledger, wanted)

    assert (found["line"], found["detail"]) == (line, None)


def test_rows_are_packed_so_that_one_can_be_read_alone(ledger):
    packed = pq.read_metadata(ledger)
    first, second = (packed.row_group(i).column(0).statistics for i in (0, 1))

    assert packed.row_group(0).num_rows <= 1 << 15
    assert first.max < second.min


def test_the_answer_needs_nothing_heavy(ledger):
    code = (
        "import sys; from pathlib import Path; from tamis.curate.why import fate\n"
        f"assert fate(Path({str(ledger)!r}), 'k5')['line'] == 6\n"
        "print({'pandas', 'pyarrow.dataset', 'daft', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
