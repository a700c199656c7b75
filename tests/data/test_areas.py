import json

import numpy as np
import pytest

from cvgeo.data.areas import parse_near, read_polygons
from cvgeo.errors import InputError, UsageError

SQUARE = [[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE]}
FAR = {"type": "MultiPolygon", "coordinates": [[[[x + 10, y, 7.5] for x, y in SQUARE]]]}


@pytest.mark.parametrize(("text", "metres"), [("1,2,500", 500), ("1, 2, 500m", 500), ("1,2,1.5 km", 1500)])
def test_near(text, metres):
    disc = parse_near(text)
    assert (disc.lat, disc.lon, disc.radius_m) == (1, 2, metres)


@pytest.mark.parametrize("text", ["", "1,2", "1,2,x", "91,2,5", "1,181,5", "1,2,0", "1,2,-5", "1,2,inf", "nan,2,5"])
def test_near_that_is_none(text):
    with pytest.raises(UsageError, match="--near"):
        parse_near(text)


def feature(geometry):
    return {"type": "Feature", "properties": {}, "geometry": geometry}


@pytest.mark.parametrize(
    ("document", "near", "far"),
    [
        (POLYGON, True, False),
        (FAR, False, True),
        (feature(POLYGON), True, False),
        ({"type": "FeatureCollection", "features": [feature(POLYGON), feature(None), feature(FAR)]}, True, True),
        ({"type": "GeometryCollection", "geometries": [FAR]}, False, True),
        (POLYGON | {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}}, True, False),
        (POLYGON | {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4326"}}}, True, False),
    ],
)
def test_what_geojson_holds(tmp_path, document, near, far):
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps(document), encoding="utf-8-sig")
    found = read_polygons(path).contains(np.array([1.0, 1.0, 5.0]), np.array([1.0, 11.0, 5.0]))
    assert found.tolist() == [near, far, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no json", "no GeoJSON"),
        ("[" * 100_000, "no GeoJSON"),
        ("[1]", "without a type"),
        ('{"type": "FeatureCollection", "features": {}}', "missing or empty"),
        ('{"type": "Feature", "geometry": null}', "no polygon"),
        ('{"type": "Point", "coordinates": [1, 2]}', "Point"),
        (json.dumps(POLYGON | {"crs": {"properties": {"name": "EPSG:25832"}}}), "EPSG:25832"),
        (json.dumps(POLYGON | {"crs": {"properties": 5}}), "another CRS"),
        ('{"type": "Polygon", "coordinates": [[[691000, 5335000], [1, 2], [3, 4], [691000, 5335000]]]}', "another CRS"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}', "not closed"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, "x"], [1, 1], [0, 0]]]}', "no two numbers"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, NaN], [1, 1], [0, 0]]]}', "no two numbers"),
        ('{"type": "Polygon", "coordinates": 7}', "missing or empty"),
    ],
)
def test_files_that_are_refused(tmp_path, text, said):
    path = tmp_path / "area.geojson"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_polygons(path)
    assert str(path) in str(caught.value) and caught.value.mend
