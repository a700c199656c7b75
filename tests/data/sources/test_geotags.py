from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.TiffImagePlugin import IFDRational

from cvgeo.data.sources.geotags import Geotag, StatedPose, read_geotag
from cvgeo.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "geotagged"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not here")
FULL = {"FullPanoWidthPixels": 64, "FullPanoHeightPixels": 32}


@pytest.mark.parametrize(
    ("lat", "lon"), [(48.123456, 2.7654321), (-33.9, -70.25), (0.0, 12.5), (-90, 180), (89.999, -180)]
)
def test_position(geotagged, tmp_path, lat, lon):
    tag = read_geotag(geotagged.write_picture(tmp_path / "a.jpg", place=geotagged.gps(lat, lon)))
    assert tag.located and tag.lat == pytest.approx(lat, abs=1e-9) and tag.lon == pytest.approx(lon, abs=1e-9)
    assert (tag.height, tag.width) == (32, 64)


@settings(max_examples=30, deadline=None)
@given(lat=st.floats(-90, 90), lon=st.floats(-180, 180))
def test_any_position_survives(geotagged, tmp_path_factory, lat, lon):
    if abs(lat) < 1e-6 and abs(lon) < 1e-6:
        return
    path = tmp_path_factory.getbasetemp() / "any.jpg"
    tag = read_geotag(geotagged.write_picture(path, place=geotagged.gps(lat, lon)))
    # Six decimals of a second.
    assert tag.lat == pytest.approx(lat, abs=1e-8) and tag.lon == pytest.approx(lon, abs=1e-8)


def test_nothing_known_is_nan(geotagged, tmp_path):
    tag = read_geotag(geotagged.write_picture(tmp_path / "a.jpg", size=(40, 40)))
    assert not tag.located and math.isnan(tag.column0_heading) and math.isnan(tag.hfov)
    assert tag.notes == []


def test_twice_as_wide_as_high_is_a_sphere(geotagged, tmp_path):
    tag = read_geotag(
        geotagged.write_picture(tmp_path / "a.png", place=geotagged.gps(1, 2, direction=90.0, reference="T"))
    )
    assert tag.full_sphere and tag.column0_heading == 270


def test_gpano_pose_and_crop(geotagged, tmp_path):
    crop = {"CroppedAreaImageWidthPixels": 48, "CroppedAreaImageHeightPixels": 8, "CroppedAreaLeftPixels": 4}
    xmp = geotagged.gpano(
        ProjectionType="equirectangular", PoseHeadingDegrees=10, CroppedAreaTopPixels=12, **crop, **FULL
    )
    for name in ("a.jpg", "a.png", "a.webp", "a.tif"):
        tag = read_geotag(geotagged.write_picture(tmp_path / name, size=(480, 80), xmp=xmp))
        # The middle of the full sphere looks along 10 degrees; the crop starts 4/64 of a turn behind its left edge.
        assert tag.column0_heading == pytest.approx(10 - 180 + 22.5 + 360), name
        assert (tag.hfov, tag.vfov_top, tag.vfov_bottom) == (270, 22.5, -22.5)
        assert not tag.full_sphere and not tag.notes


def test_gpano_as_elements(geotagged, tmp_path):
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/">'
        "<GPano:PoseHeadingDegrees>30.5</GPano:PoseHeadingDegrees><GPano:PosePitchDegrees>-2</GPano:PosePitchDegrees>"
        "<GPano:PoseRollDegrees> 1.5 </GPano:PoseRollDegrees></x:xmpmeta>"
    )
    tag = read_geotag(geotagged.write_picture(tmp_path / "a.jpg", place=geotagged.gps(1, 2), xmp=xmp))
    assert (tag.column0_heading, tag.pitch, tag.roll) == (210.5, -2, 1.5)


def test_gpano_cylinders_count_rows_from_the_horizon(geotagged, tmp_path):
    area = {"CroppedAreaImageWidthPixels": 100, "CroppedAreaImageHeightPixels": 60, "FullPanoWidthPixels": 200}
    known = {"ProjectionType": "cylindrical", "PoseHeadingDegrees": 90, "CroppedAreaLeftPixels": 50, **area}
    path = tmp_path / "a.jpg"
    radius = 200 / (2 * math.pi)
    for top, above in ((-40, 40), (None, 30)):
        rows = {} if top is None else {"CroppedAreaTopPixels": top}
        # Reduced by half after it was stitched: the metadata counts the pixels of before.
        tag = read_geotag(geotagged.write_picture(path, size=(50, 30), xmp=geotagged.gpano(**known, **rows)))
        assert (tag.projection, tag.hfov, tag.column0_heading) == ("cylindrical", 180, 0)
        assert tag.vfov_top == pytest.approx(math.degrees(math.atan(above / radius)))
        assert tag.vfov_bottom == pytest.approx(math.degrees(math.atan((above - 60) / radius)))
        assert not tag.full_sphere


