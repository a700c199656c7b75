"""Areas as users name them: a position and a radius, or a GeoJSON file of polygons (RFC 7946)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cvgeo.errors import InputError, UsageError, explain_os_error
from cvgeo.geometry.areas import Disc, Polygons
from cvgeo.geometry.shapes import GeometryError

_RADIUS = re.compile(r"([0-9.eE+-]+)\s*(m|km)?")
_DEGREES = re.compile(r"CRS:?84|EPSG:{1,2}4326", re.IGNORECASE)
REPROJECT = "ogr2ogr -t_srs EPSG:4326 new.geojson old.geojson writes it in degrees"


def parse_near(text: str) -> Disc:
    """The disc of `LAT,LON,RADIUS`: degrees, and metres or a length with its unit, `500m`, `2km`. Raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    radius = _RADIUS.fullmatch(parts[-1])
    try:
        if len(parts) != 3 or radius is None:
            raise ValueError
        lat, lon, metres = float(parts[0]), float(parts[1]), float(radius[1])
    except ValueError as error:
        mend = "give LAT,LON,RADIUS, such as 48.137,11.575,2km"
        raise UsageError(f"--near {text} is no position and radius", mend=mend) from error
    for name, value, limit in (("latitude", lat, 90), ("longitude", lon, 180)):
        if not abs(value) <= limit:
            fault = f"--near: {name} {value:g} is out of range"
            raise UsageError(fault, mend="the order is latitude, longitude, radius")
    if not 0 < metres < math.inf:
        raise UsageError(f"--near: a radius of {parts[-1]} holds nothing", mend="give metres, such as 500 or 2km")
    return Disc(lat, lon, metres * (1000 if radius[2] == "km" else 1))


def read_polygons(path: Path) -> Polygons:
    """The polygons of a GeoJSON file: a geometry, a Feature or a FeatureCollection.

    Raises InputError for what is no GeoJSON, holds no polygon or other shapes, is not in WGS84 degrees, or has a ring
    that is not closed.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no GeoJSON ({error})", path=path, mend="export the area as GeoJSON") from error
    try:
        polygons = list(_polygons(document))
        if not polygons:
            raise InputError("holds no polygon", mend="draw the area as a polygon")
        return Polygons([[_ring(ring) for ring in rings] for rings in polygons])
    except GeometryError as error:
        raise InputError(error.fault, path=path, mend=error.mend) from error
    except InputError as error:
        error.path = str(path)
        raise


def _polygons(value: Any) -> Iterator[list[Any]]:
    """The lists of rings of all polygons in a GeoJSON object."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind is None:
        raise InputError("is no GeoJSON: an object without a type", mend="export the area as GeoJSON")
    _check_crs(value.get("crs"))
    if kind == "Feature":
        if value.get("geometry") is not None:
            yield from _polygons(value["geometry"])
    elif kind in ("FeatureCollection", "GeometryCollection"):
        inside = value.get("features" if kind == "FeatureCollection" else "geometries")
        for one in [] if inside == [] else _list(inside):
            yield from _polygons(one)
    elif kind == "Polygon":
        yield _list(value.get("coordinates"))
    elif kind == "MultiPolygon":
        yield from map(_list, _list(value.get("coordinates")))
    else:
        raise InputError(f"holds a {kind}, which is no area", mend="give polygons; a point and a radius is --near")


def _check_crs(crs: Any) -> None:
    """Raise InputError for the `crs` member of older GeoJSON unless it says WGS84 degrees."""
    text = json.dumps(crs)
    if crs is not None and not _DEGREES.search(text):
        named = re.search(r'"name": "([^"]+)"', text)
        name = named[1] if named else "another CRS"
        raise InputError(f"its coordinates are in {name}, not in WGS84 degrees", mend=REPROJECT)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise InputError("is no GeoJSON: a list is missing or empty", mend="export the area as GeoJSON")
    return value


def _ring(ring: Any) -> list[tuple[float, float]]:
    """Longitude and latitude of a ring's positions; a height is passed over."""
    positions = []
    for position in _list(ring):
        numbers = [value for value in _list(position)[:2] if type(value) in (int, float) and math.isfinite(value)]
        if len(numbers) != 2:
            raise InputError(f"has a position that is no two numbers: {position}", mend="give longitude, latitude")
        if abs(numbers[0]) > 180 or abs(numbers[1]) > 90:
            fault = f"{numbers[0]:g}, {numbers[1]:g} is no longitude and latitude in degrees"
            raise InputError(fault, mend=f"where longitude comes first, it is in another CRS: {REPROJECT}")
        positions.append((float(numbers[0]), float(numbers[1])))
    return positions
