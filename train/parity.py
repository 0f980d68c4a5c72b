"""Whether what ships answers like what was evaluated: both models on the same answers, token by token.

Mean KL divergence and the share of tokens on whose most likely successor both agree, as llama.cpp's perplexity tool
reports them for quantised models ("Mean KLD", "Same top p"). Both are taken at the answer's tokens only, since nothing
else is ever generated.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

from tamis.train.labels import IGNORED, Row

MAX_KL = 0.005  # nats per answer token; 0.00002 for the right merge, 0.13 for the wrong base: benchmarks/merge.md
MIN_AGREEMENT = 0.995
ENOUGH_TOKENS = 1000  # answer tokens: of so many, five may disagree
MOST_ROWS = 256
# Nats by which the evaluated model's best token leads its choice of the shipped one. Below, its own next batch may say
# the other: bf16 rounds logits of 16 to 32 in steps of 0.125.
TIE = 0.02


@dataclasses.dataclass(frozen=True)
class Parity:
    """How two models compare on the answers of `rows` rows with `tokens` answer tokens.

    Attributes:
        kl: mean over tokens of KL(evaluated || shipped), in nats.
        kl_max: of the token that differs most.
        agreement: share of tokens where the most likely next token is the same, or as good as tied with it (`TIE`).
        ties: of these tokens, how many were not the same.
    """

    kl: float
    kl_max: float
    agreement: float
    ties: int
    tokens: int
    rows: int

    @property
    def holds(self) -> bool:
        """Whether both limits are kept. Without a token nothing is shown."""
        return self.tokens > 0 and self.kl <= MAX_KL and self.agreement >= MIN_AGREEMENT

    def as_json(self) -> dict[str, Any]:
        """The figures with their limits."""
        return {
            **dataclasses.asdict(self),
            "limits": {"kl": MAX_KL, "agreement": MIN_AGREEMENT},
            "holds": self.holds,
        }


def drawn(*groups: Sequence[Row]) -> list[Row]:
    """The rows to compare on, until there are enough answer tokens.

    Args:
        groups: the first first, and of each in the order of the ids, which are hashes of what the rows say.
    """
    chosen: list[Row] = []
    tokens = 0
    for row in (r for group in groups for r in sorted(group, key=lambda r: r.id) if r.dropped is None):
        if tokens >= ENOUGH_TOKENS or len(chosen) >= MOST_ROWS:
            break
        chosen.append(row)
        tokens += row.trained
    return chosen


def answer_logprobs(model: Any, rows: Sequence[Row]) -> list[Any]:
    """What a model expects at every answer token.

    Args:
        model: causal, in eval mode.
        rows: labelled.

    Returns:
        For each row a tensor [answer tokens, vocabulary] of log-probabilities in fp32 on the CPU.
    """
    import torch

    found = []
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    picks = "logits_to_keep" in inspect.signature(base.forward).parameters
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([row.input_ids], device=model.device)
            # position t predicts token t + 1
            places = (torch.tensor(row.labels[1:]) != IGNORED).nonzero().flatten().to(model.device)
            if picks:
                logits = model(input_ids=ids, logits_to_keep=places, use_cache=False).logits[0]
            else:
                logits = model(input_ids=ids, use_cache=False).logits[0, places]
            found.append(logits.float().log_softmax(-1).cpu())
    return found


def compare(evaluated: Sequence[Any], shipped: Sequence[Any]) -> Parity:
    """The parity of two models' `answer_logprobs` on the same rows."""
    import torch

    if not evaluated:
        return Parity(0.0, 0.0, 0.0, 0, 0, 0)
    pairs = list(zip(evaluated, shipped, strict=True))
    kl = torch.cat([(p.exp() * (p - q)).sum(-1) for p, q in pairs]).double()
    # by how much the evaluated model prefers its own choice to the shipped one's; 0 where they are the same
    lead = torch.cat([p.max(-1).values - p.gather(-1, q.argmax(-1, keepdim=True))[:, 0] for p, q in pairs])
    agree, ties = lead < TIE, (lead < TIE) & (lead > 0)
    return Parity(
        kl=float(kl.mean()),
        kl_max=float(kl.max()),
        agreement=float(agree.double().mean()),
        ties=int(ties.sum()),
        tokens=len(kl),
        rows=len(evaluated),
    )
