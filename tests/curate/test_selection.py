"""The order of the surviving rows: what holds of it whatever the rows, and what it prefers."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.curate import coverage, sample
from tamis.curate.pipeline import curate
from tamis.curate.why import fate, sentence
from tamis.errors import UserError
from tamis.recipe import Quota, Recipe, Size
from tamis.run import Run

METHODS = ["cluster", "random", "longest", "stratified"]


def made(vectors, quality, labels, tokens=None):
    n = len(vectors)
    sources = [f"s{i % 3}" for i in range(n)]
    return sample.Pool(
        [f"r{i:03d}" for i in range(n)],
        np.asarray(vectors, np.int8),
        np.asarray(quality, float),
        np.asarray(tokens if tokens is not None else np.arange(n) % 17 + 1),
        list(labels),
        {"label": list(labels), "source": sources},
    )


@st.composite
def pools(draw):
    """Few rows or many, with and without labels, some alike, some empty (a vector of zeros)."""
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    vectors = rng.integers(-127, 128, (n, draw(st.integers(2, 12))))
    vectors[rng.random(n) < draw(st.sampled_from([0, 0.1, 1]))] = 0
    twins = rng.random(n) < draw(st.sampled_from([0, 0.3, 1]))
    vectors[twins] = vectors[0]
    labels = [None] * n if draw(st.booleans()) else [f"l{i}" for i in rng.integers(0, 4, n)]
    return made(vectors, rng.choice([0, 0.2, 0.7, 1], n), labels, rng.integers(1, 50, n))


@st.composite
def asked(draw):
    """A pool, quotas that may or may not be met, and rows that must stay."""
    pool = draw(pools())
    bounds = st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(3, 30)))
    quota = {
        f: Quota(min=low, max=high)
        for f, (low, high) in draw(st.dictionaries(st.sampled_from(["label", "source"]), bounds)).items()
    }
    return pool, quota, draw(st.sets(st.sampled_from(pool.ids), max_size=6))


@given(pools(), st.sampled_from(METHODS), st.one_of(st.none(), st.integers(1, 200)))
@settings(max_examples=80, deadline=None)
def test_every_row_has_one_place(pool, method, clusters):
    ranked, groups = sample.order(pool, method, 7, clusters)
    assert sorted(ranked.tolist()) == list(range(len(pool.ids)))
    assert len(groups) == len(pool.ids)


@given(asked(), st.sampled_from(METHODS), st.data())
@settings(max_examples=80, deadline=None)
def test_a_smaller_size_is_a_prefix_of_a_larger_one(case, method, data):
    pool, quota, must = case
    ranked, _ = sample.order(pool, method, 7)
    sizes = sorted(data.draw(st.lists(st.integers(1, len(pool.ids)), min_size=2, max_size=2)))
    taken = []
    for size in sizes:
        try:
            final, kept = sample.take(pool, ranked, Size("rows", size), quota, must)
        except UserError:
            return
        assert kept == size
        taken.append(final[:kept].tolist())
    assert taken[1][: sizes[0]] == taken[0]


@given(asked(), st.integers(1, 900))
@settings(max_examples=60, deadline=None)
def test_a_size_in_tokens_is_not_overdrawn_and_takes_all_that_fits(case, budget):
    pool, quota, must = case
    ranked, _ = sample.order(pool, "cluster", 7)
    try:
        final, kept = sample.take(pool, ranked, Size("tokens", budget), quota, must)
    except UserError:
        return
    spent = np.cumsum(pool.tokens[final])
    assert kept == 0 or spent[kept - 1] <= budget
    assert kept == len(final) or spent[kept] > budget


@given(asked(), st.sampled_from(METHODS), st.data())
@settings(max_examples=120, deadline=None)
def test_quotas_and_must_keep_hold_or_are_explained(case, method, data):
    pool, quota, must = case
    ranked, _ = sample.order(pool, method, 7)
    size = data.draw(st.integers(1, len(pool.ids)))
    try:
        final, kept = sample.take(pool, ranked, Size("rows", size), quota, must)
    except UserError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert any(word in said for word in ("must-keep rows and minimum quotas need", "maximum quotas leave"))
        assert "set curate.select.size to" in said
        return
    chosen = final[:kept].tolist()
    assert must <= {pool.ids[i] for i in chosen}
    for field, bounds in quota.items():
        values = pool.fields[field]
        for value in set(values):
            count = sum(values[i] == value for i in chosen)
            assert count >= min(bounds.min, values.count(value))
            # rows that must stay, and the minimum of another field, may stand above a maximum
            forced = sum(values[i] == value for i in final[: _forced(pool, ranked, quota, must)].tolist())
            assert bounds.max is None or count <= max(bounds.max, forced)


def _forced(pool, ranked, quota, must):
    """How many rows stand in front because they have to, counted without `take`."""
    front = [i for i in ranked.tolist() if pool.ids[i] in must]
    for field, bounds in quota.items():
        values = pool.fields[field]
        for i in ranked.tolist():
            if i not in front and sum(values[j] == values[i] for j in front) < bounds.min:
                front.append(i)
    return len(front)


def crowds(sizes, seed=0, width=16, noise=0.15):
    rng = np.random.default_rng(seed)
    points = [np.eye(width)[c] + rng.normal(0, noise, width) for c, n in enumerate(sizes) for _ in range(n)]
    rows = np.array(points)
    return np.rint(127 * rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.int8)


def test_the_chosen_lie_nearer_to_all_rows_than_random_ones_and_further_apart():
    vectors = crowds([300, 100, 40, 20, 10])
    pool = made(vectors, np.ones(len(vectors)), [None] * len(vectors))
    ours = sample.order(pool, "cluster", 7)[0]
    for size in (20, 40, 120):  # with fewer places than clusters some crowd has none
        by_chance = [sample.order(pool, "random", s)[0][:size] for s in range(5)]
        near = coverage.nearest_kept(vectors, vectors[ours[:size]])[0]
        others = [coverage.nearest_kept(vectors, vectors[o])[0] for o in by_chance]
        assert near.mean() < min(d.mean() for d in others)
        assert np.percentile(near, 95) < min(np.percentile(d, 95) for d in others)


def test_the_first_row_of_a_crowd_is_from_its_middle():
    """Farthest first begins or goes on with the odd one out."""
    middle, odd = crowds([60], noise=0.05), crowds([0, 1])
    order = coverage.spread(np.concatenate([odd, middle]), np.ones(61), np.ones(61))
    likeness = coverage.unit(middle) @ coverage.unit(middle).mean(0)
    assert order[0] in (1 + np.argsort(-likeness)[:6]).tolist()


def test_a_row_that_its_neighbours_contradict_comes_late_however_far_off_it_lies():
    vectors = np.concatenate([crowds([60], noise=0.2), crowds([0, 0, 0, 3], noise=0.05)])
    quality = np.array([0.95] * 60 + [0.2] * 3)
    order = sample.order(made(vectors, quality, ["a"] * 63), "cluster", 7, 1)[0].tolist()
    assert min(order.index(i) for i in (60, 61, 62)) > 30
    trusted = sample.order(made(vectors, np.ones(63), ["a"] * 63), "cluster", 7, 1)[0].tolist()
    assert min(trusted.index(i) for i in (60, 61, 62)) < 10


def test_of_two_rows_that_cover_alike_the_better_comes_first():
    vectors = np.repeat(crowds([1, 1, 1]), 2, axis=0)
    quality = [0.5, 0.9, 0.9, 0.5, 0.5, 0.9]
    order = sample.order(made(vectors, quality, [None] * 6), "cluster", 7, 1)[0].tolist()
    assert set(order[:3]) == {1, 2, 5}


def test_scores_that_are_no_numbers_still_give_an_order():
    vectors = crowds([20, 5])
    order, _ = sample.order(made(vectors, [np.nan, *[0.9] * 24], [None] * 25), "cluster", 7)
    assert sorted(order.tolist()) == list(range(25))
    assert order[-1] == 0 or order.tolist().index(0) > 12


def exact_greedy(vectors, weight, distance, places, aside):
    """The rule written out: every gain anew for every place."""
    between = coverage.apart(vectors).astype(int)
    left, own, order = np.rint(distance * 10_000).astype(int), np.full(len(vectors), 10_000), []
    for _ in range(places):
        gains = weight * np.maximum(left - between, 0).sum(1) * (own if aside else 1)
        gains[order] = -1
        order.append(int(gains.argmax()))
        left, own = np.minimum(left, between[order[-1]]), np.minimum(own, between[order[-1]])
    return order


@given(st.integers(0, 999), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_gains_that_are_kept_up_to_date_choose_as_gains_made_anew(seed, n):
    rng = np.random.default_rng(seed)
    vectors, weight, distance = rng.integers(-127, 128, (n, 6)).astype(np.int8), rng.random(n) + 0.01, rng.random(n)
    assert coverage.spread(vectors, weight, distance).tolist() == exact_greedy(vectors, weight, distance, n, True)
    order, gains = coverage.rank(vectors, weight, distance, np.zeros(n, np.int64))
    first = int(np.flatnonzero(np.diff(gains[order]) == 0).min(initial=n))  # ties may come in another order
    assert order[:first].tolist() == exact_greedy(vectors, weight, distance, n, False)[:first]


def test_a_group_above_a_block_is_ordered_in_slices_and_after_so_many_places_by_what_is_left(monkeypatch):
    monkeypatch.setattr(coverage, "BLOCK", 64)
    monkeypatch.setattr(coverage, "PLACES", 16)
    vectors = crowds([150, 50])
    order = coverage.spread(vectors, np.ones(200), np.ones(200))
    assert sorted(order.tolist()) == list(range(200))
    near = coverage.nearest_kept(vectors, vectors[order[:20]])[0].mean()
    assert near < coverage.nearest_kept(vectors, vectors[:20])[0].mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_distances_are_whole_steps_and_do_not_depend_on_the_rows_beside(seed):
    vectors = np.random.default_rng(seed).integers(-127, 128, (50, 24)).astype(np.int8)
    whole = coverage.apart(vectors)
    assert (whole == whole.T).all()
    assert (whole[:7, :7] == coverage.apart(vectors[:7])).all()
    unit = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    assert np.abs(whole - 10_000 * (1 - unit @ unit.T)).max() <= 1


def test_a_row_that_is_not_chosen_names_the_kept_row_that_stands_for_it(tmp_path):
    """The nearest kept row of its cluster, from the stored vectors; `tamis why` says so."""
    asked = ["Where is my {}?", "I want to return the {}", "My {} arrived broken", "Please invoice the {} again"]
    goods = ["lamp", "chair", "fondue set", "blue jumper", "bookshelf", "kettle"]
    rows = [{"prompt": a.format(g), "completion": a[:8]} for a in asked for g in goods]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    run = Run(tmp_path / "run")
    settings = {"select": {"size": 9, "clusters": 4}, "deduplicate": {"near": None}}
    curate(
        run, Recipe.check({"name": "r", "data": {"path": str(data)}, "embedder": "lsa", "curate": settings}), quiet=True
    )
    ledger = {r["id"]: r for r in pq.read_table(run.curate / "ledger.parquet").to_pylist()}
    table = pq.read_table(run.curate / "vectors")
    vectors = dict(zip(table["id"].to_pylist(), coverage.unit(np.array(table["vector"].to_pylist())), strict=True))
    late = [r for r in ledger.values() if r["reason"] == "not_selected"]
    assert len(late) == 15
    for row in late:
        peers = [r["id"] for r in ledger.values() if r["verdict"] == "kept" and r["cluster"] == row["cluster"]]
        best = max(float(vectors[row["id"]] @ vectors[p]) for p in peers)
        assert row["witness"] in peers
        assert row["similarity"] == pytest.approx(best, abs=2e-4)
        said = sentence(fate(run.curate / "ledger.parquet", row["id"]))
        assert f"of its cluster {row['witness']} is kept, the nearest (similarity {best:.2f})" in said
    assert {r["witness"] for r in ledger.values() if r["verdict"] == "kept"} == {None}
