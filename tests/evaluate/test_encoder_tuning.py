"""Systems that came with choosing a base: an encoder with a head or tuned whole, and others asked at their best."""

import pytest

from tamis.evaluate.stage import evaluate_arm
from tamis.recipe import Recipe, SystemSpec
from tamis.run import Run
from tamis.schema import read_json
from tests.conftest import build_tokenizer
from tests.tamis.live_server import live
from tests.tamis.small_runs import curated_run

pytest.importorskip("torch")

INTENTS = {"cancel order": "cancel", "track order": "parcel", "refund": "refund"}
NOUNS = ("kettle", "lamp", "chair", "rug", "vase", "clock", "desk", "mirror")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("encoder")
    rows = [{"text": f"{w} the {n}", "intent": i} for n in NOUNS for i, w in INTENTS.items()]
    items = [{"text": f"{w} my {n}", "intent": i} for n in NOUNS[:4] for i, w in INTENTS.items()]
    settings = {
        "curate": {"deduplicate": {"enabled": False}, "decontaminate": {"enabled": False}},
        "evaluate": {"task": {"kind": "classify"}, "latency": {"requests": 0}},
    }
    return curated_run(folder, tiny_model, rows, items, settings)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    """An encoder of random weights."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert") / "bert"
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    BertModel(BertConfig(vocab_size=512, max_position_embeddings=256, **sizes)).save_pretrained(folder)
    build_tokenizer(folder)
    return folder


def evaluated(prepared, tmp_path, spec):
    from tamis import loop

    run, recipe = prepared
    place = Run(tmp_path / "run")
    rows, items = loop.rows_of(run, loop.MAIN[0]), loop.eval_items(run)
    evaluate_arm(place, recipe, "main", items, rows, [spec], quiet=True)
    return read_json(place.evaluate("main", spec.name) / "metrics.json"), place


def test_an_encoder_tuned_whole_learns_the_labels(prepared, tmp_path, tiny_bert):
    found, _ = evaluated(prepared, tmp_path, SystemSpec(name="bert", encoder=str(tiny_bert), tuned=True))
    assert found["metrics"]["accuracy"]["value"] == 1.0  # 0.33 with its random weights alone
    assert found["model"]["steps"] == 300
    assert found["uses_arm"]


def test_an_encoder_with_a_linear_head_is_fitted_on_its_own_embeddings(prepared, tmp_path):
    found, _ = evaluated(prepared, tmp_path, SystemSpec(name="head", encoder="lsa"))
    assert found["model"]["embedder"].startswith("character TF-IDF")
    assert found["metrics"]["accuracy"]["value"] > 0.9


def test_an_endpoint_asked_at_its_best_sees_labels_and_examples(prepared, tmp_path):
    with live() as server:
        spec = SystemSpec(name="api", endpoint=server.url, model="shop", prompt="best")
        found, place = evaluated(prepared, tmp_path, spec)
    from tamis.evaluate.evidence import Evidence

    prompts = Evidence("main", "api", place.evaluate("main", "api")).answers["prompt"]
    assert all("exactly one of these labels" in p and all(i in p for i in INTENTS) for p in prompts)
    assert found["metrics"]["accuracy"]["value"] == 1.0


def test_a_model_asked_at_its_best_says_how_surely_it_said_the_right_label(prepared, tmp_path, tiny_model):
    spec = SystemSpec(name="other", model=str(tiny_model), prompt="best", quantisation="nf4")
    found, _ = evaluated(prepared, tmp_path, spec)
    assert found["model"]["quantisation"] == "nf4"
    assert found["metrics"]["bits_per_byte"]["value"] > 0
    assert found["metrics"]["parse_rate"]["value"] == 1.0


@pytest.mark.parametrize(
    ("system", "said"),
    [
        ({"name": "x"}, "needs an endpoint, a model, an adapter or an encoder"),
        ({"name": "x", "encoder": "e", "model": "m"}, "not both"),
        ({"name": "x", "model": "m", "tuned": True}, "only an encoder"),
        ({"name": "x", "adapter": "a", "prompt": "best"}, "as it was taught"),
    ],
)
def test_a_system_that_contradicts_itself_is_refused(system, said):
    with pytest.raises(Exception, match=said):
        Recipe.check({"name": "x", "data": {"path": "x"}, "evaluate": {"systems": [system]}})
