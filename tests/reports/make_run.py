"""Builds a complete, plausible run folder through the schemas, for tests that read run folders.

    python tests/reports/make_run.py FOLDER      (then: tamis report FOLDER)

Answers and times are drawn; everything made of them (metrics, comparison, verdict) is made by the real code, so every
number in the folder agrees with every other.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tamis import schema
from tamis.evaluate import measure
from tamis.evaluate.compare import compare
from tamis.evaluate.evidence import Evidence
from tamis.evaluate.gate import judge
from tamis.evaluate.metrics import lookup
from tamis.evaluate.policy import load_policy
from tamis.recipe import Recipe
from tamis.record import Message, attribute_hash, content_hash
from tamis.run import Run

INTENTS = [
    "track order",
    "cancel order",
    "refund status",
    "block card",
    "unblock card",
    "change address",
    "talk to agent",
]
ASK = {
    "track order": [
        "where is my parcel {n}",
        "đơn hàng {n} của tôi tới đâu rồi",
        "still waiting on order {n}, any news?",
    ],
    "cancel order": ["pls cancel order {n}", "hủy đơn {n} giúp mình", "I changed my mind about {n}"],
    "refund status": ["was the refund for {n} sent?", "tiền hoàn đơn {n} khi nào về", "no money back yet for {n}"],
    "block card": ["block my card ending {n}", "khóa thẻ {n} ngay", "lost my card {n}, stop it"],
    "unblock card": ["unblock my card ending {n}", "mở khóa thẻ {n}", "found card {n} again, switch it on"],
    "change address": ["ship {n} to my office instead", "đổi địa chỉ đơn {n}", "wrong street on order {n}"],
    "talk to agent": ["a human please, ticket {n}", "cho tôi gặp nhân viên, phiếu {n}", "stop the bot!! {n}"],
}
# share of right answers, seconds for one answer, of each system
SKILL = {
    ("chosen", "tuned"): (0.93, 0.41),
    ("random", "tuned"): (0.88, 0.41),
    ("chosen", "base"): (0.04, 0.62),
    ("chosen", "base-best"): (0.55, 0.95),
    ("chosen", "linear"): (0.90, 0.0011),
    ("chosen", "majority"): (0.15, 0.00002),
    ("random", "linear"): (0.86, 0.0011),
}
FREE_OF_ARM = ("base", "base-best")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the folder is to be."""

    read: int = 3000
    kept: int = 300
    items: int = 200
    requests: int = 80
    arms: tuple[str, ...] = ("chosen", "random")
    hostile: bool = False
    verdict: str = "FAIL"


HOSTILE = (
    '<script>alert(1)</script> ![x](http://evil.example/p.png) \u202eabc\u202c \x00 =HYPERLINK("http://e") '
    "[link](javascript:alert(2)) `code` | pipe & <img src=x onerror=alert(3)>"
)


def make_run(path: Path, sizes: Sizes = Sizes(), seed: int = 7) -> Run:
    """Write everything a finished run of the demo's shape holds."""
    run, rng = Run(path), np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    write_recipe(run)
    write_curation(run, sizes, rng)
    items = write_items(run, sizes, rng)
    for arm, system in SKILL:
        if arm in sizes.arms:
            write_system(run, arm, system, items, sizes, rng)
    for arm in sizes.arms:
        write_training(run, arm, sizes, rng)
    schema.write_json(run.path / "arms.json", {"arms": list(sizes.arms)})
    compare(run, Recipe.load(run.recipe_file))
    judge(run, load_policy(write_policy(run, sizes)), today=datetime.date(2026, 11, 24))
    return run


def write_recipe(run: Run) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "demo",
            "data": {"path": "data/tickets.jsonl"},
            "eval": {"path": "data/eval.jsonl"},
            "curate": {"select": {"size": 300}},
            "evaluate": {
                "task": {"kind": "classify", "template": "Message: {prompt}\nIntent:"},
                "systems": ["base", "base-best", "tuned", "linear", "majority"],
                "price": {"machine_hour": 2.5},
            },
            "gate": "policy.yaml",
        }
    )
    run.recipe_file.write_text(recipe.dump(), encoding="utf-8")


