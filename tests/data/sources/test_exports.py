"""Exports of Mapillary and Panoramax, generated with their real keys."""

import csv
import json
import math

import numpy as np
import pytest

from cvgeo.data.sources.exports import pose_of_rotation
from cvgeo.data.sources.places import read_place, read_positions
from cvgeo.errors import InputError
from cvgeo.geometry.panorama import camera_axes


def turn_of(heading: float, pitch: float, roll: float) -> list[float]:
    """Angle and axis of the rotation from east, north, up to a camera's right, down, forward."""
    right, forward, up = camera_axes(pitch, roll)
    a = math.radians(heading)
    level = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    matrix = np.stack([right, -up, forward]) @ level
    angle = math.acos(max(-1.0, min(1.0, (np.trace(matrix) - 1) / 2)))
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    return (axis / (2 * math.sin(angle)) * angle).tolist()


def entity(number: int, **more) -> dict:
    """An image entity of Mapillary's API."""
    return {
        "id": f"49876346{number}",
        "geometry": {"type": "Point", "coordinates": [13.0, 52.0]},
        "computed_geometry": {"type": "Point", "coordinates": [13.001, 52.001]},
        "compass_angle": 80.0,
        "computed_compass_angle": 75.0,
        "camera_type": "perspective",
        "camera_parameters": [0.85, 0.01, 0.0],
        "captured_at": 1700000000000,
        "exif_orientation": 1,
        **more,
    }


