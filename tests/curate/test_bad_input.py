"""Data and settings at the edge, through all of curation: a clear error or a stated behaviour, and no row lost."""

import builtins
import importlib.util
import json
import math

import pyarrow.parquet as pq
import pytest

from tamis import embed, static
from tamis.curate.pipeline import curate
from tamis.errors import MissingExtra, UserError
from tamis.recipe import Recipe
from tamis.run import Run

TEXTS = ["Where is my parcel?", "Block my card", "Unblock my card", "Refund the lamp", "2 + 2", "khóa thẻ"]


def rows(texts, answers=None):
    said = answers or ["ok"] * len(texts)
    return [{"id": f"k{i}", "prompt": t, "completion": a} for i, (t, a) in enumerate(zip(texts, said, strict=True))]


def made(folder, data, embedder="lsa", **more):
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in data), encoding="utf-8")
    run = Run(folder / "run")
    funnel = curate(
        run, Recipe.check({"name": "r", "data": {"path": str(file)}, "embedder": embedder, **more}), quiet=True
    )
    ledger = pq.read_table(run.curate / "ledger.parquet").to_pylist()
    assert funnel["read"] == len(data) == len(ledger)
    assert funnel["kept"] + sum(n for reasons in funnel["dropped"].values() for n in reasons.values()) == len(data)
    return funnel, {r["key"]: r for r in ledger}


def test_an_embedder_that_is_missing_names_what_helps(tmp_path):
    with pytest.raises(UserError, match="cannot be loaded") as error:
        made(tmp_path, rows(TEXTS), embedder=str(tmp_path / "no-such-model"))
    assert "embedder: lsa needs nothing" in str(error.value)
    assert not (tmp_path / "run" / "curate" / "stage.json").exists()


@pytest.mark.parametrize(("embedder", "package"), [(embed.MINILM, "sentence_transformers"), ("static", "model2vec")])
def test_an_embedder_whose_package_is_missing_says_what_to_install(tmp_path, monkeypatch, embedder, package):
    real, find = builtins.__import__, importlib.util.find_spec

    def refuse(name, *arguments, **named):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *arguments, **named)

    embed._loaded.cache_clear()
    static.load.cache_clear()
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingExtra, match=r"pip install 'tamis\[curate\]'"):
        made(tmp_path, rows(TEXTS), embedder=embedder)


def test_more_clusters_than_rows_give_each_row_its_own(tmp_path):
    _, fates = made(tmp_path, rows(TEXTS), curate={"select": {"clusters": 500, "size": 3}})
    assert len({r["cluster"] for r in fates.values()}) == len(TEXTS)
    assert sum(r["verdict"] == "kept" for r in fates.values()) == 3


@pytest.mark.parametrize("method", ["cluster", "random", "longest", "stratified"])
@pytest.mark.parametrize("count", [2, 300])
def test_of_identical_rows_one_is_kept(tmp_path, method, count):
    funnel, fates = made(tmp_path, rows(["Where is my parcel?"] * count), curate={"select": {"method": method}})
    assert funnel["dropped"]["deduplicate"] == {"exact": count - 1}
    (kept,) = [r for r in fates.values() if r["verdict"] == "kept"]
    assert {r["witness"] for r in fates.values()} == {None, kept["id"]}


def test_identical_rows_without_deduplication_are_all_there(tmp_path):
    quiet = {"deduplicate": {"enabled": False}, "select": {"size": 5}}
    funnel, _ = made(tmp_path, rows(["Where is my parcel?"] * 40), curate=quiet)
    assert funnel["kept"] == 5


@pytest.mark.parametrize("embedder", ["lsa", "auto"])
def test_one_row_is_kept(tmp_path, embedder):
    funnel, fates = made(tmp_path, rows(["Where is my parcel?"]), embedder=embedder)
    assert funnel["kept"] == 1
    assert fates["k0"]["rank"] == 0


def test_one_row_in_ten_percent_is_one_row(tmp_path):
    assert made(tmp_path, rows(TEXTS[:1]), curate={"select": {"size": "10%"}})[0]["kept"] == 1


def test_one_unusable_row_leaves_nothing_and_says_so(tmp_path):
    funnel, fates = made(tmp_path, rows(["   "]))
    assert (funnel["kept"], fates["k0"]["reason"]) == (0, "empty_prompt")


def test_rows_of_one_character_are_rows(tmp_path):
    """Letters, digits, signs and other scripts; none is taken for another one, none falls for being short."""
    signs = list("abc123+-=đơ字あ한яω")
    _, fates = made(tmp_path, rows(signs))
    assert [t for i, t in enumerate(signs) if fates[f"k{i}"]["verdict"] != "kept"] == []


def test_signs_that_only_separate_are_one_empty_text(tmp_path):
    """ "?" and "." say nothing that is compared: the first of them is kept, the others are its copies."""
    _, fates = made(tmp_path, rows(["?", ".", "!", "a"]))
    assert sorted(str(r["reason"]) for r in fates.values()) == ["None", "None", "exact", "exact"]


@pytest.mark.slow
def test_ten_megabytes_in_one_row(tmp_path):
    """Kept like any other; its copy is found."""
    words = " ".join(f"word{i}" for i in range(1_000_000))
    assert len(words) > 10_000_000
    _, fates = made(tmp_path, rows([*TEXTS, words, words]))
    assert sorted(str(fates[k]["reason"]) for k in ("k6", "k7")) == ["None", "exact"]
    assert all(fates[f"k{i}"]["verdict"] == "kept" for i in range(len(TEXTS)))


@pytest.mark.slow
def test_ten_megabytes_in_an_answer(tmp_path):
    answer = " ".join(f"word{i}" for i in range(1_000_000)) + "."
    _, fates = made(tmp_path, rows([*TEXTS, "Tell me everything"], [*["ok"] * len(TEXTS), answer]))
    assert fates["k6"]["verdict"] == "kept"
    assert fates["k6"]["tokens"] > 2_000_000


def test_scores_that_are_no_numbers_decide_nothing(tmp_path, monkeypatch):
    """A scorer that returns NaN leaves a null in the ledger; the row is judged by what else is known and kept."""
    from tamis.curate import quality

    real = quality.quality

    def broken(prompt, answer):
        return math.nan if "card" in prompt else real(prompt, answer)

    monkeypatch.setattr(quality, "quality", broken)
    _, fates = made(tmp_path, rows(TEXTS))
    assert fates["k1"]["score_features"] is None
    assert fates["k0"]["score_features"] is not None
    assert all(r["score_quality"] is not None for r in fates.values())
    assert all(r["verdict"] == "kept" for r in fates.values())


def test_every_score_a_nan_still_ranks_every_row(tmp_path, monkeypatch):
    from tamis.curate import quality

    monkeypatch.setattr(quality, "quality", lambda *_: math.nan)
    _, fates = made(tmp_path, rows(TEXTS), curate={"select": {"size": 4}})
    assert sorted(r["rank"] for r in fates.values()) == list(range(len(TEXTS)))
