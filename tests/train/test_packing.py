"""Packing: less work, the same loss and the same gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tamis.train.labels import IGNORED
from tamis.train.packing import PackingCollator, PaddingCollator, shared_prefix

torch = pytest.importorskip("torch")


def example(number: int, ids: list[int], first_label: int) -> dict[str, Any]:
    return {"input_ids": ids, "labels": [IGNORED] * first_label + ids[first_label:], "row": number}


ROWS = [
    example(0, [1, 7, 8, 9, 20, 21, 30, 2], 6),
    example(1, [1, 7, 8, 9, 22, 31, 32, 2], 5),
    example(2, [1, 7, 8, 9, 23, 24, 25, 26, 33, 2], 8),
]


@pytest.fixture(scope="module")
def model(deep_model: Path) -> Any:
    from tamis.models import load_model

    # fp32 also on a CPU with matrix tiles: there bf16 rounds by the shape of the batch, and shapes are compared here
    return load_model(str(deep_model)).float()


def test_the_prefix_is_what_all_rows_begin_with() -> None:
    assert shared_prefix(ROWS) == 4
    assert shared_prefix(ROWS[:1]) == 0
    assert shared_prefix([*ROWS, example(3, [5, 7, 8, 9, 2], 4)]) == 0


def test_the_token_that_predicts_a_label_is_never_shared() -> None:
    same_question = [example(0, [1, 7, 8, 30, 2], 3), example(1, [1, 7, 8, 31, 2], 3)]

    assert shared_prefix(same_question) == 2  # of three equal tokens, the last predicts 30 in one row and 31 in another
    assert shared_prefix([example(0, [1, 2], 1), example(1, [1, 2], 1)]) == 0


def test_no_label_is_lost_or_doubled() -> None:
    labels = PackingCollator()(ROWS)["labels"].flatten().tolist()

    assert [x for x in labels if x != IGNORED] == [x for row in ROWS for x in row["labels"] if x != IGNORED]


def test_packed_rows_give_the_loss_and_gradients_of_separate_rows(model: Any) -> None:
    from tamis.train.sft import labelled_loss

    def loss_and_gradient(batches: list[dict[str, Any]]) -> tuple[float, Any]:
        model.zero_grad()
        count = sum(int((b["labels"][:, 1:] != IGNORED).sum()) for b in batches)
        losses = []
        for batch in batches:
            batch.pop("rows")
            losses.append(labelled_loss(model, batch, count))
            losses[-1].backward()
        return sum(float(x) for x in losses), torch.cat([p.grad.flatten().clone() for p in model.parameters()])

    packed = loss_and_gradient([PackingCollator()(ROWS)])
    padded = loss_and_gradient([PaddingCollator(0)(ROWS)])
    apart = loss_and_gradient([PaddingCollator(0)([row]) for row in ROWS])

    for other in (padded, apart):
        assert packed[0] == pytest.approx(other[0], rel=1e-5)
        assert torch.nn.functional.cosine_similarity(packed[1], other[1], dim=0) > 0.99999


def test_what_a_row_says_does_not_depend_on_its_neighbours(model: Any) -> None:
    changed = [ROWS[0], example(1, [1, 7, 8, 9, 40, 41, 42, 43, 2], 8), ROWS[2]]
    answers = []
    for rows in (ROWS, changed):
        batch = PackingCollator()(rows)
        with torch.no_grad():
            logits = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "position_ids")}).logits[0]
        before = sum(len(row["input_ids"]) - 4 for row in rows[:2]) + 4  # of the prefix and the other rows
        answers.append(logits[before : before + 6])

    assert torch.allclose(*answers, atol=1e-4)


def test_lengths_come_in_steps_and_no_row_sees_the_filling() -> None:
    packed, padded = PackingCollator()(ROWS), PaddingCollator(0)(ROWS)

    assert packed["input_ids"].shape == (1, 32)
    assert padded["input_ids"].shape == (3, 16)
    real = 4 + 4 + 4 + 6  # the prefix, and what each row has of its own
    assert not packed["attention_mask"][0, 0, :real, real:].any()
    assert packed["attention_mask"][0, 0].any(-1).all()  # a query that may look at nothing would be a NaN
    assert (packed["labels"][0, real:] == IGNORED).all()
    assert (padded["labels"][:, 10:] == IGNORED).all()


def _rows() -> list[Any]:
    from tamis.train.labels import Row

    return [Row(str(i), r["input_ids"], r["labels"], len(r["input_ids"]), 2, 0) for i, r in enumerate(ROWS)]


def _deafen(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = type(model).forward

    def deaf(self: Any, *args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", deaf)


def test_a_model_that_ignores_the_mask_is_found_out(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tamis.train import sft

    assert sft.batching_error(model, ROWS, PackingCollator()) < 1e-4
    assert sft.packs(model, _rows())

    _deafen(model, monkeypatch)
    assert not sft.packs(model, _rows())


def test_rounding_that_padding_makes_too_is_no_reason_not_to_pack(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import copy

    from tamis.train import sft

    coarse = copy.deepcopy(model).bfloat16()
    monkeypatch.setattr(sft, "PACKING_TOLERANCE", 0.0)
    assert sft.batching_error(coarse, ROWS, PackingCollator()) > 0
    assert sft.packs(coarse, _rows())

    _deafen(coarse, monkeypatch)
    assert not sft.packs(coarse, _rows())


def test_a_model_that_takes_no_four_dimensional_mask_is_not_packed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tamis.train import sft

    forward = type(model).forward

    def narrow(self: Any, *args: Any, attention_mask: Any, **kwargs: Any) -> Any:
        if attention_mask.dim() != 2:
            raise ValueError("a mask of shape (batch, tokens) is wanted")
        return forward(self, *args, attention_mask=attention_mask, **kwargs)

    monkeypatch.setattr(type(model), "forward", narrow)
    assert not sft.packs(model, _rows())
