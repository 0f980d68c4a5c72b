"""Scorers in a recipe: from keys to columns of the ledger, and what is refused before anything is paid."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tamis.curate import ifd, scoring
from tamis.curate.pipeline import curate, stage_of
from tamis.errors import RecipeError, UserError
from tamis.recipe import Recipe
from tamis.run import Run
from tests.curate import desks

WORDS = [
    "parcel",
    "refund",
    "kettle",
    "card",
    "delivery",
    "address",
    "update",
    "order",
    "monday",
    "app",
    "receipt",
    "warranty",
]


def rows(count=90):
    """Questions with answers; the answer of every tenth belongs to another question."""
    rng = np.random.default_rng(3)
    out = []
    for i in range(count):
        a, b, c = rng.choice(WORDS, 3, replace=False)
        out.append(
            {"prompt": f"What about the {a} and the {b} of case {i}?", "completion": f"The {a} and {b}, then {c}."}
        )
    return out


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows()), encoding="utf-8")
    return file


def recipe(data, *scorers, evaluate=None, model="none", **keys):
    return Recipe.check(
        {
            "name": "x",
            "data": {"path": str(data)},
            "embedder": "lsa",
            "model": str(model),
            "evaluate": evaluate or {},
            "curate": {"scorers": list(scorers), "deduplicate": {"enabled": False}, **keys},
        }
    )


def ledger(run):
    return pq.read_table(run.curate / "ledger.parquet")


def test_the_default_scorer_marks_rows_without_a_label(tmp_path, data):
    run = Run(tmp_path / "run")
    curate(run, recipe(data, "features"), quiet=True)
    table = ledger(run)
    assert table["score_features"].null_count == 0
    assert table["score_quality"].to_pylist() == table["score_features"].to_pylist()


def test_ifd_scores_every_row_and_drops_what_its_prompt_misleads(tmp_path, data, tiny_model):
    pytest.importorskip("transformers")
    run = Run(tmp_path / "run")
    told = curate(run, recipe(data, "ifd", model=tiny_model), quiet=True)
    table = ledger(run).to_pylist()
    assert "scored_ifd" not in table[0]
    misled = [r for r in table if r["score_ifd"] >= 1]
    assert 0 < len(misled) < len(table)  # random weights: about half of them
    assert {r["id"] for r in misled} == {r["id"] for r in table if r["reason"] == "ifd"}
    assert all(r["stage"] == "score" and r["slack"] == pytest.approx(1 - r["score_ifd"], abs=1e-4) for r in misled)
    assert told["dropped"]["score"] == {"ifd": len(misled)}
    assert told["scorers"]["ifd"]["model"]["sha256"]
    kept = {r["id"] for r in table} - {r["id"] for r in misled}
    assert set(pq.read_table(run.curate / "vectors" / "part-00000.parquet")["id"].to_pylist()) == kept


def test_a_budget_predicts_the_rest_whatever_the_order(tmp_path, data, tiny_model):
    pytest.importorskip("transformers")
    asked = recipe(data, "features", {"name": "ifd", "budget": 0.7}, model=tiny_model)
    run = Run(tmp_path / "run")
    told = curate(run, asked, quiet=True)
    table = ledger(run)
    scored = np.array(table["scored_ifd"].to_pylist(), bool)
    low, value, high = (np.array(table[c]) for c in ("score_ifd_low", "score_ifd", "score_ifd_high"))
    assert scored.sum() == told["scorers"]["ifd"]["budget"]["scored"] == 63
    assert (low[scored] == high[scored]).all()
    assert (low[~scored] < high[~scored]).all()
    fell = np.array([r == "ifd" for r in table["reason"].to_pylist()])
    assert (fell == (low >= 1)).all()  # a prediction takes a row only where its whole interval says so
    assert np.isfinite(value).all()

    other, cached = data.parent / "other.jsonl", data.parent / "cache"
    other.write_text("".join(data.read_text(encoding="utf-8").splitlines(keepends=True)[::-1]), encoding="utf-8")
    cached.rename(data.parent / "elsewhere")
    again = Run(tmp_path / "again")
    curate(again, asked.model_copy(update={"data": recipe(other, "ifd").data}), quiet=True, morsel=7)
    tables = [t.drop_columns(["file", "line"]) for t in (table, ledger(again))]
    assert tables[0].equals(tables[1])


def test_another_model_of_the_same_name_is_other_work(tmp_path, data, tiny_model, other_model):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    asked, run = recipe(data, "ifd", model=folder), Run(tmp_path / "run")
    before = stage_of(run, asked).fingerprint
    assert stage_of(run, asked).fingerprint == before
    shutil.copy(other_model / "model.safetensors", folder / "model.safetensors")
    assert stage_of(run, asked).fingerprint != before


class Liking(desks.Desk):
    """A judge that likes refunds."""

    def reply(self, body):
        self.server.asked += 1
        self.say("5" if "refund" in body["messages"][0]["content"].split("[assistant]")[-1] else "2")


@pytest.fixture
def desk():
    with desks.opened(Liking, asked=0) as server:
        yield server


def test_a_judges_marks_decide_who_is_kept_and_a_changed_size_pays_nothing(tmp_path, data, desk):
    judge = {"name": "judge", "endpoint": desk.url, "model": "m"}
    run = Run(tmp_path / "run")
    curate(run, recipe(data, judge, select={"size": 10, "method": "cluster", "clusters": 1}), quiet=True)
    table = ledger(run).to_pylist()
    assert {r["score_judge"] for r in table} == {1.0, 0.25}
    assert all(r["score_quality"] == r["score_judge"] for r in table)
    assert desk.asked == 90
    told = curate(run, recipe(data, judge, select={"size": 12}), quiet=True)
    assert (desk.asked, told["scorers"]["judge"]["judged"], told["kept"]) == (90, 90, 12)


FAR = {"name": "judge", "endpoint": "https://judge.example/v1", "model": "m"}
PRICED = {**FAR, "input_per_million": 1.0, "output_per_million": 4.0}


@pytest.mark.parametrize(
    ("scorer", "evaluate", "says"),
    [
        (PRICED | {"max_cost": 5.0}, {}, "90 rows would go to judge.example"),
        (FAR, {"external": True}, "no price"),
        (PRICED, {"external": True}, "no price"),
        (FAR | {"max_cost": 5.0}, {"external": True}, "no price"),
        (PRICED | {"max_cost": 0.001}, {"external": True}, "would cost about"),
    ],
)
def test_a_judge_without_consent_or_price_does_not_start(tmp_path, data, scorer, evaluate, says):
    with pytest.raises(UserError, match=says):
        curate(Run(tmp_path / "run"), recipe(data, scorer, evaluate=evaluate), quiet=True)


@pytest.mark.parametrize(
    ("keys", "evaluate", "says"),
    [
        ({"max_minutes": 1e-9}, {}, "would take about"),
        ({"max_cost": 1.0}, {}, "no price is known"),
        ({"max_cost": 1e-12}, {"price": {"machine_hour": 1000.0}}, "would cost about"),
    ],
)
def test_ifd_above_its_limits_does_not_start(tmp_path, data, tiny_model, monkeypatch, keys, evaluate, says):
    pytest.importorskip("transformers")
    monkeypatch.setattr(ifd.Ifd, "measure", lambda *_: pytest.fail("a row was scored"))
    with pytest.raises(RecipeError, match=says):
        curate(
            Run(tmp_path / "run"),
            recipe(data, {"name": "ifd", **keys}, model=tiny_model, evaluate=evaluate),
            quiet=True,
        )


def test_a_dry_run_says_rows_tokens_minutes_and_money_and_scores_nothing(data, tiny_model, desk, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr(ifd.Ifd, "loaded", property(lambda _: pytest.fail("a model was loaded")))
    judge = {"name": "judge", "endpoint": desk.url, "model": "m", "input_per_million": 2.0, "output_per_million": 10.0}
    asked = recipe(
        data,
        "features",
        {"name": "ifd", "budget": 0.1},
        judge | {"budget": 0.5},
        model=tiny_model,
        evaluate={"price": {"machine_hour": 3.0}},
    )
    told = scoring.dry_run(asked)
    small, big = told.forecasts
    assert (told.rows, told.refused) == (90, None)
    assert (small.scorer, small.rows, big.scorer, big.rows) == ("ifd", 9, "judge", 45)
    assert 9 * 30 < small.tokens < 9 * 120
    assert small.money is not None
    assert big.money == pytest.approx(((big.tokens - 45 * 8) * 2.0 + 45 * 8 * 10.0) / 1e6)
    assert desk.asked == 0
    assert scoring.dry_run(recipe(data, "features")) == scoring.DryRun(90, [], None)


@pytest.mark.slow  # unpacks the packaged model into a cache of its own
def test_the_forecast_of_tokens_holds_against_the_tokenizer(data, tiny_model):
    pytest.importorskip("transformers")
    from tamis.curate.ifd import Ifd, tokens_of

    asked = recipe(data, "ifd", model="HuggingFaceTB/SmolLM2-135M-Instruct")
    try:
        scorer = Ifd.of(asked.model)
    except UserError:
        pytest.skip("needs the packaged model")
    turns = [
        [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["completion"]}] for r in rows()
    ]
    true = sum(tokens_of(scorer.example(t), scorer.header) for t in turns)
    assert scoring.forecast(asked, turns)[0].tokens == pytest.approx(true, rel=0.4)


@pytest.mark.parametrize(
    ("scorers", "says"),
    [
        (["feature"], "did you mean 'features'"),
        (["ifd", {"name": "ifd"}], "named twice"),
        (["judge"], "endpoint"),
        ([{"name": "ifd", "budgt": 0.1}], "did you mean 'budget'"),
        ([{"name": "ifd", "budget": 5}], "less than or equal to 1"),
    ],
)
def test_wrong_scorers_are_named(scorers, says):
    with pytest.raises(RecipeError, match=says):
        recipe("x", *scorers)
