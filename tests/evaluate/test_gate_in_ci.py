"""A whole release policy judged as a CI job does: a process of its own, and nothing but its exit code to go by.

The policy has a gate of every kind that a release rests on: floor, no loss, better, parse rate, latency and attainment
at a load, speed against the baseline, price, slices that only warn, a waiver.
"""

import subprocess
import sys

import pyarrow as pa
import pytest

from tamis import schema
from tamis.evaluate import levels

POLICY = """
version: 1
evidence: {candidate: tuned, baseline: base}
defaults: {confidence: 0.95, min_n: 200, multiplicity: holm}
requires:
  same: [eval_set, prompt, template, extractor, decoding]
  checks: [no_contamination, adapter_live, load_valid, complete]
gates:
  - {id: floor, metric: accuracy, require: "lower >= 0.82"}
  - {id: no-loss, metric: accuracy, require: "delta.lower > -0.02"}
  - {id: better, metric: rouge_l, require: "delta.lower > 0"}
  - {id: parse, metric: parse_rate, require: "lower >= 0.98"}
  - {id: ttft, metric: latency.ttft.p95, at: {arrival: poisson, rate: 4}, require: "upper <= 800 ms"}
  - {id: slo, metric: load.attainment, at: {rate: 4}, slo: {ttft: 800 ms, e2e: 2 s}, require: "lower >= 0.95"}
  - {id: speed, metric: latency.e2e.p50, min_n: 72, require: "ratio.upper <= 1.10"}
  - {id: price, metric: cost.usd_per_1k, min_n: 10, require: "upper <= 0.40 usd"}
  - {id: slices, metric: accuracy, by: language, min_n: 40, require: "delta.lower > -0.05", severity: warn}
waivers: [{gate: slices, until: 2026-12-31, by: name, reason: few items}]
"""
ITEMS = 400


def at_four_a_second(ttft):
    """400 requests, one every quarter of a second, all answered half a second after their first word."""
    rows = [
        {
            "id": f"item-{n:04d}",
            "warmup": False,
            "scheduled_s": n / 4,
            "sent_s": n / 4,
            "first_s": n / 4 + ttft,
            "last_s": n / 4 + ttft + 0.5,
            "prompt_tokens": 20,
            "output_tokens": 4,
            "status": "ok",
        }
        for n in range(ITEMS)
    ]
    return pa.Table.from_pylist(rows, schema=schema.REQUESTS)


def spread(right):
    return [int((i * right) // ITEMS < ((i + 1) * right) // ITEMS) for i in range(ITEMS)]


@pytest.mark.parametrize(
    ("changed", "code", "says"),
    [
        ({}, 0, "PASS"),
        ({"right": 300}, 1, "floor"),
        ({"ttft": 0.9}, 1, "slo"),
        ({"seconds": 0.5}, 1, "speed"),
        ({"policy": POLICY.replace("lower >= 0.98", "upper >= 0.98")}, 2, "the kinder bound"),
        ({"right": 336}, 3, "floor"),
        ({"checked": False}, 4, "no_contamination"),
        ({"load": False}, 4, "the gate is about poisson"),
    ],
    ids=[
        "ships",
        "too often wrong",
        "late at load",
        "slower",
        "a bound that cannot refuse",
        "open",
        "leaks",
        "no load",
    ],
)
def test_a_release_policy_in_a_job_of_its_own(evaluated, changed, code, says):
    given = {"right": 380, "ttft": 0.2, "seconds": 0.2, "checked": True, "load": True, "policy": POLICY} | changed
    # the baseline is right where the candidate is, less fifty items
    hits = spread(given["right"])
    theirs = [int(hit and n % 8 != 0) for n, hit in enumerate(hits)]
    evaluated.add(system="base", right=theirs, times=[0.3] * 100)
    folder = evaluated.add(right=hits, times=[given["seconds"]] * 100)
    if given["load"]:
        level = {"arrival": "poisson", "rate": 4.0, "concurrency": None}
        levels.write(folder, [(level, at_four_a_second(given["ttft"]))])
    evaluated.price(1.0)
    schema.write_json(evaluated.run.curate / "decontamination.json", {"checked": given["checked"]})
    command = [sys.executable, "-m", "tamis.cli", "gate", str(evaluated.run.path), "--policy"]

    done = subprocess.run(
        [*command, str(evaluated.policy(given["policy"]))], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout + done.stderr
