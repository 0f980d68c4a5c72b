"""The study refuses what it cannot answer before it trains, and recommends only what it has shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tamis import loop
from tamis.errors import UserError
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.study import forecast, planned, study
from tamis.study_answer import Plan, Yardstick, agreement, answer
from tamis.study_words import closing
from tests.tamis.calling import tamis

INTENTS = ("cancel order", "track order", "refund")
NUMBERS = ("one", "two", "three", "four", "five", "six")


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Recipe]:
    folder = tmp_path_factory.mktemp("study")
    rows = [{"text": f"{i} number {n} please", "intent": i} for i in INTENTS for n in NUMBERS]
    items = [{"text": f"{i} for {n}", "intent": i} for i in INTENTS for n in ("Mai", "Lan", "Jo")]
    for name, table in (("rows", rows), ("items", items)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in table))
    files = {"data": {"path": str(folder / "rows.jsonl")}, "eval": {"path": str(folder / "items.jsonl")}}
    raw = {"name": "study", "embedder": "lsa", "evaluate": {"task": {"kind": "classify"}}, **files}
    recipe, run = Recipe.check(raw), Run(Path(folder) / "run")
    loop.prepare(run, recipe, quiet=True)
    return run, recipe


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"margin": 0}, "no finite number of items"),
        ({"seeds": 1}, "one seed"),
        ({"sizes": [0, 5]}, "one row or more"),
        ({"methods": ["random", "random"]}, "each named once"),
    ],
)
def test_a_recipe_that_cannot_be_answered_is_not_even_read(curated, asked, said):
    with pytest.raises(UserError, match=said):
        curated[1].changed({"study": asked})


@pytest.mark.parametrize(
    ("asked", "even_so", "said"),
    [({"sizes": [600]}, True, "above the 18 rows"), ({"sizes": [6]}, False, "about 1,963 are needed")],
)
def test_what_the_data_cannot_answer_is_refused_before_training(curated, asked, even_so, said):
    run, recipe = curated
    with pytest.raises(UserError, match=said):
        study(run, recipe.changed({"study": asked}), even_so=even_so, quiet=True)
    assert not (run.path / "study").exists()


def test_sizes_of_a_seed_are_nested_and_all_are_trained_for_the_same_epochs(curated):
    run, recipe = curated
    asked = recipe.changed({"study": {"sizes": [3, 6], "seeds": 2, "epochs": 2}, "train.early_stopping": True})
    _, found = planned(run, asked, even_so=True)
    cells = {c.name: c.rows for c in found}
    assert cells["random-6-s7"][:3] == cells["random-3-s7"]
    assert cells["random-6-s7"] != cells["random-6-s8"]
    assert len(cells["all-18-s7"]) == 18
    for cell in found:
        train = asked.changed(cell.overlay).train
        assert (train.epochs, train.early_stopping) == (2, None)


def test_equal_steps_read_small_sizes_more_often_and_want_one_batch_size(curated):
    run, recipe = curated
    asked = recipe.changed({"study": {"sizes": [3, 6], "seeds": 2, "epochs": 2, "equal": "steps"}, "train.batch": 3})
    _, found = planned(run, asked, even_so=True)
    epochs = {c.about["size"]: c.overlay["train.epochs"] for c in found}
    assert epochs == {3: 12, 6: 6, 18: 2}  # 12 steps of three rows each
    with pytest.raises(UserError, match="one batch size"):
        planned(run, asked.changed({"train.batch": "auto"}), even_so=True)


def test_all_rows_may_be_trained_less_often(curated):
    run, recipe = curated
    _, found = planned(run, recipe.changed({"study": {"sizes": [6], "seeds": 3, "reference_seeds": 2}}), even_so=True)
    assert sum(c.about["method"] == "all" for c in found) == 2
    assert sum(c.about["method"] == "random" for c in found) == 3


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"study.metric": "rouge_l"}, "not computed for this task"),
        ({"study.margin": 1.5}, "the whole range of accuracy"),
        ({"study.max_cost": 1.0}, "what the machine costs"),
        ({"study.max_cost": 1e-9, "evaluate.price.machine_hour": 1.0}, "pay for no answer"),
    ],
)
def test_what_cannot_be_measured_or_paid_is_refused_before_training(curated, tiny_model, asked, said):
    run, recipe = curated
    sizes = {"study.sizes": [6], "study.seeds": 2, "model": str(tiny_model), "train.lr": 1e-3}
    with pytest.raises(UserError, match=said):
        study(run, recipe.changed({**sizes, **asked}), even_so=True, quiet=True)
    assert not (run.path / "study" / "cells").exists()


def test_a_limit_on_the_cost_leaves_cells_out_and_keeps_its_choice(curated, tiny_model, monkeypatch):
    pytest.importorskip("torch")
    run, recipe = curated
    asked = recipe.changed(
        {
            "study": {"margin": 0.3, "sizes": [6], "seeds": 4, "methods": ["random"], "resamples": 0},
            "model": str(tiny_model),
            "train": {"r": 4, "lr": 1e-3, "batch": 4, "epochs": 1},
            "evaluate.task.max_tokens": 12,
            "evaluate.price.machine_hour": 3600.0,  # one for a second
        }
    )
    told = iter([{("random", 6): 1.0, ("all", 18): 10.0}, {("random", 6): 0.1, ("all", 18): 0.1}])
    monkeypatch.setattr("tamis.study._seconds", lambda *_: next(told))
    limited = asked.changed({"study.max_cost": 13.5})
    found = study(run, limited, even_so=True, quiet=True)
    assert found["left_out"] == 4
    assert [p["seeds"] for p in [*found["points"], found["reference"]]] == [3, 1]
    assert "study.max_cost left out" in "\n".join(closing(found)[1])
    again = study(run, limited, even_so=True, quiet=True)  # by then all would have been affordable
    assert again["left_out"] == found["left_out"]
    assert again["points"] == found["points"]


def test_sizes_left_to_tamis_are_halves_of_halves(curated):
    run, recipe = curated
    plan, _ = planned(run, recipe, even_so=True)
    assert plan.sizes == [1, 2, 4, 9]


def test_the_proxy_answers_from_the_command_line_and_fits_nothing_twice(curated, tmp_path: Path):
    run, recipe = curated
    asked = recipe.changed({"study": {"margin": 0.1, "sizes": [3, 9], "seeds": 2}, "evaluate.price.machine_hour": 1})
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(asked.model_dump(mode="json")))
    line = ("study", str(file), "--run", str(run.path), "--proxy", "--even-so")

    before = tamis(*line, "--dry-run")
    code, out, err = tamis(*line, "--no-quiet")
    after = tamis(*line, "--dry-run")

    assert before.out.startswith("fit 9 quick models")
    assert after.out.startswith("fit 0 quick models, seconds each; 9 are done")
    assert code in (0, 3), err
    assert "NOT by training" in out
    assert out.count("at 3 rows cluster") == 1
    found = json.loads((run.path / "proxy" / "result.json").read_text())
    assert len(found["points"]) == 4
    assert code == (0 if found["settled"] else 3)
    assert "NOT by training" in (run.path / "proxy" / "table.md").read_text()
    files = {f: f.stat().st_mtime_ns for f in run.path.glob("proxy/cells/*/stage.json")}
    assert len(files) == 9
    assert tamis(*line).out == out
    assert {f: f.stat().st_mtime_ns for f in files} == files


def test_a_study_trains_every_cell_once_and_the_forecast_tells_what_is_left(curated, tiny_model: Path):
    pytest.importorskip("torch")
    run, recipe = curated
    asked = recipe.changed(
        {
            "study": {"margin": 0.3, "sizes": [8], "seeds": 2, "methods": ["random"], "epochs": 2},
            "model": str(tiny_model),
            "train": {"r": 4, "lr": 1e-3, "batch": 4},
            "evaluate.task.max_tokens": 12,
            "evaluate.price.machine_hour": 3.6,
        }
    )
    before = forecast(run, asked, even_so=True)
    assert [(p["method"], p["size"], p["left"]) for p in before["points"]] == [("random", 8, 2), ("all", 18, 2)]
    assert before["seconds"] == pytest.approx(sum(p["left"] * p["seconds"] for p in before["points"]))
    assert before["money"] == pytest.approx(before["seconds"] / 1000)

    found = study(run, asked, even_so=True, quiet=True)
    (run.path / "study" / "result.json").unlink()  # stopped just before the end
    stages = {f: f.stat().st_mtime_ns for f in run.path.glob("study/cells/*/stage.json")}
    again = study(run, asked, even_so=True, quiet=True)

    assert again == found
    assert {f: f.stat().st_mtime_ns for f in stages} == stages
    assert {f.parent.name for f in stages} >= {"random-8-s7", "random-8-s8", "all-18-s7", "all-18-s8"}
    assert forecast(run, asked, even_so=True)["done"] == 4
    point = found["points"][0]
    assert point["cost"] == pytest.approx(point["train_s"] / 1000)


def made(accuracies, seeds=5, items=400, spread=0.0):
    """Cells whose trainings are right on given shares of the items."""
    rng, rows = np.random.default_rng(1), []
    hard = rng.random(items)
    for (method, size), accuracy in accuracies.items():
        for _ in range(seeds):
            right = hard < accuracy + spread * rng.standard_normal()
            outcome = {"metric": "accuracy", "width": 1, "values": right.astype(float).tolist()}
            rows.append({"method": method, "size": size, "outcomes": [outcome], "components": list(range(items))})
    return rows


def test_the_smallest_size_within_the_margin_is_recommended():
    truth = {
        ("cluster", 100): 0.7,
        ("cluster", 200): 0.9,
        ("random", 100): 0.5,
        ("random", 200): 0.7,
        ("all", 999): 0.9,
    }
    found = answer(made(truth), Plan(0.05, [100, 200]))
    assert found["recommended"] == {"cluster": 200, "random": None}
    assert found["verdicts"] == {"cluster": "enough", "random": "too few"}
    assert all(g["gain"]["lower"] > 0 for g in found["choosing"])
    text = "\n".join(said(found))
    assert "cluster: 200 of 999 rows are enough" in text
    assert "random: no size tried is enough" in text
    assert "at 100 rows cluster is better than random: +20" in text


def said(found):
    rest = {"stability": [], "agreement": None, "left_out": 0}
    return closing({**found, **rest, "items": 400, "curation_s": 2.0, "folder": "runs/x/study"})[1]


def test_a_loss_of_just_the_margin_asks_for_no_absurd_number_of_items() -> None:
    truth = {("cluster", 100): 0.85, ("random", 100): 0.85, ("all", 999): 0.9}
    found = answer(made(truth), Plan(0.05, [100]))
    margin = -found["points"][0]["loss"]["value"] + 0.001
    text = "\n".join(said(answer(made(truth), Plan(margin, [100]))))
    assert "INCONCLUSIVE" in text
    assert "about the margin itself" in text
    assert "would settle it" not in text


def test_what_is_equal_to_chance_is_said_to_be() -> None:
    truth = {("cluster", 100): 0.8, ("random", 100): 0.8, ("all", 999): 0.8}
    found = answer(made(truth, spread=0.02), Plan(0.05, [100]))
    assert "at 100 rows cluster is not told apart from random" in "\n".join(said(found))


def test_seeds_that_disagree_give_no_recommendation_but_how_many_are_missing():
    truth = {("cluster", 100): 0.8, ("random", 100): 0.8, ("all", 999): 0.8}
    found = answer(made(truth, spread=0.1), Plan(0.05, [100]))
    assert found["recommended"]["cluster"] is None
    point = found["points"][0]
    assert point["needed"]["limited_by"] == "seeds"
    assert point["needed"]["seeds"] > 5
    assert not found["settled"]
    text = "\n".join(said(found))
    assert f"INCONCLUSIVE: 100 of 999 rows differ from all by {100 * point['loss']['value']:+.1f}" in text
    assert f"about {point['needed']['seeds']:,} seeds" in text


def test_of_a_metric_that_should_be_small_a_rise_is_a_loss():
    rows = made({("cluster", 100): 0.2, ("random", 100): 0.5, ("all", 999): 0.2})
    for row in rows:
        row["outcomes"][0]["metric"] = "mae"
    found = answer(rows, Plan(0.05, [100], yardstick=Yardstick("mae", up=False, span=(0.0, float("inf")))))
    losses = {p["method"]: p["loss"]["value"] for p in found["points"]}
    assert losses["random"] == pytest.approx(-0.3, abs=0.05)
    assert found["verdicts"] == {"cluster": "enough", "random": "too few"}
    assert found["choosing"][0]["gain"]["value"] > 0
    text = "\n".join(said(found))
    assert "less is better" in text
    assert "lose 0.3" in text  # in the metric's unit, no points
    assert "mae (margin 0.050 mae)" not in text.splitlines()[0]


def test_an_arm_that_was_trained_once_borrows_its_luck_and_missing_sizes_are_left_out():
    rows = made({("cluster", 100): 0.8, ("random", 100): 0.7, ("all", 999): 0.8}, spread=0.02)
    once = [r for r in rows if r["method"] != "all"] + [next(r for r in rows if r["method"] == "all")]
    found = answer(once, Plan(0.05, [100, 200]))
    assert found["reference"]["seeds"] == 1
    assert "seed variance of the others" in found["reference"]["value"]["note"]
    assert {p["size"] for p in found["points"]} == {100}


def test_the_luck_that_is_borrowed_is_that_of_the_nearest_size():
    """Few rows make wild models: an arm of all rows must not be taken to be as wild as they are."""
    rows = made({("random", 100): 0.5}, spread=0.2) + made({("random", 800): 0.8}, spread=0.01)
    whole = made({("all", 999): 0.8}, seeds=1)
    wide = answer(made({("random", 100): 0.5}, spread=0.2) + whole, Plan(0.05, [100], ["random"]))
    near = answer(rows + whole, Plan(0.05, [100, 800], ["random"]))
    widths = [f["reference"]["value"]["upper"] - f["reference"]["value"]["lower"] for f in (near, wide)]
    assert widths[0] < 0.12 < widths[1]


def test_the_proxy_and_training_are_held_against_each_other_by_rank():
    truth = {
        ("cluster", 100): 0.7,
        ("cluster", 200): 0.8,
        ("random", 100): 0.5,
        ("random", 200): 0.6,
        ("all", 999): 0.9,
    }
    trained = answer(made(truth), Plan(0.05, [100, 200]))
    loss = {key: 1 - value for key, value in truth.items()}
    rows = made(loss)
    for row in rows:
        row["outcomes"][0]["metric"] = "mae"
    turned = answer(rows, Plan(0.05, [100, 200], yardstick=Yardstick("mae", up=False, span=None)))
    assert agreement(turned, trained) == {"spearman": pytest.approx(1.0), "points": 5}
    swapped = answer(made({**truth, ("all", 999): 0.4}), Plan(0.05, [100, 200]))
    assert agreement(swapped, trained)["spearman"] == pytest.approx(0.0)
    fewer = answer(
        made({("random", 100): 0.5, ("random", 200): 0.6, ("all", 999): 0.9}), Plan(0.05, [100, 200], ["random"])
    )
    assert agreement(fewer, trained) is None
    text = "\n".join(
        closing(
            {
                **trained,
                "items": 1,
                "curation_s": 0,
                "folder": "x",
                "stability": [],
                "left_out": 0,
                "agreement": agreement(swapped, trained),
            }
        )[1]
    )
    assert "do NOT agree well in rank: Spearman 0.00 over 5 points" in text


def test_a_task_of_texts_has_a_proxy_in_bits_per_byte_and_more_rows_help_it(tmp_path):
    rows = [
        {"prompt": f"say {w} {n}", "completion": f"{w} is number {n} of the list"} for w in INTENTS for n in NUMBERS
    ]
    items = [{"prompt": f"say {w} seven", "completion": f"{w} is number seven of the list"} for w in INTENTS]
    for name, table in (("rows", rows), ("items", items)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in table))
    files = {"data": {"path": str(tmp_path / "rows.jsonl")}, "eval": {"path": str(tmp_path / "items.jsonl")}}
    asked = {"metric": "bits_per_byte", "margin": 0.5, "sizes": [2, 8], "seeds": 2, "methods": ["random"]}
    curate = {"deduplicate": {"near": None, "semantic": None}, "decontaminate": {"enabled": False}}
    recipe = Recipe.check({"name": "t", "embedder": "lsa", "curate": curate, "study": asked, **files})
    run = Run(tmp_path / "run")
    loop.prepare(run, recipe, quiet=True)

    with pytest.raises(UserError, match="answers in bits per byte"):
        study(run, recipe.changed({"study.metric": "rouge_l"}), proxy=True, even_so=True, quiet=True)
    with pytest.raises(UserError, match=r"3 independent items are too few .* about 111 are"):
        study(run, recipe.changed({"study.metric": "rouge_l", "study.margin": 0.04}), quiet=True)
    found = study(run, recipe, proxy=True, quiet=True)

    values = {p["size"]: p["value"]["value"] for p in [*found["points"], found["reference"]]}
    assert values[2] > max(values[8], values[18])
    assert "a byte model of texts, NOT by training; bits per byte" in closing(found)[1][0]
