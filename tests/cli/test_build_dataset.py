from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cvgeo.config.schema import ViewConfig
from cvgeo.data.images import read_image
from cvgeo.data.readers import open_dataset
from cvgeo.data.schema import Conventions
from cvgeo.data.sources.geotags import read_geotag
from cvgeo.data.views import GroundViews
from cvgeo.geometry.geodesy import distance_m, map_to_latlon, offset_metres

SIDE, STEP = 800, 0.5  # pixels and metres of the orthophoto
WEST, NORTH = 450_000, 5_300_000
SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not here")


def write_ortho(path: Path, crs="EPSG:32631", side=SIDE) -> Path:
    rows, columns = np.mgrid[:side, :side]
    bands = np.stack([rows * 255 // side, columns * 255 // side, (rows // 20 + columns // 20) % 2 * 200]).astype(
        np.uint8
    )
    options = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint8", "crs": crs}
    with rasterio.open(path, "w", transform=from_origin(WEST, NORTH, STEP, STEP), **options) as raster:
        raster.write(bands)
    return path


def places() -> list[tuple[float, float]]:
    """Where the scene's panoramas were put: x, y on the map."""
    generator = np.random.default_rng(0)
    return [(WEST + generator.uniform(40, 360), NORTH - generator.uniform(40, 360)) for _ in range(40)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory, geotagged) -> Path:
    """An orthophoto of 400 m and 40 panoramas in it that look along 10 degrees."""
    folder = tmp_path_factory.mktemp("scene")
    write_ortho(folder / "ortho.tif")
    xmp = geotagged.gpano(PoseHeadingDegrees=10, FullPanoWidthPixels=64, FullPanoHeightPixels=32)
    for number, (x, y) in enumerate(places()):
        place = geotagged.gps(*(float(one) for one in map_to_latlon(x, y, "EPSG:32631")))
        geotagged.write_picture(folder / "panoramas" / f"p{number:02d}.jpg", place=place, xmp=xmp)
    return folder


def only_record(done) -> dict:
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def error_line(done, status: int) -> str:
    text = done.stderr.decode()
    assert done.returncode == status, text
    assert "Traceback" not in text and not done.stdout
    return text


def test_aligned_pairs(program, scene, tmp_path):
    out = tmp_path / "data"
    words = ["build-dataset", "pairs", str(scene / "panoramas"), "--aerial", str(scene / "ortho.tif"), "-o", str(out)]
    made = only_record(program(*words, "--tile-metres", "48", "--tile-size", "96", "--apart", "15", "--jobs", "2"))
    dataset = open_dataset(out)
    near = made["dropped"].get("near", 0)
    assert made["panoramas"] == made["tiles"] == made["pairs"] == len(dataset.panoramas) == 40 - near
    assert sum(made["splits"].values()) == 40 - near and set(made["splits"]) == {"train", "val", "test"}
    assert dataset.conventions.aligned and dataset.name == "data"
    np.testing.assert_allclose(dataset.panoramas.column0_heading, 190)
    np.testing.assert_allclose(dataset.tiles.gsd_m, 0.5)
    first = dataset.panoramas.id[0]
    assert (out / "panoramas" / f"{first}.jpg").read_bytes() == (scene / "panoramas" / f"{first}.jpg").read_bytes()
    tile = read_image(dataset.tiles.path[0]).astype(int)
    assert tile.shape == (96, 96, 3)
    # Red grows to the south and green to the east, each by a grey level every 800 / 255 pixels of 0.5 m.
    (x,), (y,) = rasterio.warp.transform("EPSG:4326", "EPSG:32631", [dataset.tiles.lon[0]], [dataset.tiles.lat[0]])
    middle = tile[46:50, 46:50].mean(axis=(0, 1))
    assert abs(middle[0] - (NORTH - y) / STEP * 255 / SIDE) < 3 and abs(middle[1] - (x - WEST) / STEP * 255 / SIDE) < 3
    assert tile[80:, :, 0].mean() > tile[:16, :, 0].mean() and tile[:, 80:, 1].mean() > tile[:, :16, 1].mean()
    rows = {name: [row for row, one in enumerate(dataset.panoramas.split) if one == name] for name in made["splits"]}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        for row in rows[one]:
            here, there = dataset.panoramas.take([row]), dataset.panoramas.take(rows[other])
            gaps = distance_m(here.lat, here.lon, there.lat, there.lon)
            assert gaps.min() >= 15
    assert (out / "dropped.csv").exists() == (near > 0)


def test_off_centre_pairs(program, scene, tmp_path):
    out = tmp_path / "data"
    words = ["build-dataset", "pairs", str(scene / "panoramas"), "--aerial", str(scene / "ortho.tif"), "-o", str(out)]
    made = only_record(
        program(*words, "--offcentre", "--tile-metres", "40", "--step", "20", "--tile-size", "40", "--apart", "5")
    )
    dataset = open_dataset(out)
    pairs, tiles, panoramas = dataset.pairs, dataset.tiles, dataset.panoramas
    assert not dataset.conventions.aligned and made["tiles"] == len(tiles) > 100
    assert sorted(pairs.panorama[pairs.role == 0].tolist()) == list(range(len(panoramas)))
    tile, panorama = tiles.take(pairs.tile), panoramas.take(pairs.panorama)
    north, east = offset_metres(tile.lat, tile.lon, panorama.lat, panorama.lon)
    np.testing.assert_allclose(pairs.offset_north_m, north, atol=1e-6)
    np.testing.assert_allclose(pairs.offset_east_m, east, atol=1e-6)
    reach = np.maximum(np.abs(north), np.abs(east))
    assert reach.max() <= 20 and reach[pairs.role == 0].max() <= 10 + 0.01
    for row in range(len(panoramas)):
        gaps = distance_m(panoramas.lat[row], panoramas.lon[row], tiles.lat, tiles.lon)
        assert pairs.tile[(pairs.panorama == row) & (pairs.role == 0)] == gaps.argmin()
        assert {panoramas.split[row]} == {tiles.split[tile] for tile in pairs.tile[pairs.panorama == row]}
    # In the middle of the grid four tiles of twice the step show each place.
    assert np.median(np.bincount(pairs.panorama)) == 4


def test_tiles_cover_the_area(program, scene, tmp_path):
    out = tmp_path / "gallery"
    words = ["build-dataset", "tiles", "--aerial", str(scene / "ortho.tif"), "-o", str(out), "--tile-metres", "50"]
    made = only_record(
        program(*words, "--tile-size", "50", "--overlap", "0.2", "--split", "all", "--attribution", "nobody")
    )
    dataset = open_dataset(out)
    assert made == {
        "dataset": str(out), "panoramas": 0, "tiles": len(dataset.tiles), "pairs": 0,
        "splits": {"all": len(dataset.tiles)}, "dropped": made["dropped"],
    }  # fmt: skip
    assert len(dataset.tiles) == 100 and dataset.attribution == "nobody"
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(5, 395, 12), np.linspace(5, 395, 12)))
    lat, lon = map_to_latlon(WEST + x, NORTH - y, "EPSG:32631")
    for one_lat, one_lon in zip(lat, lon, strict=True):
        north, east = offset_metres(dataset.tiles.lat, dataset.tiles.lon, one_lat, one_lon)
        assert (np.maximum(np.abs(north), np.abs(east)) <= 25.01).any()


