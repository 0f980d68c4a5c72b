"""CLINC150 for the study, as it is or made dirty, whole or a seeded part of it.

    python benchmarks/study/make.py OUT --intents 30 --per-intent 40 --items-per-intent 10 --dirty
    python benchmarks/study/make.py OUT                      # all 150 intents, clean

Writes OUT/{train,test}.jsonl. Made dirty, of all training rows 30 % are near copies (greetings, typing slips, case),
10 % have a wrong label, 5 % are junk, and one test item in twenty is among them with its answer. The column `planted`
of the training rows says which; nothing reads it. Data: Larson et al. (2019), EMNLP, CC BY 3.0.
"""

from __future__ import annotations

import argparse
import json
import random
import string
from pathlib import Path
from typing import Any

NEAR, WRONG, JUNK, LEAKED = 0.30, 0.10, 0.05, 0.05
FRAMES = ("hi, {}", "hello there, {}", "{} please", "{} thanks", "please {}", "hey {}", "{}!", "{} ?")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("out", type=Path)
    asked.add_argument("--source", type=Path, default=Path("../shared/data/clinc150.json"))
    asked.add_argument("--intents", type=int, default=150)
    asked.add_argument("--per-intent", type=int, default=100, help="training rows of each intent, before any dirt")
    asked.add_argument("--items-per-intent", type=int, default=30)
    asked.add_argument("--dirty", action="store_true")
    asked.add_argument("--seed", type=int, default=7)
    given = asked.parse_args()
    chance = random.Random(given.seed)
    splits = json.loads(given.source.read_text(encoding="utf-8"))
    intents = sorted({intent for _, intent in splits["train"]})
    chosen = set(chance.sample(intents, given.intents)) if given.intents < len(intents) else set(intents)
    train = part(splits["train"], chosen, given.per_intent, chance)
    test = part(splits["test"], chosen, given.items_per_intent, chance)
    rows = dirtied(train, test, chance) if given.dirty else [{**row, "planted": "clean"} for row in train]
    given.out.mkdir(parents=True, exist_ok=True)
    for name, table in (("train", rows), ("test", test)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
        (given.out / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    counts = {kind: sum(r["planted"] == kind for r in rows) for kind in sorted({r["planted"] for r in rows})}
    print(f"{given.out}: {len(rows):,} training rows {counts}, {len(test):,} test items, {len(chosen)} intents")


def part(pairs: list[list[str]], chosen: set[str], most: int, chance: random.Random) -> list[dict[str, Any]]:
    """So many rows of each intent, drawn at random."""
    found: list[dict[str, Any]] = []
    for intent in sorted(chosen):
        texts = [text for text, of in pairs if of == intent]
        # "transfer_money" is a name of a programmer's making; a language model is asked in words
        label = intent.replace("_", " ")
        found += [{"text": text, "intent": label} for text in chance.sample(texts, min(most, len(texts)))]
    return found


def dirtied(train: list[dict[str, Any]], test: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """The rows with near copies, wrong labels, junk and leaked test items among them, shuffled."""
    leaked = chance.sample(test, round(LEAKED * len(test)))
    total = round((len(train) + len(leaked)) / (1 - NEAR - JUNK))
    labels = sorted({row["intent"] for row in train})
    rows = [{**row, "planted": "clean"} for row in train]
    for row in chance.sample(rows, round(WRONG * total)):
        row["intent"] = chance.choice([label for label in labels if label != row["intent"]])
        row["planted"] = "wrong_label"
    right = [row for row in rows if row["planted"] == "clean"]
    copies = [{**chance.choice(right), "planted": "near_copy"} for _ in range(round(NEAR * total))]
    for row in copies:
        row["text"] = changed(row["text"], chance)
    junk = [
        {"text": nonsense(chance), "intent": chance.choice(labels), "planted": "junk"}
        for _ in range(round(JUNK * total))
    ]
    rows += copies + junk + [{**row, "planted": "leak"} for row in leaked]
    chance.shuffle(rows)
    return rows


def changed(text: str, chance: random.Random) -> str:
    """The same question, typed otherwise."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.choice(FRAMES).format(text)
    if kind == 1:
        return text.upper() if chance.random() < 0.3 else text.capitalize() + "."
    place = chance.randrange(max(1, len(text) - 1))
    if kind == 2:  # two letters swapped
        return text[:place] + text[place : place + 2][::-1] + text[place + 2 :]
    return text[:place] + text[place : place + 1] * 2 + text[place + 1 :]  # a letter twice


def nonsense(chance: random.Random) -> str:
    """What a broken form or a cat on a keyboard sends."""
    words = [
        "".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 9))) for _ in range(chance.randint(2, 9))
    ]
    return chance.choice((" ".join(words), "lorem ipsum dolor sit amet " + words[0], "<div>" + words[0] + "</div>"))


if __name__ == "__main__":
    main()
