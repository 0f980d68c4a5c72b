"""One data set, one ledger: however its lines are split, shuffled, cut into morsels, and whoever works on them.

The built-in data with licences and sources, and a recipe that switches every stage on that needs no language model, so
that each has something to drop. `file` and `line` say where a row stands and are all that may differ; that they then
still lead to the row is checked too. Where the files are the same, so is every byte.
"""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tamis import data, embed
from tamis.curate.pipeline import curate
from tamis.recipe import Recipe
from tamis.record import content_hash
from tamis.run import Run

DATA = Path(next(iter(data.__path__)))
ROOT = Path(__file__).parents[2]
# What other stages read, beside the ledger. None of it names a place in a file.
OTHERS = ("order.parquet", "eval.parquet", "conflicts.parquet", "vectors/part-00000.parquet", "decontamination.json")
EMBEDDERS = ["lsa", pytest.param(embed.MINILM, marks=pytest.mark.slow)]
PARTITIONS = (1, 2, 7)
SPLITS = [  # files and morsel: all pairs of 1, 2, 7 and 8192, 100; half of them in the quick suite
    (1, 100),
    (2, 8192),
    (7, 100),
    *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((1, 8192), (2, 100), (7, 8192))),
]


RULES = """
import os
import pathlib
import signal


def upper(record):
    return "shouted" if record.prompt.isupper() else None


def upper_and_one_worker_dies(record):
    once = pathlib.Path(os.environ["DIES_ONCE"])
    if record.key == "T-02000" and not once.exists():
        once.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return upper(record)
"""


def recipe(
    path: Path, embedder: str, beside: Path | None = None, engine: Any = "native", rule: str = "upper"
) -> Recipe:
    """Every stage on; `beside` holds the files that `side_files` wrote, without it nothing is named by a file."""
    named: dict[str, Any] = {"select": {"size": 300, "quota": {"label": {"min": 5}}}}
    if beside:
        named["rules"] = {"custom": [f"{beside / 'rules.py'}:{rule}"], "languages": ["en", "vi"]}
        named["annotations"] = str(beside / "annotations.jsonl")
        named["select"]["quota"]["source"] = {"max": 120}
        named["select"]["must_keep"] = str(beside / "must_keep.txt")
    return Recipe.check(
        {
            "name": "tickets",
            "data": {"path": str(path)},
            "eval": {"path": str(DATA / "eval.jsonl")},
            "embedder": embedder,
            "engine": engine,
            "evaluate": {"task": {"kind": "classify"}},
            "curate": {
                "mask": ["phone", "card", "account", "email"],
                "decontaminate": {"fdr": 0.2},
                **named,
            },
        }
    )


def side_files(folder: Path) -> Path:
    """The user's rules, the decisions of a review and the rows that must be kept."""
    (folder / "rules.py").write_text(RULES)
    rows = [json.loads(line) for line in tickets()]
    (folder / "must_keep.txt").write_text("".join(f"{row['ticket_id']}\n" for row in rows[100:110]))
    asked = [row["messages"] for row in rows if "messages" in row]
    decided = [(m, "drop") for m in asked[200:210]] + [(m, "keep") for m in asked[300:310]]
    (folder / "annotations.jsonl").write_text(
        "".join(
            json.dumps({"content": content_hash(m), "decision": decision, "reviewer": "lan"}) + "\n"
            for m, decision in decided
        )
    )
    return folder


def split(lines: list[str], files: int, folder: Path) -> Path:
    """The lines in another order, dealt out to so many files."""
    folder.mkdir()
    shuffled = [lines[i] for i in np.random.default_rng(files).permutation(len(lines))]
    for i in range(files):
        (folder / f"{i}.jsonl").write_text("".join(shuffled[i::files]), encoding="utf-8")
    return folder


