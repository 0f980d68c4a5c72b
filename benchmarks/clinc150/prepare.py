"""CLINC150 as two JSONL files: 15,000 training questions and the 4,500 of the real test split.

    python benchmarks/clinc150/prepare.py data_full.json
    python benchmarks/clinc150/prepare.py data_full.json --intents 30     a part: train_30.jsonl, test_30.jsonl

`data_full.json` is the file of Larson et al. (2019), "An Evaluation Dataset for Intent Classification and Out-of-Scope
Prediction" (EMNLP), CC BY 3.0. The out-of-scope questions are left out: they have no intent to learn.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).parent
SEED = 7  # of the intents that are drawn for a part


def main() -> None:
    reader = argparse.ArgumentParser(description="CLINC150 as JSONL")
    reader.add_argument("source", type=Path, nargs="?", default=Path("../shared/data/clinc150.json"))
    reader.add_argument("--intents", type=int, help="draw so many of the 150")
    asked = reader.parse_args()
    if not asked.source.is_file():
        sys.exit(f"error: no file {asked.source}\n  hint: python benchmarks/clinc150/prepare.py PATH/TO/data_full.json")
    splits = json.loads(asked.source.read_text(encoding="utf-8"))
    intents = sorted({intent for _, intent in splits["train"]})
    if asked.intents:
        intents = random.Random(SEED).sample(intents, asked.intents)
    for split in ("train", "test"):
        # "transfer_money" is a name of a programmer's making; a language model is asked in words
        rows = [{"text": t, "intent": intent.replace("_", " ")} for t, intent in splits[split] if intent in intents]
        file = HERE / f"{split}_{asked.intents}.jsonl" if asked.intents else HERE / f"{split}.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        print(f"{file}: {len(rows):,} rows, {len({row['intent'] for row in rows})} intents")


if __name__ == "__main__":
    main()
