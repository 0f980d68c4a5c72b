"""Evaluated runs made by hand, and a language model small enough to be built in a test."""

import dataclasses
import json
import math
import os
from pathlib import Path

import pyarrow as pa
import pytest

from tamis import schema
from tamis.run import Run

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


@dataclasses.dataclass
class Evaluated:
    """A run folder whose evaluations are written straight to disk."""

    run: Run

    def add(self, arm="main", system="tuned", right=(), *, about=None, times=None, rows=None, **columns):
        """One evaluated system.

        Args:
            arm, system: where.
            right: 0/1 per item.
            about: keys of `metrics.json` that differ.
            times: seconds per timed request; inf is a failure.
            rows: changes to single samples, by place.
            columns: values of further sample columns, a list or one value for all.
        """
        samples = []
        for place, hit in enumerate(right):
            row = {
                "id": f"item-{place:04d}",
                "batch": place // 32,
                "prompt": f"question {place}",
                "prompt_sha256": f"{place:064x}",
                "output": "yes" if hit else "no",
                "answer": "yes" if hit else "no",
                "expected": "yes",
                "correct": bool(hit),
                "parsed": True,
                "finish": "stop",
                "prompt_tokens": 20,
                "output_tokens": 2,
                "component": place,
                "label": "yes",
                "language": "vi" if place % 4 == 0 else "en",
            }
            row |= {k: v[place] if isinstance(v, list) else v for k, v in columns.items()}
            samples.append(row | (rows or {}).get(place, {}))
        folder = self.run.evaluate(arm, system)
        schema.write_parquet(folder / "samples.parquet", pa.Table.from_pylist(samples, schema=schema.SAMPLES))
        if times is not None:
            schema.write_parquet(folder / "requests.parquet", requests_of(times))
        told = {
            "system": system,
            "arm": arm,
            "kind": "classify",
            "uses_arm": system in ("tuned", "linear", "nearest", "majority"),
            "items": len(samples),
            "eval_set_sha256": "e" * 64,
            "prompt_sha256": "p" * 64,
            "template_sha256": "t" * 64,
            "decoding_sha256": "d" * 64,
            "model_sha256": "m" * 64,
            "extractor": "classify/1",
            "remote": False,
            "adapter": {"alive": True} if system == "tuned" else None,
            "environment": {"engine": "transformers 5", "hardware": "a machine", "machine": "a machine"},
            "load": {"arrival": "closed", "concurrency": 1},
            "batches": [{"items": 32, "answered": 32, "seconds": 1.6 + 0.1 * (i % 3)} for i in range(12)],
            "metrics": {},
        }
        schema.write_json(folder / "metrics.json", {**told, **(about or {})})
        schema.write_json(folder / "stage.json", {"fingerprint": "f", "system": system})
        return folder

    def policy(self, text):
        """Write a policy file."""
        path = self.run.path / "policy.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def price(self, machine_hour=1.0, currency="USD"):
        """Write a recipe with a price."""
        price = {"machine_hour": machine_hour, "currency": currency, "utilisation": 0.5}
        self.run.path.mkdir(parents=True, exist_ok=True)
        self.run.recipe_file.write_text(json.dumps({"evaluate": {"price": price}}), encoding="utf-8")


def requests_of(times, warmup=2):
    rows, clock = [], 0.0
    for place, seconds in enumerate([*times[:warmup], *times]):
        ok = math.isfinite(seconds)
        rows.append(
            {
                "id": f"item-{place:04d}",
                "warmup": place < warmup,
                "scheduled_s": clock,
                "sent_s": clock,
                "first_s": clock + seconds / 4 if ok else None,
                "last_s": clock + seconds if ok else None,
                "prompt_tokens": 20,
                "output_tokens": 4,
                "status": "ok" if ok else "error",
            }
        )
        clock += seconds if ok else 1.0
    return pa.Table.from_pylist(rows, schema=schema.REQUESTS)


@pytest.fixture
def evaluated(tmp_path):
    return Evaluated(Run(tmp_path / "run"))


TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' <|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A random two-layer Llama with its own tokenizer and chat template, as a folder."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tokenizers.decoders import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = ByteLevel()
    texts = ["track order", "cancel order", "return item", "return label", "where is my parcel", "Message: Intent:"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(texts, trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.add_special_tokens({"additional_special_tokens": special[2:]})
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.3,  # wide, so that logits differ by more than rounding
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


INTENTS = ("track order", "cancel order", "return item", "return label")
ASKED = ("where is my parcel", "please stop it", "I do not like it", "how do I send it back", "xin chào", "the label")


def chat_rows(count):
    """Messages and labels, four intents in turn."""
    for place in range(count):
        text = f"{ASKED[place % len(ASKED)]} {place}" + " and please hurry" * (place % 5)
        label = INTENTS[place % len(INTENTS)]
        messages = [
            {"role": "user", "content": text, "rest": None},
            {"role": "assistant", "content": label, "rest": None},
        ]
        yield place, messages, label


@pytest.fixture
def eval_table():
    """`schema.EVAL` with a number of items."""

    def make(count=24):
        rows = [
            {"id": f"e{i:03d}", "key": None, "messages": m, "label": label, "language": "en", "component": i}
            for i, m, label in chat_rows(count)
        ]
        return pa.Table.from_pylist(rows, schema=schema.EVAL)

    return make


@pytest.fixture
def train_table():
    """`schema.RECORD` with a number of rows."""

    def make(count=24):
        rows = [
            {"id": f"t{i:03d}", "messages": m, "label": label, "file": "t", "line": i, "offset": 0, "length": 0}
            for i, m, label in chat_rows(count)
        ]
        return pa.Table.from_pylist(rows, schema=schema.RECORD)

    return make
