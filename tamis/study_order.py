"""Which cells of a study are worth their money first, when not all can be paid.

First what any answer needs: all rows once, and every method at the smallest size twice, since without a second seed
nothing is known of luck. Then the other sizes once, upwards, all methods of a size or none. Then further seeds, each
time where they take most off the variance of what the study compares, for their money: a training of `all` serves every
comparison with it, one of a method only its own, and the n-th training takes 1/n - 1/(n+1) of a variance off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tamis.cells import Cell
from tamis.errors import UserError
from tamis.study_answer import REFERENCE

Arm = tuple[str, int]
LEAST = 2
"""Trainings of the arms at the smallest size, before anything else is bought."""


def affordable(cells: Sequence[Cell], money: Mapping[Arm, float], limit: float, currency: str = "USD") -> list[Cell]:
    """The cells that a sum pays for, the most telling first.

    Args:
        cells: all of them; those of one method and size in the order of their seeds.
        money: of one training of each method and size.
        limit: what may be spent.
        currency: for the message.

    Raises:
        UserError: the sum does not pay for the least that could be answered; says what that would cost.
    """
    waiting: dict[Arm, list[Cell]] = {}
    for cell in cells:
        waiting.setdefault((cell.about["method"], cell.about["size"]), []).append(cell)
    whole = next(arm for arm in waiting if arm[0] == REFERENCE)
    sizes = sorted({arm[1] for arm in waiting if arm != whole})
    at = {size: [arm for arm in waiting if arm[1] == size and arm != whole] for size in sizes}
    chosen: list[Cell] = []
    taken: dict[Arm, int] = {}
    spent = 0.0

    def buy(arms: Sequence[Arm]) -> bool:
        nonlocal spent
        price = sum(money[arm] for arm in arms)
        if spent + price > limit * (1 + 1e-9):
            return False
        spent += price
        for arm in arms:
            taken[arm] = taken.get(arm, 0) + 1
            chosen.append(waiting[arm][taken[arm] - 1])
        return True

    least = [whole, *at[sizes[0]] * LEAST]
    if not buy(least):
        raise UserError(
            f"{limit:g} {currency} pay for no answer: the least costs {sum(money[a] for a in least):.4f}",
            where="study.max_cost",
            why="all rows once, and every method twice at the smallest size",
            hint="a larger max_cost, smaller sizes, or --proxy, which costs nothing",
        )
    for size in sizes[1:]:
        if not buy(at[size]):
            break
    while open_arms := [arm for arm, n in taken.items() if n < len(waiting[arm])]:
        open_arms.sort(key=lambda arm: (-_worth(arm, taken) / max(money[arm], 1e-12), arm))
        if not any(buy([arm]) for arm in open_arms):
            break
    return chosen


def _worth(arm: Arm, taken: Mapping[Arm, int]) -> float:
    """What one more training takes off the variances of the comparisons that it has a part in."""
    rivals = {"cluster", "random"}
    if arm[0] == REFERENCE:
        comparisons = len(taken) - 1
    else:
        paired = arm[0] in rivals and all((name, arm[1]) in taken for name in rivals)
        comparisons = 2 if paired else 1
    n = taken[arm]
    return comparisons * (1 / n - 1 / (n + 1))
