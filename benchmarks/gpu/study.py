"""The study of CLINC150 at full scale, dirty and clean, in parts of at most nine minutes.

    python benchmarks/gpu/study.py                    # both, until they are done
    python benchmarks/gpu/study.py --parts 1          # nine minutes of it; run again, it goes on where it was
    python benchmarks/gpu/study.py --only dirty

A part is a process of `tamis study` that is ended after nine minutes: finished cells are never trained again, a cell
that was cut off goes on from its last checkpoint. After every part `results/study-NAME/` holds the cells so far, and at
the end `table.md` and `result.json`, with the proxy's beside them, so that their agreement in rank is in the table.
Exit code 0: all is answered; 75: it goes on with the next call.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
STUDY = HERE.parent / "study"
LIMIT = 540.0  # seconds of a part
GOES_ON = 75  # EX_TEMPFAIL of sysexits.h
ANSWERED = (0, 3)  # done, and done without a verdict
KEPT = ("table.md", "result.json", "cells.parquet", "stability.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["dirty", "clean"], nargs="+", default=["dirty", "clean"])
    parser.add_argument("--parts", type=int, help="most parts of this call; default: until all is answered")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of a part")
    parser.add_argument("--study", type=Path, default=STUDY, help="folder of full_NAME.yaml and their data")
    parser.add_argument("--source", type=Path, default=Path("../shared/data/clinc150.json"))
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/tamis-study"), help="for the run folders")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    left = options.parts
    for name in options.only:
        recipe = options.study / f"full_{name}.yaml"
        prepare(name, options.study / f"full_{name}", options.source)
        for proxy in (True, False):
            while not answered(options, name, proxy):
                if left == 0:
                    raise SystemExit(GOES_ON)
                done = part(recipe, options.scratch / name, proxy, options.limit)
                keep(options.scratch / name, options.results / f"study-{name}")
                left = None if left is None else left - 1
                if done:
                    break


def prepare(name: str, folder: Path, source: Path) -> None:
    """The rows and items, drawn by seed; made once."""
    if not (folder / "test.jsonl").is_file():
        line = [sys.executable, str(STUDY / "make.py"), str(folder), "--source", str(source)]
        subprocess.run([*line, *(["--dirty"] if name == "dirty" else [])], check=True)


def answered(options: argparse.Namespace, name: str, proxy: bool) -> bool:
    """Whether this part of the study was answered by an earlier call."""
    return (options.results / f"study-{name}" / ("proxy" if proxy else "study") / "table.md").is_file()


def part(recipe: Path, run: Path, proxy: bool, limit: float) -> bool:
    """One process; whether it came to its end.

    Raises:
        SystemExit: the study failed, with its own exit code.
    """
    line = [sys.executable, "-m", "tamis.cli", "study", str(recipe), "--run", str(run), "--even-so"]
    try:
        code = subprocess.run([*line, *(["--proxy"] if proxy else [])], timeout=limit).returncode
    except subprocess.TimeoutExpired:  # killed; all that was finished is on disk
        print(f"{run.name}: {limit:.0f} s are over, it goes on in the next part", file=sys.stderr, flush=True)
        return False
    if code not in ANSWERED:
        raise SystemExit(code)
    return True


def keep(run: Path, results: Path) -> None:
    """Copy what the study has written so far."""
    for home in ("proxy", "study"):
        for file in KEPT:
            if (run / home / file).is_file():
                (results / home).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(run / home / file, results / home / file)


if __name__ == "__main__":
    main()
