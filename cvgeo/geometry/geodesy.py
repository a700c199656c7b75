"""Positions on the WGS84 ellipsoid, web-mercator tiles, and pixel and map coordinates.

Latitudes and longitudes are degrees; every function takes numbers or arrays that broadcast, and returns float64.
Distances follow Vincenty's formulas (Survey Review 23, 1975): within a millimetre of the geodesic anywhere, but for
points nearly opposite each other on the globe, where the great circle stands in (within 0.6 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cvgeo.geometry.shapes import GeometryError

SEMI_MAJOR_M = 6378137.0
FLATTENING = 1 / 298.257223563
SEMI_MINOR_M = SEMI_MAJOR_M * (1 - FLATTENING)
MERCATOR_LIMIT = 85.0511287798066  # latitude at which the web-mercator square ends


def check_latlon(lat: ArrayLike, lon: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 arrays. Raises GeometryError for a latitude beyond +-90 or a longitude beyond +-360."""
    lat, lon = np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
    for name, values, limit in (("latitude", lat, 90), ("longitude", lon, 360)):
        if np.any(np.abs(values) > limit):
            worst = values.flat[np.nanargmax(np.abs(values))]
            raise GeometryError(f"{name} {worst:g} is out of range", mend="check the order: latitude, then longitude")
    return lat, lon


def _wrap(degrees: np.ndarray) -> np.ndarray:
    return (degrees + 180) % 360 - 180


