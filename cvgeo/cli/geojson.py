"""Records as GeoJSON (RFC 7946): a point for each place, and its error ellipse as a polygon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ELLIPSE = ("ellipse_major_m", "ellipse_minor_m", "ellipse_azimuth")
DIGITS = 7  # of a degree: a centimetre


def collection(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The places in the records' order, then the ellipses of those that have one, told apart by `kind`.

    Features of their own, as a GIS makes a layer of each kind of geometry and passes over collections of them.
    """
    places = [_place(record) for record in records]
    ellipses = [_ellipse(record) for record in records if all(record.get(key) is not None for key in (*ELLIPSE, "lat"))]
    return {"type": "FeatureCollection", "features": places + ellipses}


def _place(record: dict[str, Any]) -> dict[str, Any]:
    lat, lon = record.get("lat"), record.get("lon")
    point = None if lat is None or lon is None else {"type": "Point", "coordinates": [lon, lat]}
    return {"type": "Feature", "geometry": point, "properties": {"kind": "place"} | record}


def _ellipse(record: dict[str, Any]) -> dict[str, Any]:
    from cvgeo.geometry.geodesy import ellipse_rings

    rings = ellipse_rings(record["lat"], record["lon"], *(record[key] for key in ELLIPSE))
    rounded = [[[[round(x, DIGITS), round(y, DIGITS)] for x, y in ring.tolist()]] for ring in rings]
    geometry: dict[str, Any] = {"type": "Polygon", "coordinates": rounded[0]}
    if len(rounded) > 1:
        geometry = {"type": "MultiPolygon", "coordinates": rounded}
    return {"type": "Feature", "geometry": geometry, "properties": {"kind": "error_ellipse"} | record}
