"""Ground and roof textures from real orthophotos that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cvgeo.data.sources.raster import RasterSource
from cvgeo.data.world.light import ONE, cv2
from cvgeo.data.world.noise import Texture
from cvgeo.errors import InputError

LARGEST_M = 120.0
SMALLEST_M = 12.0


def read_detail(paths: Sequence[Path], gsd_m: float, rng: np.random.Generator) -> Texture:
    """A wrapping texture cut from a random place of one of these rasters.

    It holds by what each colour is brighter or darker than its surroundings, as bytes with ONE for `as bright`
    (2 S, 2 S, 4); the piece is mirrored both ways, so that it wraps. Raises InputError for a raster that cannot be
    read or has no square of 12 m with data.
    """
    path = paths[int(rng.integers(len(paths)))]
    with RasterSource(path) as raster:
        south, west, north, east = raster.bounds_latlon
        side = min(LARGEST_M, 0.7 * raster.gsd_m * min(raster.size))
        while side >= SMALLEST_M:
            for _ in range(12):
                lat, lon = rng.uniform(south, north), rng.uniform(west, east)
                patch, seen = raster.cut_tile(lat, lon, round(side / gsd_m), gsd_m)
                if seen.all():
                    return Texture(_wrapping(patch))
            side *= 0.7
    raise InputError(f"has no square of {SMALLEST_M:g} m with data", path=path, mend="name another raster")


def _wrapping(patch: np.ndarray) -> np.ndarray:
    values = patch.astype(np.float32) + 6
    around = cv2.GaussianBlur(values, (0, 0), len(patch) / 8, borderType=cv2.BORDER_REFLECT)
    factor = np.clip(ONE * values / around, 0.5 * ONE, 1.9 * ONE).astype(np.uint8)
    factor = np.dstack((factor, np.full(factor.shape[:2], ONE, np.uint8)))
    factor = np.concatenate((factor, factor[::-1]), axis=0)
    return np.ascontiguousarray(np.concatenate((factor, factor[:, ::-1]), axis=1))
