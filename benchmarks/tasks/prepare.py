"""Five small tasks as JSONL, drawn by seed: classify (English, Vietnamese), regress, summarise, multi-turn chat.

    python benchmarks/tasks/prepare.py ../shared/data

| task | from | licence |
|---|---|---|
| clinc150 | 15 of the 150 intents of CLINC150 (Larson et al. 2019), its own test split | CC BY 3.0 |
| tickets_vi | the built-in data's Vietnamese phrases, 28 intents; items written separately | CC0-1.0 |
| gsm8k | questions of GSM8K (Cobbe et al. 2021) with their final numbers, its own test split | MIT |
| summaries | the prompts of T0's mixture (Sanh et al. 2022) that ask for a summary, short ones | Apache-2.0 |
| chat | the built-in data's phrases as four turns, two languages: the desk asks for a number, then answers | CC0-1.0 |
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tamis.data import generate  # beside which the phrases lie, in a wheel too

HERE = Path(__file__).parent
PHRASES = Path(generate.__file__).parent
SEED = 7
INTENTS = 15  # of CLINC150's 150: with 150 rows each intent has ten

# What the desk says: a question for the number, and the answer, by intent and language. {n} is the number.
ASKS = {
    "en": "Thank you for writing. Which order is it about?",
    "vi": "Cảm ơn bạn đã nhắn. Bạn cho mình xin mã đơn hàng nhé?",
}
GIVES = {"en": "It is {n}.", "vi": "Mã là {n} ạ."}
SAYS = {
    "track order": {
        "en": "Order {n} has left our warehouse and is with the courier.",
        "vi": "Đơn {n} đã rời kho và đang được giao.",
    },
    "cancel order": {
        "en": "Order {n} is cancelled; your money comes back within five days.",
        "vi": "Đơn {n} đã được hủy, tiền sẽ về tài khoản trong năm ngày.",
    },
    "late delivery": {
        "en": "I am sorry that order {n} is late; I have asked the courier to bring it first.",
        "vi": "Xin lỗi vì đơn {n} bị trễ, mình đã yêu cầu giao trước.",
    },
    "missing parcel": {
        "en": "I have opened a search for order {n}; we answer within two days.",
        "vi": "Mình đã mở yêu cầu tìm đơn {n}, shop sẽ trả lời trong hai ngày.",
    },
    "return label": {
        "en": "The return label for order {n} is on its way to your inbox.",
        "vi": "Phiếu trả hàng của đơn {n} đã được gửi vào email của bạn.",
    },
    "damaged item": {
        "en": "I am sorry; a new item for order {n} goes out tomorrow.",
        "vi": "Xin lỗi bạn, hàng mới cho đơn {n} sẽ được gửi đi ngày mai.",
    },
    "change address": {
        "en": "The new address for order {n} is saved.",
        "vi": "Địa chỉ mới của đơn {n} đã được lưu.",
    },
}


def clinc150(shared: Path, rng: random.Random) -> dict[str, list[dict[str, Any]]]:
    splits = json.loads((shared / "clinc150.json").read_text(encoding="utf-8"))
    intents = set(rng.sample(sorted({intent for _, intent in splits["train"]}), INTENTS))
    made = {}
    for split, each in (("train", None), ("test", 7)):
        rows = [{"text": t, "intent": i.replace("_", " ")} for t, i in splits[split] if i in intents]
        made[split] = rows if each is None else [r for i in sorted(intents) for r in _some(rows, i, each)]
    return made


def _some(rows: list[dict[str, Any]], intent: str, count: int) -> list[dict[str, Any]]:
    return [r for r in rows if r["intent"] == intent.replace("_", " ")][:count]


def phrases() -> dict[str, dict[str, list[str]]]:
    """The built-in data's hand-written phrases by intent, in `train_en`, `train_vi`, `eval_en`, `eval_vi`."""
    files = [PHRASES / f"phrases_{name}.yaml" for name in ("account", "orders", "payments", "returns")]
    return {k: v for file in files for k, v in yaml.safe_load(file.read_text(encoding="utf-8")).items()}


def tickets_vi(shared: Path, rng: random.Random) -> dict[str, list[dict[str, Any]]]:
    return {
        split: [{"text": t, "intent": i} for i, found in phrases().items() for t in found[key]]
        for split, key in (("train", "train_vi"), ("test", "eval_vi"))
    }


def gsm8k(shared: Path, rng: random.Random) -> dict[str, list[dict[str, Any]]]:
    made = {}
    for split, count in (("train", 1000), ("test", 100)):
        lines = (shared / f"gsm8k_{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in rng.sample(lines, count)]
        made[split] = [{"question": r["question"], "number": r["answer"].rpartition("####")[2].strip()} for r in rows]
    return made


def summaries(shared: Path, rng: random.Random) -> dict[str, list[dict[str, Any]]]:
    asks = re.compile(r"summar|tl;dr|sum up|in a few words", re.IGNORECASE)
    with gzip.open(shared / "t0_20k.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    fit = [r for r in rows if asks.search(r["prompt"]) and len(r["prompt"]) < 900 and 40 < len(r["completion"]) < 200]
    rng.shuffle(fit)
    return {"train": fit[100:], "test": fit[:100]}


def chat(shared: Path, rng: random.Random) -> dict[str, list[dict[str, Any]]]:
    known = phrases()
    made: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for split, part in (("train", "train"), ("test", "eval")):
        for intent, says in SAYS.items():
            for language in ("en", "vi"):
                for text in known[intent][f"{part}_{language}"]:
                    number = f"LK-{rng.randrange(10_000, 99_999)}"
                    turns = (text, ASKS[language], GIVES[language], says[language])
                    roles = ("user", "assistant", "user", "assistant")
                    messages = [
                        {"role": r, "content": t.replace("{n}", number)} for r, t in zip(roles, turns, strict=True)
                    ]
                    made[split].append({"messages": messages})
    return made


TASKS = {"clinc150": clinc150, "tickets_vi": tickets_vi, "gsm8k": gsm8k, "summaries": summaries, "chat": chat}


def write(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def main() -> None:
    shared = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    if not shared.is_dir():
        sys.exit(f"error: no folder {shared}\n  hint: python benchmarks/tasks/prepare.py FOLDER (clinc150.json, ...)")
    for name, make in TASKS.items():
        made = make(shared, random.Random(f"{SEED}:{name}"))
        for split, rows in made.items():
            write(HERE / f"{name}_{split}.jsonl", rows)
        print(f"{name}: {len(made['train']):,} rows to choose from, {len(made['test']):,} items")


if __name__ == "__main__":
    main()
