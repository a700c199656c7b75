"""What a curve of scores around the circle says of the heading: where it peaks, and how sure that is.

A curve holds the scores of T equally spaced turns. Between them it is taken to be the smooth curve through them that
has no higher frequencies, which is what a correlation of columns is.
"""

from __future__ import annotations

import math

import numpy as np

FULL_TURN = 360.0
FINE = 720  # at least so many turns, between which the peak is a parabola's
ONE_SD = math.erf(math.sqrt(0.5))  # the share of a normal distribution within one standard deviation, 0.683
SHARPEST = 1e4


def best_turn(curves: np.ndarray) -> np.ndarray:
    """Where curves (P, T) peak, (P,) degrees clockwise in [0, 360)."""
    if curves.shape[1] == 1:
        return np.zeros(len(curves))
    return _peaks(fine_curves(curves))


def _peaks(fine: np.ndarray) -> np.ndarray:
    count, pairs = fine.shape[1], np.arange(len(fine))
    top = fine.argmax(axis=1)
    peak, before, after = fine[pairs, top], fine[pairs, (top - 1) % count], fine[pairs, (top + 1) % count]
    curvature = before - 2 * peak + after
    offset = np.where(curvature < 0, 0.5 * (before - after) / np.where(curvature < 0, curvature, 1.0), 0.0)
    return (top + np.clip(offset, -0.5, 0.5)) % count * (FULL_TURN / count)


def fine_curves(curves: np.ndarray) -> np.ndarray:
    """Curves (P, T) at F >= 720 turns, every (F / T)-th of which is one of the T: (P, F) float64."""
    count = curves.shape[1]
    fine = count * math.ceil(FINE / count)
    spectrum = np.fft.rfft(curves.astype(np.float64), axis=1)
    if count % 2 == 0:
        # Half of the highest frequency belongs to its mirror image.
        spectrum[:, -1] /= 2
    return np.fft.irfft(spectrum, n=fine, axis=1) * (fine / count)


def seen_share(hfov: np.ndarray | float) -> np.ndarray:
    """The share of the circle that pictures of a field of view see, in degrees; NaN is all of it."""
    return np.clip(np.nan_to_num(np.asarray(hfov, dtype=float), nan=FULL_TURN) / FULL_TURN, 1 / FULL_TURN, 1.0)


def heading_sd(curves: np.ndarray, share: np.ndarray | float, sharpness: float) -> np.ndarray:
    """How uncertain the headings of `best_turn` are, (P,) degrees in (0, 180]; NaN where there is one turn alone.

    A curve (P, T) is read as a distribution over all headings, exp(sharpness x share x score), and the result is half
    the width of the interval around the peak that holds 68.3 % of it: for one narrow peak its standard deviation, for
    several peaks of a height the way to the others. `share` (P,) of the circle that was seen: a score is the mean over
    what is seen, what it tells is the sum. One sharpness so serves all fields of view.
    """
    if curves.shape[1] == 1:
        return np.full(len(curves), np.nan)
    fine = fine_curves(curves)
    count, top = fine.shape[1], fine.argmax(axis=1)
    scale = sharpness * np.broadcast_to(share, len(curves))[:, None]
    weight = np.exp(scale * (fine - fine.max(axis=1, keepdims=True)))
    away = np.take_along_axis(weight, (top[:, None] + np.arange(count)) % count, axis=1)
    half = count // 2
    sides = away[:, : half + 1].copy()
    mirrored = away[:, ::-1][:, : count - half - 1]
    sides[:, 1 : count - half] += mirrored
    within = np.cumsum(sides, axis=1) / away.sum(axis=1, keepdims=True)
    return np.array([_crossing(row) for row in within]).clip(max=half) * (FULL_TURN / count)


def _crossing(within: np.ndarray) -> float:
    """At which step from the peak a growing share passes 68.3 %; what a step holds lies evenly over its width."""
    step = int(np.searchsorted(within, ONE_SD))
    before, width = (within[step - 1], 1.0) if step else (0.0, 0.5)
    start = step - 0.5 if step else 0.0
    return start + width * (ONE_SD - before) / (within[step] - before)


def fit_sharpness(curves: np.ndarray, share: np.ndarray | float, errors: np.ndarray) -> float:
    """The sharpness with which 68.3 % of headings lie within their `heading_sd`.

    Args:
        curves: (P, T) of pairs that belong together.
        share: (P,) of the circle that was seen.
        errors: (P,) degrees by which the headings of these curves are off.
    """
    low, high = math.log(1e-1), math.log(SHARPEST)
    for _ in range(30):
        middle = (low + high) / 2
        if share_within(errors, heading_sd(curves, share, math.exp(middle))) > ONE_SD:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def share_within(errors: np.ndarray, sd: np.ndarray) -> float:
    """The share of known errors (P,) that are no larger than their sd (P,); NaN where none is known."""
    known = ~np.isnan(errors) & ~np.isnan(sd)
    return float(np.mean(np.abs(errors[known]) <= sd[known])) if known.any() else math.nan
