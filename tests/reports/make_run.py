"""Builds a complete, plausible run folder through the schemas, for tests that read run folders.

    python tests/reports/make_run.py FOLDER      (then: tamis report FOLDER)

The intervals are made by tamis/intervals.py from the very answers that are written, so every number in the folder
agrees with every other.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tamis import intervals, schema
from tamis.record import Message, attribute_hash, content_hash
from tamis.recipe import Recipe
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
}
FREE_OF_ARM = ("base", "base-best")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the folder is to be."""

    read: int = 3000
    kept: int = 300
    items: int = 200
    requests: int = 72
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
    systems = {key: write_system(run, *key, items, sizes, rng) for key in SKILL if key[0] in sizes.arms}
    for arm in sizes.arms:
        write_training(run, arm, sizes, rng)
    schema.write_json(run.path / "arms.json", {"arms": list(sizes.arms)})
    write_comparison(run, systems, items, sizes)
    write_verdict(run, systems, sizes)
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
    quality = pa.array(rng.beta(5, 2, n), pa.float32())
    schema.write_parquet(run.curate / "ledger.parquet", table.append_column("score_quality", quality))
    write_records(run, ids, label, sizes, rng)


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
) -> dict[str, Any]:
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
    metrics = measured(samples, items, times)
    schema.write_json(folder / "metrics.json", {"items": len(items), "metrics": metrics, "environment": ENVIRONMENT})
    finish(folder, items=len(items))
    return {"arm": arm, "system": system, "metrics": metrics, "right": right}


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


ENVIRONMENT = {
    "machine": "2 CPU cores, 16 GB",
    "engine": "transformers",
    "device": "cpu",
    "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
}


def measured(samples: list[dict[str, Any]], items: list[dict[str, Any]], times: np.ndarray) -> dict[str, Any]:
    clusters = [i["component"] for i in items]
    found = {
        "accuracy": intervals.proportion([s["correct"] for s in samples], clusters).as_dict(),
        "parse_rate": intervals.proportion([s["parsed"] for s in samples], clusters).as_dict(),
        "latency.e2e.p50": intervals.quantile(times * 1000, 0.5).as_dict("ms"),
        "latency.e2e.p95": intervals.quantile(times * 1000, 0.95).as_dict("ms"),
    }
    batches = [float(x) for x in np.add.reduceat(times, range(0, len(times), 8)) / 6]
    rate = intervals.ratio([8.0] * len(batches), batches, over="batches")
    found["load.throughput"] = rate.as_dict("requests/s")

    def price(r: float | None) -> float | None:
        return None if not r else 1000 * 2.5 / (3600 * r * 0.5)

    cost = dataclasses.replace(rate, value=price(rate.value), lower=price(rate.upper), upper=price(rate.lower))
    found["cost.usd_per_1k"] = cost.as_dict("USD")
    return found


def write_comparison(run: Run, systems: dict[tuple[str, str], dict[str, Any]], items: Any, sizes: Sizes) -> None:
    clusters = [i["component"] for i in items]
    first = sizes.arms[0]
    others = [("base", first), ("base-best", first), ("linear", first), ("majority", first)]
    against = [((first, "tuned"), (arm, s)) for s, arm in others]
    against += [((first, "tuned"), (arm, "tuned")) for arm in sizes.arms[1:]]
    pairs = [pair(systems[a], systems[b], clusters) for a, b in against if a in systems and b in systems]
    rows = [
        {
            "arm": s["arm"],
            "system": s["system"],
            "name": f"{s['arm']} / {s['system']}",
            "train_rows": sizes.kept if s["system"] in ("tuned", "linear", "majority") else None,
            "train_seconds": 117.3 if s["system"] == "tuned" else None,
            "metrics": s["metrics"],
            "errors": 0,
        }
        for s in systems.values()
    ]
    schema.write_json(
        run.comparison,
        {
            "confidence": 0.95,
            "task": "classify",
            "items": len(items),
            "components": len(set(clusters)),
            "eval_sha256": "9f2c" + "0" * 60,
            "environment": ENVIRONMENT,
            "systems": rows,
            "pairs": pairs,
        },
    )


