"""The axes of a run: what was kept gives later texts the vectors that they would have had among the first."""

import numpy as np

from tamis import embed, run_vectors
from tamis.lsa import Axes

TEXTS = [
    f"Where is parcel {n} of {who}, it was due on {day}"
    for n in range(9)
    for who in "AB"
    for day in ("Monday", "Thứ Hai")
]


def test_kept_axes_give_the_vectors_of_fresh_ones_to_the_bit(tmp_path):
    axes, floats = Axes.fit(TEXTS)
    axes.save(tmp_path / "axes.npz")
    again = Axes.load(tmp_path / "axes.npz")
    assert again.grams == axes.grams
    fresh = embed.to_int16(floats)
    assert (embed.to_int16(again.project(TEXTS[3:9])) == fresh[3:9]).all()
    first = embed.quantised(TEXTS, "lsa", keep_axes=True)
    assert (first.fine[3:9] == embed.onto(TEXTS[3:9], first.axes, "lsa").fine).all()


def test_texts_too_few_to_decompose_and_texts_without_a_letter_have_vectors_too(tmp_path):
    for texts, width in ((["one text", "another"], None), (["", " "], 1), ([], 1)):
        axes, floats = Axes.fit(texts)
        axes.save(tmp_path / "axes.npz")
        found = Axes.load(tmp_path / "axes.npz").project([*texts, "a third one"])
        assert found.shape == (len(texts) + 1, width or floats.shape[1])
        np.testing.assert_array_equal(found[: len(texts)], floats)


def test_the_cache_gives_back_the_axes_with_the_vectors(tmp_path, monkeypatch):
    first = embed.quantised(TEXTS, "lsa", tmp_path, keep_axes=True)
    monkeypatch.setattr(Axes, "fit", None)
    again = embed.quantised(TEXTS, "lsa", tmp_path, keep_axes=True)
    assert (again.fine == first.fine).all()
    assert again.axes.grams == first.axes.grams
    assert embed.quantised(TEXTS, "lsa", tmp_path).axes is None
    assert first.take(np.array([True] + [False] * (len(TEXTS) - 1))).axes is first.axes


def test_a_cache_of_vectors_alone_is_not_enough_where_axes_are_wanted(tmp_path):
    embed.quantised(TEXTS, "lsa", tmp_path)
    assert embed.quantised(TEXTS, "lsa", tmp_path, keep_axes=True).axes is not None
    assert run_vectors.AXES not in {p.name for p in tmp_path.iterdir()}
