"""A/A: some items asked a second time, each alone, of the same system. How often does it say something else?

Temperature 0 is not determinism: which requests share a batch changes rounding, and a server batches as it likes. A
difference between two models that is smaller than the share of other answers is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tamis import intervals
from tamis.evaluate.systems import System
from tamis.evaluate.task import Item, Reader


def asked_again(
    system: System, items: Sequence[Item], answers: dict[str, str | None], reader: Reader, count: int, seed: int
) -> dict[str, Any]:
    """Ask some items once more.

    Args:
        system: prepared, and asked all items before.
        items: all of them.
        answers: by item id, as read from the first outputs; None where there was none.
        reader: of the task: another wording of the same label is the same answer.
        count: items to draw; at most all.
        seed: of the draw.

    Returns:
        {items, changed (ids), failed (requests), rate (interval; of the items that were answered again)}.
    """
    drawn = np.random.default_rng(seed).permutation(len(items))[:count]
    changed, clusters, flags, failed = [], [], [], 0
    for place in sorted(drawn.tolist()):
        item = items[place]
        (reply,) = system.answer([item]).replies
        if reply.error is not None:
            failed += 1
            continue
        other = reader.read(reply.output) != answers[item.id]
        changed += [item.id] if other else []
        clusters.append(item.component)
        flags.append(other)
    return {
        "items": len(flags),
        "changed": changed,
        "failed": failed,
        "rate": intervals.proportion(flags, clusters).as_dict(),
    }