def tickets() -> list[str]:
    """The built-in rows: of three sources, under two licences, some of them in capitals."""
    rows = [json.loads(line) for line in (DATA / "tickets.jsonl").read_text(encoding="utf-8").splitlines()]
    for i, row in enumerate(rows):
        row |= {"source": f"desk {i % 3}", "license": "cc-by-4.0" if i % 50 == 7 else "cc0-1.0"}
        if i % 97 == 5 and "instruction" in row:
            row["instruction"] = row["instruction"].upper()
    return [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rows in one file, beside the files that the recipe names."""
    folder = side_files(tmp_path_factory.mktemp("tickets"))
    (folder / "tickets.jsonl").write_text("".join(tickets()), encoding="utf-8")
    return folder / "tickets.jsonl"


def contents(run: Run, names: tuple[str, ...] = ("ledger.parquet", *OTHERS)) -> dict[str, bytes]:
    return {name: (run.curate / name).read_bytes() for name in names}


def differing_columns(one: Run, other: Run) -> list[str]:
    """Columns of the two ledgers that are not equal, places in files apart."""
    a, b = (pq.read_table(r.curate / "ledger.parquet").drop_columns(["file", "line"]) for r in (one, other))
    assert a.schema == b.schema
    return [c for c in a.column_names if not a[c].equals(b[c])]


def misplaced(run: Run) -> list[str]:
    """Ids of ledger rows whose file and line hold another row."""
    found = pq.read_table(run.curate / "ledger.parquet", columns=["id", "key", "file", "line"]).to_pylist()
    lines = {file: Path(file).read_text(encoding="utf-8").splitlines() for file in {r["file"] for r in found}}
    return [r["id"] for r in found if json.loads(lines[r["file"]][r["line"] - 1])["ticket_id"] != r["key"]]


Curated = Callable[[str], Run]


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory, whole_file: Path) -> Curated:
    """The rows in one file, curated once per embedder: what the others are compared with."""
    done: dict[str, Run] = {}

    def once(embedder: str) -> Run:
        if embedder not in done:
            done[embedder] = Run(tmp_path_factory.mktemp("whole"))
            curate(done[embedder], recipe(whole_file, embedder, whole_file.parent), quiet=True)
        return done[embedder]

    return once


@pytest.mark.parametrize("embedder", EMBEDDERS)
@pytest.mark.parametrize(("files", "morsel"), SPLITS)
def test_split_order_and_morsels_change_nothing(
    curated: Curated, whole_file: Path, tmp_path: Path, embedder: str, files: int, morsel: int
) -> None:
    whole, other = curated(embedder), Run(tmp_path / "run")

    settings = recipe(split(tickets(), files, tmp_path / "in"), embedder, whole_file.parent)
    curate(other, settings, quiet=True, morsel=morsel)

    assert differing_columns(whole, other) == []
    assert contents(other, OTHERS) == contents(whole, OTHERS)
    assert misplaced(other) == []


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_the_same_files_give_the_same_bytes_with_vectors_computed_anew(
    curated: Curated, whole_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: str
) -> None:
    whole, other = curated(embedder), Run(tmp_path / "run")
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))

    curate(other, recipe(whole_file, embedder, whole_file.parent), quiet=True, morsel=333)

    assert list((tmp_path / "cache").rglob("*.npz"))
    assert contents(other) == contents(whole)


def test_rows_that_nothing_tells_apart_share_their_fates(tmp_path: Path) -> None:
    """Without their ticket numbers the planted copies are identical rows, numbered by their place."""
    lines = (DATA / "tickets.jsonl").read_text(encoding="utf-8").splitlines()
    bare = [json.dumps({k: v for k, v in json.loads(line).items() if k != "ticket_id"}) + "\n" for line in lines]
    runs = []
    for files in (1, 7):
        run = Run(tmp_path / f"run{files}")
        curate(run, recipe(split(bare, files, tmp_path / f"in{files}"), "lsa"), quiet=True)
        runs.append(run)

    ids = pq.read_table(runs[0].curate / "ledger.parquet", columns=["id"])["id"].to_pylist()
    assert max(collections.Counter(id_.rpartition("-")[0] for id_ in ids).values()) > 1
    assert differing_columns(*runs) == []


def test_every_stage_has_something_to_do(curated: Curated) -> None:
    """Else the comparisons here would compare nothing."""
    ledger = pq.read_table(curated("lsa").curate / "ledger.parquet", columns=["stage", "reason"]).to_pylist()
    reasons = {row["reason"] for row in ledger}

    assert {row["stage"] for row in ledger} >= {"score", "decontaminate", "deduplicate", "select"}
    assert reasons >= {"shouted", "language", "reviewed", "leak_exact", "exact", "near", "not_selected"}


# Daft's runner is chosen once a process, so Ray has one of its own. It says which runner worked, and in how many
# pieces: each of k rows adds k times 1/k.
ON_RAY = """
    import sys
    from pathlib import Path
    import pyarrow as pa
    from tests.curate.test_same_ledger import recipe
    from tamis import engine
    from tamis.curate.pipeline import curate
    from tamis.run import Run

    out, data, embedder, rule = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5]
    shares = pa.schema([("id", pa.string()), ("share", pa.float64())])
    pieces = []
    for partitions in map(int, sys.argv[5:]):
        run = Run(out / str(partitions))
        settings = recipe(data, embedder, data.parent, {"ray": "auto"}, rule)
        curate(run, settings, quiet=True, partitions=partitions)
        found = engine.map_records(
            run.curate / "records",
            lambda rows: pa.table({"id": rows["id"], "share": [1 / len(rows)] * len(rows)}),
            shares, ("id",), engine=settings.engine, partitions=partitions,
        )
        pieces.append(round(sum(found["share"].to_pylist())))
    import daft
    print(daft.get_or_infer_runner_type(), *pieces)
"""


def on_ray(out: Path, data: Path, embedder: str, rule: str, partitions: tuple[int, ...]) -> None:
    """Curate once for each number of partitions, in a process of its own."""
    pytest.importorskip("ray", reason="pip install 'tamis[ray]'")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ON_RAY), str(out), str(data), embedder, rule, *map(str, partitions)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DIES_ONCE": str(out / "died")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.split()[-1 - len(partitions) :] == ["ray", *map(str, partitions)], done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("embedder", ["lsa", embed.MINILM])
def test_ray_gives_the_same_bytes_in_any_number_of_partitions(
    curated: Curated, whole_file: Path, tmp_path: Path, embedder: str
) -> None:
    whole = curated(embedder)

    on_ray(tmp_path, whole_file, embedder, "upper", PARTITIONS)

    for partitions in PARTITIONS:
        assert contents(Run(tmp_path / str(partitions))) == contents(whole), partitions


@pytest.mark.slow
def test_a_ray_worker_killed_at_work_changes_nothing(curated: Curated, whole_file: Path, tmp_path: Path) -> None:
    whole = curated("lsa")

    on_ray(tmp_path, whole_file, "lsa", "upper_and_one_worker_dies", (4,))

    assert int((tmp_path / "died").read_text()) != os.getpid()
    assert contents(Run(tmp_path / "4")) == contents(whole)
