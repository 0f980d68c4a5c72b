"""How long a planned training will take here, from the arithmetic it does and a short measurement of this machine."""

from __future__ import annotations

from collections.abc import Sequence

from tamis.machine import product_rate
from tamis.train.plan import Plan, Shape

# Of the rate of one plain matrix product: what a training step reaches beside it (norms, attention, optimizer, 4-bit
# weights unpacked twice a step). Measured with SmolLM2-135M in NF4 on two cores: benchmarks/demo.md.
EFFICIENCY = 0.5


def computed_tokens(plan: Plan, lengths: Sequence[int], shared: int) -> float:
    """Tokens that one epoch computes: packed rows share their first tokens, padded ones cost as much as the longest.

    Args:
        plan: its micro-batch, packing and max_length count.
        lengths: tokens of each row, uncut.
        shared: leading tokens that all rows have in common.
    """
    cut = sorted(min(n, plan.max_length) for n in lengths)
    batches = len(cut) / plan.micro_batch
    if plan.packing:
        return sum(cut) - shared * max(len(cut) - batches, 0)
    longest = cut[min(len(cut) * plan.micro_batch // (plan.micro_batch + 1), len(cut) - 1)]
    return batches * plan.micro_batch * longest


def flops(plan: Plan, shape: Shape, tokens: float, loss_tokens: int) -> float:
    """Floating-point operations of one epoch.

    Per token 2 for each weight forward, 2 for the gradient of what flows through it, 2 more for the gradient of the
    weight itself where it is trained (Kaplan et al. 2020, section 2.1), 2 where activations are computed again. The
    output head sees labelled tokens only.
    """
    passes = 4 + (2 if plan.r is None else 0) + (2 if plan.checkpointing else 0)
    head = shape.vocabulary * shape.hidden
    return passes * (tokens * shape.linear + loss_tokens * head)


def training_seconds(
    plan: Plan, shape: Shape, lengths: Sequence[int], loss_tokens: int, shared: int, rate: float | None = None
) -> float:
    """Seconds of the whole training, loading aside; right within a factor of two, not better.

    Args:
        plan: what will be done.
        shape: of the model.
        lengths: tokens of each row, uncut.
        loss_tokens: tokens with a label, in one epoch.
        shared: leading tokens that all rows have in common.
        rate: operations per second; measured here if None.
    """
    tokens = computed_tokens(plan, lengths, shared)
    per_batch = max(int(tokens * plan.micro_batch / len(lengths)), 1)
    rate = rate or product_rate(plan.device, plan.compute, per_batch, shape.hidden, shape.intermediate)
    return plan.epochs * flops(plan, shape, tokens, loss_tokens) / (EFFICIENCY * rate)
