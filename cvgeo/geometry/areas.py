"""Areas of the ground and which positions lie in them: discs and polygons with holes, in WGS84 degrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from cvgeo.geometry.geodesy import distance_m, earth_centred
from cvgeo.geometry.shapes import GeometryError


class Area(Protocol):
    """A part of the Earth's surface."""

    def contains(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Which of N positions lie in it, (N,) bool; an unknown position (NaN) does not."""
        ...


@dataclass(frozen=True)
class Disc:
    """All positions at most `radius_m` metres of geodesic from a position."""

    lat: float
    lon: float
    radius_m: float

    def contains(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Which of N positions lie in it, (N,) bool."""
        inside = np.zeros(len(lat), dtype=bool)
        # No geodesic is shorter than the straight line: what is farther by that needs no closer look.
        straight = np.linalg.norm(earth_centred(lat, lon) - earth_centred(self.lat, self.lon), axis=1)
        near = np.flatnonzero(straight <= self.radius_m)
        inside[near] = distance_m(self.lat, self.lon, lat[near], lon[near]) <= self.radius_m
        return inside


@dataclass(frozen=True)
class Box:
    """The least box of degrees that holds positions; around the date line it may be all of the longitudes."""

    south: float
    west: float
    north: float
    east: float

    def __str__(self) -> str:
        return ",".join(f"{one:.5f}" for one in (self.south, self.west, self.north, self.east))

    @classmethod
    def around(cls, lat: np.ndarray, lon: np.ndarray) -> Box:
        """That of N positions, of which one at least is known; unknown ones (NaN) do not count."""
        west, east = float(np.nanmin(lon)), float(np.nanmax(lon))
        if east - west > 180:
            west, east = -180.0, 180.0
        return cls(float(np.nanmin(lat)), west, float(np.nanmax(lat)), east)

    def beyond_m(self, lat: float, lon: float) -> float:
        """How many metres a position lies outside of it, 0 for one inside."""
        middle, half = (self.west + self.east) / 2, (self.east - self.west) / 2
        east = (lon - middle + 180) % 360 - 180
        nearest = min(max(lat, self.south), self.north), middle + min(max(east, -half), half)
        return float(distance_m(lat, lon, *nearest))


class Polygons:
    """Polygons, each an outer ring and its holes; what lies in one of them counts. Even-odd rule, straight in degrees.

    Args:
        polygons: of rings (M, 2) of longitude and latitude, closed: the first position is repeated at the end.

    Sides of more than 180 degrees of longitude take the short way, across the date line; those of exactly 360 are left.
    Raises GeometryError for a ring that is not closed, has no four positions, or goes around a pole.
    """

    def __init__(self, polygons: Sequence[Sequence[ArrayLike]]):
        self._polygons = [[_unrolled(np.asarray(ring, dtype=np.float64)) for ring in rings] for rings in polygons]

    def contains(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Which of N positions lie in it, (N,) bool."""
        inside = np.zeros(len(lat), dtype=bool)
        known = np.flatnonzero(~(np.isnan(lat) | np.isnan(lon)))
        order = known[np.argsort(lat[known], kind="stable")]
        lat, lon = lat[order], lon[order]
        for rings in self._polygons:
            lowest, highest = rings[0][:, 0].min(), rings[0][:, 0].max()
            for turn in (-360.0, 0.0, 360.0):
                if len(lon) and lon.max() + turn >= lowest and lon.min() + turn <= highest:
                    inside[order] |= _even_odd(lat, lon + turn, rings)
        return inside


def _unrolled(ring: np.ndarray) -> np.ndarray:
    if ring.ndim != 2 or len(ring) < 4 or ring.shape[1] != 2:
        raise GeometryError("a ring has fewer than four positions", mend="give at least three, and the first again")
    if not np.array_equal(ring[0], ring[-1]):
        raise GeometryError("a ring is not closed", mend="repeat its first position at its end")
    steps = np.diff(ring[:, 0])
    around = (np.abs(steps) > 180) & (np.abs(steps) < 360)
    steps = steps - 360 * np.sign(steps) * around
    if abs(steps.sum()) > 1:
        raise GeometryError("a ring goes around a pole", mend="cut it at the date line")
    return np.column_stack([ring[0, 0] + np.concatenate([[0.0], np.cumsum(steps)]), ring[:, 1]])


def _even_odd(lat: np.ndarray, lon: np.ndarray, rings: Sequence[np.ndarray]) -> np.ndarray:
    """Whether a way east from each position, which ascend in latitude, crosses the rings an odd number of times."""
    inside = np.zeros(len(lat), dtype=bool)
    for ring in rings:
        low, high = np.minimum(ring[:-1, 1], ring[1:, 1]), np.maximum(ring[:-1, 1], ring[1:, 1])
        firsts, lasts = np.searchsorted(lat, low, "left"), np.searchsorted(lat, high, "left")
        # A side concerns only the positions beside it, which stand together.
        for side in np.flatnonzero(lasts > firsts):
            beside = slice(firsts[side], lasts[side])
            (x, y), (x2, y2) = ring[side], ring[side + 1]
            inside[beside] ^= lon[beside] < x + (lat[beside] - y) * (x2 - x) / (y2 - y)
    return inside
