"""Several sources as one: sheets of one survey, each tile put together from those that show it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from cvgeo.data.sources.imagery import Imagery
from cvgeo.data.sources.source import Source, Tile, no_tile, without_fourth

METRES_A_DEGREE_AT_LEAST = 110_000.0


class Mosaic:
    """Imagery in order of preference. May be shared between threads: each thread opens its own handles.

    `gsd_m` is that of the finest source, `bounds` (N, 4) the south, west, north and east of each, `parts` (M, 4) those
    of the places where they have imagery (east above 180 across the date line), `attribution` whom they name.
    Raises InputError as the sources do.
    """

    def __init__(self, imagery: Sequence[Imagery]):
        self.imagery = list(imagery)
        self._local = threading.local()
        self._open = ExitStack()
        self._lock = threading.Lock()
        try:
            sources = [self._source(number) for number in range(len(self.imagery))]
            self.gsd_m = min(source.gsd_m for source in sources)
            self.crs_names = [source.crs_name for source in sources]
            self.bounds = _unrolled(np.array([source.bounds_latlon for source in sources]))
            self.parts = _unrolled(np.concatenate([source.parts_latlon for source in sources]))
            self.attribution = "; ".join(dict.fromkeys(one.attribution for one in sources if one.attribution))
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Mosaic:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def _source(self, number: int) -> Source:
        sources: dict[int, Source] = self._local.__dict__.setdefault("sources", {})
        if number not in sources:
            sources[number] = self.imagery[number].open()
            with self._lock:
                self._open.callback(sources[number].close)
        return sources[number]

    def _near(self, lat: np.ndarray, lon: np.ndarray, half_size_m: float) -> np.ndarray:
        """Which sources may show which of N squares, (N, sources) bool."""
        south, west, north, east = self.bounds.T
        rise = half_size_m / METRES_A_DEGREE_AT_LEAST + 1e-9
        turn = rise / np.maximum(np.cos(np.radians(lat)), 1e-3) * 1.5
        off = np.abs((lon[:, None] - (west + east) / 2 + 180) % 360 - 180)
        across = off <= (east - west) / 2 + turn[:, None]
        return across & (south - rise <= lat[:, None]) & (lat[:, None] <= north + rise)

    def shows(self, lat: float, lon: float) -> bool:
        """Whether a position lies within the outline of one of the sources."""
        near = np.flatnonzero(self._near(np.array([lat]), np.array([lon]), 0.0)[0])
        return any(self._source(int(number)).covers(lat, lon) for number in near)

    def cut_tile(self, lat: float, lon: float, size: int, gsd_m: float) -> Tile:
        """The tile (S, S, 3) uint8 and its mask (S, S) bool, as Source cuts it; later sources fill in gaps."""
        tile, mask = self.cut_tiles(np.array([lat]), np.array([lon]), size, gsd_m)[0]
        return without_fourth(tile), mask

    def cut_tiles(self, lat: np.ndarray, lon: np.ndarray, size: int, gsd_m: float) -> list[Tile]:
        """The tiles (S, S, 4) and masks around N positions (N,), as Source.cut_tiles gives them."""
        tiles: list[Tile | None] = [None] * len(lat)
        near = self._near(lat, lon, size * gsd_m / 2)
        for number in np.flatnonzero(near.any(axis=0)):
            rows = [row for row in np.flatnonzero(near[:, number]) if tiles[row] is None or not tiles[row][1].all()]
            if rows:
                for row, found in zip(
                    rows, self._source(int(number)).cut_tiles(lat[rows], lon[rows], size, gsd_m), strict=True
                ):
                    tiles[row] = found if tiles[row] is None else _filled(tiles[row], found)
        return [no_tile(size) if tile is None else tile for tile in tiles]


def _filled(first: Tile, second: Tile) -> Tile:
    """A tile with its gaps filled from another; where the first has nothing at all, the second stands as it is."""
    tile, mask = first
    more, seen = second
    if not mask.any():
        return second
    fresh = seen & ~mask
    tile[fresh] = more[fresh]
    return tile, mask | seen


def _unrolled(bounds: np.ndarray) -> np.ndarray:
    bounds = bounds.copy()
    bounds[bounds[:, 1] > bounds[:, 3], 3] += 360
    return bounds
