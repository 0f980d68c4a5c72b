"""The memory formula's parts, each held exactly against what torch holds: loaded weights, and the tensors that autograd
keeps, seen through saved-tensor hooks. A term left out or doubled fails here by its own size."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tamis.recipe import Train
from tamis.train.plan import Hardware, Memory, Shape, make_plan, memory, saved_bytes, shape_of, weight_bytes
from tests.train.making_models import SHAPES, build

torch = pytest.importorskip("torch")
pytest.importorskip("bitsandbytes")

from tamis.models import is_quantised, load_model, resolve  # noqa: E402
from tamis.train.sft import prepare_model, quiet  # noqa: E402

R = 8
FAMILIES = ("llama", "qwen2", "qwen3", "gpt2")  # whose activations are exact; Falcon's attention is an estimate


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("shapes")
    return {shape: build(shape, folder / shape) for shape in SHAPES}


@pytest.fixture
def computing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compute in bf16 (2 bytes) or fp32 (4), whatever this CPU is best at."""
    return lambda width: monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: width == 2)


def held(model: Any) -> int:
    """Bytes of the parameters and of the tables that bitsandbytes keeps beside them, each storage once."""
    storages = {}
    for parameter in model.parameters():
        tensors = [parameter.data, getattr(parameter, "SCB", None)]
        if state := getattr(parameter, "quant_state", None):
            tensors += [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
        storages |= {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t is not None}
    return sum(storages.values())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("quantisation", ["nf4", "fp4", "int8", "none"])
def test_weights_take_what_the_loaded_model_takes(
    models: dict[str, Path], computing: Any, shape: str, quantisation: Any
) -> None:
    computing(2)
    planned, loaded = shape_of(models[shape]), load_model(str(models[shape]), quantisation, device="cpu")

    assert weight_bytes(planned, quantisation, 2) == held(loaded)
    if quantisation == "none":
        assert weight_bytes(planned, quantisation, 2) == loaded.get_memory_footprint(return_buffers=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_plan_knows_which_layers_are_quantised(models: dict[str, Path], shape: str) -> None:
    loaded = load_model(str(models[shape]), "nf4", device="cpu")

    planned = [matrix.quantised for matrix in shape_of(models[shape]).census.matrices]

    assert sum(planned) == sum(is_quantised(module) for module in loaded.modules())
    assert any(planned) != (shape == "falcon")  # its layers are of a class of their own


def test_a_model_that_stays_as_it_is_is_planned_and_said_to_stay(models: dict[str, Path]) -> None:
    hardware = Hardware("cpu", "test", 8 * 10**9, 1, "bfloat16")

    plans = {m: make_plan(Train(method=m), shape_of(models["falcon"]), [8], 3, hardware) for m in ("qlora", "lora")}

    assert plans["qlora"].parts == plans["lora"].parts
    why = next(choice.why for choice in plans["qlora"].choices if choice.name == "quantisation")
    assert "no layer of a falcon model can be held in nf4" in why


def tuned(model: Path, method: str) -> Any:
    plan: Any = dataclasses.make_dataclass("Plan", ["quantisation", "device", "method", "r", "alpha"])
    with quiet():
        made = prepare_model(resolve(str(model)), plan("none", "cpu", method, R, 32), Train(), 1)
    for module in made.modules():  # GPT-2's own dropouts: noise of their own making, kept for the backward pass
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return made.train()


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_trained_takes_its_weights_gradients_and_moments(models: dict[str, Path], shape: str) -> None:
    model, planned = tuned(models[shape], "lora"), shape_of(models[shape])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for name, t in state.items() if name != "step"]

    found = sum(t.numel() * t.element_size() for t in [*trained, *(p.grad for p in trained), *moments])

    assert parts(planned).adapters == found == 16 * planned.lora(R)


def parts(shape: Shape, **changed: Any) -> Memory:
    given = {
        "quantisation": "none",
        "r": R,
        "tokens": 8,
        "labelled": 8,
        "checkpointing": False,
        "compute": "bfloat16",
        "device": "cpu",
    }
    return memory(shape, **(given | changed))


def kept(model: Any, tokens: int, width: int, *, packed: bool) -> int:
    """Bytes that the blocks keep for the backward pass; each storage once, the model's own left out."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    alive, storages = [], {}

    def note(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            alive.append(tensor)  # else its place would be given to another
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    inputs = {"input_ids": torch.randint(3, 500, (1, tokens))}
    if packed:
        inputs["attention_mask"] = torch.ones(1, 1, tokens, tokens, dtype=torch.bool).tril()
        inputs["position_ids"] = torch.arange(tokens)[None]
    blocks = (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model
    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=width == 2),
    ):
        blocks(**inputs, use_cache=False)
    return sum(storages.values())


@pytest.mark.parametrize("shape", FAMILIES)
@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_token_keeps_what_the_formula_says(
    models: dict[str, Path], computing: Any, shape: str, width: int, method: str
) -> None:
    computing(width)
    model, planned = tuned(models[shape], method), shape_of(models[shape])
    for packed in (False, True):
        saved = saved_bytes(planned, R if method == "lora" else None, width, packed=packed)

        short, middle, long = (kept(model, tokens, width, packed=packed) for tokens in (64, 128, 192))

        per_pair = (long - 2 * middle + short) / (2 * 64**2)
        assert (middle - short) / 64 - 192 * per_pair == saved.per_token
        assert saved.per_pair - per_pair == (1 if packed else 0)  # the mask itself comes from the batch


@pytest.mark.parametrize("shape", FAMILIES)
def test_the_casts_of_what_is_trained_are_counted(models: dict[str, Path], computing: Any, shape: str) -> None:
    computing(2)
    for method, r in (("lora", R), ("full", None)):
        saved = saved_bytes(shape_of(models[shape]), r, 2)
        found = kept(tuned(models[shape], method), 64, 2, packed=False)

        # LoRA's first matrices in the first block stand before anything with a gradient: their casts are not kept
        assert saved.of(64) * 0.98 < found <= saved.of(64)


def test_checkpointing_keeps_the_input_of_every_block_and_all_of_one(models: dict[str, Path], computing: Any) -> None:
    computing(2)
    model, planned = tuned(models["llama"], "lora"), shape_of(models["llama"])
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})

    streams = kept(model, 128, 2, packed=False)

    one_block = saved_bytes(planned, R, 2).of(128) / planned.layers
    told = parts(planned, tokens=128, checkpointing=True).activations
    assert told == 128 * 2 * planned.hidden * planned.layers + one_block
    outside = 128 * (4 * planned.hidden + 4 + 2 * 2 * planned.head_dim)  # the last norm, the rotations
    assert streams == pytest.approx(told - one_block + outside, abs=128 * 2 * planned.hidden)


def test_logits_of_labelled_tokens_take_value_softmax_and_gradient(models: dict[str, Path]) -> None:
    planned = shape_of(models["llama"])

    assert parts(planned, labelled=100).logits == 100 * planned.vocabulary * 4 * 3


def test_an_estimate_for_falcon_is_not_far_below(models: dict[str, Path], computing: Any) -> None:
    computing(2)
    found = kept(tuned(models["falcon"], "lora"), 192, 2, packed=True)

    assert found == pytest.approx(saved_bytes(shape_of(models["falcon"]), R, 2, packed=True).of(192), rel=0.1)