def _series(cos_sq_alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Vincenty's A and B by Helmert's expansion parameter.
    root = np.sqrt(1 + cos_sq_alpha * (SEMI_MAJOR_M**2 / SEMI_MINOR_M**2 - 1))
    k1 = (root - 1) / (root + 1)
    return (1 + k1**2 / 4) / (1 - k1), k1 * (1 - 3 * k1**2 / 8)


def _delta_sigma(b: np.ndarray, sin_sigma: np.ndarray, cos_sigma: np.ndarray, cos_2m: np.ndarray) -> np.ndarray:
    inner = cos_sigma * (2 * cos_2m**2 - 1) - b / 6 * cos_2m * (4 * sin_sigma**2 - 3) * (4 * cos_2m**2 - 3)
    return b * sin_sigma * (cos_2m + b / 4 * inner)


def _longitude_term(
    sin_alpha: np.ndarray,
    cos_sq_alpha: np.ndarray,
    sigma: np.ndarray,
    sin_sigma: np.ndarray,
    cos_sigma: np.ndarray,
    cos_2m: np.ndarray,
) -> np.ndarray:
    # By how much the auxiliary sphere turns further than the ellipsoid does (Vincenty, eq. 10 and 11).
    c = FLATTENING / 16 * cos_sq_alpha * (4 + FLATTENING * (4 - 3 * cos_sq_alpha))
    inner = sigma + c * sin_sigma * (cos_2m + c * cos_sigma * (2 * cos_2m**2 - 1))
    return (1 - c) * FLATTENING * sin_alpha * inner


def _reduced(lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    angle = np.arctan2((1 - FLATTENING) * np.sin(np.radians(lat)), np.cos(np.radians(lat)))
    return np.sin(angle), np.cos(angle)


def _cos_2m(cos_sigma: np.ndarray, sin_u1: np.ndarray, sin_u2: np.ndarray, cos_sq_alpha: np.ndarray) -> np.ndarray:
    # Along the equator cos_sq_alpha is 0, and so is the term.
    safe = np.where(cos_sq_alpha > 1e-15, cos_sq_alpha, 1.0)
    return np.where(cos_sq_alpha > 1e-15, cos_sigma - 2 * sin_u1 * sin_u2 / safe, 0.0)


def _inverse(lat: ArrayLike, lon: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    # Vincenty's inverse: distance in metres and azimuth at the first point in radians.
    lat, lon = check_latlon(lat, lon)
    lat2, lon2 = check_latlon(lat2, lon2)
    (sin_u1, cos_u1), (sin_u2, cos_u2) = _reduced(lat), _reduced(lat2)
    length = np.radians(_wrap(lon2 - lon))
    lam = length
    for _ in range(100):
        east = cos_u2 * np.sin(lam)
        north = cos_u1 * sin_u2 - sin_u1 * cos_u2 * np.cos(lam)
        sin_sigma, cos_sigma = np.hypot(east, north), sin_u1 * sin_u2 + cos_u1 * cos_u2 * np.cos(lam)
        sigma = np.arctan2(sin_sigma, cos_sigma)
        sin_alpha = cos_u1 * east / np.where(sin_sigma > 0, sin_sigma, 1.0)
        cos_sq_alpha = 1 - sin_alpha**2
        cos_2m = _cos_2m(cos_sigma, sin_u1, sin_u2, cos_sq_alpha)
        before = lam
        lam = length + _longitude_term(sin_alpha, cos_sq_alpha, sigma, sin_sigma, cos_sigma, cos_2m)
        moving = np.abs(lam - before) > 1e-13
        if not np.any(moving):
            break
    a, b = _series(cos_sq_alpha)
    distance = SEMI_MINOR_M * a * (sigma - _delta_sigma(b, sin_sigma, cos_sigma, cos_2m))
    return np.where(moving | (np.abs(lam) > np.pi), _great_circle(lat, lat2, length), distance), np.arctan2(east, north)


def _great_circle(lat: np.ndarray, lat2: np.ndarray, length: np.ndarray) -> np.ndarray:
    lat, lat2 = np.radians(lat), np.radians(lat2)
    half = np.sin((lat2 - lat) / 2) ** 2 + np.cos(lat) * np.cos(lat2) * np.sin(length / 2) ** 2
    return 2 * 6371008.8 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def earth_centred(lat: ArrayLike, lon: ArrayLike) -> np.ndarray:
    """Points of the ellipsoid in metres from the Earth's centre: (..., 3), towards 0 E, 90 E and the north pole.

    Straight lines between them are shorter than the way along the ground, by less than a millimetre in 5 km. Any angle
    is taken as it is; NaN stays NaN.
    """
    lat, lon = np.radians(np.asarray(lat, dtype=np.float64)), np.radians(np.asarray(lon, dtype=np.float64))
    squared = FLATTENING * (2 - FLATTENING)
    radius = SEMI_MAJOR_M / np.sqrt(1 - squared * np.sin(lat) ** 2)
    across = radius * np.cos(lat)
    return np.stack([across * np.cos(lon), across * np.sin(lon), (1 - squared) * radius * np.sin(lat)], axis=-1)


def distance_m(lat: ArrayLike, lon: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> np.ndarray:
    """Length in metres of the geodesic from the first point to the second."""
    return _inverse(lat, lon, lat2, lon2)[0]


def offset_metres(lat: ArrayLike, lon: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """How far north and east (metres) the second point lies, seen from the first one.

    The geodesic's length laid out along its direction at the first point; `move` is the exact inverse.
    """
    distance, azimuth = _inverse(lat, lon, lat2, lon2)
    return distance * np.cos(azimuth), distance * np.sin(azimuth)


def move(lat: ArrayLike, lon: ArrayLike, north_m: ArrayLike, east_m: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude (-180 to 180) of the point that lies so many metres north and east; see offset_metres."""
    lat, lon = check_latlon(lat, lon)
    north_m, east_m = np.asarray(north_m, dtype=np.float64), np.asarray(east_m, dtype=np.float64)
    distance, azimuth = np.hypot(north_m, east_m), np.arctan2(east_m, north_m)
    sin_u1, cos_u1 = _reduced(lat)
    sin_alpha = cos_u1 * np.sin(azimuth)
    cos_sq_alpha = 1 - sin_alpha**2
    sigma1 = np.arctan2(sin_u1, cos_u1 * np.cos(azimuth))
    a, b = _series(cos_sq_alpha)
    sigma = first = distance / (SEMI_MINOR_M * a)
    for _ in range(12):
        cos_2m = np.cos(2 * sigma1 + sigma)
        sigma = first + _delta_sigma(b, np.sin(sigma), np.cos(sigma), cos_2m)
    cos_2m, sin_sigma, cos_sigma = np.cos(2 * sigma1 + sigma), np.sin(sigma), np.cos(sigma)
    across = sin_u1 * sin_sigma - cos_u1 * cos_sigma * np.cos(azimuth)
    up = sin_u1 * cos_sigma + cos_u1 * sin_sigma * np.cos(azimuth)
    lat2 = np.arctan2(up, (1 - FLATTENING) * np.hypot(sin_alpha, across))
    lam = np.arctan2(sin_sigma * np.sin(azimuth), cos_u1 * cos_sigma - sin_u1 * sin_sigma * np.cos(azimuth))
    turn = lam - _longitude_term(sin_alpha, cos_sq_alpha, sigma, sin_sigma, cos_sigma, cos_2m)
    return np.degrees(lat2), _wrap(lon + np.degrees(turn))


def ellipse_rings(
    lat: float, lon: float, major_m: float, minor_m: float, azimuth: float, corners: int = 64
) -> list[np.ndarray]:
    """Closed rings (M, 2) of longitude and latitude along an ellipse on the ground, counterclockwise.

    Args:
        lat, lon: its middle. major_m, minor_m: semi-axes in metres. azimuth: of the major one, degrees from north.

    One ring; two where it crosses the date line, cut there as RFC 7946 (3.1.9) asks.
    """
    angle, turn = np.linspace(0, 2 * np.pi, corners, endpoint=False), np.radians(azimuth)
    along, across = major_m * np.cos(angle), -minor_m * np.sin(angle)
    north, east = along * np.cos(turn) - across * np.sin(turn), along * np.sin(turn) + across * np.cos(turn)
    y, x = move(lat, lon, north, east)
    x = lon + _wrap(x - lon)
    ring = np.stack([x, y], axis=1)
    if x.min() >= -180 and x.max() <= 180:
        return [np.vstack([ring, ring[:1]])]
    border = 180.0 if x.max() > 180 else -180.0
    parts = [_beside(ring, border, side) for side in (1, -1)]  # west and east of it
    turns = (0.0, -360.0) if border > 0 else (360.0, 0.0)
    return [np.vstack([part, part[:1]]) + (turn, 0.0) for part, turn in zip(parts, turns, strict=True)]


def _beside(ring: np.ndarray, border: float, side: int) -> np.ndarray:
    """The corners of an open convex ring (M, 2) on one side of a meridian, and where it crosses it."""
    corners = []
    for here, there in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if side * (here[0] - border) <= 0:
            corners.append(here)
        if (here[0] - border) * (there[0] - border) < 0:
            share = (border - here[0]) / (there[0] - here[0])
            corners.append(np.array([border, here[1] + share * (there[1] - here[1])]))
    return np.array(corners)


def tile_of(lat: ArrayLike, lon: ArrayLike, zoom: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Column x and row y of the slippy-map tile at a zoom, as floats: the fraction says where in the tile.

    Raises GeometryError beyond the latitude 85.0511 at which the scheme ends. Exact up to rounding.
    """
    lat, lon = check_latlon(lat, lon)
    if np.any(np.abs(lat) > MERCATOR_LIMIT + 1e-9):
        raise GeometryError("web-mercator tiles end at latitude 85.0511", mend="use a raster in a polar projection")
    count = np.exp2(zoom)
    return (lon / 360 + 0.5) * count, (0.5 - np.arcsinh(np.tan(np.radians(lat))) / (2 * np.pi)) * count


def tile_position(x: ArrayLike, y: ArrayLike, zoom: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude of a place in the slippy-map scheme; whole numbers are a tile's north-west corner."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    count = np.exp2(zoom)
    lat = np.degrees(np.arctan(np.sinh((0.5 - y / count) * 2 * np.pi)))
    return lat, (x / count - 0.5) * 360


def web_mercator_resolution(lat: ArrayLike, zoom: ArrayLike, tile_size: int = 256) -> np.ndarray:
    """Metres on the ground a pixel of a web-mercator tile at a latitude: 2 pi a cos(lat) / (tile_size 2^zoom).

    The map's sphere is taken for the ground: north-south within 0.7 %, east-west within 0.34 % of the ellipsoid.
    """
    lat, _ = check_latlon(lat, 0.0)
    return 2 * np.pi * SEMI_MAJOR_M * np.cos(np.radians(lat)) / (tile_size * np.exp2(zoom))


def pixel_to_map(transform: Sequence[float], row: ArrayLike, col: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Map coordinates x, y of raster positions; (0, 0) is the outer corner of the first pixel, (0.5, 0.5) its centre.

    transform: the affine (a, b, c, d, e, f) of rasterio: x = a col + b row + c, y = d col + e row + f.
    """
    a, b, c, d, e, f = tuple(transform)[:6]
    row, col = np.asarray(row, dtype=np.float64), np.asarray(col, dtype=np.float64)
    return a * col + b * row + c, d * col + e * row + f


def map_to_pixel(transform: Sequence[float], x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Raster positions (row, col) of map coordinates, inverse of pixel_to_map. Raises GeometryError if degenerate."""
    a, b, c, d, e, f = tuple(transform)[:6]
    determinant = a * e - b * d
    if determinant == 0:
        raise GeometryError("the raster's affine transform has no inverse", mend="georeference it anew")
    x, y = np.asarray(x, dtype=np.float64) - c, np.asarray(y, dtype=np.float64) - f
    return (a * y - d * x) / determinant, (e * x - b * y) / determinant


def _warp(source: Any, target: Any, first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    from rasterio._err import CPLE_BaseError  # what GDAL reports; rasterio exports it nowhere else
    from rasterio.errors import CRSError, RasterioError
    from rasterio.warp import transform

    first, second = np.broadcast_arrays(np.asarray(first, np.float64), np.asarray(second, np.float64))
    try:
        xs, ys = transform(source, target, first.ravel(), second.ravel())
    except (CRSError, RasterioError, CPLE_BaseError) as error:
        raise GeometryError(
            f"no map coordinates between {source} and {target}: {error}", mend="check the CRS"
        ) from error
    out = np.asarray(xs, np.float64).reshape(first.shape), np.asarray(ys, np.float64).reshape(first.shape)
    if not all(np.isfinite(one).all() for one in out):
        raise GeometryError(f"a position lies outside the area of {source} or {target}", mend="check the CRS")
    return out


def map_to_latlon(x: ArrayLike, y: ArrayLike, crs: Any) -> tuple[np.ndarray, np.ndarray]:
    """WGS84 latitude and longitude of map coordinates in a CRS that rasterio understands (an object, "EPSG:32610").

    PROJ's accuracy: exact to a millimetre for UTM and web mercator; a national grid without its shift file may be a
    metre off. Raises GeometryError for an unknown CRS or a position outside it.
    """
    lon, lat = _warp(crs, "EPSG:4326", x, y)
    return lat, lon


def latlon_to_map(lat: ArrayLike, lon: ArrayLike, crs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Map coordinates x, y in a CRS of WGS84 latitude and longitude; inverse of map_to_latlon."""
    lat, lon = check_latlon(lat, lon)
    return _warp("EPSG:4326", crs, lon, lat)
