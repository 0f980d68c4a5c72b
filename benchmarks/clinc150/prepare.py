"""CLINC150 as two JSONL files: 15,000 training questions and the 4,500 of the real test split.

    python benchmarks/clinc150/prepare.py data_full.json

`data_full.json` is the file of Larson et al. (2019), "An Evaluation Dataset for Intent Classification and Out-of-Scope
Prediction" (EMNLP), CC BY 3.0. The out-of-scope questions are left out: they have no intent to learn.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/clinc150.json")
    if not source.is_file():
        sys.exit(f"error: no file {source}\n  hint: python benchmarks/clinc150/prepare.py PATH/TO/data_full.json")
    splits = json.loads(source.read_text(encoding="utf-8"))
    for split in ("train", "test"):
        # "transfer_money" is a name of a programmer's making; a language model is asked in words
        rows = [{"text": text, "intent": intent.replace("_", " ")} for text, intent in splits[split]]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (HERE / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        print(f"{HERE / split}.jsonl: {len(rows):,} rows, {len({row['intent'] for row in rows})} intents")


if __name__ == "__main__":
    main()
