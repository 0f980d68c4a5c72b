"""The byte model: proper probabilities, more rows like the items make the items likelier, any script."""

from __future__ import annotations

import math

import pytest

from tamis.evaluate.byte_model import ByteModel


def test_probabilities_of_all_bytes_add_up_to_one_after_any_context():
    model = ByteModel.fit([b"abracadabra", "khóa thẻ".encode()])
    for context in (b"", b"abr", b"zzzzz", b"\xc3"):
        total = sum(math.exp(-model.nats(context, bytes([byte]))) for byte in range(256))
        assert total == pytest.approx(1.0)


def test_a_single_context_has_witten_and_bells_probability():
    model = ByteModel.fit([b"aab"])
    # order 0: a twice, b once: (2 + 2/256) / (3 + 2); after "a": a once, b once, mixed with that
    unigram = (2 + 2 / 256) / 5
    assert math.exp(-model.nats(b"a", b"a")) == pytest.approx((1 + 2 * unigram) / 4)
    assert math.exp(-model.nats(b"", b"a")) == pytest.approx(unigram)


def test_rows_like_the_item_make_it_likelier_and_unseen_bytes_stay_possible():
    few, more = ["thẻ bị khóa"], ["thẻ bị khóa", "đơn hàng bị trễ", "đơn hàng đã giao"]
    item = "đơn hàng bị khóa".encode()
    nats = [ByteModel.fit(t.encode() for t in rows).nats(b"", item) for rows in (few, more)]
    assert nats[1] < nats[0]
    assert math.isfinite(ByteModel.fit([b"a"]).nats(b"", b"\xff"))
