"""Where the panoramas of a world stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvgeo.data.world.knobs import WorldKnobs
from cvgeo.data.world.raster import cv2
from cvgeo.data.world.scene import Facade, Feature, Scene, Surface, in_buildings
from cvgeo.errors import UsageError


@dataclass
class Places:
    """Positions (metres east and north in the world) and grid headings of column 0 in degrees, one a panorama."""

    x: np.ndarray
    y: np.ndarray
    column0: np.ndarray
    spacing_m: float

    def __len__(self) -> int:
        return len(self.x)


def choose_places(scene: Scene, knobs: WorldKnobs, count: int | None, rng: np.random.Generator) -> Places:
    """Choose where panoramas stand: `count` of them, or all that the knobs' spacing lets in.

    Where the spacing leaves too little room for `count` it is narrowed to as little as 8 m. Raises UsageError where
    even that is not enough.
    """
    edge = knobs.tile_metres / 2 + 4
    stands = scene.stands[rng.permutation(len(scene.stands))]
    inside = ((stands[:, :2] > edge) & (stands[:, :2] < scene.size_m - edge)).all(axis=1)
    stands = stands[inside]
    stands = stands[_is_open(scene, stands, knobs.camera_height_m)]
    # Off-street stands are rarer than the ways past them: let them choose first, up to their share.
    spacing = knobs.spacing_m
    while True:
        chosen = _apart(stands, spacing, knobs.off_street_share)
        if count is None or len(chosen) >= count:
            break
        spacing *= 0.88
        if spacing < 8.0:
            raise UsageError(
                f"only {len(chosen)} panoramas have room in {scene.size_m / 1000:g} km",
                mend="ask for fewer with --panoramas or for a larger --size-km",
            )
    chosen = chosen[:count] if count is not None else chosen
    headings = 90 - np.degrees(chosen[:, 2])
    centre = {"vehicle": headings, "north": np.zeros(len(chosen)), "random": rng.uniform(0, 360, len(chosen))}[
        knobs.turn
    ]
    return Places(chosen[:, 0], chosen[:, 1], (centre - knobs.hfov / 2) % 360, spacing)


def _is_open(scene: Scene, stands: np.ndarray, lens_m: float) -> np.ndarray:
    x, y = stands[:, 0], stands[:, 1]
    hedges = scene.buildings["facade"] == Facade.LEAVES
    closed = in_buildings(scene.buildings[hedges], x, y, 0.8) | in_buildings(scene.buildings[~hedges], x, y, 1.6)
    order = np.argsort(x, kind="stable")
    for tree in scene.trees:
        reach = tree["radius"] + 0.3 if tree["base"] < lens_m + 0.5 else 0.8
        rows = order[slice(*np.searchsorted(x, (tree["x"] - reach, tree["x"] + reach), sorter=order))]
        closed[rows[np.hypot(x[rows] - tree["x"], y[rows] - tree["y"]) < reach]] = True
    off_street = np.flatnonzero(stands[:, 3] == 0)
    for water in (one for one in scene.features if one.surface == Surface.WATER):
        near = [row for row in off_street if not closed[row] and _is_in_water(water, stands[row, :2])]
        closed[near] = True
    return ~closed


def _is_in_water(water: Feature, point: np.ndarray) -> bool:
    if water.half_width:
        return bool(np.hypot(*(water.points - point).T).min() < water.half_width + 6)
    outline = water.points.astype(np.float32)
    return cv2.pointPolygonTest(outline, (float(point[0]), float(point[1])), True) > -1


def _apart(stands: np.ndarray, spacing: float, off_street: float) -> np.ndarray:
    """Stands at least `spacing` apart, taken in order; of those off the street only their share."""
    cells: dict[tuple[int, int], list[np.ndarray]] = {}
    chosen, off = [], 0
    for stand in stands:
        if stand[3] == 0 and off + 1 > off_street * (len(chosen) + 10):
            continue
        col, row = int(stand[0] // spacing), int(stand[1] // spacing)
        around = (cells.get((col + i, row + j), ()) for i in (-1, 0, 1) for j in (-1, 0, 1))
        if any(np.hypot(*(other[:2] - stand[:2])) < spacing for cell in around for other in cell):
            continue
        cells.setdefault((col, row), []).append(stand)
        chosen.append(stand)
        off += stand[3] == 0
    return np.array(chosen).reshape(-1, 4)
