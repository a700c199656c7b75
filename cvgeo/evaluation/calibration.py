"""Whether probabilities mean what they say: reliability, expected calibration error, area under the ROC curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BINS = 10
RESAMPLES = 1000


@dataclass
class Reliability:
    """Bins of probabilities: mean probability (B,), share that came true (B,), weight (B,); NaN where empty."""

    probability: np.ndarray
    share: np.ndarray
    weight: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of the two, weighted by the bins' weights."""
        filled = self.weight > 0
        apart = np.abs(self.probability - self.share)[filled]
        return float((self.weight[filled] * apart).sum() / self.weight.sum())


def reliability(
    probabilities: np.ndarray, true: np.ndarray, weights: np.ndarray | None = None, bins: int = BINS
) -> Reliability:
    """Probabilities (Q,) against what came true (Q,) bool, in bins of equal width (Guo et al. 2017).

    A bin holds its lower edge, the last one both.
    """
    weights = np.ones(len(true)) if weights is None else weights
    place = np.clip((probabilities * bins).astype(int), 0, bins - 1)
    weight = np.bincount(place, weights, bins)
    with np.errstate(invalid="ignore"):
        probability, share = (np.bincount(place, weights * values, bins) / weight for values in (probabilities, true))
    return Reliability(probability, share, weight)


def expected_error(
    probabilities: np.ndarray, true: np.ndarray, weights: np.ndarray | None = None, bins: int = BINS, seed: int = 0
) -> tuple[float, float, float]:
    """Expected calibration error and the ends of its 95 % interval, by the bootstrap over queries."""
    weights = np.ones(len(true)) if weights is None else weights
    generator = np.random.default_rng(seed)
    drawn = (generator.integers(0, len(true), len(true)) for _ in range(RESAMPLES))
    errors = [reliability(probabilities[some], true[some], weights[some], bins).error for some in drawn]
    low, high = np.quantile(errors, [0.025, 0.975])
    return reliability(probabilities, true, weights, bins).error, float(low), float(high)


def area_under_roc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The chance that a value of `positive` (P,) is above one of `negative` (N,); ties count half. NaN for none."""
    if not len(positive) or not len(negative):
        return math.nan
    values = np.concatenate([positive, negative])
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    above = middle[place[: len(positive)]].sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))
