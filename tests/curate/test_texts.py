"""Texts by whole columns say what `prompt_of` and `answer_of` say of one row."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tamis import schema
from tamis.curate.texts import Texts, said, taken, utf8_lengths
from tamis.record import ROLES, answer_of, prompt_of

turn = st.fixed_dictionaries(
    {"role": st.sampled_from(ROLES), "content": st.none() | st.text(max_size=8), "rest": st.none()}
)
rows = st.lists(st.lists(turn, max_size=6), max_size=8)


@given(rows, st.integers(0, 3))
def test_columns_say_what_rows_say(messages: list, skipped: int) -> None:
    column = pa.array(messages, schema.MESSAGES).slice(min(skipped, len(messages)))
    messages = messages[skipped:]

    prompts, answers = said(pa.chunked_array([column.slice(0, 2), column.slice(2)]))

    assert prompts.to_pylist() == [prompt_of(m) for m in messages]
    assert answers.to_pylist() == [answer_of(m) for m in messages]
    lengths, owners = utf8_lengths(column)
    assert lengths.tolist() == [len((t["content"] or "").encode()) for m in messages for t in m]
    assert owners.tolist() == [i for i, m in enumerate(messages) for _ in m]


@given(st.lists(st.text(max_size=5), max_size=20), st.data())
def test_texts_are_a_list_that_takes_less_room(values: list[str], data: st.DataObject) -> None:
    texts = Texts(pa.array(values, pa.large_string()))
    some = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), max_size=9) if values else st.just([])), int)

    assert list(texts) == values == [texts[i] for i in range(len(texts))]
    assert (
        list(taken(texts.changed(str.upper), some))
        == [values[i].upper() for i in some]
        == [v.upper() for v in taken(values, some)]
    )
    assert sorted(texts.take(some).distinct_lengths()) == sorted(len(v) for v in {values[i] for i in some})
    assert texts.beyond_ascii().tolist() == [i for i, v in enumerate(values) if not v.isascii()]
