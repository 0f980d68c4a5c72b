"""The model card: what was trained on what, how well it does, how far it can be trusted, how to ask it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tamis.recipe import Recipe, Task
from tamis.run import Run
from tamis.schema import read_json


def model_card(run: Run, recipe: Recipe, arm: str, facts: dict[str, Any]) -> str:
    """README.md of an export, from the run folder.

    Args:
        run: the run folder; what is not there (an evaluation, a data card) is said to be missing.
        recipe: of the run.
        arm: the exported one.
        facts: what `export` puts into the manifest: `kind`, `base`, `training`, `data`, `parity`, `vllm_problems`.

    Names and texts from data and models stand in code spans or blocks, so that none of them is taken for markup.
    """
    return "\n".join(
        [
            *_front(recipe, facts),
            *_what(recipe, arm, facts),
            *_ask(recipe.evaluate.task),
            *_data(run, facts),
            *_training(facts),
            *_evaluation(run, arm),
            *_parity(facts["parity"]),
            *_limits(facts),
        ]
    )


def _front(recipe: Recipe, facts: dict[str, Any]) -> list[str]:
    """Metadata for the hub. The base is named only where it is the hub's own weights."""
    base = facts["base"]
    library = "transformers" if facts["kind"] == "merged" else "peft"
    named = [f"base_model: {base['name']}"] if base["source"] == "hub" else []
    return ["---", f"library_name: {library}", "pipeline_tag: text-generation", *named, "tags: [tamis]", "---", ""]


def _what(recipe: Recipe, arm: str, facts: dict[str, Any]) -> list[str]:
    base, training = facts["base"], facts["training"]
    held = "" if training["quantisation"] == "none" else f", held in {training['quantisation']} during training"
    shipped = {
        "merged": "These are whole weights in bf16: the base as trained on (dequantised), the adapter merged in.",
        "full": "These are whole weights in bf16: every weight was trained.",
        "with base": "The adapter lies here, and in `base/` the base it belongs to, dequantised, in bf16.",
        "with hub": f"The adapter lies here; its base is the hub's at revision {code(base.get('revision'))}.",
    }[facts["shipped"]]
    return [
        f"# {recipe.name}",
        "",
        f"Fine-tuned from {code(base['name'])} ({base['source']} copy{held}) on {training['rows']:,} rows, "
        f"arm {code(arm)} of the run.",
        shipped,
        "",
        f"Identity of the base: SHA-256 {code(base['sha256'])}."
        + (" It is not the hub's model of that name." if base["source"] == "packaged" else ""),
        "",
    ]


def _ask(task: Task) -> list[str]:
    """How to word a question: a model asked otherwise than it was taught answers otherwise."""
    lines = ["## How to ask it", "", "As it was taught: the chat template, decoding greedily, and"]
    if task.template is not None:
        lines += ["the last user turn worded like this, `{prompt}` being the text:", "", *block(task.template)]
    else:
        lines += ["the user's text as it is."]
    if task.system is not None:
        lines += ["", "The system turn:", "", *block(task.system)]
    serve = "`sh serve.sh` starts a server on this machine; `ollama create NAME -f Modelfile` makes an Ollama model."
    return [*lines, "", serve, ""]


def _data(run: Run, facts: dict[str, Any]) -> list[str]:
    data = facts["data"]
    lines = ["## Data", "", f"Ids of the {data['rows']:,} rows (content hashes): SHA-256 {code(data['ids_sha256'])}."]
    try:
        card = read_json(run.curate / "card.json")
    except (OSError, ValueError):
        return [*lines, "", "There is no data card in the run.", ""]
    lines += ["", f"{card['rows']['kept']:,} of {card['rows']['read']:,} rows kept; `data_card.md` has the rest.", ""]
    lines += ["| | kept rows |", "|---|---|"]
    for title, name in (("licences", "licenses"), ("sources", "sources"), ("languages", "languages")):
        counted = ", ".join(f"{code(v)} {n:,}" for v, n in list(card[name]["kept"].items())[:8])
        lines.append(f"| {title} | {counted or 'none'} |")
    leaks = card["leaks"]
    found = f"{leaks['leaks']:,} rows leaked an evaluation item and were dropped" if leaks["checked"] else "not checked"
    return [*lines, f"| leaks | {found} |", ""]


