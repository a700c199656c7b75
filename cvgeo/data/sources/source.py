"""What an imagery source is: a grid of pixels somewhere on the map, from which tiles are cut true north up.

A tile is defined on the ground: its pixel (r, c) lies (S/2 - r - 1/2) g metres north and (c + 1/2 - S/2) g metres east
of its centre, for S pixels of g metres. Where those points fall in the source is computed with the exact projection, so
that grid north against true north, web mercator's stretch with latitude and zone edges are all accounted for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from cvgeo.geometry.geodesy import distance_m, map_to_pixel, move
from cvgeo.geometry.opencv import import_cv2
from cvgeo.geometry.shapes import GeometryError

AFFINE_TOLERANCE = 0.1  # tile pixels by which an affine map may differ from the exact projection
COARSER = 1.25  # source pixels a tile pixel from which on the source is averaged down first
MARGIN = 3  # pixels around the window that a tile needs
TOGETHER_PIXELS = 2**23  # of one window from which several tiles are cut

Tile = tuple[np.ndarray, np.ndarray]
Window = tuple[int, int, int, int]


def no_tile(size: int) -> Tile:
    """A tile of which nothing is known, as `Source.cut_tiles` gives them."""
    return np.zeros((size, size, 4), np.uint8), np.zeros((size, size), bool)


def without_fourth(tile: np.ndarray) -> np.ndarray:
    """A tile (S, S, 4) of `cut_tiles` as RGB (S, S, 3)."""
    cv2 = import_cv2()
    return cv2.cvtColor(tile, cv2.COLOR_RGBA2RGB)


class Source(ABC):
    """One open source of imagery. A context manager; not to be shared between threads.

    What a kind of source says of itself: `name`, `crs_name`, `attribution`, the affine `transform` from pixels to the
    map, `turn`: by how much the map's x grows around the earth (0 where its projection does not close), and the limits
    within which it has pixels.
    """

    name: str
    crs_name: str
    attribution: str = ""
    transform: Sequence[float]
    turn: float = 0.0

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close what is open; any thread may."""

    @property
    @abstractmethod
    def bounds_latlon(self) -> tuple[float, float, float, float]:
        """South, west, north, east of the outline (west above east where it crosses the date line)."""

    @cached_property
    def parts_latlon(self) -> np.ndarray:
        """Bounds (M, 4) of the parts that hold imagery, as `bounds_latlon` has them; by default that alone."""
        return np.array([self.bounds_latlon])

    @property
    @abstractmethod
    def limits(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """First and last row, first and last column that have pixels."""

    @property
    @abstractmethod
    def middle(self) -> tuple[float, float]:
        """Row and column of the middle."""

    @abstractmethod
    def to_map(self, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map coordinates x, y of positions. Raises GeometryError outside the projection."""

    @abstractmethod
    def pixel_to_latlon(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and longitude of pixel positions; (0, 0) is the upper left corner of the upper left pixel."""

    @abstractmethod
    def read(self, window: Window, scale: float) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float]]:
        """Pixels of a window (top, bottom, left, right), averaged down by about `scale` where that is much above 1.

        Returns RGB (h, w, 3 or 4; a fourth channel means nothing) uint8, mask (h, w) uint8 (None: all has data), and
        the source's pixels a row and a column of what was read.
        """

    @cached_property
    def gsd_m(self) -> float:
        """Ground sampling distance in the middle: metres on the ground a pixel, mean of both directions."""
        rows = np.array([0.0, 0.0, 0.5, -0.5]) + self.middle[0]
        columns = np.array([0.5, -0.5, 0.0, 0.0]) + self.middle[1]
        lat, lon = self.pixel_to_latlon(rows, columns)
        across = distance_m(lat[0], lon[0], lat[1], lon[1])
        along = distance_m(lat[2], lon[2], lat[3], lon[3])
        return float(math.sqrt(across * along))

    @cached_property
    def _middle_x(self) -> float:
        a, b, c = tuple(self.transform)[:3]
        return a * self.middle[1] + b * self.middle[0] + c

    def _unrolled(self, x: np.ndarray, near: np.ndarray | float) -> np.ndarray:
        # Where the map closes around the earth, a place has many x: the one nearest to some other place.
        return x - np.rint((x - near) / self.turn) * self.turn if self.turn else x

    def covers(self, lat: float, lon: float, half_size_m: float = 0.0) -> bool:
        """Whether the square of this half size around a position lies within the outline."""
        rows, columns = self._control_points(np.array([lat]), np.array([lon]), half_size_m)
        return bool(self._within(rows, columns)[0])

    def _within(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether all points (N, P) of each of N tiles lie within the outline, (N,) bool."""
        (top, bottom), (left, right) = self.limits
        return ((rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right)).all(axis=1)

    def _control_points(self, lat: np.ndarray, lon: np.ndarray, half_size_m: float) -> Tile:
        steps = np.array([-half_size_m, 0.0, half_size_m])
        north, east = np.meshgrid(-steps, steps, indexing="ij")
        return self._project(lat, lon, north.ravel(), east.ravel())

    def _project(self, lat: np.ndarray, lon: np.ndarray, north: np.ndarray, east: np.ndarray) -> Tile:
        """Rows and columns (N, P) of P points around each of N positions; infinite where the projection ends."""
        # The position itself goes first: the points around it are to lie beside it on the map as well.
        around = move(lat[:, None], lon[:, None], np.append(0.0, north), np.append(0.0, east))
        try:
            x, y = self.to_map(*around)
        except GeometryError:
            if len(lat) == 1:
                return np.full((1, len(north)), np.inf), np.full((1, len(north)), np.inf)
            parts = [self._project(lat[[row]], lon[[row]], north, east) for row in range(len(lat))]
            return np.concatenate([rows for rows, _ in parts]), np.concatenate([columns for _, columns in parts])
        x = self._unrolled(x, self._unrolled(x[:, :1], self._middle_x))
        return map_to_pixel(self.transform, x[:, 1:], y[:, 1:])

    def cut_tile(self, lat: float, lon: float, size: int, gsd_m: float) -> Tile:
        """Cut the north-up tile around a position.

        Args:
            lat, lon: the tile's centre in degrees.
            size: pixels a side, S.
            gsd_m: metres on the ground a pixel.

        Returns:
            The tile (S, S, 3) uint8 RGB, 0 beyond the source's edge, and the mask (S, S) bool of what has data.
        """
        tile, mask = self.cut_tiles(np.array([lat]), np.array([lon]), size, gsd_m)[0]
        return without_fourth(tile), mask

    def cut_tiles(self, lat: np.ndarray, lon: np.ndarray, size: int, gsd_m: float) -> list[Tile]:
        """Cut tiles around N positions (N,), as `cut_tile` does; neighbours share what is read.

        The tiles (S, S, 4) have a fourth channel without meaning: OpenCV warps four several times faster than three.
        """
        rows, columns = self._control_points(lat, lon, size * gsd_m / 2)
        plans = _plans(rows, columns, size, self.limits, self._within(rows, columns))
        shared = _shared_window([plan for plan in plans if plan is not None and plan.window is not None])
        read = None if shared is None else self._read(shared, 1.0)
        tiles = []
        for number, plan in enumerate(plans):
            if plan is None or plan.window is None:
                tiles.append(no_tile(size))
                continue
            window = plan.window if shared is None else shared
            where = plan.affine.copy()
            if plan.deviation > AFFINE_TOLERANCE * plan.scale:
                where = self._exact_maps(lat[[number]], lon[[number]], size, gsd_m)
            tiles.append(_resample(read or self._read(window, plan.scale), window, size, where, plan.within))
        return tiles

    def _read(self, window: Window, scale: float) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float]]:
        image, mask, steps = self.read(window, scale)
        if image.shape[2] == 3:
            cv2 = import_cv2()
            image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
        return image, mask, steps

    def _exact_maps(self, lat: np.ndarray, lon: np.ndarray, size: int, gsd_m: float) -> np.ndarray:
        steps = (np.arange(size) + 0.5 - size / 2) * gsd_m
        north, east = np.meshgrid(-steps, steps, indexing="ij")
        rows, columns = self._project(lat, lon, north.ravel(), east.ravel())
        return np.stack([columns.reshape(size, size), rows.reshape(size, size)])


@dataclass
class _Plan:
    """How one tile is cut: the affine map, by how much it deviates, the scale, and the window that is needed.

    `within` says that the whole tile lies inside the source.
    """

    affine: np.ndarray
    deviation: float
    scale: float
    window: Window | None
    within: bool


def _plans(
    rows: np.ndarray, columns: np.ndarray, size: int, limits: tuple[tuple[int, int], ...], within: np.ndarray
) -> list[_Plan | None]:
    """Plans of N tiles from their control points (N, 9); None where the projection ends."""
    known = np.isfinite(rows).all(axis=1) & np.isfinite(columns).all(axis=1)
    rows, columns = rows[known], columns[known]
    affine, deviation = _fit_affine(rows, columns, size)
    scale = np.sqrt(np.abs(affine[:, 0, 0] * affine[:, 1, 1] - affine[:, 0, 1] * affine[:, 1, 0]))
    windows = _windows(rows, columns, scale, limits)
    # Between control points a curved edge may leave the source.
    inside = within[known] & (deviation <= AFFINE_TOLERANCE * scale)
    plans: list[_Plan | None] = [None] * len(known)
    parts = zip(affine, deviation.tolist(), scale.tolist(), windows, inside.tolist(), strict=True)
    for tile, part in zip(np.flatnonzero(known).tolist(), parts, strict=True):
        plans[tile] = _Plan(*part)
    return plans


def _shared_window(plans: Sequence[_Plan]) -> Window | None:
    """One window that serves all tiles; None where it saves no reading, or would tie a tile's pixels to the others."""
    if len(plans) < 2 or any(plan.scale > COARSER for plan in plans):
        return None
    edges = np.array([plan.window for plan in plans])
    top, bottom, left, right = edges[:, 0].min(), edges[:, 1].max(), edges[:, 2].min(), edges[:, 3].max()
    pixels = (bottom - top) * (right - left)
    apart = ((edges[:, 1] - edges[:, 0]) * (edges[:, 3] - edges[:, 2])).sum()
    # OpenCV addresses pixels of what it warps by 16 bits.
    if pixels > min(apart, TOGETHER_PIXELS) or max(bottom - top, right - left) > 2**15 - 1:
        return None
    return int(top), int(bottom), int(left), int(right)


@lru_cache(maxsize=8)
def _all_valid(size: int) -> np.ndarray:
    valid = np.ones((size, size), bool)
    valid.flags.writeable = False
    return valid


@lru_cache(maxsize=8)
def _design(size: int) -> tuple[np.ndarray, np.ndarray]:
    # The nine control points (column, row, 1) in a tile's pixels, counted by their centres, and the pseudo-inverse.
    steps = np.array([0.0, size / 2, size]) - 0.5
    rows, columns = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    design = np.stack([columns, rows, np.ones(9)], axis=1)
    return design, np.linalg.pinv(design)


def _fit_affine(rows: np.ndarray, columns: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Affine maps (N, 2, 3) from tiles' pixels to the source's, for (column, row, 1), and largest deviations (N,).

    The nine control points (N, 9) are a tile's corners, the middles of its sides and its centre. Tile pixels are
    counted by their centres, source positions from the corner.
    """
    design, inverse = _design(size)
    target = np.stack([columns, rows], axis=2)
    # Far from the origin of the grid, small numbers keep the digits.
    offset = target[:, 4:5]
    solution = inverse @ (target - offset)
    deviation = np.abs(design @ solution - (target - offset)).max(axis=(1, 2), initial=0.0)
    solution[:, 2:] += offset
    return solution.transpose(0, 2, 1), deviation


def _windows(
    rows: np.ndarray, columns: np.ndarray, scale: np.ndarray, limits: tuple[tuple[int, int], ...]
) -> list[Window | None]:
    """Top, bottom, left, right of the pixels that N tiles need, within the limits; None where there are none."""
    # Aligned to the overview that will be read, so that no fraction of a coarse pixel is rounded away.
    grain = 2.0 ** np.maximum(0, np.floor(np.log2(np.maximum(scale * COARSER, 1.0))))
    margin = MARGIN * np.ceil(np.maximum(scale, 1.0))
    edges = []
    for values, (least, limit) in zip((rows, columns), limits, strict=True):
        edges.append(np.maximum(least, np.floor((values.min(axis=1) - margin) / grain) * grain))
        edges.append(np.minimum(limit, np.ceil((values.max(axis=1) + margin) / grain) * grain))
    some = (edges[1] > edges[0]) & (edges[3] > edges[2])
    windows = np.stack(edges, axis=1).astype(np.int64).tolist()
    return [tuple(window) if there else None for window, there in zip(windows, some.tolist(), strict=True)]


def _resample(
    read: tuple[np.ndarray, np.ndarray | None, tuple[float, float]],
    window: Window,
    size: int,
    where: np.ndarray,
    within: bool,
) -> Tile:
    """Tile (S, S, 4) and mask from what was read, whose fourth channel means nothing.

    `where` is an affine map (2, 3) or maps (2, S, S) of columns and rows. `within` says that the whole tile lies inside
    the source.
    """
    cv2 = import_cv2()
    image, mask, steps = read
    # From the source's pixels to those of the (perhaps coarser) array that was read; OpenCV counts pixel centres.
    shift = np.array([window[2] + steps[1] / 2, window[0] + steps[0] / 2])
    shrink = np.array([1 / steps[1], 1 / steps[0]])
    if where.ndim == 2:
        where[:, 2] -= shift
        where = where * shrink[:, None]
    else:
        columns, rows = ((where - shift[:, None, None]) * shrink[:, None, None]).astype(np.float32)

    def sample(picture: np.ndarray, interpolation: int, border: int) -> np.ndarray:
        if where.ndim == 2:
            flags = interpolation | cv2.WARP_INVERSE_MAP
            return cv2.warpAffine(picture, where, (size, size), flags=flags, borderMode=border)
        return cv2.remap(picture, columns, rows, interpolation, borderMode=border)

    tile = sample(image, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    valid = _all_valid(size)
    if not within:
        # Pixels without data keep the source's own values (white may be a roof); only beyond its edge is black.
        valid = sample(np.full(image.shape[:2], 255, np.uint8), cv2.INTER_NEAREST, cv2.BORDER_CONSTANT) > 0
        tile[~valid] = 0
    if mask is not None:
        valid = sample(mask, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT) > 127
    return tile, valid
