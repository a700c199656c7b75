"""Finer than a tile: tiles cut from imagery at ever finer steps around the best places, and scored like the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cvgeo.data.sources.imagery import find_imagery
from cvgeo.data.sources.mosaic import Mosaic
from cvgeo.data.sources.source import without_fourth
from cvgeo.data.views import aerial_view
from cvgeo.errors import InputError
from cvgeo.geometry.geodesy import move, offset_metres
from cvgeo.models import Embedder
from cvgeo.pipelines.embed import describe
from cvgeo.retrieval.heading import Scorer
from cvgeo.retrieval.locate import ellipses

CANDIDATES = 5  # best tiles around which is looked, unless told
COARSE = 0.25  # first step, of a tile's side
LEVELS = 3  # each of half the step of the one before
REACH = 2  # steps to each side
AT_ONCE = 32
TILE_PIXELS = 256
LEAST_VALID = 0.5  # share of a tile that the imagery must show

ScoresAt = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass
class Refined:
    """A place within tiles, and its error ellipse as `cvgeo.retrieval.locate.ellipses` has it.

    `order` are the candidates (S,): that which the place belongs to, then the others, best first; `tiles` is how many
    were scored.
    """

    lat: float
    lon: float
    score: float
    major_m: float
    minor_m: float
    azimuth: float
    order: np.ndarray
    tiles: int


class _Field:
    """Scores of points, metres north and east of an origin, that were looked at, and the step of each."""

    def __init__(self, scores_at: ScoresAt):
        self._scores_at = scores_at
        self.points, self.scores, self.steps = np.zeros((0, 2)), np.zeros(0), np.zeros(0)

    def look(self, points: np.ndarray, step: float) -> None:
        """Score points (P, 2) that are not nearer than half a step to one before."""
        fresh: list[np.ndarray] = []
        for point in points:
            known = np.concatenate([self.points, np.array(fresh).reshape(-1, 2)])
            if not (np.abs(known - point).max(axis=1) < 0.5 * step * (1 - 1e-6)).any():
                fresh.append(point)
        if fresh:
            north, east = np.array(fresh).T
            self.points = np.concatenate([self.points, fresh])
            self.scores = np.concatenate([self.scores, self._scores_at(north, east)])
            self.steps = np.concatenate([self.steps, np.full(len(fresh), step)])

    def best_within(self, centre: np.ndarray, reach: float) -> tuple[np.ndarray, float]:
        """The point (2,) that scores best of those at most so far north or south and east or west, and its score."""
        best = np.argmax(np.where(self._near(centre, reach), self.scores, -np.inf))
        return self.points[best], float(self.scores[best])

    def evidence(self, centre: np.ndarray, reach: float, sharpness: float) -> float:
        """The logarithm of the mean of exp(sharpness x score) over the points there; -inf where none is shown.

        All the ground of a tile speaks for it: by its best point alone fewer places came out right.
        """
        scores = self.scores[self._near(centre, reach) & np.isfinite(self.scores)]
        return float(np.logaddexp.reduce(sharpness * scores) - np.log(max(len(scores), 1)))

    def _near(self, centre: np.ndarray, reach: float) -> np.ndarray:
        return np.abs(self.points - centre).max(axis=1) <= reach * (1 + 1e-6)


def _grid(centre: np.ndarray, step: float) -> np.ndarray:
    steps = np.arange(-REACH, REACH + 1) * step
    return centre + np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)


def _spread(field: _Field, best: np.ndarray, side: float, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean (2,) and covariance (2, 2) of the place within a tile's side of the best point."""
    near = (np.abs(field.points - best).max(axis=1) <= side / 2) & np.isfinite(field.scores)
    points, scores, steps = field.points[near], field.scores[near], field.steps[near]
    # Each point stands for the ground around it that no point of a finer level stands for.
    finest = np.minimum.reduce([np.where(_beside(points, points[steps == one], 1.0 * one), one, steps)
                                for one in np.unique(steps)])  # fmt: skip
    weights = finest**2 * np.exp(sharpness * (scores - scores.max()))
    weights /= weights.sum()
    mean = weights @ points
    apart = points - mean
    return mean, (weights[:, None] * apart).T @ apart + np.eye(2) * (weights @ finest**2) / 12


