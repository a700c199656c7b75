"""Where is north: what a panorama shows around it against what the tile shows around its place, without weights.

Two things are the same from the ground and from above wherever people live: vegetation (how much greener than red and
blue) and texture. Their course around the circle, correlated at every turn of the panorama, peaks where the two views
line up; over a few dozen pairs that is certain, over one it is not.
"""

from __future__ import annotations

import numpy as np

from cvgeo.data.checks import FAULT, Evidence, Finding, Findings, check
from cvgeo.geometry.opencv import import_cv2

ROWS, COLUMNS = 32, 64  # of both views: +45 to -45 degrees, and from the tile's edge to its centre
LEAST_PAIRS = 8
LEAST_Z = 4.0
LEAST_TURN = 3  # columns, 17 degrees
# What is compared: channel (0 green, 1 texture), rows of the panorama, rows of the polar map.
COURSES = ((0, (13, 19), (0, 32)), (0, (18, 24), (18, 32)), (1, (22, 32), (18, 32)), (1, (18, 24), (8, 24)))


def _channels(view: np.ndarray) -> np.ndarray:
    cv2 = import_cv2()
    colours = view.astype(np.float32) / 255
    total = colours.sum(axis=2)
    green = (3 * colours[..., 1] - total) / (total + 0.1)
    slopes = (cv2.Sobel(total / 3, cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1)))
    return np.stack([green, np.log(np.hypot(*slopes) + 0.02)])


def _course(channel: np.ndarray, rows: tuple[int, int]) -> np.ndarray:
    course = channel[slice(*rows)].mean(axis=0)
    course = course - course.mean()
    course = course + np.roll(course, 1) + np.roll(course, -1)
    return course / (np.linalg.norm(course) + 1e-3)


def agreement(ground: np.ndarray, polar: np.ndarray) -> np.ndarray:
    """How well a panorama on the grid and a polar map (ROWS, COLUMNS, 3) uint8 agree, (COLUMNS,).

    Entry t: with the panorama's headings t columns larger (clockwise) than stated. 1 is perfect, 0 is chance.
    """
    ground, polar = _channels(ground), _channels(polar)
    scores = np.zeros(COLUMNS)
    for channel, rows, polar_rows in COURSES:
        one, other = _course(ground[channel], rows), _course(polar[channel], polar_rows)
        scores += np.fft.irfft(np.conj(np.fft.rfft(one)) * np.fft.rfft(other), COLUMNS)
    return scores / len(COURSES)


def turn_of(scores: np.ndarray) -> tuple[float, float]:
    """By how many degrees the panoramas of scores (P, COLUMNS) are turned, and how sure that is: z of the difference.

    (0, 0) where the stated headings are the best, or no other turn is better with certainty.
    """
    columns = np.arange(COLUMNS)
    away = np.minimum(columns, COLUMNS - columns) >= LEAST_TURN
    best = int(np.where(away, scores.mean(axis=0), -np.inf).argmax())
    gain = scores[:, best] - scores[:, 0]
    z = gain.mean() / (gain.std(ddof=1) / np.sqrt(len(gain)) + 1e-9)
    return (best * 360 / COLUMNS, float(z)) if z >= LEAST_Z and scores[:, best].mean() > 0.1 else (0.0, 0.0)


@check("north")
def north(evidence: Evidence) -> Findings:
    """Splits whose panoramas are turned, all by one angle, against their tiles; else the set as a whole.

    A set is often turned as a whole, and its splits may be too small to show it one by one.
    """
    if evidence.agreement is None:
        return
    splits, scores = evidence.pair_splits()[evidence.agreement.pair], evidence.agreement.scores
    names = sorted(set(splits.tolist()))
    turns = {name: turn_of(scores[splits == name]) for name in names if (splits == name).sum() >= LEAST_PAIRS}
    turns = {name: turn for name, turn in turns.items() if turn[0]}
    if not turns and len(names) > 1 and len(splits) >= LEAST_PAIRS:
        turns = {"": whole} if (whole := turn_of(scores))[0] else {}
    for name, (turn, z) in turns.items():
        own = np.ones(len(splits), dtype=bool) if name == "" else splits == name
        count = evidence.dataset.panoramas.split.count(name) if name else len(evidence.dataset.panoramas)
        fault = f"north is off by about {turn:.0f} degrees, by {own.sum()} pairs (z {z:.1f})"
        mend = f"add {turn:.0f} to column0_heading (mod 360), or roll the panoramas"
        yield Finding(FAULT, count, evidence.pair_names(evidence.agreement.pair[own]), fault, mend, name)
