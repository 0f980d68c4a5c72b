"""A Hugging Face sequence classifier as a system: a small one, taught here, from file to gate."""

import json
from pathlib import Path

import pytest
import yaml

from tamis.evaluate.encoder import is_encoder
from tamis.models import resolve
from tamis.schema import read_json
from tests.evaluate.conftest import INTENTS
from tests.tamis.calling import tamis

CUES = ("parcel", "stop", "dislike", "label")


def rows(count):
    return [
        {"prompt": f"{'please ' * (i % 3)}number {i}: my {CUES[i % 4]} again", "label": INTENTS[i % 4]}
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A folder with a two-layer BERT that learnt which cue word means which intent."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "please", "number", "my", "again", ":", *CUES]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        num_labels=4,
        id2label=dict(enumerate(INTENTS)),
        label2id={name: i for i, name in enumerate(INTENTS)},
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    given = tokenizer([r["prompt"] for r in rows(48)], return_tensors="pt", padding=True)
    labels = torch.tensor([i % 4 for i in range(48)])
    for _ in range(400):
        loss = model(**given, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.01:
            break
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe(classifier, kind="classify"):
    Path("items.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows(64)))
    policy = {
        "evidence": {"candidate": "bert"},
        "gates": [
            {"id": "floor", "metric": "accuracy", "require": "lower >= 0.8"},
            {"id": "speed", "metric": "latency.e2e.p50", "require": "upper <= 5 s"},
        ],
    }
    Path("policy.yaml").write_text(yaml.safe_dump(policy))
    raw = {
        "name": "r",
        "eval": {"path": "items.jsonl"},
        "gate": "policy.yaml",
        "evaluate": {
            "task": {"kind": kind},
            "systems": [{"name": "bert", "model": str(classifier)}],
            "latency": {"requests": 20},
            "batch": 8,
        },
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(raw))


def test_a_classifier_is_evaluated_timed_and_gated(classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_encoder(resolve(str(classifier)))
    recipe(classifier)

    done = tamis("evaluate", "recipe.yaml", "--quiet")

    assert done.code == 0, done.err
    assert tamis("gate", "runs/r").code == 0
    about = read_json(Path("runs/r/arms/main/evaluate/bert/metrics.json"))
    assert about["metrics"]["accuracy"]["value"] == 1
    assert about["metrics"]["parse_rate"]["value"] == 1
    assert about["metrics"]["latency.e2e.p50"]["value"] > 0
    assert len(about["model_sha256"]) == 64
    assert "nothing changed, nothing done" in tamis("evaluate", "recipe.yaml", "--quiet").out


def test_labels_that_are_not_the_tasks_are_refused_before_anything_is_asked(classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    for file in classifier.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "config.json").read_text())
    config |= {"id2label": {str(i): f"LABEL_{i}" for i in range(4)}, "label2id": {f"LABEL_{i}": i for i in range(4)}}
    (other / "config.json").write_text(json.dumps(config))
    recipe(other)

    done = tamis("evaluate", "recipe.yaml", "--quiet")

    assert done.code == 2
    assert "LABEL_0" in done.err
    assert "id2label" in done.err


def test_a_language_model_is_no_encoder_and_an_encoder_writes_no_text(classifier, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_encoder(resolve(str(tiny_model)))
    recipe(classifier, kind="generate")

    done = tamis("evaluate", "recipe.yaml", "--quiet")

    assert done.code == 2
    assert "labels only" in done.err
