"""A million rows through the whole of curation, on one machine: how long, how much memory, and is it right?

    python benchmarks/scale.py [ROWS ...] [--data FOLDER]     # default 10000 100000 1000000, and ../shared/data

Rows are made from T0 (20,000 rows): each takes a span of words of one prompt and one of another, so that rows have the
words of real ones and none is like another. Planted, with the truth known: exact copies (3 %), near copies (5 %: two
letters exchanged in one word), rows without an answer (1 %). `tamis curate` runs in a process of its own, with the
`static` embedder and without model scorers, keeping a hundredth of the rows. `tamis why` is then asked of that ledger:
in process, and as a command.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq

from tamis.curate import why

EXACT, NEAR, EMPTY = 0.03, 0.05, 0.01


def generate(file: Path, rows: int, t0: list[tuple[list[str], str]], seed: int = 7) -> dict[str, str]:
    """Write the rows; returns what was planted, by key."""
    rng = np.random.default_rng(seed)
    truth: dict[str, str] = {}
    recent: list[tuple[list[str], str]] = []
    with file.open("w", encoding="utf-8") as out:
        for number in range(rows):
            draw, key = rng.random(), f"r{number}"
            if recent and draw < EXACT + NEAR:
                words, answer = recent[rng.integers(len(recent))]
                truth[key] = "exact" if draw < EXACT else "near"
                if truth[key] == "near":
                    words = _edited(words, rng)
            else:
                first, second = (t0[i] for i in rng.integers(len(t0), size=2))
                words, answer = _span(first[0], rng) + _span(second[0], rng), second[1]
                if draw > 1 - EMPTY:
                    answer, truth[key] = "", "empty_answer"
                elif len(words) >= 40:
                    if len(recent) < 5000:
                        recent.append((words, answer))
                    else:
                        recent[rng.integers(5000)] = (words, answer)
            row = {"id": key, "prompt": " ".join(words), "completion": answer}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return truth


def _span(words: list[str], rng: np.random.Generator) -> list[str]:
    size = min(len(words), 20 + int(rng.integers(60)))
    start = int(rng.integers(len(words) - size + 1))
    return words[start : start + size]


def _edited(words: list[str], rng: np.random.Generator) -> list[str]:
    """One slip of the fingers: two letters exchanged inside a long plain word. Numbers, names and negations stay."""
    plain = [p for p, w in enumerate(words) if len(w) > 6 and w.isascii() and w.isalpha() and w.islower()]
    if not plain:
        return words
    place = plain[rng.integers(len(plain))]
    word, at = words[place], 2 + int(rng.integers(len(words[place]) - 4))
    return [*words[:place], word[:at] + word[at + 1] + word[at] + word[at + 2 :], *words[place + 1 :]]


def run_watched(command: list[str]) -> tuple[str, int, float]:
    """Run to the end: what it wrote on stderr, its exit code, and the peak of its processes' memory together, in GB.

    Shared pages count once (PSS), looked at ten times a second.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak, ended = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.1):
            with contextlib.suppress(psutil.Error):
                parent = psutil.Process(process.pid)
                total = 0
                for one in (parent, *parent.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        total += one.memory_full_info().pss
                peak = max(peak, total / 1e9)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, said = process.communicate()
    ended.set()
    watcher.join()
    return said, process.returncode, peak


def ask(run: Path, rows: int) -> str:
    """How long the fate of a row takes: medians of nine queries in process and of five commands."""
    ledger = run / "curate" / "ledger.parquet"
    known = pq.read_table(ledger, columns=["id", "key"])
    some = np.random.default_rng(1).integers(rows, size=9).tolist()
    why.fate(ledger, str(known["id"][0]))  # duckdb is imported

    def seconds(call: Callable[[], object]) -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    took = {
        name: np.median([seconds(lambda i=i, name=name: why.fate(ledger, str(known[name][i]))) for i in some])
        for name in ("id", "key")
    }

    def asked(i: int) -> object:
        command = [sys.executable, "-m", "tamis.cli", "why", str(run), str(known["id"][i])]
        return subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    whole = np.median([seconds(lambda i=i: asked(i)) for i in some[:5]])
    return (
        f"why by id {took['id'] * 1e3:.0f} ms, by the user's key {took['key'] * 1e3:.0f} ms; the command {whole:.2f} s"
    )


def measure(rows: int, t0: list[tuple[list[str], str]]) -> float:
    """Run once; prints a table row. Returns seconds."""
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder) / "rows.jsonl", Path(folder) / "run"
        truth = generate(file, rows, t0)
        command = ["curate", str(file), "--rows", str(rows // 100), "--embedder", "static", "--run", str(run)]
        started = time.perf_counter()
        said, code, peak = run_watched([sys.executable, "-m", "tamis.cli", *command])
        seconds = time.perf_counter() - started
        if code:
            sys.exit(said[-3000:])
        ledger = pq.read_table(run / "curate" / "ledger.parquet", columns=["key", "reason", "witness"]).to_pylist()
        steps = json.loads((run / "curate" / "funnel.json").read_text())["seconds"]
        asked = ask(run, rows)
    fallen = {r["key"]: r["reason"] for r in ledger if r["reason"] not in (None, "not_selected")}
    copies = {k for k, reason in fallen.items() if reason in ("exact", "near", "semantic")}
    planted = {kind: {k for k, v in truth.items() if v == kind} for kind in ("exact", "near", "empty_answer")}
    # Of a copy and its original either may be kept: what must hold is the number that falls
    wanted = len(planted["exact"]) + len(planted["near"])
    found = sum(fallen.get(k) == "empty_answer" for k in planted["empty_answer"])
    print(
        f"{rows:,} rows: {seconds:.1f} s, {seconds / rows * 1e6:.0f} us a row, peak {peak:.2f} GB; "
        f"copies fallen {len(copies):,} of {wanted:,} planted; no answer {found:,} of {len(planted['empty_answer']):,}"
    )
    print("   ", ", ".join(f"{name} {s:.1f}" for name, s in steps.items()))
    near = {k for k in copies if fallen[k] == "near"}
    print(f"    near copies fallen {len(near):,} of {len(planted['near']):,} planted")
    print(f"    {asked}", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    with gzip.open(options.data / "t0_20k.jsonl.gz") as stream:
        raw = [json.loads(line) for line in stream]
    t0 = [(r["prompt"].split(), r["completion"]) for r in raw if len(r["prompt"].split()) >= 20]
    taken = [(rows, measure(rows, t0)) for rows in options.rows]
    margins = [(b - a) / (n - m) * 1e6 for (m, a), (n, b) in itertools.pairwise(taken)]
    print("marginal us a row:", ", ".join(f"{value:.0f}" for value in margins))


if __name__ == "__main__":
    main()