def pair(a: dict[str, Any], b: dict[str, Any], clusters: list[int]) -> dict[str, Any]:
    x, y = a["right"], b["right"]
    return {
        "candidate": {"arm": a["arm"], "system": a["system"]},
        "baseline": {"arm": b["arm"], "system": b["system"]},
        "metric": "accuracy",
        "delta": intervals.paired_proportion(x, y, clusters).as_dict(),
        "table": {
            "both_right": int((x & y).sum()),
            "fixed": int((x & ~y).sum()),
            "broken": int((~x & y).sum()),
            "both_wrong": int((~x & ~y).sum()),
        },
        "mcnemar_p": 0.0312,
        "examples_needed": None,
        "gain": {"format": 0.62, "skill": 0.27} if b["system"] == "base" else None,
    }


def write_verdict(run: Run, systems: dict[tuple[str, str], dict[str, Any]], sizes: Sizes) -> None:
    arms = {
        arm: arm_verdict(systems[arm, "tuned"]["metrics"], sizes.verdict if i == 0 else "FAIL")
        for i, arm in enumerate(sizes.arms)
    }
    schema.write_json(
        run.verdict,
        {
            "verdict": sizes.verdict,
            "exit_code": EXIT[sizes.verdict],
            "arm": sizes.arms[0],
            "policy": {"path": "policy.yaml", "sha256": "ab" * 32},
            "evidence": {"candidate": "tuned", "baseline": "base"},
            "evidence_sha256": "cd" * 32,
            "judged": "2026-11-24",
            "arms": arms,
        },
    )


EXIT = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "INVALID": 4}


def arm_verdict(metrics: dict[str, Any], verdict: str) -> dict[str, Any]:
    accuracy, latency, cost = (metrics[m] for m in ("accuracy", "latency.e2e.p95", "cost.usd_per_1k"))
    low = {"PASS": 0.8, "FAIL": 0.8, "INCONCLUSIVE": accuracy["value"], "INVALID": 0.8}[verdict]
    slow = 400 if verdict == "FAIL" else 5000
    lever = "9 of 14 errors say 'block card' for 'unblock card': more rows that tell the two apart"
    gates = [
        gate("floor", "accuracy", f"lower >= {low:.3g}", low, accuracy, "lower"),
        gate("speed", "latency.e2e.p95", f"upper <= {slow} ms", slow, latency, "upper"),
        gate("price", "cost.usd_per_1k", "upper <= 0.90", 0.9, cost, "upper"),
        {**gate("slices", "accuracy", "lower >= 0.95", 0.95, accuracy, "lower"), "severity": "warn", "by": "language"},
    ]
    for g in gates:
        g["lever"] = lever if g["verdict"] == "FAIL" and g["metric"] == "accuracy" else None
        g["needed"] = 340 if g["verdict"] == "INCONCLUSIVE" else None
    requires = ["adapter_live: not shown for chosen / tuned"] if verdict == "INVALID" else []
    return {
        "verdict": verdict,
        "exit_code": EXIT[verdict],
        "requires": requires,
        "environment": ENVIRONMENT,
        "gates": gates,
    }


def gate(id: str, metric: str, require: str, limit: float, found: dict[str, Any], side: str) -> dict[str, Any]:
    def good(x: float | None) -> bool | None:
        return None if x is None else x >= limit if ">=" in require else x <= limit

    other = {"lower": "upper", "upper": "lower"}[side]
    verdict = "PASS" if good(found[side]) else "FAIL" if good(found[other]) is False else "INCONCLUSIVE"
    keys = ("value", "lower", "upper", "n", "unit", "method", "over", "confidence", "note")
    return {
        "id": id,
        "metric": metric,
        "require": require,
        "at": None,
        "by": None,
        "severity": "required",
        "verdict": verdict,
        "limit": limit,
        **{k: found.get(k) for k in keys},
    }


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
            "choices": {
                "r": {"value": 16, "why": "capacity for 9,120 loss tokens"},
                "lr": {"value": 2e-4, "why": "formula"},
            }
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
