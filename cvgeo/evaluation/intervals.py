"""95 % intervals: Wilson's for shares, the bootstrap's for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Z95 = 1.959963984540054


def wilson(successes: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927); NaN where nothing was counted."""
    if count == 0:
        return math.nan, math.nan
    share, square = successes / count, Z95 * Z95
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = Z95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    # At either end rounding would leave a hair of the bound that is exact there.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == count else min(1.0, centre + half)


def bootstrap(
    values: np.ndarray, statistic: Callable[..., np.ndarray], resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of `statistic(samples, axis=1)` over values (N,); NaN for fewer than two."""
    if len(values) < 2:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    at_once = max(1, 4_000_000 // len(values))
    results = [
        statistic(values[generator.integers(0, len(values), (min(at_once, resamples - done), len(values)))], axis=1)
        for done in range(0, resamples, at_once)
    ]
    low, high = np.quantile(np.concatenate(results), [0.025, 0.975])
    return float(low), float(high)
