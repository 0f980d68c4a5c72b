"""Is personal data found, how often is something else taken for it, and what does looking cost?

    python benchmarks/personal.py [FOLDER]      # FOLDER: real data, default ../shared/data

Recall and precision on the built-in data come from its planted truth. On real data every hit is printed, for people to
judge: nobody has labelled it.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

from tamis import data
from tamis.curate.personal import Personal, find
from tamis.recipe import PERSONAL

BUILT_IN = Path(next(iter(data.__path__)))


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def built_in() -> None:
    truth = [json.loads(line) for line in lines(BUILT_IN / "truth.jsonl")]
    planted = {(r["key"], r["type"]) for r in truth if r["kind"] == "personal"}
    found = set()
    for raw in lines(BUILT_IN / "tickets.jsonl"):
        row, one = json.loads(raw), Personal()
        one.row(raw, row)
        found |= {(row["ticket_id"], kind) for kind in PERSONAL if one.rows[kind]}
    right = len(found & planted)
    print(f"built-in tickets: recall {right} of {len(planted)}, precision {right} of {len(found)}")
    items = Personal()
    for raw in lines(BUILT_IN / "eval.jsonl"):
        items.row(raw, json.loads(raw))
    print(f"built-in evaluation items: {sum(items.rows.values())} hits, none planted")


def real(folder: Path) -> None:
    with gzip.open(folder / "t0_20k.jsonl.gz") as stream:
        t0 = stream.read().splitlines()
    clinc = json.loads((folder / "clinc150.json").read_text(encoding="utf-8"))
    sets = {
        "T0 20k": t0,
        "CLINC150 train": [json.dumps({"text": t}).encode() for t, _ in clinc["train"]],
        "GSM8K train": lines(folder / "gsm8k_train.jsonl"),
    }
    for name, raws in sets.items():
        values, counter = [json.loads(raw) for raw in raws], Personal()
        start = time.perf_counter()
        for raw, row in zip(raws, values, strict=True):
            counter.row(raw, row)
        seconds = time.perf_counter() - start
        print(
            f"{name}: {len(raws):,} rows, {sum(counter.rows.values())} hits, {seconds / len(raws) * 1e6:.0f} us a row"
        )
        for row in values:
            for text in row.values():
                for hit in find(text):
                    print(f"    {hit.kind}: {text[max(hit.start - 30, 0) : hit.end + 10]!r}")


def main() -> None:
    built_in()
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    if folder.is_dir():
        real(folder)


if __name__ == "__main__":
    main()