def _beside(points: np.ndarray, others: np.ndarray, within: float) -> np.ndarray:
    apart = np.abs(points[:, None] - others[None]).max(axis=2)
    return (apart <= within * (1 + 1e-6)).any(axis=1)


@dataclass
class Climbed:
    """Where a climb ended: the mean place (2,) in metres north and east, its covariance (2, 2), the best score, the
    starts (S,), that of the place first, then the best, and how many tiles were scored.
    """

    mean: np.ndarray
    covariance: np.ndarray
    score: float
    order: np.ndarray
    tiles: int


def climb(scores_at: ScoresAt, starts: np.ndarray, side: float, sharpness: float) -> Climbed:
    """Look around all starts, then ever nearer around the best point of the best start.

    Args:
        scores_at: scores (P,) of the tiles around points (P,), (P,) metres north and east; -inf for none.
        starts: (S, 2) metres north and east.
        side: of a tile, in metres.
        sharpness: by which scores become probabilities of the place.
    """
    field, step = _Field(scores_at), COARSE * side
    for start in starts:
        field.look(_grid(start, step), step)
    if not np.isfinite(field.scores).any():
        raise InputError("the imagery covers none of the places found", mend="name imagery of the same area")
    order = np.argsort([-field.evidence(start, side / 2, sharpness) for start in starts], kind="stable")
    point, score = field.best_within(starts[order[0]], side / 2)
    for _ in range(LEVELS - 1):
        step /= 2
        field.look(_grid(point, step), step)
        point, score = field.best_within(point, step * REACH)
    mean, covariance = _spread(field, point, side, sharpness)
    # Of tiles that overlap the place belongs to the one that has it nearest to its middle.
    home = int(np.argmin(np.linalg.norm(starts[order] - mean, axis=1)))
    order = np.concatenate([order[[home]], np.delete(order, home)])
    return Climbed(mean, covariance, score, order, len(field.points))


class Refiner:
    """Imagery, and the model that its tiles are scored with."""

    def __init__(self, imagery: str, model: Embedder):
        self.imagery, self.model = imagery, model
        self.mosaic = Mosaic(find_imagery([imagery]))

    def close(self) -> None:
        """Let go of the imagery."""
        self.mosaic.__exit__(None, None, None)

    def descriptors(
        self, lat: np.ndarray, lon: np.ndarray, side: float, model: Embedder | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Descriptors (P, D) of the tiles around positions, by another model if told, and which of them the imagery
        shows, (P,) bool.
        """
        model = model or self.model
        cut = self.mosaic.cut_tiles(lat, lon, TILE_PIXELS, side / TILE_PIXELS)
        shown = np.array([mask.mean() >= LEAST_VALID for _, mask in cut])
        found = np.zeros((len(lat), model.descriptor_size), np.float32)
        rows = np.flatnonzero(shown)
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            views = [aerial_view(without_fourth(cut[row][0]), model.config.view) for row in some]
            found[some] = describe(model, "aerial", [(view, np.ones(view.shape[:2], bool)) for view in views])
        return found, shown

    def refine(self, scorer: Scorer, lat: np.ndarray, lon: np.ndarray, side: float, sharpness: float) -> Refined:
        """The place of a scorer's one query around the best of the candidates (S,), whose tiles are `side` metres long.

        Raises InputError where the imagery shows none of them.
        """

        def scores_at(north: np.ndarray, east: np.ndarray) -> np.ndarray:
            described, shown = self.descriptors(*move(lat[0], lon[0], north, east), side)
            scores = scorer.scores(slice(0, 1), scorer.prepare(described))[0].astype(np.float64)
            return np.where(shown, scores, -np.inf)

        starts = np.stack(offset_metres(*np.broadcast_arrays(lat[0], lon[0], lat, lon)), axis=1)
        found = climb(scores_at, starts, side, sharpness)
        place, spread = move(lat[0], lon[0], *found.mean), ellipses(found.covariance[None])
        axes = (float(axis[0]) for axis in (spread.major_m, spread.minor_m, spread.azimuth))
        return Refined(float(place[0]), float(place[1]), found.score, *axes, found.order, found.tiles)
