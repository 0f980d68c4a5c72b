"""`tamis choose`: what rules a base out is said, weak ones fall early, no item is asked twice, the winner is one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest

from tamis import choose
from tamis.curate.pipeline import stage_of
from tamis.errors import DataError, EvidenceError, RecipeError, StageFailed, UserError
from tamis.recipe import Recipe
from tamis.run import Run
from tests.conftest import build_llama
from tests.tamis.calling import tamis
from tests.tamis.live_server import Live, live
from tests.tamis.small_runs import curated_run

torch = pytest.importorskip("torch")

INTENTS = ("cancel order", "track order", "refund")
NOUNS = ("kettle", "lamp", "chair", "rug", "vase", "clock", "desk", "mirror", "tent", "sofa", "plant", "mug")
WORDS = {"cancel order": "cancel", "track order": "parcel", "refund": "refund"}


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with live() as made:
        made.delay_s = 0.0
        yield made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bases")
    return [build_llama(folder / f"base{seed}", seed=seed) for seed in range(4)]


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory, models: list[Path], server: Live) -> tuple[Run, Recipe]:
    folder = tmp_path_factory.mktemp("choose")
    rows = [{"text": f"{w} the {n}", "intent": i} for n in NOUNS[:8] for i, w in WORDS.items()]
    items = [
        {"text": f"{w}: the {m} {n}", "intent": i} for n in NOUNS for m in ("old", "blue") for i, w in WORDS.items()
    ]
    settings = {
        "curate": {"deduplicate": {"enabled": False}, "decontaminate": {"enabled": False}},
        "train": {"method": "lora"},
        "evaluate": {
            "task": {"kind": "classify"},
            "systems": ["base", "tuned"],
            "latency": {"requests": 3, "warmup": 1},
            "price": {"machine_hour": 2.0},
        },
        "choose": {
            "candidates": [
                *map(str, models[1:]),
                {"name": "api", "endpoint": server.url, "input_per_million": 1.0, "output_per_million": 1.0},
                {"name": "minilm", "encoder": "lsa"},
            ],
            "catalogue": False,
            "rounds": [8, 24, 60],
            "max_tokens_per_word": None,
        },
    }
    return curated_run(folder, models[0], rows, items, settings)


@pytest.fixture(scope="module")
def chosen(curated: tuple[Run, Recipe]) -> dict[str, Any]:
    return choose.choose(*curated, quiet=True)


def answered(run: Run) -> dict[str, list[str]]:
    """Ids that each candidate was asked, over all rounds."""
    found: dict[str, list[str]] = {}
    for file in sorted((run.path / "choose" / "asked").glob("*/arms/*/evaluate/*/samples.parquet")):
        found.setdefault(file.parts[-4], []).extend(pq.read_table(file)["id"].to_pylist())
    return found


def row(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(r for r in result["candidates"] if r["name"] == name)


def without_clock(result: dict[str, Any]) -> dict[str, Any]:
    """What a second run must say again; times are measured anew where they were not measured yet."""
    keys = ("rounds", "best", "items", "metric")
    return {key: result[key] for key in keys} | {"name": result["recommended"]["name"]}


def test_half_of_the_bases_fall_after_the_first_round_and_two_are_left(chosen):
    first, *_, last = chosen["rounds"]
    fell = {s["name"] for s in first["standings"] if s["fell"]}
    assert len(fell) == 2
    assert {s["name"] for s in last["standings"] if s["kind"] == "base"} | fell == {f"base{n}" for n in range(4)}
    assert all(s["kind"] == "base" for s in first["standings"] if s["fell"])


def test_no_item_is_asked_twice_and_the_calls_are_counted(curated, chosen):
    asked = answered(curated[0])
    assert all(len(ids) == len(set(ids)) for ids in asked.values())
    raced = {name: ids for name, ids in asked.items() if row(chosen, name)["kind"] != "encoder"}
    assert sum(map(len, raced.values())) == chosen["calls"]["asked"] < chosen["calls"]["everything"] == 5 * 60
    assert len(asked["minilm"]) == 60
    timed = {file.parts[-4] for file in (curated[0].path / "choose" / "asked").rglob("requests.parquet")}
    assert timed == {"minilm"}, "of those that are asked in rounds only the last are timed, and apart"
    # the items of a round are the beginning of those of the next
    assert {*asked["base0"]} <= {*asked["api"]}


def test_the_winner_is_that_of_asking_everyone_everything(curated, chosen, tmp_path):
    run, recipe = curated
    everyone = Run(tmp_path / "everyone")
    shutil.copytree(run.curate, everyone.curate)
    whole = choose.choose(everyone, recipe.changed({"choose.rounds": [60], "evaluate.latency.requests": 0}), quiet=True)

    assert whole["calls"]["asked"] == whole["calls"]["everything"] == 5 * 60
    assert whole["recommended"]["name"] == chosen["recommended"]["name"]
    for name in (chosen["recommended"]["name"], chosen["recommended"]["runner_up"], "api", "minilm"):
        assert row(whole, name)["value"]["value"] == pytest.approx(row(chosen, name)["value"]["value"], abs=0.05)


def test_numbers_of_a_candidate_are_those_of_all_its_answers(curated, chosen):
    base = row(chosen, chosen["recommended"]["name"])
    assert base["items"] == base["value"]["n"] == 60
    assert base["p95_ms"]["n"] == 3
    assert base["cost_per_1k"]["value"] > 0
    assert base["bits_per_byte"]["value"] > 0
    assert base["memory_gb"] > base["training_gb"] / 2
    api = row(chosen, "api")
    assert api["value"]["value"] == 1.0
    assert api["cost_per_1k"]["value"] == pytest.approx(0.011)  # 9 tokens sent and 2 received, a dollar a million
    fallen = next(r for r in chosen["candidates"] if r.get("fell"))
    assert (fallen["items"], fallen["p95_ms"], fallen["on_front"]) == (8, None, False)


def test_the_answer_is_a_base_and_what_it_has_to_beat_is_said(curated, chosen):
    found = chosen["recommended"]
    assert row(chosen, found["name"])["kind"] == "base"
    assert chosen["best"] in ("api", "minilm")
    assert "The best of all is the" in found["why"]
    assert found["runner_up"].startswith("base")

    written = Recipe.load(chosen["recipe"])
    assert written.model == found["model"]
    assert "linear" in written.evaluate.systems
    assert written.evaluate.task == curated[1].evaluate.task
    assert all(Path(p).is_absolute() for p in (*written.data.paths, *written.eval.paths))
    assert stage_of(curated[0], written).complete(), "the rows need not be curated again"


def test_the_front_holds_nobody_that_another_beats_in_everything(chosen):
    by_name = {r["name"]: r for r in chosen["candidates"]}
    assert "minilm" in chosen["front"]
    for name in chosen["front"]:
        for other in by_name.values():
            if "value" in other and not other.get("fell"):
                keys = ("p95_ms", "cost_per_1k")
                beaten = other["value"]["value"] > by_name[name]["value"]["value"] and all(
                    other[k]["value"] < by_name[name][k]["value"] for k in keys
                )
                assert not beaten, (name, other["name"])


def test_a_second_time_nothing_is_asked_again(curated, chosen, server):
    run, recipe = curated
    before = {p: p.stat().st_mtime_ns for p in (run.path / "choose").rglob("stage.json")}
    model, server.model = server.model, "nobody asks for this"
    try:
        again = choose.choose(run, recipe, quiet=True)
    finally:
        server.model = model
    assert again["candidates"] == chosen["candidates"]
    assert {p: p.stat().st_mtime_ns for p in (run.path / "choose").rglob("stage.json")} == before


def test_stopped_at_any_round_it_goes_on_to_the_same_answer(curated, chosen, tmp_path, monkeypatch):
    from tamis.evaluate import stage

    run, recipe = curated
    other = Run(tmp_path / "stopped")
    shutil.copytree(run.curate, other.curate)
    real, calls = stage.evaluate_arm, [0]

    def stopping(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] in (2, 7):
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(stage, "evaluate_arm", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            choose.choose(other, recipe, quiet=True)
    found = choose.choose(other, recipe, quiet=True)

    assert without_clock(found) == without_clock(chosen)
    assert {name: sorted(ids) for name, ids in answered(other).items()} == {
        name: sorted(ids) for name, ids in answered(run).items()
    }


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.fixture
def fresh(curated: tuple[Run, Recipe], tmp_path: Path, models: list[Path]) -> tuple[Run, Recipe]:
    """A run beside the first, nothing asked yet, with two bases."""
    run = Run(tmp_path / "fresh")
    shutil.copytree(curated[0].curate, run.curate)
    changes = {"choose.candidates": [str(models[1])], "evaluate.latency.requests": 0, "choose.rounds": [8, 24]}
    return run, curated[1].changed(changes)


def test_an_endpoint_that_serves_another_model_than_before_is_not_mixed_with_it(fresh, server):
    run, recipe = fresh
    api = {"name": "api", "endpoint": server.url}
    recipe = recipe.changed({"choose.candidates": [*recipe.choose.candidates, api]})
    choose.choose(run, recipe.changed({"choose.rounds": [8]}), quiet=True)
    model, server.model = server.model, "another"
    try:
        with pytest.raises(EvidenceError, match="the endpoint api no longer serves shop") as error:
            choose.choose(run, recipe, quiet=True)
        assert "it serves another" in str(error.value)
        renamed = {"name": "api-2", "endpoint": server.url}
        candidates = [*recipe.choose.candidates[:-1], renamed]
        found = choose.choose(run, recipe.changed({"choose.candidates": candidates}), quiet=True)
        assert row(found, "api-2")["value"]["value"] == 1.0
    finally:
        server.model = model


def test_answers_of_an_endpoint_that_changed_while_it_was_asked_are_thrown_away(fresh, server):
    run, recipe = fresh
    api = {"name": "api", "endpoint": server.url, "model": "shop"}
    recipe = recipe.changed({"choose.candidates": [*recipe.choose.candidates, api]})
    server.shown = ["shop", "another"]
    with pytest.raises(EvidenceError, match="no longer serves shop"):
        choose.choose(run, recipe, quiet=True)
    assert "api" not in answered(run)
    assert row(choose.choose(run, recipe, quiet=True), "api")["items"] == 24


def test_an_endpoint_that_does_not_serve_the_model_says_so(fresh, server):
    run, recipe = fresh
    api = {"name": "api", "endpoint": server.url, "model": "shopp"}
    with pytest.raises(StageFailed, match="the candidate api:") as error:
        choose.choose(run, recipe.changed({"choose.candidates": [api]}), quiet=True)
    assert "it serves shop" in str(error.value)
    found = choose.choose(run, recipe.changed({"choose.candidates": [api | {"model": "shop"}]}), quiet=True)
    assert row(found, "api")["value"]["value"] == 1.0


def test_of_an_endpoint_with_several_models_one_must_be_named(fresh, server):
    run, recipe = fresh
    both = recipe.changed({"choose.candidates": [{"name": "api", "endpoint": server.url}]})
    several = mock.patch("tamis.endpoint.models_of", return_value=["shop", "desk"])
    with several, pytest.raises(UserError, match=r"which model of api\?") as error:
        choose.choose(run, both, quiet=True)
    assert "it serves shop, desk" in str(error.value)


def test_an_endpoint_need_not_list_the_model_that_it_serves(fresh, server):
    """As `transformers serve` does, which lists what is in the cache and serves a folder."""
    run, recipe = fresh
    api = {"name": "api", "endpoint": server.url, "model": "shop"}
    with mock.patch("tamis.endpoint.models_of", return_value=["something/else"]):
        found = choose.choose(run, recipe.changed({"choose.candidates": [api]}), quiet=True)
    assert row(found, "api")["value"]["value"] == 1.0


def test_no_row_leaves_the_machine_without_consent(fresh):
    run, recipe = fresh
    api = {"name": "far", "endpoint": "https://api.example.com/v1", "model": "m"}
    asked = recipe.changed({"choose.candidates": [api]})
    with pytest.raises(UserError, match=r"api\.example\.com"):
        choose.choose(run, asked, quiet=True)
    assert choose.forecast(run, asked)["leaving"] == {"api.example.com": 24}


def test_too_few_items_are_told_before_anything_is_asked(fresh):
    run, recipe = fresh
    with pytest.raises(DataError, match="72 items are too few to choose by"):
        choose.choose(run, recipe.changed({"choose.rounds": [100, 200]}), quiet=True)
    pq.write_table(pq.read_table(run.curate / "eval.parquet").slice(0, 0), run.curate / "eval.parquet")
    with pytest.raises(DataError, match="the evaluation set is empty"):
        choose.choose(run, recipe, quiet=True)
    assert not (run.path / "choose").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"metric": "perplexity"}, "every tokenizer cuts another number of tokens"),
        ({"rounds": [64, 16]}, "rounds are rising numbers"),
        ({"rounds": []}, "rounds are rising numbers"),
        ({"candidates": [{"name": "a", "adapter": "x", "prompt": "plain"}]}, "is an adapter, not a base"),
        ({"candidates": [{"name": "a", "model": "x"}, {"name": "a", "model": "y"}]}, "named twice"),
    ],
)
def test_a_recipe_that_cannot_be_answered_is_not_even_read(curated, asked, said):
    with pytest.raises(RecipeError, match=said):
        curated[1].changed({"choose": asked})


def test_a_metric_that_there_is_not_is_told(fresh):
    run, recipe = fresh
    with pytest.raises(RecipeError, match="there is no such metric"):
        choose.choose(run, recipe.changed({"choose.metric": "acuracy"}), quiet=True)


# ------------------------------------------------------------------------------------------------------ what is typed


def test_the_table_is_eighty_columns_wide_and_says_what_came_of_each(curated, chosen, tmp_path):
    run, recipe = curated
    (tmp_path / "recipe.yaml").write_text(recipe.dump())

    done = tamis("choose", str(tmp_path / "recipe.yaml"), "--run", str(run.path), "--quiet")

    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert max(len(line) for line in lines if not line.startswith(("recipe", "next"))) <= 80
    assert lines[0].split() == ["candidate", "accuracy", "95%", "n", "b/byte", "p95", "GB", "1k", "fate"]
    assert sum(line.endswith("BASE") for line in lines) == 1
    assert sum(line.endswith("half") for line in lines) == 2
    assert lines[-1] == f"next: tamis run {chosen['recipe']} --run {run.path}"
    assert (run.path / "choose" / "table.md").read_text().count("| base") == 4
    assert json.loads((run.path / "choose" / "result.json").read_text())["method"].startswith("Jamieson")
