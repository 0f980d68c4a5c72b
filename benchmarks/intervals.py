"""Intervals of a paired difference of proportions: how often the lower bound exceeds the truth, exactly.

    python benchmarks/intervals.py

All counts are enumerated, for every pair of true rates of the grid of `tests/tamis/test_intervals.py`. Tango (1998) as
it is, and with its numerator moved towards zero by half an item or a whole one (continuity correction); as Tamis has
it, by up to three quarters of an item and only between zero and the estimate; Bonett and
Price (2012); Newcombe (1998), method 10, for which the share of the agreeing items that both get right matters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, xlogy

from tamis.intervals import GAIN_CORRECTION

Floats = npt.NDArray[np.float64]

Z = 1.959964
RATES = (0.0, 0.01, 0.02, 0.05, 0.10, 0.20)
MOST = 260  # of either count: beyond it nothing of the grid has a chance


def tango_score(fixed: Floats, broken: Floats, n: int, delta: float, correction: float = 0.0) -> Floats:
    """Tango's score statistic at a difference, its numerator moved towards zero by `correction` items."""
    gap = fixed - broken - n * delta
    gap = np.sign(gap) * np.maximum(np.abs(gap) - correction, 0)
    b = -fixed - broken + (2 * n - fixed + broken) * delta
    q = (np.sqrt(np.maximum(0, b * b + 8 * n * broken * delta * (1 - delta))) - b) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    return np.where(np.abs(gap) < 1e-12 * n, 0.0, gap / np.sqrt(np.maximum(variance, 1e-300)))


def bonett_price(fixed: Floats, broken: Floats, n: int) -> Floats:
    """Lower bounds with one item added to each count."""
    p, q = (fixed + 1) / (n + 2), (broken + 1) / (n + 2)
    return p - q - Z * np.sqrt((p + q - (p - q) ** 2) / (n + 2))


def _wilson(count: Floats, n: int) -> tuple[Floats, Floats]:
    p = count / n
    centre = (p + Z * Z / 2 / n) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * np.sqrt(p * (1 - p) / n + Z * Z / 4 / n / n)
    return centre - half, centre + half


def newcombe(fixed: Floats, broken: Floats, n: int, share: float) -> Floats:
    """Lower bounds of method 10: both Wilson intervals, joined with the continuity-corrected correlation."""
    both = np.round((n - fixed - broken) * share)
    neither = n - fixed - broken - both
    p, q = (both + fixed) / n, (both + broken) / n
    lower, upper = _wilson(both + fixed, n)[0], _wilson(both + broken, n)[1]
    product = both * neither - fixed * broken
    product = np.where(product > n / 2, product - n / 2, np.minimum(product, 0))
    scale = np.sqrt((both + fixed) * (neither + broken) * (both + broken) * (neither + fixed))
    phi = np.where(scale > 0, product / np.maximum(scale, 1e-300), 0)
    square = (p - lower) ** 2 - 2 * phi * (p - lower) * (upper - q) + (upper - q) ** 2
    return p - q - np.sqrt(np.maximum(0, square))


def misses(n: int) -> dict[tuple[str, bool], float]:
    """Highest chance of a miss by method, and by whether the truth is a gain."""
    counts = np.arange(min(n, MOST) + 1.0)
    fixed, broken = (x.ravel() for x in np.meshgrid(counts, counts, indexing="ij"))
    keep = fixed + broken <= n
    fixed, broken = fixed[keep], broken[keep]
    bounds = {"Bonett-Price": bonett_price(fixed, broken, n)}
    bounds |= {f"Newcombe 10, {share:.0%} both right": newcombe(fixed, broken, n, share) for share in (0.5, 0.95)}
    worst: dict[tuple[str, bool], float] = {}
    for fixes in RATES:
        for breaks in RATES:
            if fixes + breaks == 0:
                continue
            delta, same = fixes - breaks, n - fixed - broken
            chance = np.exp(
                gammaln(n + 1) - gammaln(fixed + 1) - gammaln(broken + 1) - gammaln(same + 1)
                + xlogy(fixed, fixes) + xlogy(broken, breaks) + xlogy(same, 1 - fixes - breaks)
            )  # fmt: skip
            missed = {f"Tango, {c:g} off": tango_score(fixed, broken, n, delta, c) > Z for c in (0.0, 0.5, 1.0)}
            ours = min(GAIN_CORRECTION, n * delta) if delta > 0 else 0.0
            missed["Tango as in Tamis"] = tango_score(fixed, broken, n, delta, ours) > Z
            missed |= {name: bound > delta + 1e-12 for name, bound in bounds.items()}
            for name, flags in missed.items():
                at = (name, delta > 0)
                worst[at] = max(worst.get(at, 0.0), float(chance[flags].sum()))
    return worst


def main() -> None:
    found = {n: misses(n) for n in (50, 100, 200, 500)}
    print("| method | " + " | ".join(f"{n}: no gain | gain" for n in found) + " |")
    print("|---" * (1 + 2 * len(found)) + "|")
    for name in dict.fromkeys(name for name, _ in found[50]):
        print(
            f"| {name} | " + " | ".join(f"{found[n][name, gain]:.4f}" for n in found for gain in (False, True)) + " |"
        )


if __name__ == "__main__":
    main()
