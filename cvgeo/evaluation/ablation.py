"""Comparing variants that were trained with several seeds and asked the same queries.

`S` seeds, `Q` queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cvgeo.evaluation.intervals import wilson
from cvgeo.evaluation.metrics import one_percent

RECALLS = {"r@1": 1, "r@5": 5, "r@10": 10}
METRICS = (*RECALLS, "r@1%")
CURVE_LENGTH = 100


def hits(ranks: np.ndarray, gallery: int) -> dict[str, np.ndarray]:
    """Which queries each metric counts, from ranks (S, Q) of the positives (0: none): (S, Q) bool by metric."""
    found = ranks >= 1
    limits = {**RECALLS, "r@1%": one_percent(gallery)}
    return {name: found & (ranks <= limit) for name, limit in limits.items()}


def student_t(share: float, freedom: float) -> float:
    """The quantile of Student's t for a share in 0.5..1 and degrees of freedom of 1 or more.

    By integrating the density, which with t = sqrt(n) tan(a) is cos(a)^(n-1) up to a factor.
    """
    angles = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(angles) ** (freedom - 1)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    angle = np.interp((share - 0.5) * 2, area / area[-1], angles)
    return float(math.sqrt(freedom) * math.tan(angle))


def _standard_error(values: np.ndarray) -> tuple[float, float]:
    """Of the mean of values (S, Q) where seeds and queries are both drawn at random; and its degrees of freedom.

    var(means of seeds) / S + var(means of queries) / Q, with Welch and Satterthwaite's degrees of freedom. What both
    hold of the noise of single answers counts twice: the error is rather too large than too small.
    """
    seeds, queries = values.shape
    of_seeds = float(values.mean(axis=1).var(ddof=1)) / seeds if seeds > 1 else 0.0
    of_queries = float(values.mean(axis=0).var(ddof=1)) / queries if queries > 1 else 0.0
    total = of_seeds + of_queries
    if total == 0:
        return 0.0, 1.0
    freedom = total**2 / (of_seeds**2 / max(1, seeds - 1) + of_queries**2 / max(1, queries - 1))
    return math.sqrt(total), freedom


def mean_share(counted: np.ndarray) -> tuple[float, float, float]:
    """Mean share and its 95 % interval from hits (S, Q), over seeds and queries; Wilson's with one seed."""
    mean = float(counted.mean())
    if len(counted) < 2:
        return mean, *wilson(int(counted.sum()), counted.size)
    error, freedom = _standard_error(counted.astype(float))
    half = student_t(0.975, freedom) * error
    return mean, max(0.0, mean - half), min(1.0, mean + half)


@dataclass(frozen=True)
class Difference:
    """A variant minus the reference: mean, 95 % interval, and the smallest difference that could have been shown."""

    mean: float
    low: float
    high: float
    detectable: float


def difference(counted: np.ndarray, reference: np.ndarray) -> Difference:
    """The difference of two variants' shares, paired by seed and by query, from hits (S, Q) each.

    The smallest detectable difference is the one that a two-sided test at 5 % finds with 80 % power:
    (t_0.975 + t_0.80) times the standard error.
    """
    apart = counted.astype(float) - reference.astype(float)
    error, freedom = _standard_error(apart)
    mean, reach = float(apart.mean()), student_t(0.975, freedom)
    return Difference(mean, mean - reach * error, mean + reach * error, (reach + student_t(0.80, freedom)) * error)


def recall_curve(ranks: np.ndarray, length: int) -> np.ndarray:
    """Recall@K for K = 1..length from ranks (Q,) of the positives (0: none)."""
    counts = np.bincount(ranks[ranks >= 1], minlength=length + 1)[1 : length + 1]
    return np.cumsum(counts) / len(ranks)
