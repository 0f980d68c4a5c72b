"""The map: who is alike lies together, the same rows give the same map, and nothing small or odd breaks it."""

import numpy as np
import pytest

from tamis.curate.map import places


def groups(n: int, kinds: int = 12, width: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    middle = rng.normal(0, 40, (kinds, width))
    kind = rng.integers(0, kinds, n)
    return np.clip(middle[kind] + rng.normal(0, 12, (n, width)), -127, 127).astype(np.int8), kind


def purity(at: np.ndarray, kind: np.ndarray) -> float:
    """Share of rows whose nearest other row on the map is of their own group."""
    apart = ((at[:, None] - at[None]) ** 2).sum(-1)
    np.fill_diagonal(apart, np.inf)
    return float((kind[apart.argmin(1)] == kind).mean())


@pytest.fixture(scope="module")
def mapped():
    vectors, kind = groups(1500)
    return vectors, kind, places(vectors, 7)


def test_rows_of_one_group_lie_together(mapped):
    _, kind, at = mapped
    assert purity(at, kind) > 0.98


def test_the_same_rows_give_the_same_map_and_equal_rows_one_place(mapped):
    vectors, _, at = mapped
    twice = np.concatenate([vectors, vectors[-1:]])
    assert np.array_equal(places(vectors, 7), at)
    again = places(twice, 7)
    assert np.array_equal(again[-1], again[-2])


@pytest.mark.parametrize("n", [0, 1, 2, 29, 31])
def test_few_rows_are_placed_too(n):
    at = places(groups(max(n, 1))[0][:n], 7)
    assert at.shape == (n, 2)
    assert np.isfinite(at).all()


def test_rows_that_are_all_alike_or_empty_are_no_crash():
    assert np.isfinite(places(np.ones((200, 16), np.int8), 7)).all()
    assert np.isfinite(places(np.zeros((200, 16), np.int8), 7)).all()


@pytest.mark.slow
def test_a_million_rows_get_a_place():
    at = places(groups(1_000_000, kinds=300, width=256)[0], 7)
    assert np.isfinite(at).all()
    assert len(np.unique(at.round(2), axis=0)) > 20_000  # off the centres, not on them


def test_curation_places_every_embedded_row_wherever_its_line_stood(tmp_path):
    import json
    import random

    import pyarrow.parquet as pq

    from tamis.curate.pipeline import curate
    from tamis.recipe import Recipe
    from tamis.run import Run

    things = ["parcel", "refund", "card", "address", "invoice", "password", "voucher", "return"]
    lines = [
        json.dumps({"prompt": f"{verb} my {thing} number {n}", "completion": f"{verb} {thing}"})
        for n, verb in enumerate(["where is", "please cancel", "block", "change", "resend", "explain"])
        for thing in things
    ]
    maps = []
    for name in ("asis", "shuffled"):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("\n".join(lines) + "\n")
        random.Random(3).shuffle(lines)
        run = Run(tmp_path / name)
        recipe = {"name": name, "data": {"path": str(file)}, "embedder": "lsa", "curate": {"select": {"size": 20}}}
        curate(run, Recipe.check(recipe), quiet=True)
        maps.append(pq.read_table(run.curate / "map.parquet"))
        vectors = pq.read_table(run.curate / "vectors" / "part-00000.parquet")
        assert maps[-1]["id"].to_pylist() == vectors["id"].to_pylist()
    assert maps[0].equals(maps[1])