def asked(rng: np.random.Generator, sizes: Sizes, i: int) -> tuple[str, str]:
    intent = INTENTS[i % len(INTENTS)]
    text = ASK[intent][int(rng.integers(3))].format(n=int(rng.integers(1000, 9999)))
    return (f"{text} {HOSTILE}" if sizes.hostile and i % 3 == 0 else text), intent


# ------------------------------------------------------------------------------------------------------ curate


def write_curation(run: Run, sizes: Sizes, rng: np.random.Generator) -> None:
    n, kept = sizes.read, sizes.kept
    shares = {
        ("clean", "unreadable"): 0.002,
        ("score", "empty"): 0.01,
        ("score", "markup"): 0.012,
        ("score", "refusal"): 0.008,
        ("decontaminate", "leak_exact"): 0.01,
        ("decontaminate", "leak_ngram"): 0.006,
        ("deduplicate", "exact"): 0.06,
        ("deduplicate", "near"): 0.11,
    }
    counts = {key: max(1, int(n * share)) for key, share in shares.items()}
    counts["select", "not_selected"] = n - kept - sum(counts.values())
    assert counts["select", "not_selected"] > 0, "too few rows for this many kept"
    fates = [key for key, rows in counts.items() for _ in range(rows)] + [("", "")] * kept
    order = rng.permutation(n)
    stages, reasons = (np.array([f[k] for f in fates], dtype=object)[order] for k in (0, 1))
    write_ledger(run, stages, reasons, sizes, rng)
    dropped: dict[str, dict[str, int]] = {}
    for (stage, reason), rows in counts.items():
        dropped.setdefault(stage, {})[reason] = rows
    schema.write_json(
        run.curate / "funnel.json",
        {
            "read": n,
            "kept": kept,
            "dropped": dropped,
            "seconds": {
                "read": 1.2,
                "clean": 0.4,
                "score": 2.8,
                "decontaminate": 1.1,
                "deduplicate": 3.9,
                "select": 2.2,
            },
            "embedder": "lsa",
            "clusters": 39,
            "peak_mb": 612.4,
        },
    )
    schema.write_json(
        run.curate / "decontamination.json", {"enabled": True, "rows": counts["decontaminate", "leak_exact"]}
    )
    finish(run.curate, seconds=11.6, read=n, kept=kept)


def write_ledger(run: Run, stages: Any, reasons: Any, sizes: Sizes, rng: np.random.Generator) -> None:
    n = sizes.read
    ids = np.sort([f"{i:016x}-{i % 65536:04x}-0" for i in rng.choice(2**48, n, replace=False)])
    kept = stages == ""
    label = np.array(INTENTS, dtype=object)[rng.integers(0, len(INTENTS), n)]
    witnessed = np.isin(stages, ["deduplicate", "decontaminate"])
    witness = np.where(witnessed, ids[rng.choice(np.flatnonzero(kept), n)], None)
    rank = np.full(n, -1)
    selected = np.flatnonzero(kept | (stages == "select"))
    rank[np.flatnonzero(kept)] = np.arange(kept.sum())
    rank[np.setdiff1d(selected, np.flatnonzero(kept))] = np.arange(kept.sum(), len(selected))
    similarity = np.where(witnessed, 0.85 + 0.15 * rng.random(n), np.nan)
    columns = {
        "id": ids,
        "key": [f"t-{i}" for i in range(n)],
        "file": ["data/tickets.jsonl"] * n,
        "line": np.arange(1, n + 1),
        "source": np.where(rng.random(n) < 0.7, "helpdesk", "chat"),
        "license": ["cc-by-4.0"] * n,
        "label": label,
        "language": np.where(rng.random(n) < 0.8, "en", "vi"),
        "tokens": rng.integers(4, 60, n),
        "verdict": np.where(kept, "kept", "dropped"),
        "stage": np.where(kept, None, stages),
        "reason": np.where(kept, None, reasons),
        "witness": witness,
        "similarity": pa.array(similarity, pa.float32(), from_pandas=True),
        "slack": pa.array(np.where(witnessed, 0.85 - similarity, np.nan), pa.float32(), from_pandas=True),
        "cluster": pa.array(np.where(rank >= 0, rng.integers(0, 39, n), -1), mask=rank < 0, type=pa.int32()),
        "rank": pa.array(rank, mask=rank < 0, type=pa.int32()),
        "truncated": [False] * n,
    }
    table = pa.table({f.name: pa.array(columns[f.name], f.type, from_pandas=True) for f in schema.LEDGER})
    write_map(run, ids, columns["label"], stages, rng)
    quality = pa.array(rng.beta(5, 2, n), pa.float32())
    schema.write_parquet(run.curate / "ledger.parquet", table.append_column("score_quality", quality))
    write_records(run, ids, label, sizes, rng)


