"""Overlapping tiles over an area: where their centres lie, and which of them show a place."""

from __future__ import annotations

import math

import numpy as np

from cvgeo.geometry.geodesy import distance_m, move, offset_metres


class TileGrid:
    """Centres of tiles about `step_m` apart, north-south and east-west, that cover an area to its edges.

    Steps are shortened so that the outermost tiles end where the area does; an area smaller than a tile has one tile.

    Args:
        bounds: south, west, north, east of the area in degrees.
        tile_m: ground size of a tile in metres.
        step_m: largest distance of neighbouring centres in metres.
        middle: every place of the area is to lie in the middle of a tile (at most half a step from the nearest centre,
            each way) rather than just in a tile: the tiles reach beyond the area.
    """

    def __init__(self, bounds: tuple[float, float, float, float], tile_m: float, step_m: float, middle: bool = False):
        south, west, north, east = bounds
        east += 360 if west > east else 0
        self.tile_m = tile_m
        cover_m = min(step_m, tile_m) if middle else tile_m
        self._lon = (west + east) / 2
        self.rows, self.step_north_m = _layout(float(distance_m(south, self._lon, north, self._lon)), cover_m, step_m)
        widest = min(abs(south), abs(north)) if south * north > 0 else 0.0
        width = (east - west) * float(_metres_a_degree_east(np.array(widest)))
        self.columns, self.step_east_m = _layout(width, cover_m, step_m)
        # Row 0 is the southernmost.
        climb = (np.arange(self.rows) - (self.rows - 1) / 2) * self.step_north_m
        self._row_lat, _ = move((south + north) / 2, self._lon, climb, np.zeros(self.rows))
        self._row_step = self.step_east_m / _metres_a_degree_east(self._row_lat)

    def __len__(self) -> int:
        return self.rows * self.columns

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and longitude of all centres, (rows * columns,), row by row from the south-west."""
        row, column = np.divmod(np.arange(len(self)), self.columns)
        return self._place(row, column)

    def _place(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lon = self._lon + (column - (self.columns - 1) / 2) * self._row_step[row]
        return self._row_lat[row], (lon + 180) % 360 - 180 if np.any(np.abs(lon) > 180) else lon

    def covering(self, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Which tiles show which of the places (N,).

        Returns:
            Four arrays (M,): place, tile (a number as in `centres`), and the metres that the place lies north and east
            of the tile's centre. Sorted by place, then by distance from the centre.
        """
        lat, lon = np.asarray(lat, dtype=float), np.asarray(lon, dtype=float)
        row = np.clip(np.abs(self._row_lat[None] - lat[:, None]).argmin(axis=1), 0, self.rows - 1)
        column = np.rint(((lon - self._lon + 180) % 360 - 180) / self._row_step[row] + (self.columns - 1) / 2).astype(
            np.int64
        )
        reach = math.ceil(self.tile_m / 2 / min(self.step_north_m, self.step_east_m)) + 1
        found = []
        for step in np.ndindex(2 * reach + 1, 2 * reach + 1):
            there_row, there_column = row + step[0] - reach, column + step[1] - reach
            inside = (there_row >= 0) & (there_row < self.rows) & (there_column >= 0) & (there_column < self.columns)
            place = np.flatnonzero(inside)
            there_row, there_column = there_row[place], there_column[place]
            north, east = offset_metres(*self._place(there_row, there_column), lat[place], lon[place])
            shown = np.maximum(np.abs(north), np.abs(east)) <= self.tile_m / 2
            tile = there_row * self.columns + there_column
            found.append(np.stack([place, tile, north, east])[:, shown])
        place, tile, north, east = np.concatenate(found, axis=1)
        order = np.lexsort((tile, np.hypot(north, east), place))
        return place[order].astype(np.int64), tile[order].astype(np.int64), north[order], east[order]


def _layout(extent_m: float, cover_m: float, step_m: float) -> tuple[int, float]:
    """How many tiles, and how far apart, cover an extent when each covers `cover_m` of it."""
    # A grain of tolerance: an extent that fits exactly needs no further tile.
    count = max(1, math.ceil((extent_m - cover_m) / step_m - 1e-3) + 1)
    return count, step_m if count == 1 else min(step_m, (extent_m - cover_m) / (count - 1))


def _metres_a_degree_east(lat: np.ndarray) -> np.ndarray:
    small = 1e-4
    return distance_m(lat, np.zeros_like(lat), lat, np.full_like(lat, small)) / small
