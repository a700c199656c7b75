"""What the scores of a gallery say of the place: weights of its tiles, and an error ellipse around each hit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cvgeo.geometry.geodesy import offset_metres

# The weighted soft-margin loss with gamma = 10 on squared distances (2 - 2 score) trains the odds of two tiles towards
# exp(2 gamma (score - other score)); a model that was calibrated has its own value.
SHARPNESS = 20.0
TOUCHING = 1.02  # tiles of a grid lie a little apart where its map is not true to scale
# Axes of the ellipse that holds the share of a two-dimensional normal distribution that one standard deviation to both
# sides holds of a one-dimensional one, 68.3 %, in standard deviations.
AXES_SD = math.sqrt(-2 * math.log(math.erfc(math.sqrt(0.5))))


def place_weights(scores: np.ndarray, sharpness: float = SHARPNESS) -> np.ndarray:
    """Softmax of scores (S,): (S,) weights that sum to 1.

    `sharpness` is by how much the log-odds of two tiles grow with the difference of their scores. Where a score is the
    mean over several pictures of one place their log-likelihoods add up: it is the sum over the pictures.
    """
    logits = np.asarray(scores, dtype=np.float64) * sharpness
    weights = np.exp(logits - logits.max(initial=-np.inf))
    return weights / max(weights.sum(), 1e-300)


@dataclass
class Ellipses:
    """Error ellipses of K hits as columns (K,): semi-axes in metres, azimuth of the major one in [0, 180).

    NaN where a tile's position or size is unknown.
    """

    major_m: np.ndarray
    minor_m: np.ndarray
    azimuth: np.ndarray


def error_ellipses(
    hits: np.ndarray, lat: np.ndarray, lon: np.ndarray, ground_m: np.ndarray, weights: np.ndarray
) -> Ellipses:
    """How far from a hit's centre the camera is to be expected, if the hit or a tile that touches it is right.

    The distribution is a mixture: each tile counts with its weight, evenly over its square of ground. Of the hit and
    the tiles whose squares touch or overlap its square, the second moments around the hit's centre are taken; the
    ellipse has their axes, and holds 68 % where the mixture is normal.

    Args:
        hits: which of the S tiles, (K,) int.
        lat, lon, ground_m: of the tiles, (S,): centres, and sides of their squares in metres.
        weights: of the tiles, (S,).
    """
    moments = np.full((len(hits), 2, 2), np.nan)
    for number, hit in enumerate(hits):
        if not np.isnan([lat[hit], lon[hit], ground_m[hit]]).any():
            moments[number] = _moments(hit, lat, lon, ground_m, weights)
    return ellipses(moments)


def ellipses(moments: np.ndarray) -> Ellipses:
    """The ellipses that hold 68 % of normal distributions with these second moments (K, 2, 2), north and east."""
    known = ~np.isnan(moments[:, 0, 0])
    values, vectors = np.full((len(moments), 2), np.nan), np.full((len(moments), 2, 2), np.nan)
    values[known], vectors[known] = np.linalg.eigh(moments[known])
    axes = AXES_SD * np.sqrt(np.maximum(values, 0))
    north, east = vectors[:, 0, 1], vectors[:, 1, 1]
    return Ellipses(axes[:, 1], axes[:, 0], np.degrees(np.arctan2(east, north)) % 180)


def _moments(hit: int, lat: np.ndarray, lon: np.ndarray, ground_m: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Second moments (2, 2) in square metres, north and east, around a tile's centre."""
    reach = (ground_m + ground_m[hit]) / 2 * TOUCHING
    near = np.flatnonzero(np.abs(lat - lat[hit]) * 110_000 <= reach + 1)  # a degree is never shorter
    north, east = offset_metres(lat[hit], lon[hit], lat[near], lon[near])
    touching = (np.abs(north) <= reach[near]) & (np.abs(east) <= reach[near])
    near, offsets = near[touching], np.stack([north[touching], east[touching]])
    share = weights[near] / weights[near].sum() if weights[near].sum() > 0 else np.full(len(near), 1 / len(near))
    return (offsets * share) @ offsets.T + np.eye(2) * (share * ground_m[near] ** 2).sum() / 12