def write_map(run: Run, ids: Any, label: Any, stages: Any, rng: np.random.Generator) -> None:
    """A place for every row that was embedded: labels lie together, as they do on a real map."""
    placed = ~np.isin(stages, ["clean", "score", "decontaminate"])
    angle = 2 * np.pi * np.array([INTENTS.index(x) for x in label[placed]]) / len(INTENTS)
    at = 20 * np.column_stack([np.cos(angle), np.sin(angle)]) + rng.normal(0, 3, (int(placed.sum()), 2))
    table = pa.table({"id": ids[placed], "x": at[:, 0].astype("f4"), "y": at[:, 1].astype("f4")}, schema=schema.MAP)
    schema.write_parquet(run.curate / "map.parquet", table)


def write_records(run: Run, ids: Any, label: Any, sizes: Sizes, rng: np.random.Generator) -> None:
    few = min(sizes.read, 20_000)  # a million texts would only make the tests slow; pages look them up by id
    rows = []
    for i in range(few):
        text = ASK[label[i]][i % 3].format(n=1000 + i)
        text = f"{text} {HOSTILE}" if sizes.hostile and i % 7 == 0 else text
        turns = [
            {"role": "user", "content": text, "rest": None},
            {"role": "assistant", "content": label[i], "rest": None},
        ]
        where = {"file": "data/tickets.jsonl", "line": i + 1, "offset": i * 80, "length": 80, "meta": None}
        rows.append(
            {
                "id": ids[i],
                "key": f"t-{i}",
                "messages": turns,
                "label": label[i],
                "source": "helpdesk",
                "license": "cc-by-4.0",
                **where,
            }
        )
    schema.write_parquet(run.curate / "records" / "part-00000.parquet", pa.Table.from_pylist(rows, schema.RECORD))


# ---------------------------------------------------------------------------------------------------- evaluate


def write_items(run: Run, sizes: Sizes, rng: np.random.Generator) -> list[dict[str, Any]]:
    items = []
    for i in range(sizes.items):
        text, intent = asked(rng, sizes, i)
        turns = (Message("user", text), Message("assistant", intent))
        items.append(
            {
                "id": f"{content_hash(turns)}-{attribute_hash(intent, None, None, None)}-{i}",
                "key": f"e-{i}",
                "messages": [{"role": m.role, "content": m.content, "rest": None} for m in turns],
                "label": intent,
                "language": "vi" if any(ord(c) > 0x1E00 and ord(c) < 0x2000 for c in text) else "en",
                "component": i - (i % 20 == 19),
            }
        )
    schema.write_parquet(run.curate / "eval.parquet", pa.Table.from_pylist(items, schema.EVAL))
    return items


