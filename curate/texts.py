"""The texts of many rows in one block of memory, taken out one at a time or some thousands at once.

As a Python string each takes fifty bytes more and a call to make, and of a million rows most are never compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_BATCH = 4096


class Texts:
    """A sequence of texts.

    Args:
        column: the texts as they were read.
        at: (n,) positions in the column; default all.
        change: what is done to a text when it is taken out; the column stays as it is.
    """

    def __init__(self, column: pa.LargeStringArray, at: np.ndarray | None = None, change: Callable[[str], str] = str):
        self._column, self._change = column, change
        self._at = np.arange(len(column)) if at is None else at

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, i: int) -> str:
        return self._change(self._column[int(self._at[i])].as_py())

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BATCH):
            yield from map(self._change, self._some(start).to_pylist())

    def __contains__(self, text: object) -> bool:
        return any(text == other for other in self)

    def _some(self, start: int) -> pa.LargeStringArray:
        return self._column.take(pa.array(self._at[start : start + _BATCH]))

    def blocks(self, size: int) -> Iterator[pa.LargeStringArray]:
        """The texts, so many at a time, as columns."""
        for start in range(0, len(self), size):
            some = self._column.take(pa.array(self._at[start : start + size]))
            changed = self._change is not str
            yield pa.array(map(self._change, some.to_pylist()), pa.large_string()) if changed else some

    def take(self, rows: np.ndarray) -> Texts:
        """Some of the texts, by position."""
        return Texts(self._column, self._at[rows], self._change)

    def changed(self, change: Callable[[str], str]) -> Texts:
        """The same texts, each changed when it is taken out."""
        return Texts(self._column, self._at, change)

    def beside(self, other: Texts, between: str) -> Texts:
        """Each text and the one in its place in `other`, joined; before any change."""
        pair = (t._column.take(pa.array(t._at)) for t in (self, other))
        return Texts(pc.binary_join_element_wise(*pair, pa.scalar(between, pa.large_string())))

    def beyond_ascii(self) -> np.ndarray:
        """Positions of the texts that hold a letter or sign beyond ASCII before any change."""
        return np.flatnonzero(~pc.string_is_ascii(self._column).to_numpy(zero_copy_only=False)[self._at])

    def distinct_lengths(self) -> np.ndarray:
        """Characters of each text, repeats counted once, before any change; in no order."""
        lengths = pc.utf8_length(pc.unique(self._column.take(pa.array(self._at))))
        return np.asarray(lengths.to_numpy(zero_copy_only=False))


def taken(texts: Sequence[str] | Texts, rows: np.ndarray) -> list[str] | Texts:
    """Some texts, by position."""
    return texts.take(rows) if isinstance(texts, Texts) else [texts[i] for i in rows.tolist()]


def read_texts(folder: Path, order: pa.Array) -> tuple[pa.LargeStringArray, pa.LargeStringArray]:
    """Prompts and answers (`record.prompt_of`, `record.answer_of`) of all records of a run.

    Args:
        folder: of the record shards.
        order: (n,) positions in reading order.

    Returns:
        prompts, answers: in that order.
    """
    shards = sorted(folder.glob("part-*.parquet"))
    found = [said(pq.read_table(s, columns=["messages"])["messages"]) for s in shards]
    prompts, answers = (pa.concat_arrays([pair[k] for pair in found]) for k in (0, 1))
    del found
    return prompts.take(order), answers.take(order)


def said(messages: pa.ChunkedArray | pa.ListArray) -> tuple[pa.LargeStringArray, pa.LargeStringArray]:
    """Prompt and answer of each row, by whole columns: what `record.prompt_of` and `record.answer_of` say of one.

    Args:
        messages: schema.MESSAGES.
    """
    turns = _turns(messages)
    number = np.arange(len(turns.owner))
    spoken = np.flatnonzero(turns.role("assistant"))
    last = np.full(turns.rows, -1)
    last[turns.owner[spoken]] = spoken  # of several the last one is assigned
    limit = np.where(last < 0, len(number), last)
    asked = np.flatnonzero(~turns.role("system") & (number < limit[turns.owner]))
    ends = np.cumsum(np.bincount(turns.owner[asked], minlength=turns.rows))
    parts = pa.LargeListArray.from_arrays(pa.array(np.append(0, ends)), turns.contents.take(pa.array(asked)))
    prompts = pc.binary_join(parts, pa.scalar("\n", pa.large_string()))
    answers = turns.contents.take(pa.array(last, mask=last < 0)).fill_null("")
    return prompts, answers


def utf8_lengths(messages: pa.ChunkedArray | pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of each turn, and the row that each belongs to."""
    turns = _turns(messages)
    return pc.binary_length(turns.contents).to_numpy(zero_copy_only=False), turns.owner


class _Turns:
    """The turns of n rows, one after the other: contents, and the row each belongs to."""

    def __init__(self, messages: pa.ListArray):
        flat = messages.flatten()
        self.rows = len(messages)
        self.contents = flat.field("content").fill_null("").cast(pa.large_string())
        self._roles = flat.field("role").fill_null("")
        lengths = pc.list_value_length(messages).fill_null(0).to_numpy(zero_copy_only=False)
        self.owner = np.repeat(np.arange(self.rows), lengths)

    def role(self, name: str) -> Any:
        """Which turns are of a role: bool each."""
        return pc.equal(self._roles, name).to_numpy(zero_copy_only=False)


def _turns(messages: pa.ChunkedArray | pa.ListArray) -> _Turns:
    whole = messages.combine_chunks() if isinstance(messages, pa.ChunkedArray) else messages
    return _Turns(pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole)
