"""Makes the built-in data: support tickets of an invented online shop, with planted faults and the truth about them.

    python -m tamis.data.generate          # rewrites tickets.jsonl, eval.jsonl and truth.jsonl beside this file

All phrasings are written by hand (phrases_*.yaml); this file only plants the faults, from one seed.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
SEED = 20261124
GROUPS = ("orders", "returns", "payments", "account")
# A support desk hears of some things far more often than of others: share of an intent's phrasings that is used.
RARE = ("raise limit", "lower limit", "subscribe newsletter", "warranty claim", "gift card balance", "change quantity")
GREETINGS = ("Hi, ", "Hello, ", "Hi there, ", "Good morning, ", "Hello team, ", "hey ")
CLOSINGS = (" Thanks", " Thank you", " thx", " Thanks in advance", " Cheers", " Kind regards")


def load() -> dict[str, dict[str, Any]]:
    """Intent -> its hand-written phrasings."""
    out: dict[str, dict[str, Any]] = {}
    for group in GROUPS:
        out |= yaml.safe_load((FOLDER / f"phrases_{group}.yaml").read_text(encoding="utf-8"))
    return out


def _yaml(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"phrases_{name}.yaml").read_text(encoding="utf-8"))


def _bag(text: str) -> str:
    return " ".join(sorted(re.findall(r"\w+", text.lower())))


class Builder:
    """Gathers rows and what is true of them."""

    def __init__(self) -> None:
        self.rng = random.Random(SEED)
        self.rows: list[tuple[str, str, str]] = []
        self.truth: list[dict[str, Any]] = []

    def add(self, text: str, answer: str, label: str, **truth: Any) -> str:
        key = f"T-{len(self.rows):05d}"
        self.rows.append((text, answer, label))
        if truth:
            self.truth.append({"key": key, **truth})
        return key

    def near(self, text: str) -> str:
        """A near copy: another case, other punctuation, a greeting, a closing, or one slip in a long word."""
        kind = self.rng.choice(("case", "marks", "greeting", "closing", "slip"))
        if kind == "case":
            return text.lower() if text != text.lower() else text.capitalize() + "!"
        if kind == "marks":
            return text.rstrip(".!?") + self.rng.choice(("!!", "...", " ?", " !"))
        if kind == "greeting" and len(text) > 90:
            return self.rng.choice(GREETINGS) + text[0].lower() + text[1:]
        if kind == "closing" and len(text) > 90:
            return text.rstrip() + self.rng.choice(CLOSINGS)
        found = [w for w in text.split() if len(w) >= 6 and w.isascii() and w.isalpha()]
        if len(text) < 80 or not found:
            return text.upper() if text != text.upper() else text.lower()
        word = self.rng.choice(found)
        at = self.rng.randrange(2, len(word) - 2)
        return text.replace(
            word,
            word[:at] + word[at + 1] + word[at] + word[at + 2 :]
            if word[at] != word[at + 1]
            else word[:at] + word[at + 1 :],
            1,
        )


def build() -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """All rows, the evaluation items and the truth."""
    phrases, b = load(), Builder()
    intents = sorted(phrases)
    items: list[dict[str, Any]] = []
    base: list[tuple[str, str, str]] = []
    # A ticket with the words of an opposite would be its true copy and blur the planted truth.
    taken = {_bag(pair[side]) for pair in _yaml("opposites") for side in ("a", "b")}
    for intent in intents:
        p = phrases[intent]
        share = 0.5 if intent in RARE else 1.0
        for part in ("train_en", "train_vi"):
            for text in p[part][: round(len(p[part]) * share)]:
                if _bag(text) in taken:
                    continue
                base.append((b.add(text, intent, intent), text, intent))
        for part in ("eval_en", "eval_vi"):
            items += [{"id": f"E-{len(items) + i:04d}", "text": t, "intent": intent} for i, t in enumerate(p[part])]
        for left, right in p["paraphrases"]:
            first = b.add(left, intent, intent)
            b.add(right, intent, intent, kind="paraphrase", of=first)
    for number, pair in enumerate(_yaml("opposites")):
        for side in ("a", "b"):
            b.add(
                pair[side], pair[f"label_{side}"], pair[f"label_{side}"], kind="opposite", pair=number, why=pair["kind"]
            )
    common = [row for row in base if row[2] not in RARE]
    for key, text, intent in b.rng.sample(common, 260):
        b.add(text, intent, intent, kind="exact", of=key)
    for key, text, intent in b.rng.sample(common, 400):
        copy = b.near(text)
        if copy.strip() != text.strip():
            b.add(copy, intent, intent, kind="near", of=key)
    _plant_wrong_labels(b, common, intents)
    _plant_junk(b, base)
    for item in b.rng.sample(items, 60):
        b.add(item["text"], item["intent"], item["intent"], kind="leak", of=item["id"])
    _plant_personal(b, base)
    return _shaped(b), items, b.truth


def _plant_wrong_labels(b: Builder, base: list[tuple[str, str, str]], intents: list[str]) -> None:
    """Tickets filed under another intent: a reworded frame around a ticket, so that they are no copies."""
    frames = ("{} - can someone sort this out today?", "Writing again. {}", "{} I already asked twice about this.")
    for _, text, intent in b.rng.sample(base, 300):
        wrong = b.rng.choice([i for i in intents if i != intent])
        b.add(b.rng.choice(frames).format(text), wrong, wrong, kind="wrong_label", right=intent)


def _plant_junk(b: Builder, base: list[tuple[str, str, str]]) -> None:
    junk = _yaml("junk")
    texts = b.rng.sample(base, 90)
    for (_, text, intent), answer in zip(texts, (junk["refusal_en"] + junk["refusal_vi"]) * 3, strict=False):
        b.add(text + " (2nd message)", answer, intent, kind="junk", reason="refusal")
    for text in junk["markup"]:
        b.add(text, b.rng.choice(texts)[2], b.rng.choice(texts)[2], kind="junk", reason="markup")
    for prompt, answer in junk["truncated"]:
        b.add(prompt, answer, b.rng.choice(texts)[2], kind="junk", reason="truncated")
    for prompt, answer in junk["placeholder"]:
        b.add(prompt, answer, b.rng.choice(texts)[2], kind="junk", reason="placeholder")
    for _, text, intent in texts[60:90]:
        b.add(text + " (no reply yet)", "", intent, kind="junk", reason="empty_answer")
    for i in range(10):
        b.add("" if i % 2 else "   ", texts[i][2], texts[i][2], kind="junk", reason="empty_prompt")


def _plant_personal(b: Builder, base: list[tuple[str, str, str]]) -> None:
    """Invented contact data in invented tickets: reserved numbers and domains (RFC 2606, 555 numbers, test cards)."""
    for n, (_, text, intent) in enumerate(b.rng.sample(base, 60)):
        kind, value = (
            ("email", f"customer{n}@example.com"),
            ("phone", f"+1 555 01{n:02d} 4{n:02d}"),
            ("card", "4111 1111 1111 1111"),
        )[n % 3]
        b.add(f"{text} You can reach me under {value}.", intent, intent, kind="personal", type=kind, value=value)


def _shaped(b: Builder) -> list[dict[str, Any]]:
    """Half alpaca, half messages, in shuffled order."""
    out = []
    for n, (text, answer, label) in enumerate(b.rows):
        head = {"ticket_id": f"T-{n:05d}"}
        if n % 2:
            turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
            out.append({**head, "messages": turns, "intent": label})
        else:
            out.append({**head, "instruction": text, "input": "", "output": answer, "intent": label})
    b.rng.shuffle(out)
    return out


def main() -> None:
    """Write the three files."""
    for name, rows in zip(("tickets", "eval", "truth"), build(), strict=True):
        text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
        (FOLDER / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
