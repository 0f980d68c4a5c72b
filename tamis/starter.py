"""`tamis init`: a commented recipe and a policy to start from, for a kind of task and the user's own file."""

from __future__ import annotations

import re
from pathlib import Path

from tamis.errors import UserError, did_you_mean

# kind: (template of the question, longest answer in tokens, systems, what the gate asks of the answers)
_KINDS: dict[str, tuple[str | None, int, str, str]] = {
    "classify": ("Message: {prompt}\\nIntent:", 8, "base, base-best, tuned, linear, majority", "accuracy"),
    "generate": (None, 128, "base, tuned", "exact_match"),
    "summarise": ("Summarise:\\n{prompt}\\nSummary:", 96, "base, tuned", "rouge_l"),
    "translate": ("Translate:\\n{prompt}\\nTranslation:", 128, "base, tuned", "chrf"),
    "regress": ("{prompt}\\nNumber:", 8, "base, tuned", "mae"),
    "chat": (None, 256, "base, tuned", "rouge_l"),
}
KINDS = tuple(_KINDS)


def starter_recipe(kind: str, data: str = "data.jsonl", eval_file: str | None = None) -> str:
    """A recipe with a comment on every line a newcomer changes.

    Args:
        kind: of task, one of `KINDS`.
        data: the training file, as the recipe should name it.
        eval_file: the evaluation file; without one a tenth of the data is held out.

    Raises:
        UserError: there is no such kind.
    """
    template, tokens, systems, _ = _known(kind)
    held = f"{{path: {eval_file}}}" if eval_file else "{holdout: 0.1}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(data).name.split(".")[0]).strip("-._") or "mine"
    asked = f'template: "{template}", ' if template else ""
    return f"""\
# Run it:      tamis run recipe.yaml        (add --dry-run to see rows, minutes and memory first)
# Every key:   docs/reference/recipe.md
name: {name}                  # the run folder is runs/{name}
seed: 7
data: {{path: {data}}}        # JSONL, JSON, Parquet or CSV; name odd columns with columns: {{prompt: ..., label: ...}}
eval: {held}        # a file of your own is better: {{path: eval.jsonl}}
embedder: auto                # lsa needs no torch and reads every language
curate:
  select: {{size: 10%, method: cluster}}   # rows (1000), tokens (200k tokens) or a share; choose small, then compare
model: HuggingFaceTB/SmolLM2-135M-Instruct   # a folder, or a name on the hub
train: {{method: qlora, quantisation: nf4, epochs: 3}}   # r, lr, batch and memory are planned
evaluate:
  task: {{kind: {kind}, {asked}max_tokens: {tokens}}}
  systems: [{systems}]
  latency: {{requests: 72}}     # timed one by one; 72 is the fewest that give the 95th percentile an interval
  # price: {{machine_hour: 0.10, currency: USD}}   # what your machine costs; without it cost is missing, never zero
gate: policy.yaml
"""


def starter_policy(kind: str) -> str:
    """A policy whose numbers the user must set: they are what the business needs, not what the model can.

    Raises:
        UserError: there is no such kind.
    """
    metric = _known(kind)[3]
    # an error is better when it is low
    better = "delta.upper < 0" if metric == "mae" else "delta.lower > 0"
    floor = {"mae": "upper <= 1.0", "chrf": "lower >= 40"}.get(metric, "lower >= 0.80")
    return f"""\
# Judge a run by it:      tamis gate runs/NAME      (exit code 0 PASS, 1 FAIL, 3 INCONCLUSIVE, 4 INVALID)
version: 1
evidence: {{candidate: tuned, baseline: base}}
defaults: {{confidence: 0.95, min_n: 200}}
requires: {{same: [eval_set], checks: [complete, adapter_live]}}
gates:
  - {{id: better, metric: {metric}, require: "{better}"}}        # than the untuned model
  - {{id: floor, metric: {metric}, require: "{floor}"}}   # set it to what your users need
  - {{id: speed, metric: latency.e2e.p95, min_n: 72, require: "upper <= 2000 ms"}}
"""


def write_starter(kind: str, folder: Path, data: str, eval_file: str | None, *, force: bool = False) -> list[Path]:
    """Write `recipe.yaml` and `policy.yaml`; both or neither.

    Raises:
        UserError: one of them is there already, or the folder cannot be written.
    """
    texts = {
        folder / "recipe.yaml": starter_recipe(kind, data, eval_file),
        folder / "policy.yaml": starter_policy(kind),
    }
    if not force and (there := [str(f) for f in texts if f.exists()]):
        raise UserError("it is there already", where=", ".join(there), hint="tamis init --force writes over it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError("the recipe cannot be written", where=str(folder), why=error.strerror) from None
    return list(texts)


def _known(kind: str) -> tuple[str | None, int, str, str]:
    if kind not in _KINDS:
        raise UserError(f"unknown kind of task {kind!r}", where="--task", hint=did_you_mean(kind, KINDS))
    return _KINDS[kind]