def write_system(
    run: Run, arm: str, system: str, items: list[dict[str, Any]], sizes: Sizes, rng: np.random.Generator
) -> None:
    share, seconds = SKILL[arm, system]
    # the harder an item, the more systems miss it: answers of different systems go together, as real ones do
    hardness = np.random.default_rng(1).random(len(items))
    right = hardness + rng.normal(0, 0.08, len(items)) < share
    samples = []
    for i, (item, good) in enumerate(zip(items, right, strict=True)):
        wrong = INTENTS[(INTENTS.index(item["label"]) + 1 + int(rng.integers(3))) % len(INTENTS)]
        parsed = system != "base" or rng.random() < 0.1 or bool(good)
        said = item["label"] if good else wrong
        output = said if parsed else "I'm sorry to hear that. Could you please give me more details about your order"
        output = f"{output} {HOSTILE}" if sizes.hostile and i % 4 == 0 else output
        prompt = (
            f"<|im_start|>user\nMessage: {item['messages'][0]['content']}\nIntent:<|im_end|>\n<|im_start|>assistant\n"
        )
        samples.append(
            {
                **{k: item[k] for k in ("id", "component", "label", "language")},
                "batch": i // 32,
                "prompt": prompt,
                "prompt_sha256": f"{i:064x}",
                "output": output,
                "answer": said if parsed else None,
                "expected": item["label"],
                "correct": bool(good),
                "parsed": parsed,
                "finish": "stop",
                "prompt_tokens": 30,
                "output_tokens": 3,
                "nll": 2.0,
                "nll_tokens": 3,
                "nll_bytes": 12,
                "error": None,
            }
        )
    folder = run.evaluate(arm, system)
    schema.write_parquet(folder / "samples.parquet", pa.Table.from_pylist(samples, schema.SAMPLES))
    times = write_requests(folder, items, seconds, sizes, rng)
    about = {
        "system": system,
        "arm": arm,
        "uses_arm": system not in FREE_OF_ARM,
        "items": len(items),
        "eval_set_sha256": "9f2c" + "0" * 60,
        "prompt_sha256": "11" * 32,
        "environment": ENVIRONMENT,
        "adapter": {"alive": True},
        "batches": [{"answered": 8, "seconds": float(t)} for t in np.add.reduceat(times, range(0, len(times), 8)) / 6],
        "batch_size": 32,
        "output_tokens": 3 * len(items),
    }
    schema.write_json(folder / "metrics.json", about)
    evidence = Evidence(arm, system, folder)
    metrics = {id_: measure.absolute(evidence, id_).as_dict(lookup(id_).unit) for id_ in METRICS}
    schema.write_json(folder / "metrics.json", {**about, "metrics": metrics})
    finish(folder, items=len(items))


def write_requests(folder: Path, items: Any, seconds: float, sizes: Sizes, rng: np.random.Generator) -> np.ndarray:
    times = seconds * np.exp(rng.normal(0, 0.18, sizes.requests))
    starts = np.concatenate([[0.0], np.cumsum(times)[:-1]])
    rows = [
        {
            "id": items[i % len(items)]["id"],
            "warmup": i < 2,
            "scheduled_s": s,
            "sent_s": s,
            "first_s": s + t * 0.6,
            "last_s": s + t,
            "prompt_tokens": 30,
            "output_tokens": 3,
            "status": "ok",
        }
        for i, (s, t) in enumerate(zip(starts, times, strict=True))
    ]
    schema.write_parquet(folder / "requests.parquet", pa.Table.from_pylist(rows, schema.REQUESTS))
    return times


