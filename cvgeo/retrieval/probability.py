"""How probable a place is: scores over the whole gallery, and the chance that the place is not in it at all.

Of N rows with scores s, row i has the share exp(b s_i) / sum_j exp(b s_j), for a sharpness b (one over a temperature).
With L the logarithm of that sum, the place is in none of the rows with the odds exp(u + v (L - log N)): the level of
the scores decides, not how many rows there are. Three numbers (b, u, v) are fitted on pictures whose place is known,
once as they are and once with the rows that show their place hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvgeo.geometry.geodesy import offset_metres

LOWEST = -1e9  # below any score
SHARPNESSES = np.geomspace(2.0, 400.0, 48)
NONE_SHARE = 0.1  # of pictures that are taken to come from elsewhere
RIDGE = 1e-3
NEWTON_STEPS = 50
LARGEST_STEP = 5.0


@dataclass(frozen=True)
class Fit:
    """The numbers of one calibration: `sharpness` b, `none` u, `level` v."""

    sharpness: float
    none: float
    level: float

    def none_probability(self, log_sums: np.ndarray, rows: int) -> np.ndarray:
        """The probability (Q,) that the place is in none of the rows, from L (Q,)."""
        return _sigmoid(self.none + self.level * (log_sums - np.log(rows)))

    def shares(self, scores: np.ndarray, log_sums: np.ndarray, rows: int) -> np.ndarray:
        """Probabilities (Q, K) of rows with these scores (Q, K), of `rows` that were searched."""
        within = 1.0 - self.none_probability(log_sums, rows)
        return within[:, None] * np.exp(self.sharpness * scores.astype(np.float64) - log_sums[:, None])


class LogSums:
    """log sum_j exp(b s_j) over all rows of a search, for sharpnesses b (Q, B), without the scores being held.

    What `cvgeo.retrieval.exact.search` shows the scores to.
    """

    def __init__(self, sharpness: np.ndarray):
        self.sharpness = np.asarray(sharpness, dtype=np.float64)
        self._peak = np.full(len(self.sharpness), LOWEST)
        self._sums = np.zeros(self.sharpness.shape)

    def add(self, some: slice, scores: np.ndarray) -> None:
        """Add the scores (q, n) of some queries and of a block of rows; -inf adds nothing."""
        old = self._peak[some]
        peak = np.maximum(old, scores.max(axis=1))
        below = scores - peak[:, None]
        for number in range(self.sharpness.shape[1]):
            b = self.sharpness[some, number]
            kept = self._sums[some, number] * np.exp(b * (old - peak))
            self._sums[some, number] = kept + np.exp(b[:, None] * below).sum(axis=1)
        self._peak[some] = peak

    def fresh(self) -> LogSums:
        """Sums of the same sharpnesses to which nothing was added yet."""
        return LogSums(self.sharpness)

    def join(self, other: LogSums) -> None:
        """Add what another one holds."""
        peak = np.maximum(self._peak, other._peak)
        parts = (one._sums * np.exp(one.sharpness * (one._peak - peak)[:, None]) for one in (self, other))
        self._sums, self._peak = sum(parts), peak

    def values(self) -> np.ndarray:
        """The sums' logarithms (Q, B); -inf for no rows."""
        with np.errstate(divide="ignore"):
            return self.sharpness * self._peak[:, None] + np.log(self._sums)


def grouped_log_sums(query: np.ndarray, scores: np.ndarray, count: int, sharpness: np.ndarray) -> np.ndarray:
    """log sum exp(b s) (count, B) over the scores (P,) that belong to each query number (P,), for each b (B,)."""
    peak = np.full(count, LOWEST)
    np.maximum.at(peak, query, scores)
    sums = np.zeros((count, len(sharpness)))
    np.add.at(sums, query, np.exp(sharpness * (scores - peak[query])[:, None]))
    with np.errstate(divide="ignore"):
        return sharpness * peak[:, None] + np.log(sums)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


def _logistic(features: np.ndarray, out: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients and mean loss of a weighted logistic regression of `out` (M,) bool on features (M, F)."""
    coefficients = np.zeros(features.shape[1])
    for _ in range(NEWTON_STEPS):
        expected = _sigmoid(features @ coefficients)
        slope = features.T @ (weight * (expected - out)) + RIDGE * coefficients
        curve = (features * (weight * expected * (1 - expected))[:, None]).T @ features
        step = np.linalg.solve(curve + RIDGE * np.eye(len(slope)), slope)
        step *= min(1.0, LARGEST_STEP / max(np.abs(step).max(), 1e-12))
        coefficients -= step
        if np.abs(step).max() < 1e-9:
            break
    logits = features @ coefficients
    return coefficients, float((weight * np.where(out, _softplus(-logits), _softplus(logits))).sum() / weight.sum())


def fit(
    within: np.ndarray,
    right: np.ndarray,
    without: np.ndarray,
    rows: int,
    sharpnesses: np.ndarray = SHARPNESSES,
    none_share: float = NONE_SHARE,
) -> tuple[Fit, float]:
    """The likeliest calibration, and its mean negative log likelihood.

    Args:
        within: L (Q, B) of pictures with all rows, at sharpnesses (B,).
        right: the same over those rows alone that show the picture's place.
        without: the same over all other rows.
        rows: how many were searched, N.
        none_share: how much the pictures without their rows count together.
    """
    count = len(within)
    out = np.repeat([False, True], count)
    weight = np.repeat([1.0 - none_share, none_share], count)
    best, lowest = Fit(1.0, 0.0, 0.0), np.inf
    for number, sharpness in enumerate(sharpnesses):
        place = (1.0 - none_share) * float(np.mean(within[:, number] - right[:, number]))
        level = np.concatenate([within[:, number], without[:, number]]) - np.log(rows)
        # The level is centred, or the two coefficients can hardly be told apart.
        middle, spread = level.mean(), max(level.std(), 1e-9)
        features = np.column_stack([np.ones(len(level)), (level - middle) / spread])
        (first, second), none = _logistic(features, out, weight)
        if place + none < lowest:
            best = Fit(float(sharpness), float(first - second * middle / spread), float(second / spread))
            lowest = place + none
    return best, lowest


def between(fits: Sequence[Fit], at: Sequence[float], wanted: float) -> Fit:
    """The fit at a field of view between those it was made at (ascending); beyond them the nearest one."""
    numbers = np.array([[np.log(one.sharpness), one.none, one.level] for one in fits])
    sharpness, none, level = (np.interp(np.log(wanted), np.log(at), column) for column in numbers.T)
    return Fit(float(np.exp(sharpness)), float(none), float(level))


def place_probabilities(shares: np.ndarray, lat: np.ndarray, lon: np.ndarray, ground_m: np.ndarray) -> np.ndarray:
    """The probability (K,) that each tile shows the camera's place, from the shares (K,) of it and of its neighbours.

    A camera somewhere in a tile is in another one with the chance that is the share of the ground they have in common.
    Tiles whose position or size is unknown stand alone.
    """
    known = np.isfinite(lat) & np.isfinite(lon) & np.isfinite(ground_m)
    side = ground_m[known]
    first, second = np.meshgrid(np.flatnonzero(known), np.flatnonzero(known), indexing="ij")
    apart = offset_metres(lat[first], lon[first], lat[second], lon[second])
    longest = np.minimum(side[:, None], side)
    north, east = (np.clip((side[:, None] + side) / 2 - np.abs(one), 0, longest) / side for one in apart)
    common = np.eye(len(shares))
    common[np.ix_(known, known)] = north * east
    return np.minimum(common @ shares, shares.sum())