def test_what_is_stated_keeps_the_centre():
    tag = Geotag(column0_heading=10.0, hfov=60.0, vfov_top=20.0, vfov_bottom=-20.0, projection="perspective")
    StatedPose(hfov=100.0, pitch=5.0).apply(tag)
    assert (tag.column0_heading, tag.hfov, tag.pitch, tag.roll) == (350, 100, 5, 0) and math.isnan(tag.vfov_top)
    StatedPose("cube", heading=90.0).apply(tag)
    assert (tag.column0_heading, tag.hfov, tag.projection) == (270, 360, "cube")
    StatedPose(heading_unknown=True).apply(tag)
    assert math.isnan(tag.column0_heading)
    assert StatedPose().said() == {} and StatedPose(heading=0.0).said() == {"heading": 0.0}


def test_which_heading_counts(geotagged, tmp_path):
    def heading(pose, direction):
        xmp = geotagged.gpano(PoseHeadingDegrees=pose, **FULL)
        place = geotagged.gps(1, 2, direction=direction, reference="T")
        return read_geotag(geotagged.write_picture(tmp_path / "a.jpg", place=place, xmp=xmp))

    assert heading("0.0", 100.0).column0_heading == 280 and heading("0.0", 0.0).column0_heading == 180
    both = heading("50", 100.0)
    assert both.column0_heading == 230 and "disagree on the heading (50.0 and 100.0)" in both.notes[0]
    assert heading("359.8", 0.2).notes == []


def test_magnetic_directions_need_a_declination(geotagged, tmp_path):
    path = geotagged.write_picture(tmp_path / "a.jpg", place=geotagged.gps(1, 2, direction=100.0, reference="M"))
    tag = read_geotag(path)
    assert math.isnan(tag.column0_heading) and any("magnetic" in note for note in tag.notes)
    assert read_geotag(path, declination=3.5).column0_heading == pytest.approx(283.5)
    true = geotagged.write_picture(tmp_path / "b.jpg", place=geotagged.gps(1, 2, direction=100.0))
    assert read_geotag(true, declination=3.5).column0_heading == 280


def test_photos_have_the_field_of_view_of_their_lens(geotagged, tmp_path):
    place = geotagged.gps(1, 2, direction=90.0, reference="T")
    tag = read_geotag(geotagged.write_picture(tmp_path / "a.jpg", size=(36, 24), place=place, lens={41989: 18}))
    assert (tag.hfov, tag.vfov_top, tag.vfov_bottom) == pytest.approx((90, 33.69, -33.69), abs=0.01)
    assert tag.column0_heading == pytest.approx(45) and "a photo of 90 degrees" in tag.notes[0]
    tag = read_geotag(geotagged.write_picture(tmp_path / "b.jpg", size=(36, 24), lens={41989: 18}, orientation=6))
    assert (tag.height, tag.width) == (36, 24) and tag.hfov == pytest.approx(67.38, abs=0.01)


