"""How long does `tamis inspect` take on 400,000 rows?

    python benchmarks/inspect_speed.py [ROWS]

Rows are the built-in tickets, over and over, each with its number behind its text, so that none equals another. The
command runs in a process of its own, twice: the second time the file is in the page cache for certain.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tamis import data

BUILT_IN = Path(next(iter(data.__path__)))
PROGRAM = """
import resource, sys
from tamis.cli import main
try:
    main()
finally:
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, file=sys.stderr)
"""


def write(file: Path, rows: int) -> None:
    """JSONL of so many different rows."""
    tickets = [json.loads(line) for line in (BUILT_IN / "tickets.jsonl").read_bytes().splitlines()]
    with file.open("w", encoding="utf-8") as out:
        for number in range(rows):
            row = tickets[number % len(tickets)] | {"ticket_id": f"T{number}"}
            if "instruction" in row:
                row["instruction"] = f"{row['instruction']} (ticket {number})"
            else:
                asked, *rest = row["messages"]
                row["messages"] = [asked | {"content": f"{asked['content']} (ticket {number})"}, *rest]
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        write(file, rows)
        print(f"{rows:,} rows, {file.stat().st_size / 1e6:.0f} MB")
        for attempt in ("first", "second"):
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, "inspect", str(file)], capture_output=True, text=True, check=True
            )
            seconds = time.perf_counter() - started
            peak = next(line for line in done.stderr.splitlines() if line.startswith("PEAK")).split()[1]
            print(f"{attempt}: {seconds:.1f} s, {rows / seconds:,.0f} rows a second, peak {float(peak):,.0f} MB")
        print(done.stdout)


if __name__ == "__main__":
    main()