def test_same_call_does_nothing_another_is_refused(program, scene, tmp_path):
    out = tmp_path / "data"
    words = ["build-dataset", "pairs", str(scene / "panoramas"), "--aerial", str(scene / "ortho.tif"), "-o", str(out)]
    words += ["--tile-metres", "40", "--tile-size", "32", "--apart", "5"]
    first = program(*words)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = program(*words)
    assert only_record(first) == only_record(again) and b"is up to date" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    other = [*words[:-1], "6"]
    text = error_line(program(*other), 4)
    assert f"{out}: holds a data set made from other inputs or with other settings; name another folder" in text
    made = only_record(program(*other, "--overwrite"))
    assert open_dataset(out).provenance["settings"]["split"]["apart_m"] == 6 and made["panoramas"]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("keep me")
    words[words.index(str(out))] = str(tmp_path / "taken")
    assert "exists and is no data set of this program" in error_line(program(*words), 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "here", "home", "taken"]


def test_same_seed_same_data(program, scene, tmp_path):
    words = ["build-dataset", "pairs", str(scene / "panoramas"), "--aerial", str(scene / "ortho.tif"), "--apart", "5"]
    words += ["--tile-metres", "40", "--tile-size", "32"]
    for name, seed, jobs in (("a", "1", "1"), ("b", "1", "4"), ("c", "2", "1")):
        only_record(program(*words, "-o", str(tmp_path / name), "--seed", seed, "--jobs", jobs, "--name", "same"))
    tables = {name: (tmp_path / name / "panoramas.csv").read_text() for name in "abc"}
    assert tables["a"] == tables["b"] != tables["c"]
    names = sorted(path.name for path in (tmp_path / "a" / "tiles").iterdir())
    assert all(
        (tmp_path / "a" / "tiles" / name).read_bytes() == (tmp_path / "b" / "tiles" / name).read_bytes()
        for name in names
    )