def item(number: int, **more) -> dict:
    """A STAC item of Panoramax."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"0005086d-65eb-4a90-{number}",
        "collection": "bb129602",
        "geometry": {"type": "Point", "coordinates": [2.18, 48.98]},
        "assets": {"hd": {"href": "https://panoramax.example/api/pictures/0005086d/hd.jpg"}},
        "properties": {"datetime": "2025-04-12T02:14:55Z", "view:azimuth": 91.5, **more},
    }


def places(table, geotagged, names, size=(80, 60)) -> list:
    """What the table says of pictures of these names beside it."""
    for name in names:
        geotagged.write_picture(table.parent / name, size=size)
    positions = read_positions(table)
    return [read_place(name, table.parent / name, positions) for name in names]


@pytest.mark.parametrize("form", ["lines", "list", "data", "geojson", "csv"])
def test_mapillary_in_every_form(tmp_path, geotagged, form):
    entities = [entity(0), entity(1, camera_type="spherical", camera_parameters=[])]
    table = tmp_path / "images.json"
    texts = {
        "lines": "\n".join(json.dumps(one) for one in entities),
        "list": json.dumps(entities),
        "data": json.dumps({"data": entities, "paging": {}}),
        "geojson": json.dumps(
            {
                "type": "FeatureCollection",
                "features": [
                    {
                        "type": "Feature",
                        "geometry": one["geometry"],
                        "properties": {key: value for key, value in one.items() if key != "geometry"},
                    }
                    for one in entities
                ],
            }
        ),
    }
    if form == "csv":
        with open(table, "w", newline="") as handle:
            writer = csv.DictWriter(handle, list(entities[0]))
            writer.writeheader()
            for one in entities:
                text = {**one, "geometry": "POINT (13.0 52.0)", "computed_geometry": str(one["computed_geometry"])}
                writer.writerow(text)
    else:
        table.write_text(texts[form])
    photo, sphere = places(table, geotagged, ["498763460.jpg", "498763461.jpg"])
    assert (photo.tag.lat, photo.tag.lon) == (52.001, 13.001)
    hfov = 2 * math.degrees(math.atan(0.5 / 0.85))
    assert photo.tag.projection == "perspective" and photo.tag.hfov == pytest.approx(hfov)
    assert photo.tag.column0_heading == pytest.approx(75 - hfov / 2) and photo.tag.heading == pytest.approx(75)
    assert sphere.tag.projection == "equirectangular" and sphere.tag.hfov == 360
    assert sphere.tag.column0_heading == 255


def test_a_photo_on_its_side_keeps_the_focal_length_of_its_longer_side(tmp_path, geotagged):
    table = tmp_path / "images.json"
    table.write_text(json.dumps([entity(0, exif_orientation=6, computed_rotation=[1.0, 0.2, 0.1])]))
    (photo,) = places(table, geotagged, ["498763460.jpg"], size=(60, 80))
    assert photo.tag.hfov == pytest.approx(2 * math.degrees(math.atan(0.75 / 2 / 0.85)))
    assert photo.tag.pitch == photo.tag.roll == 0


@pytest.mark.parametrize("pose", [(0.0, 0.0, 10.0), (75.0, 0.0, 0.0), (200.0, 12.0, -7.0), (340.0, -30.0, 100.0)])
def test_rotations_are_headings_pitches_and_rolls(pose):
    assert pose_of_rotation(turn_of(*pose)) == pytest.approx(pose, abs=1e-6)


def test_tilt_and_heading_of_a_rotation(tmp_path, geotagged):
    table = tmp_path / "images.json"
    bare = entity(0, computed_rotation=turn_of(30.0, 5.0, -3.0), computed_compass_angle=None, compass_angle=None)
    table.write_text(json.dumps([bare]))
    (photo,) = places(table, geotagged, ["498763460.jpg"])
    assert (photo.tag.heading, photo.tag.pitch, photo.tag.roll) == pytest.approx((30, 5, -3))


def test_panoramax(tmp_path, geotagged):
    features = [
        item(0, **{"pers:interior_orientation": {"field_of_view": 67, "camera_model": "X"}, "pers:pitch": 4.0}),
        item(1, **{"pers:interior_orientation": {"field_of_view": 360}, "pers:roll": -2.5}),
        item(2, **{"original_file:name": "e1.jpg", "view:azimuth": None, "pers:interior_orientation": {}}),
    ]
    table = tmp_path / "search.json"
    table.write_text(json.dumps({"type": "FeatureCollection", "features": features, "links": []}))
    names = ["0005086d-65eb-4a90-0.jpg", "0005086d-65eb-4a90-1.jpg", "e1.jpg"]
    photo, sphere, other = (place.tag for place in places(table, geotagged, names))
    assert (photo.lat, photo.lon, photo.projection, photo.hfov) == (48.98, 2.18, "perspective", 67)
    assert photo.column0_heading == 58 and photo.pitch == 4
    assert (sphere.projection, sphere.hfov, sphere.roll, sphere.heading) == ("equirectangular", 360, -2.5, 91.5)
    assert math.isnan(other.column0_heading) and math.isnan(other.hfov) and other.lat == 48.98
    assert [file.name for file in read_positions(table).present()] == names


def test_only_pictures_that_are_there_are_taken(tmp_path, geotagged):
    table = tmp_path / "images.json"
    table.write_text(json.dumps([entity(0), entity(1)]))
    with pytest.raises(InputError, match=r"images.json: none of its pictures lie in its folder; put them beside it"):
        read_positions(table).present()
    geotagged.write_picture(tmp_path / "deep" / "498763461.jpg")
    assert read_positions(table).present() == [tmp_path / "deep" / "498763461.jpg"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera_type": "fisheye"}, "its camera is a fisheye, which is not read"),
        ({"camera_parameters": [0.0]}, "its focal length 0 is not above 0"),
        ({"camera_parameters": "wide"}, "its camera_parameters 'wide' is not a list of 1 numbers"),
        ({"computed_rotation": [1.0]}, "its computed_rotation [1.0] is not a list of 3 numbers"),
        ({"computed_compass_angle": "north"}, "its computed_compass_angle 'north' is not a number"),
        ({"computed_geometry": None, "geometry": None}, "its position is not a number"),
        ({"computed_geometry": {"coordinates": [13.0, 95.0]}}, "its latitude 95 is out of range"),
    ],
)
def test_an_entity_that_cannot_be_costs_its_picture_only(tmp_path, geotagged, change, message):
    table = tmp_path / "images.json"
    table.write_text(json.dumps([entity(0), entity(1, **change)]))
    assert len(places(table, geotagged, ["498763460.jpg"])) == 1
    with pytest.raises(InputError) as caught:
        places(table, geotagged, ["498763461.jpg"])
    assert message in str(caught.value) and str(caught.value).startswith(f"{table}: picture 498763461: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": 1,', "line 1 is not well-formed JSON"),
        ('{"id": 1}\n{"id"', "line 2 is not well-formed JSON"),
        ("[]", "is no export of pictures; give image entities of Mapillary, or a STAC ItemCollection"),
        ("[1, 2]", "is no export of pictures"),
        ("[" * 100000, "not|nested"),
    ],
)
def test_files_that_are_no_export(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_positions(tmp_path / "x.json")