def write_loads(folder: Path, items: Any, seconds: float, levels: tuple[int, ...] = (1, 2, 4, 8)) -> None:
    """Requests in flight, of which two are worked on at a time: beyond that they only wait."""
    told = []
    for number, many in enumerate(levels):
        took = seconds * max(1.0, many / 2)
        rows = [
            {
                "id": items[i % len(items)]["id"],
                "warmup": i < many,
                "scheduled_s": (i // many) * took,
                "sent_s": (i // many) * took,
                "first_s": (i // many) * took + took / 2,
                "last_s": (i // many) * took + took,
                "prompt_tokens": 30,
                "output_tokens": 3,
                "status": "ok",
            }
            for i in range(many * 21)
        ]
        schema.write_parquet(folder / f"load-{number}.parquet", pa.Table.from_pylist(rows, schema.REQUESTS))
        told.append({"arrival": "closed", "rate": None, "concurrency": many, "file": f"load-{number}.parquet"})
    schema.write_json(folder / "load.json", {"levels": told})


ENVIRONMENT = {
    "machine": "Xeon, 2 cores",
    "hardware": "Xeon, 2 cores",
    "engine": "transformers",
    "device": "cpu",
    "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
}


METRICS = ("accuracy", "macro_f1", "parse_rate", "latency.e2e.p50", "latency.e2e.p95", "load.throughput")


# A policy that gives each verdict to the first arm of a run of the usual size.
GATES = {
    "PASS": {"floor": "lower >= 0.70", "speed": "upper <= 5 s", "price": "upper <= 0.90 USD"},
    "FAIL": {"floor": "lower >= 0.70", "speed": "upper <= 400 ms", "price": "upper <= 0.90 USD"},
    "INCONCLUSIVE": {"floor": "lower >= 0.92", "speed": "upper <= 5 s", "price": "upper <= 0.90 USD"},
    "INVALID": {"floor": "lower >= 0.70", "speed": "upper <= 5 s", "price": "upper <= 0.90 USD"},
}


def write_policy(run: Run, sizes: Sizes) -> Path:
    floor, speed, price = GATES[sizes.verdict].values()
    same = "[eval_set, template]" if sizes.verdict == "INVALID" else "[eval_set]"  # no template hash is written
    path = run.path / "policy.yaml"
    path.write_text(
        f"""version: 1
evidence: {{candidate: tuned, baseline: base}}
requires: {{same: {same}, checks: [complete]}}
gates:
  - {{id: floor, metric: accuracy, require: "{floor}"}}
  - {{id: better, metric: accuracy, require: "delta.lower > 0"}}
  - {{id: speed, metric: latency.e2e.p95, require: "{speed}"}}
  - {{id: price, metric: cost.usd_per_1k, require: "{price}"}}
  - {{id: slices, metric: accuracy, by: label, min_n: 10, require: "lower >= 0.9", severity: warn}}
""",
        encoding="utf-8",
    )
    return path


# ------------------------------------------------------------------------------------------------------- train


def write_training(run: Run, arm: str, sizes: Sizes, rng: np.random.Generator) -> None:
    folder = run.train(arm)
    steps = 57
    loss = 3.2 * np.exp(-np.arange(steps) / 15) + 0.25 + rng.normal(0, 0.05, steps)
    lines = [
        {
            "step": i + 1,
            "epoch": 3 * (i + 1) / steps,
            "loss": float(x),
            "learning_rate": 2e-4 * (1 - i / steps),
            "grad_norm": 1.2,
            "tokens_per_s": 240.0,
        }
        for i, x in enumerate(loss)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    schema.write_json(
        folder / "plan.json",
        {
            "choices": [
                {"name": "r", "value": 16, "why": "capacity for 9,120 loss tokens"},
                {"name": "lr", "value": 2e-4, "why": "formula"},
            ]
        },
    )
    finish(
        folder,
        seconds=117.3,
        rows=sizes.kept,
        tokens=20640,
        trained_tokens=1520,
        steps=steps,
        final_loss=float(loss[-1]),
        peak_mb=1890.0,
        base_sha256="12" * 32,
    )


def finish(folder: Path, **summary: Any) -> None:
    schema.write_json(folder / "stage.json", {"fingerprint": "00" * 32, "finished": "2026-11-24T02:10:00Z", **summary})


if __name__ == "__main__":
    make_run(Path(sys.argv[1]))
