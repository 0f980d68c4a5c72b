"""What serving a model needs in memory: weights, and the keys and values of every request at once.

The weights and what is fixed are the planner's (train/plan.py). Of each token, a key and a value in every layer are
kept until its request ends: 2 x layers x key heads x width of a head (Kwon et al. 2023, arXiv:2309.06180, section 3:
800 KB a token for OPT-13B in 16 bits).
"""

from __future__ import annotations

import dataclasses

from tamis.models import Quantisation
from tamis.train.plan import FIXED, FRAGMENTATION, Shape, weight_bytes


@dataclasses.dataclass(frozen=True)
class Serving:
    """The parts, in bytes."""

    weights: float
    cache: float
    logits: float
    fixed: float

    @property
    def total(self) -> float:
        return FRAGMENTATION * (self.weights + self.cache + self.logits + self.fixed)


def cache_bytes(shape: Shape, width: int) -> float:
    """Keys and values of one token, in bytes; `width` bytes a number."""
    return 2.0 * shape.layers * shape.key * width


def serving(
    shape: Shape, *, quantisation: Quantisation, tokens: int, requests: int, compute: str, device: str
) -> Serving:
    """Memory of a server, in bytes.

    Args:
        shape: of the model.
        quantisation: of its weights.
        tokens: of one request, prompt and answer together.
        requests: at once.
        compute: `bfloat16` or `float32`: how weights, keys and values are held.
        device: `cuda` or `cpu`.
    """
    width = 2 if compute == "bfloat16" else 4
    cache = requests * tokens * cache_bytes(shape, width)
    logits = 4.0 * requests * shape.vocabulary  # of the newest token of each
    return Serving(weight_bytes(shape, quantisation, width), cache, logits, FIXED[device])
