"""Model FLOPs utilisation: the arithmetic a step needs, over what the card could do in its time.

Defined in PaLM (Chowdhery et al. 2022, appendix B): what is computed again for checkpointing does not count, nor does
padding. Attention's own products are left out here, so it reads low on long rows.
"""

from __future__ import annotations

import dataclasses

from tamis.train.forecast import flops
from tamis.train.plan import Plan, Shape

# Dense bf16 operations a second, from the vendor's data sheets (which print twice that, with sparsity). The first name
# that occurs in the card's counts.
PUBLISHED = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "A10": 125e12,
    "L4": 121e12,
}


def published_rate(card: str) -> float | None:
    """Dense bf16 operations a second of a card by its name as CUDA gives it; None where we know of none."""
    words = card.replace("-", " ").split()
    return next((rate for name, rate in PUBLISHED.items() if all(word in words for word in name.split())), None)


@dataclasses.dataclass(frozen=True)
class Utilisation:
    """Of one training on one device.

    Attributes:
        plan: says what is trained.
        shape: of the model.
        peak: operations a second of the device.
    """

    plan: Plan
    shape: Shape
    peak: float

    def mfu(self, tokens: int, labelled: int, seconds: float) -> float:
        """A share between 0 and 1.

        Args:
            tokens: computed, forward and backward; padding does not count.
            labelled: of them with a label: what the output head is for.
            seconds: that it took.
        """
        once = dataclasses.replace(self.plan, checkpointing=False)
        return flops(once, self.shape, tokens, labelled) / (seconds * self.peak)


def utilisation_of(plan: Plan, shape: Shape) -> Utilisation | None:
    """For training by a plan; None on a CPU, in fp32 and on cards whose peak we do not know."""
    peak = published_rate(plan.hardware.name) if plan.device == "cuda" and plan.compute == "bfloat16" else None
    return Utilisation(plan, shape, peak) if peak else None