@pytest.fixture
def mixed(scene, tmp_path, geotagged) -> Path:
    """Eight good panoramas, and one of each kind that cannot be used."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(8):
        os.link(scene / "panoramas" / f"p{number:02d}.jpg", folder / f"good{number}.jpg")
    lat, lon = (float(one) for one in map_to_latlon(WEST + 200, NORTH - 200, "EPSG:32631"))
    here = geotagged.gps(lat, lon)
    geotagged.write_picture(folder / "outside.jpg", place=geotagged.gps(-33.0, 151.0))
    geotagged.write_picture(folder / "nowhere.jpg")
    geotagged.write_picture(folder / "range.jpg", place={**here, 2: (95.0, 0.0, 0.0)})
    geotagged.write_picture(folder / "tilted.jpg", size=(40, 40), place=here, xmp=geotagged.gpano(PosePitchDegrees=9))
    (folder / "text.jpg").write_text("no picture at all")
    whole = geotagged.write_picture(folder / "cut.jpg", size=(256, 128), place=here).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    border = geotagged.gps(*(float(one) for one in map_to_latlon(WEST + 3, NORTH - 200, "EPSG:32631")))
    geotagged.write_picture(folder / "border.jpg", place=border)
    return folder


def test_bad_panoramas_are_listed_and_the_others_done(program, scene, mixed, tmp_path):
    out = tmp_path / "data"
    words = ["build-dataset", "pairs", str(mixed), "--aerial", str(scene / "ortho.tif"), "-o", str(out)]
    words += ["--tile-metres", "40", "--tile-size", "32", "--apart", "0"]
    for _ in range(2):
        done = program(*words)
        text = done.stderr.decode()
        assert done.returncode == 5 and "Traceback" not in text, text
        for name, reason in {
            "outside.jpg": "its place -33.000000, 151.000000 lies outside the imagery",
            "nowhere.jpg": "no position in its EXIF or XMP; give one with --positions",
            "range.jpg": "its latitude 95 is out of range",
            "tilted.jpg": "it is tilted (pitch 9, roll 0) and its field of view is unknown",
            "text.jpg": "is not a picture",
            "cut.jpg": "truncated",
            "border.jpg": "of the tile around it has data",
        }.items():
            assert any(name in line and reason in line for line in text.split("\n")), name
        made = json.loads(done.stdout)
        assert made["panoramas"] == 8
        assert made["dropped"] == {"broken": 4, "empty": 1, "outside": 1, "unlocated": 1}
    assert not {"tilted.jpg", "cut.jpg", "border.jpg"} & {path.name for path in out.rglob("*.jpg")}


def test_a_raster_that_covers_half_of_the_points(program, scene, tmp_path):
    """The others are listed with their places, the rest is done and the status says so; the same call says it again."""
    half = tmp_path / "half.tif"
    with rasterio.open(scene / "ortho.tif") as whole:
        profile = whole.profile | {"width": SIDE // 2}
        with rasterio.open(half, "w", **profile) as raster:
            raster.write(whole.read(window=((0, SIDE), (0, SIDE // 2))))
    dataset = Path(tmp_path / "data")
    words = ["build-dataset", "pairs", str(scene / "panoramas"), "--aerial", str(half), "-o", str(dataset)]
    words += ["--tile-metres", "20", "--tile-size", "32", "--apart", "0", "--min-valid", "0.4"]
    inside = {f"p{number:02d}": x < WEST + SIDE * STEP / 2 for number, (x, _) in enumerate(places())}
    assert 10 < sum(inside.values()) < 30
    for _ in range(2):
        done = program(*words)
        text = done.stderr.decode()
        assert done.returncode == 5 and "Traceback" not in text
        made = json.loads(done.stdout)
        assert made["dropped"] == {"outside": 40 - sum(inside.values())} and made["panoramas"] == sum(inside.values())
        for name, here in inside.items():
            assert (f"{name}.jpg: its place " in text) is not here
    assert sorted(open_dataset(dataset).panoramas.id) == sorted(name for name, here in inside.items() if here)


def test_exchanged_latitude_and_longitude_are_told(program, scene, tmp_path):
    picture = next(iter(sorted((scene / "panoramas").glob("*.jpg"))))
    tag = read_geotag(picture)
    (tmp_path / "swapped.csv").write_text(f"file,lat,lon\n{picture},{tag.lon},{tag.lat}\n")
    words = ["build-dataset", "pairs", "--aerial", str(scene / "ortho.tif"), "-o", str(tmp_path / "data")]
    text = error_line(program(*words, "--positions", str(tmp_path / "swapped.csv")), 3)
    assert "with latitude and longitude exchanged it would not: are they swapped?" in text


def test_an_area_of_too_many_tiles_is_refused(program, scene, tmp_path):
    words = ["build-dataset", "tiles", "--aerial", str(scene / "ortho.tif"), "-o", str(tmp_path / "data")]
    text = error_line(program(*words, "--bbox", "-80,-170,80,170"), 3)
    assert "tiles of 60 m; at most 10,000,000 are cut at once; give a part of it with --bbox, or larger tiles" in text
    assert not (tmp_path / "data").exists() and not list(tmp_path.glob(".*"))


def test_nothing_usable_makes_nothing(program, scene, mixed, tmp_path):
    words = ["build-dataset", "pairs", "--aerial", str(scene / "ortho.tif"), "-o", str(tmp_path / "data")]
    text = error_line(program(*words, str(mixed / "outside.jpg"), str(mixed / "text.jpg"), str(mixed / "none.jpg")), 3)
    assert "no pair can be made of 3 pictures (2 broken, 1 outside); see the lines above" in text
    assert "none.jpg: cannot read: no such file" in text
    text = error_line(program(*words, str(mixed / "cut.jpg"), "--apart", "0"), 3)
    assert "cut.jpg" in text and "no pair can be made" in text
    (tmp_path / "empty").mkdir()
    assert "empty: no picture in this folder" in error_line(program(*words, str(tmp_path / "empty")), 3)
    assert not (tmp_path / "data").exists() and not list(tmp_path.glob(".*"))


def test_bad_rasters(program, scene, tmp_path):
    panoramas, out = str(scene / "panoramas"), str(tmp_path / "data")

    def call(raster: Path, *more: str) -> str:
        return error_line(program("build-dataset", *more, "--aerial", str(raster), "-o", out), 3)

    no_crs = write_ortho(tmp_path / "no_crs.tif", crs=None, side=64)
    for words in (("pairs", panoramas), ("tiles",)):
        assert "no_crs.tif: has no coordinate reference system; give it one: gdal_edit.py -a_srs" in call(
            no_crs, *words
        )
    assert "missing.tif: no such file" in call(tmp_path / "missing.tif", "pairs", panoramas)
    (tmp_path / "text.tif").write_text("no raster")
    assert "text.tif: cannot be read as a raster" in call(tmp_path / "text.tif", "tiles")
    write_ortho(tmp_path / "small.tif", side=64)
    message = call(tmp_path / "small.tif", "tiles")
    assert "the imagery (32 by 32 m) holds no square of 60 m with 75% data; give a smaller --tile-metres" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pairs", "x.jpg", "-o", "out"], "--aerial"),
        (["pairs", "--aerial", "a.tif", "-o", "out"], "no panorama is named"),
        (["pairs", "x.jpg", "--aerial", "a.tif", "-o", "out", "--step", "5"], "--step goes with --offcentre"),
        (["pairs", "x.jpg", "--aerial", "a.tif", "-o", "out", "--gsd", "0.5", "--tile-metres", "60"], "not 60 m; give"),
        (
            ["pairs", "x.jpg", "--aerial", "a.tif", "-o", "out", "--val-share", "0.7", "--test-share", "0.7"],
            "more than 1",
        ),
        (["pairs", "x.jpg", "--aerial", "a.tif", "-o", "out", "--test-share", "2"], "--test-share"),
        (["tiles", "-o", "out"], "--aerial"),
        (
            ["tiles", "--aerial", "http://h/{z}/{x}/{y}", "-o", "out"],
            "no bounds of its own; give --bbox",
        ),
        (["tiles", "--aerial", "http://h/{z}/{x}", "-o", "out"], "the URL has no {y}; write it like"),
        (["pairs", "x.jpg", "--aerial", "http://h/tile", "-o", "out"], "the URL has no {z}"),
        (["tiles", "--aerial", "a.tif", "-o", "out", "--bbox", "111,48,112,49"], "--bbox: south 111 is out of range"),
        (["tiles", "--aerial", "a.tif", "-o", "out", "--overlap", "1"], "--overlap"),
    ],
)
def test_wrong_calls(program, words, message):
    assert message in error_line(program("build-dataset", *words), 2)


def test_positions_from_a_table(program, scene, tmp_path, geotagged):
    lat, lon = (float(one) for one in map_to_latlon(WEST + 200, NORTH - 200, "EPSG:32631"))
    for name in ("a", "b", "c"):
        geotagged.write_picture(tmp_path / "p" / f"{name}.png", place=geotagged.gps(1, 2) if name == "a" else None)
    table = tmp_path / "places.csv"
    table.write_text(
        f"file,lat,lon,heading,hfov\np/a.png,{lat},{lon},90,\np/b.png,{lat + 5e-4},{lon},350,180\nc.png,{lat},{lon},,\n"
    )
    words = ["build-dataset", "pairs", "--aerial", str(scene / "ortho.tif"), "--positions", str(table), "--apart", "0"]
    done = program(*words, str(tmp_path / "p"), "-o", str(tmp_path / "one"))
    assert only_record(done)["panoramas"] == 3
    assert b"1 of 3 panoramas have no heading" in done.stderr
    panoramas = open_dataset(tmp_path / "one").panoramas
    np.testing.assert_array_equal(panoramas.column0_heading, [270, 260, np.nan])
    np.testing.assert_array_equal(panoramas.hfov, [360, 180, 360])
    np.testing.assert_allclose(panoramas.lat, [lat, lat + 5e-4, lat])
    text = program(*words, "-o", str(tmp_path / "two")).stderr.decode()
    assert "c.png: cannot read: no such file" in text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{lat},{lon},north", "places.csv: line 3: heading 'north' is not a number"),
        ("95,{lon},0", "places.csv: line 3: lat 95: -90 to 90 is due"),
        (",{lon},0", "places.csv: line 3: lat is empty"),
        ("0,0,0", "places.csv: line 3: its position is 0, 0"),
    ],
)
def test_a_wrong_line_of_a_table_costs_its_picture_only(program, scene, tmp_path, geotagged, wrong, said):
    lat, lon = (float(one) for one in map_to_latlon(WEST + 200, NORTH - 200, "EPSG:32631"))
    for name in ("a", "b"):
        geotagged.write_picture(tmp_path / "p" / f"{name}.png", place=None)
    table = tmp_path / "places.csv"
    table.write_text(f"file,lat,lon,heading\np/a.png,{lat},{lon},90\np/b.png,{wrong.format(lat=lat, lon=lon)}\n")
    aerial = ("--aerial", str(scene / "ortho.tif"), "--positions", str(table))
    done = program("build-dataset", "pairs", *aerial, "-o", str(tmp_path / "one"))
    assert done.returncode == 5 and json.loads(done.stdout)["panoramas"] == 1
    assert said in done.stderr.decode() and "b.png: " in done.stderr.decode()


def test_photos_cubes_and_strips_are_recorded(program, scene, tmp_path, geotagged):
    lat, lon = (float(one) for one in map_to_latlon(WEST + 200, NORTH - 200, "EPSG:32631"))
    for name in ("front", "right", "back", "left", "up", "down"):
        geotagged.write_picture(tmp_path / "p" / f"cube_{name}.png", size=(16, 16))
    geotagged.write_picture(tmp_path / "p" / "strip.png", size=(90, 30))
    place = geotagged.gps(lat, lon, direction=90.0, reference="M")
    geotagged.write_picture(tmp_path / "p" / "photo.jpg", size=(36, 24), place=place, lens={41989: 18})
    geotagged.write_picture(tmp_path / "p" / "wrong.png", size=(36, 24))
    table = tmp_path / "places.csv"
    table.write_text(
        "file,lat,lon,heading,hfov,projection,pitch,roll\n"
        f"p/cube_front.png,{lat},{lon},90,,cube,,\np/strip.png,{lat},{lon},20,120,cylindrical,3,-1\n"
        f"p/photo.jpg,{lat},{lon},,,,,\np/wrong.png,{lat},{lon},,0,,,\np/odd.png,{lat},{lon},,,fisheye,,\n"
    )
    words = ["--aerial", str(scene / "ortho.tif"), "--positions", str(table), "--random-split", "--declination", "5"]
    done = program("build-dataset", "pairs", *words, "-o", str(tmp_path / "data"))
    text = done.stderr.decode()
    assert done.returncode == 5 and json.loads(done.stdout)["panoramas"] == 3, text
    assert "wrong.png: a horizontal field of view of 0 degrees; give more than 0, at most 360" in text
    assert "odd.png: cannot read: no such file" in text
    panoramas = open_dataset(tmp_path / "data").panoramas
    assert panoramas.projection == ["cube", "cylindrical", "perspective"]
    np.testing.assert_allclose(panoramas.column0_heading, [270, 320, 50], atol=1e-6)
    np.testing.assert_allclose(panoramas.hfov, [360, 120, 90], atol=1e-6)
    np.testing.assert_array_equal(panoramas.pitch, [np.nan, 3, np.nan])
    np.testing.assert_array_equal(panoramas.roll, [np.nan, -1, np.nan])
    assert [read_image(path).shape[:2] for path in panoramas.path] == [(16, 96), (30, 90), (24, 36)]
    view = ViewConfig(ground_height=28, ground_width=72)
    seen = [mask.mean() for _, mask in GroundViews(panoramas, view, Conventions())]
    assert seen[0] == 1 and seen[1] == pytest.approx(120 / 360 * 38.6 / 90, abs=0.02) and 0.1 < seen[2] < 0.25


def test_a_stated_cube_stands_for_its_six_files(program, scene, tmp_path, geotagged):
    lat, lon = (float(one) for one in map_to_latlon(WEST + 200, NORTH - 200, "EPSG:32631"))
    for name in "frbl":
        geotagged.write_picture(tmp_path / "p" / f"{name}.png", size=(16, 16), place=geotagged.gps(lat, lon))
    words = [str(tmp_path / "p"), "--aerial", str(scene / "ortho.tif"), "--projection", "cube", "--heading", "10"]
    text = error_line(program("build-dataset", "pairs", *words, "-o", str(tmp_path / "data")), 3)
    assert "f.png: faces of this cube map are missing: u.png, d.png" in text and "1 pictures" in text
    for name in "ud":
        geotagged.write_picture(tmp_path / "p" / f"{name}.png", size=(16, 16))
    assert only_record(program("build-dataset", "pairs", *words, "-o", str(tmp_path / "data")))["panoramas"] == 1
    panoramas = open_dataset(tmp_path / "data").panoramas
    assert panoramas.projection == ["cube"] and panoramas.column0_heading == 190


def test_tables_of_level_panoramas_have_no_new_columns(program, scene, tmp_path):
    words = [str(scene / "panoramas"), "--aerial", str(scene / "ortho.tif"), "-o", str(tmp_path / "data")]
    only_record(program("build-dataset", "pairs", *words))
    names = (tmp_path / "data" / "panoramas.csv").read_text().splitlines()[0]
    assert names == "id,path,lat,lon,column0_heading,hfov,vfov_top,vfov_bottom,split"
    assert "stated" not in (tmp_path / "data" / "dataset.toml").read_text()


def test_tilted_spheres_are_levelled(program, scene, tmp_path, geotagged):
    lat, lon = (float(one) for one in map_to_latlon(WEST + 200, NORTH - 200, "EPSG:32631"))
    xmp = geotagged.gpano(PoseHeadingDegrees=40, PosePitchDegrees=8, PoseRollDegrees=-3)
    picture = geotagged.write_picture(tmp_path / "tilted.png", place=geotagged.gps(lat, lon), xmp=xmp)
    only_record(
        program(
            "build-dataset", "pairs", str(picture), "--aerial", str(scene / "ortho.tif"), "-o", str(tmp_path / "data")
        )
    )
    dataset = open_dataset(tmp_path / "data")
    assert dataset.panoramas.path[0].name == "tilted.jpg" and dataset.panoramas.column0_heading[0] == 220
    levelled, tilted = read_image(dataset.panoramas.path[0]), read_image(picture)
    assert levelled.shape == tilted.shape and np.abs(levelled.astype(int) - tilted).mean() > 10


def test_names_that_clash_and_odd_names(program, scene, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        os.link(scene / "panoramas" / "p00.jpg", tmp_path / folder / "same name, ü.jpg")
    words = ["pairs", str(tmp_path / "one"), str(tmp_path / "two"), "--aerial", str(scene / "ortho.tif")]
    done = program("build-dataset", *words, "-o", str(tmp_path / "data"), "--apart=0", "--link", "--random-split")
    assert only_record(done)["panoramas"] == 2 and b"the split is random" in done.stderr
    dataset = open_dataset(tmp_path / "data")
    assert dataset.panoramas.id == ["same name, ü", "same name, ü_2"]
    assert dataset.panoramas.path[0].samefile(tmp_path / "one" / "same name, ü.jpg")


@pytest.mark.slow
def test_an_interrupted_call_goes_on(environment, scene, tmp_path):
    out = tmp_path / "data"
    words = [
        "tiles",
        "--aerial",
        str(scene / "ortho.tif"),
        "-o",
        str(out),
        "--tile-metres",
        "12",  # enough that not all are cut when the first are seen
        "--tile-size",
        "64",
        "--jobs",
        "1",
    ]
    call = [sys.executable, "-m", "cvgeo", "build-dataset", *words]
    started = subprocess.Popen(call, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and sum(1 for _ in tmp_path.glob(".data.*.building/tiles/*.jpg")) < 20:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL and not out.exists()
    (building,) = tmp_path.glob(".data.*.building")
    kept = {
        path.name: path.stat().st_mtime_ns for path in building.glob("tiles/*.jpg") if not path.name.startswith(".")
    }
    assert len(kept) >= 20
    done = subprocess.run(call, env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout)["tiles"] == len(open_dataset(out).tiles) > len(kept)
    assert all((out / "tiles" / name).stat().st_mtime_ns == stamp for name, stamp in kept.items())
    assert not list(out.rglob(".*")) and not building.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiles", "pairs"])
def test_twenty_kills_at_random_moments_lose_nothing(environment, scene, tmp_path, kind):
    """What stands under a tile's name is whole at any moment, stays, and the end is as of an undisturbed call."""
    call = [sys.executable, "-m", "cvgeo", "build-dataset", kind, "--aerial", str(scene / "ortho.tif"), "--jobs", "2"]
    call += ["--name", "same", "--tile-metres", "30", "--tile-size", "512"]
    call += [str(scene / "panoramas"), "--apart", "5"] if kind == "pairs" else []

    def start(name: str) -> subprocess.Popen:
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*call, "-o", str(tmp_path / name)], env=environment, stdout=quiet, stderr=quiet)

    started = time.monotonic()
    assert start("whole").wait(300) == 0
    took = time.monotonic() - started
    whole = files_of(tmp_path / "whole")
    generator = np.random.default_rng(0)
    kills, seen, rounds = 0, {}, 0
    while kills < 20:
        process = start("killed")
        with suppress(subprocess.TimeoutExpired):
            process.wait(float(generator.uniform(0.3, 1.0)) * took)
        process.kill()
        kills += process.wait() != 0
        if process.returncode == 0:
            assert files_of(tmp_path / "killed") == whole
            shutil.rmtree(tmp_path / "killed")
            # The machine may be less busy than when the undisturbed call was timed.
            seen, took, rounds = {}, took * 0.9, rounds + 1
        for building in tmp_path.glob(".killed.*.building"):
            found = {name: data for name, data in files_of(building).items() if name.startswith("tiles/")}
            assert found.items() <= whole.items() and seen.items() <= found.items()
            seen = found
    assert start("killed").wait(300) == 0
    assert files_of(tmp_path / "killed") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "killed", "whole"]


