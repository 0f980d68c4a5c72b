"""Every hard filter rejects a candidate, and says by how much; catalogue, leaderboard and memory are what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tamis import choose
from tamis.candidates import catalogue, leaderboard
from tamis.errors import DataError, RecipeError
from tamis.recipe import Recipe
from tamis.run import Run
from tests.conftest import build_llama, build_tokenizer
from tests.tamis.calling import tamis
from tests.tamis.small_runs import curated_run

torch = pytest.importorskip("torch")

INTENTS = ("cancel order", "track order", "refund")
NOUNS = ("kettle", "lamp", "chair", "rug", "vase", "clock", "desk", "mirror")


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Run, Recipe]:
    folder = tmp_path_factory.mktemp("filters")
    rows = [{"text": f"please tell me about the {i} of the old {n}", "intent": i} for n in NOUNS for i in INTENTS]
    items = [{"text": f"{i}: the {n} please", "intent": i} for n in NOUNS for i in INTENTS]
    settings = {
        "curate": {"deduplicate": {"enabled": False}, "decontaminate": {"enabled": False}},
        "train": {"method": "lora"},
        "evaluate": {"task": {"kind": "classify"}},
        "choose": {"catalogue": False, "max_tokens_per_word": None, "rounds": [6, 12, 24]},
    }
    return curated_run(folder, tiny_model, rows, items, settings)


@pytest.fixture(scope="module")
def without_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_llama(tmp_path_factory.mktemp("plain") / "plain")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    build_tokenizer(folder, template=None)
    return folder


def only(found: list[choose.Looked], name: str) -> choose.Looked:
    return next(one for one in found if one.entrant.name == name)


REJECTED = [
    ({"choose.licenses": ["mit"]}, {"license": "llama3.2"}, "its licence is llama3.2; the recipe allows mit"),
    ({"choose.licenses": ["apache-2.0", "mit"]}, {}, "its licence is not known; the recipe allows apache-2.0, mit"),
    ({"choose.languages": ["vi"]}, {"languages": ["en", "fr"]}, "it speaks en, fr, not vi"),
    ({}, {"languages": ["vi"]}, r"it speaks vi, not en \(\d+% of the rows\)"),
    (
        {"choose.max_tokens_per_word": 1.5},
        {},
        r"its tokenizer needs \d\.\d\d tokens for a word of these rows; the recipe allows 1\.5",
    ),
    ({"choose.memory_gb": 0.5}, {}, r"training needs 0\.9 GB, cpu has 0\.5 GB free"),
    (
        {"choose.serving_memory_gb": 0.9, "choose.memory_gb": 4.0, "choose.concurrency": 1},
        {},
        r"serving 1 request needs 0\.9 GB \(weights 0\.0, keys and values 0\.0\); there are 0\.9",
    ),
    (
        {"choose.serving_memory_gb": 2.0, "choose.memory_gb": 9.0, "choose.concurrency": 100_000},
        {},
        r"serving 100000 requests at once needs \d+\.\d GB \(weights 0\.0, keys and values \d+\.\d\); there are 2\.0",
    ),
]


@pytest.mark.parametrize(("settings", "told", "sentence"), REJECTED)
def test_a_candidate_is_rejected_with_a_sentence(curated, tiny_model, settings, told, sentence):
    run, recipe = curated
    candidate = {"name": "judged", "model": str(tiny_model), **told}

    found = only(list(choose.looked_at(run, recipe.changed({"choose.candidates": [candidate], **settings}))), "judged")

    assert any(re.fullmatch(sentence, said) for said in found.rejected), found.rejected
    assert not found.asked


def test_without_any_limit_in_the_way_the_same_candidate_is_asked(curated, tiny_model):
    run, recipe = curated
    candidate = {"name": "judged", "model": str(tiny_model), "license": "mit", "languages": ["en"]}
    limits = {"choose.licenses": ["MIT"], "choose.memory_gb": 4.0, "choose.max_tokens_per_word": 9.0}

    found = only(list(choose.looked_at(run, recipe.changed({"choose.candidates": [candidate], **limits}))), "judged")

    assert found.rejected == ()
    assert found.known.tokens_p99 < found.known.context == 256
    assert found.known.training_bytes > found.known.weight_bytes > 0


def test_a_base_without_a_chat_template_is_rejected(curated, without_template):
    run, recipe = curated
    asked = recipe.changed({"choose.candidates": [str(without_template)]})

    assert only(choose.looked_at(run, asked), "plain").rejected == (
        "it has no chat template, so conversations cannot be written for it",
    )
    assert only(choose.looked_at(run, asked.changed({"choose.chat_template": False})), "plain").rejected == ()


def test_a_base_that_reads_less_than_the_rows_hold_is_rejected(tmp_path, tiny_model):
    long = "a word of this row and another one " * 40
    rows = [{"text": f"{long} {i} {n}", "intent": i} for n in NOUNS for i in INTENTS]
    settings = {
        "curate": {
            "deduplicate": {"enabled": False},
            "decontaminate": {"enabled": False},
            "rules": {"repetition": False},
        },
        "evaluate": {"task": {"kind": "classify"}},
        "choose": {"catalogue": False, "max_tokens_per_word": None},
    }
    run, recipe = curated_run(tmp_path, tiny_model, rows, rows[:20], settings)

    (found,) = choose.looked_at(run, recipe)

    said = r"it reads 256 tokens, and one row in a hundred has [\d,]{3,} or more"
    assert any(re.fullmatch(said, r) for r in found.rejected), found.rejected


def test_an_encoder_cannot_write(curated, tiny_model):
    run, recipe = curated
    asked = recipe.changed(
        {"choose.candidates": [{"name": "encoder", "encoder": "lsa"}], "evaluate.task": {"kind": "generate"}}
    )
    found = only(list(choose.looked_at(run, asked)), "encoder")
    assert found.rejected == ("an encoder answers with labels only; the task is to generate",)


def test_where_nobody_is_left_the_first_reason_is_told(curated):
    run, recipe = curated
    with pytest.raises(RecipeError, match="no base is left") as error:
        choose.choose(run, recipe.changed({"choose.licenses": ["mit"]}), quiet=True)
    assert "its licence is not known" in str(error.value)
    assert not (run.path / "choose").exists()


# ------------------------------------------------------------------------------------------------- the catalogue


def test_the_catalogues_sizes_make_the_number_of_parameters_that_it_states():
    from tamis.train.plan import Shape

    assert len(catalogue()) >= 10
    for name, facts in catalogue().items():
        shape = Shape(**facts.sizes)
        assert shape.linear + shape.other == pytest.approx(facts.parameters, rel=0.01), name
        assert re.match(r"catalogue of 2026-\d\d-\d\d: .*https?://", facts.source), name
        assert facts.license


@pytest.mark.slow  # unpacks the packaged model, where no test did before
def test_the_packaged_models_sizes_in_the_catalogue_are_those_of_its_configuration():
    from tamis.models import PACKAGED, at_hand
    from tamis.train.plan import shape_of

    (name,) = PACKAGED
    model = at_hand(name)
    if model is None:
        pytest.skip("the packaged model is not installed")
    real, told = shape_of(model.path), catalogue()[name].sizes
    assert {key: getattr(real, key) for key in told} == told


def test_a_model_of_the_catalogue_that_is_not_here_is_named_and_not_fetched(curated):
    run, recipe = curated
    limits = {"choose.catalogue": True, "choose.memory_gb": 3.0, "choose.serving_memory_gb": 3.0}
    found = list(choose.looked_at(run, recipe.changed(limits)))

    absent = {one.entrant.spec.model: one for one in found if not one.here}
    assert "Qwen/Qwen2.5-0.5B-Instruct" in absent
    assert absent["Qwen/Qwen2.5-0.5B-Instruct"].rejected == ()
    seven = absent["Qwen/Qwen2.5-7B-Instruct"].rejected
    assert any(re.match(r"training needs \d+\.\d GB, cpu has 3\.0 GB free", said) for said in seven)
    assert any("keys and values" in said for said in seven)


# ------------------------------------------------------------------------------------------------- a leaderboard

CONTENTS = {
    "eval_name": ["a", "b", "c", "d", "e"],
    "fullname": ["org/small", "org/best", "org/flagged", "org/best", "org/gone"],
    "Average ⬆️": [20.5, 30.0, 50.0, 28.0, 60.0],
    "#Params (B)": [0.5, 70.0, 1.0, 70.0, 1.0],
    "Hub License": ["apache-2.0", "llama3", "mit", "llama3", "mit"],
    "Chat Template": [True, True, True, True, False],
    "Flagged": [False, False, True, False, False],
    "Available on the hub": [True, True, True, True, False],
}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_leaderboard_file_is_read_as_it_is(tmp_path, suffix):
    file = tmp_path / f"contents{suffix}"
    table = pa.table(CONTENTS)
    pq.write_table(table, file) if suffix == ".parquet" else pyarrow.csv.write_csv(table, file)

    found = leaderboard(file)

    assert list(found) == ["org/best", "org/small"]
    assert found["org/best"].average == 30.0
    assert found["org/best"].parameters == 70e9
    assert found["org/small"].license == "apache-2.0"
    assert found["org/small"].chat_template is True


def test_models_of_a_leaderboard_are_ruled_out_by_what_it_says_of_them(curated, tmp_path):
    pq.write_table(pa.table(CONTENTS), tmp_path / "contents.parquet")
    run, recipe = curated
    limits = {"choose.leaderboard": str(tmp_path / "contents.parquet"), "choose.serving_memory_gb": 20.0}

    found = {one.entrant.name: one for one in choose.looked_at(run, recipe.changed(limits))}

    assert re.match(r"its weights alone take (140|280)\.0 GB to serve; there are 20\.0", found["best"].rejected[0])
    assert (found["small"].rejected, found["small"].here) == ((), False)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"model": ["a"], "score": [1.0]}, "the leaderboard file has no column 'fullname'"),
        ({k: v for k, v in CONTENTS.items() if k != "Average ⬆️"}, "the leaderboard file has no column 'Average"),
    ],
)
def test_a_leaderboard_file_with_other_columns_is_refused(tmp_path, table, said):
    pq.write_table(pa.table(table), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=said) as error:
        leaderboard(tmp_path / "other.parquet")
    assert "its columns are" in str(error.value)


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "x.parquet").write_text("hello")
    with pytest.raises(DataError, match="neither Parquet nor CSV"):
        leaderboard(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no such leaderboard"):
        leaderboard(tmp_path / "none.parquet")


# ----------------------------------------------------------------------------------------------- serving memory


def test_keys_and_values_of_a_token_are_what_the_paper_says_of_opt_13b():
    from tamis.train.plan import Shape
    from tamis.train.serving_memory import cache_bytes

    opt = Shape(5120, 20480, 40, 40, 40, 128, 50272, True, 2048, "opt")
    assert cache_bytes(opt, 2) == 2 * 5120 * 40 * 2 == 819_200  # 800 KB: Kwon et al. 2023, section 3


def test_keys_and_values_are_those_that_a_real_model_keeps(deep_model):
    from tamis.models import load_model, resolve
    from tamis.train.plan import shape_of
    from tamis.train.serving_memory import cache_bytes, serving

    resolved = resolve(str(deep_model))
    model, shape = load_model(resolved), shape_of(resolved.path)
    requests, tokens = 3, 17
    with torch.inference_mode():
        cache = model(input_ids=torch.ones((requests, tokens), dtype=torch.long), use_cache=True).past_key_values
    held = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))

    width = model.dtype.itemsize
    compute = "bfloat16" if width == 2 else "float32"
    told = serving(shape, quantisation="none", tokens=tokens, requests=requests, compute=compute, device="cpu")
    assert held == told.cache == requests * tokens * cache_bytes(shape, width)
    assert told.weights == sum(p.numel() * p.element_size() for p in model.parameters())


# ------------------------------------------------------------------------------------------------- what is typed


def test_the_command_line_says_what_is_wrong_in_one_message(curated, tmp_path):
    run, recipe = curated
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.changed({"choose.candidates": ["nobody/has-this"]}).dump())

    done = tamis("choose", str(file), "--run", str(run.path), "--quiet", "--dry-run")

    assert done.code == 2
    assert "the model 'nobody/has-this' is neither a local folder, nor packaged" in done.err
    assert "Traceback" not in done.err


def test_a_dry_run_asks_nobody_and_writes_nothing(curated, tmp_path):
    run, recipe = curated
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.changed({"choose.catalogue": True}).dump())

    done = tamis("choose", str(file), "--run", str(run.path), "--dry-run")
    told: dict[str, Any] = json.loads(tamis("choose", str(file), "--run", str(run.path), "--dry-run", "--json").out)

    assert done.code == 0, done.err
    assert "candidates would be asked" in done.out
    assert told["rounds"] == [6, 12, 24]
    assert not (run.path / "choose").exists()
    assert max(map(len, done.out.splitlines())) <= 80
