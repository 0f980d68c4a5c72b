"""What `embedder: auto` takes."""

import numpy as np
import pytest

from tamis import embed
from tamis.static import STATIC


@pytest.mark.parametrize(
    ("rows", "characters", "english", "taken"),
    [
        (15_000, 40, 1.0, embed.MINILM),  # CLINC150: a line each; `static` finds 0.73 of its wrong labels, MiniLM 0.90
        (100_000, 40, 1.0, STATIC),
        (1_000, 100_000, 1.0, embed.MINILM),  # what lies behind the window costs nothing
        (20_000, 600, 1.0, STATIC),
        (10, 40, 0.9, "lsa"),  # a tenth is in another language
    ],
)
def test_auto_takes_the_best_that_is_done_within_a_minute(
    rows: int, characters: int, english: float, taken: str
) -> None:
    assert embed.choose("auto", np.full(rows, characters), english) == taken


def test_a_named_embedder_is_taken_as_named() -> None:
    assert embed.choose("lsa", np.full(10, 10), 1.0) == "lsa"