def files_of(folder: Path) -> dict[str, bytes]:
    """The bytes of all files of a data set that stand under their own names."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".part")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_place_that_cannot_be_written(program, scene, tmp_path):
    (tmp_path / "file").write_text("in the way")
    words = ["build-dataset", "tiles", "--aerial", str(scene / "ortho.tif"), "-o", str(tmp_path / "file" / "data")]
    text = error_line(program(*words), 1)
    assert "cannot write: not a directory" in text and str(tmp_path / "file") in text


@needs_shared
def test_every_shared_picture_is_outside_or_named_with_its_reason(program, tmp_path):
    words = [
        str(SHARED / "geotagged"),
        "--aerial",
        str(SHARED / "orthophotos" / "cogeo.tif"),
        "-o",
        str(tmp_path / "d"),
    ]
    text = error_line(program("build-dataset", "pairs", *words), 3)
    assert "no pair can be made of 16 pictures (14 outside, 2 unlocated)" in text
    assert all(path.name in text for path in (SHARED / "geotagged").rglob("*.jpg"))


@needs_shared
@pytest.mark.slow
def test_every_shared_picture_can_be_placed_on_every_raster(program, tmp_path):
    from cvgeo.data.sources.raster import RasterSource

    pictures = sorted((SHARED / "geotagged").rglob("*.jpg"))
    small = [path for path in pictures if path.stat().st_size < 2_000_000]
    for raster in sorted((SHARED / "orthophotos").rglob("*.tif")):
        with RasterSource(raster) as source:
            south, west, north, east = source.bounds_latlon
        rows = [f"{path},{(south + north) / 2},{(west + east) / 2},{number}" for number, path in enumerate(small)]
        (tmp_path / "places.csv").write_text("\n".join(["path,lat,lon,heading", *rows]) + "\n")
        words = [
            "--positions",
            str(tmp_path / "places.csv"),
            "--aerial",
            str(raster),
            "--tile-metres",
            "20",
            "--apart",
            "0",
        ]
        made = only_record(
            program("build-dataset", "pairs", *words, "-o", str(tmp_path / raster.stem), "--tile-size", "64")
        )
        assert made["panoramas"] == len(small) == 13, raster


def grey_tile() -> bytes:
    from cvgeo.data.images import encode_image

    return encode_image(np.full((256, 256, 3), 90, np.uint8), ".png")


def server_words(tile_server) -> list[str]:
    area = ["--bbox", "48.1,11.6,48.1015,11.602", "--rate", "100", "--tile-size", "64"]
    return ["build-dataset", "tiles", "--aerial", tile_server.template, *area]


def test_map_tiles_of_a_server_become_a_gallery(program, tile_server, tmp_path):
    """Through the real program: an area, a cache that serves the second call, whom the data set names."""
    tile_server.other = (200, {}, grey_tile())
    words = server_words(tile_server)
    made = only_record(program(*words, "-o", str(tmp_path / "one")))
    paths = [path for path, *_ in tile_server.asked]
    tile_server.shutdown()
    tile_server.server_close()
    assert made["tiles"] >= 16 and not made["dropped"] and len(paths) == len(set(paths))
    dataset = open_dataset(tmp_path / "one")
    assert dataset.attribution == "127.0.0.1" and "secret" not in (tmp_path / "one" / "dataset.toml").read_text()
    assert only_record(program(*words, "-o", str(tmp_path / "two")))["tiles"] == made["tiles"]


def test_a_server_that_fails_costs_nothing_that_was_done(program, tile_server, tmp_path):
    """One map tile is refused: one line names it; when the server has recovered, the same call goes on."""
    tile_server.other = (200, {}, grey_tile())
    words = [*server_words(tile_server), "--zoom", "18", "--tile-metres", "25", "--jobs", "1", "-o"]
    whole = only_record(program(*words, str(tmp_path / "whole"), "--name", "same"))
    last = tile_server.asked[-1][0]
    tile_server.answers[last] = [(500, {"Retry-After": "0"}, b"")]
    cache = {"CVGEO_CACHE": str(tmp_path / "cache")}
    text = error_line(program(*words, str(tmp_path / "data"), "--name", "same", env=cache), 3)
    lines = [line for line in text.splitlines() if line.startswith("cvgeo: ")]
    assert len(lines) == 1 and "secret" not in text and not (tmp_path / "data").exists()
    assert f"{last.partition('?')[0]}: cannot be fetched (status 500 Internal Server Error); give the same call" in text
    (building,) = tmp_path.glob(".data.*.building")
    kept = {path.name: path.stat().st_mtime_ns for path in (building / "tiles").iterdir()}
    assert kept and not [name for name in kept if name.startswith(".")]
    asked = len(tile_server.asked)
    del tile_server.answers[last]
    made = only_record(program(*words, str(tmp_path / "data"), "--name", "same", env=cache))
    assert made["tiles"] == whole["tiles"] and not building.exists()
    assert [path for path, *_ in tile_server.asked[asked:]] == [last]
    for path in (tmp_path / "data" / "tiles").iterdir():
        assert path.read_bytes() == (tmp_path / "whole" / "tiles" / path.name).read_bytes()
        assert path.stat().st_mtime_ns == kept.get(path.name, path.stat().st_mtime_ns)


def test_a_server_that_has_nothing_to_give_leaves_nothing(program, tile_server, tmp_path):
    tile_server.other = (403, {}, b"")
    text = error_line(program(*server_words(tile_server), "-o", str(tmp_path / "data")), 3)
    assert "the server refuses (status 403 Forbidden); check the key" in text and "secret" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "home"]