def _training(facts: dict[str, Any]) -> list[str]:
    rows = [(name, value) for name, value in facts["training"].items() if value is not None]
    return ["## Training", "", "| | |", "|---|---|", *[f"| {name} | {code(value)} |" for name, value in rows], ""]


def _evaluation(run: Run, arm: str) -> list[str]:
    lines = ["## Evaluation", ""]
    found = {}
    for system in run.systems(arm):
        try:
            found[system] = read_json(run.evaluate(arm, system) / "metrics.json")
        except (OSError, ValueError):
            continue
    if not any(found.values()):
        return [*lines, "Not evaluated: nothing here says how good it is.", ""]
    lines += ["| system | metric | value | interval | n |", "|---|---|---:|---|---:|"]
    for system, told in found.items():
        # of what it is compared with, the task's own measures only
        measures = list(told.get("metrics", {}).items())[: None if system in ("tuned", "merged") else 2]
        for name, metric in measures:
            if isinstance(metric.get("value"), (int, float)):
                unit = f" {metric['unit']}" if metric.get("unit") else ""
                lines.append(
                    f"| {code(system)} | {name} | {_number(metric['value'])}{unit} | "
                    f"{_number(metric.get('lower'))} to {_number(metric.get('upper'))} | {metric.get('n', '')} |"
                )
    about = found.get("tuned") or next(iter(found.values()))
    lines += ["", f"Evaluation set: SHA-256 {code(about.get('eval_set_sha256'))}; intervals of 95 %."]
    try:
        verdict = read_json(run.verdict)["arms"][arm]["verdict"]
        lines += ["", f"Verdict of the release gate: **{verdict}**."]
    except (OSError, ValueError, KeyError):
        lines += ["", "No release gate has judged it."]
    return [*lines, ""]


def _parity(parity: dict[str, Any]) -> list[str]:
    limits = parity["limits"]
    return [
        "## Is this what was evaluated?",
        "",
        f"On {parity['tokens']:,} answer tokens of {parity['rows']:,} rows, the evaluated model and the files here "
        f"differ by {parity['kl']:.2g} nats per token (KL divergence; limit {limits['kl']}) and agree on the most "
        f"likely token in {parity['agreement']:.2%} (limit {limits['agreement']:.1%}).",
        "",
    ]


def _limits(facts: dict[str, Any]) -> list[str]:
    lines = [
        "## Limits",
        "",
        "- It was measured on the task and the evaluation set above and on nothing else: not for safety, not for bias,",
        "  not for other languages or other questions.",
        "- The figures are those of the evaluated model; what ships differs by the parity above. Served in another",
        "  precision, quantised again, sampled or worded otherwise, it is another model.",
        "- The licence of the base holds for it too; the licences of the data are listed above.",
        "- The Modelfile was written, not run: see that Ollama answers as `sh serve.sh` does.",
    ]
    lines += [f"- vLLM refuses this adapter: {problem}." for problem in facts["vllm_problems"]]
    return [*lines, ""]


def code(value: Any) -> str:
    """A value as a code span of one line, safe in a table."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "/")
    return f"`{text[:160]}`" if text else "` `"


def block(text: str) -> list[str]:
    """Text as a code block that no content of it can end."""
    return ["    " + line for line in text.splitlines()] or ["    "]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else json.dumps(value)


def data_card(run: Run, folder: Path) -> None:
    """Copy the data card, if the run has one."""
    card = run.curate / "card.md"
    if card.is_file():
        (folder / "data_card.md").write_bytes(card.read_bytes())