def test_position_from_xmp(geotagged, tmp_path):
    xmp = geotagged.gpano(**{"exif:GPSLatitude": "50,30.25N", "exif:GPSLongitude": "1,31,33W"})
    tag = read_geotag(geotagged.write_picture(tmp_path / "a.jpg", xmp=xmp))
    assert tag.lat == pytest.approx(50 + 30.25 / 60) and tag.lon == pytest.approx(-(1 + 31 / 60 + 33 / 3600))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({2: (95.0, 0.0, 0.0)}, "latitude 95 is out of range (-90 to 90)"),
        ({4: (181.0, 0.0, 0.0)}, "longitude 181 is out of range (-180 to 180)"),
        ({2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}, "position is 0, 0 (the receiver had no fix)"),
        ({1: None}, "latitude names no hemisphere (N or S)"),
        ({3: "Q"}, "longitude names no hemisphere (E or W)"),
        ({4: None}, "one of latitude and longitude only"),
        ({2: (IFDRational(0, 0), 0.0, 0.0)}, "position is not a number"),
    ],
)
def test_impossible_positions(geotagged, tmp_path, change, message):
    place = {**geotagged.gps(48, 2), **change}
    path = geotagged.write_picture(
        tmp_path / "a.jpg", place={tag: value for tag, value in place.items() if value is not None}
    )
    with pytest.raises(InputError) as caught:
        read_geotag(path)
    assert message in str(caught.value) and str(caught.value).startswith(str(path))
    assert not read_geotag(path, position=False).located


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"PoseHeadingDegrees": "north"}, "GPano PoseHeadingDegrees 'north' is not a number"),
        ({"PosePitchDegrees": "inf"}, "GPano PosePitchDegrees is infinite"),
        ({"ProjectionType": "fisheye"}, "GPano projection fisheye is neither equirectangular nor cylindrical"),
        (
            {"ProjectionType": "cylindrical", "CroppedAreaImageWidthPixels": 80, **FULL},
            "GPano area 80x40 is not within a width of 64",
        ),
        ({"CroppedAreaImageWidthPixels": 80, **FULL}, "GPano area 80x32 at 0, 0 is not within 64x32"),
        ({"CroppedAreaTopPixels": 8, **FULL}, "GPano area 64x32 at 0, 8 is not within 64x32"),
        ({"FullPanoWidthPixels": 0, "FullPanoHeightPixels": 0}, "is not within 0x0"),
        ({"CroppedAreaLeftPixels": -5, **FULL}, "is not within 64x32"),
    ],
)
def test_impossible_panoramas(geotagged, tmp_path, values, message):
    path = geotagged.write_picture(tmp_path / "a.jpg", place=geotagged.gps(1, 2), xmp=geotagged.gpano(**values))
    with pytest.raises(InputError) as caught:
        read_geotag(path)
    assert message in str(caught.value)


def test_untrusted_xml_is_not_expanded(geotagged, tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "ha">]><x xmlns:GPano="http://ns.google.com/photos/1.0/panorama/">&a;</x>'
    with pytest.raises(InputError, match="not plain metadata"):
        read_geotag(geotagged.write_picture(tmp_path / "a.jpg", place=geotagged.gps(1, 2), xmp=bomb))
    with pytest.raises(InputError, match="GPano metadata is not well-formed XML"):
        read_geotag(geotagged.write_picture(tmp_path / "b.jpg", place=geotagged.gps(1, 2), xmp="<x GPano:Pose='1'"))
    assert read_geotag(geotagged.write_picture(tmp_path / "c.jpg", place=geotagged.gps(1, 2), xmp="<x>")).located


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"text.jpg: is not a picture"):
        read_geotag(tmp_path / "text.jpg")
    with pytest.raises(InputError, match=r"none.jpg: cannot read: no such file"):
        read_geotag(tmp_path / "none.jpg")


def test_damaged_exif_gives_a_reason_not_a_traceback(geotagged, tmp_path):
    whole = geotagged.write_picture(tmp_path / "a.jpg", place=geotagged.gps(48, 2)).read_bytes()
    start = whole.index(b"Exif\0\0")
    read = refused = 0
    for at in range(start + 6, start + 150):
        path = tmp_path / "damaged.jpg"
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read_geotag(path)
            read += 1
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    assert read and refused


@needs_shared
def test_every_real_picture():
    tags, refused = {}, {}
    for path in sorted(SHARED.rglob("*.jpg")):
        try:
            tags[path.name] = read_geotag(path)
        except InputError as error:
            refused[path.name] = str(error)
    assert len(tags) == 16 and not refused
    assert not tags["empty_exif.jpg"].located and not tags["corrupt_exif_wrong_type.jpg"].located
    assert tags["1.jpg"].full_sphere and tags["1.jpg"].column0_heading == pytest.approx(349.0582 - 180, abs=1e-3)
    assert tags["d1.jpg"].full_sphere and tags["d1.jpg"].column0_heading == 247 and tags["d1.jpg"].lon < 0
    assert tags["b2.jpg"].hfov == pytest.approx(67.3, abs=0.1) and tags["b2.jpg"].projection == "perspective"
    assert math.isnan(tags["01.jpg"].column0_heading)
