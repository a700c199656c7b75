"""Probabilities and places finer than a tile, through the real program."""

import json
import shutil

import cv2
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cvgeo.geometry.geodesy import latlon_to_map

RING_METRES = 32.0
AREA_PIXELS = 400
AREA_GSD = 0.3


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_rings, rings_model):
    """A folder with a data set, a checkpoint of its own, and an orthophoto on which the first tile lies off-centre."""
    folder = tmp_path_factory.mktemp("place")
    make_rings(folder / "data", train=0, val=32)
    shutil.copy(rings_model(), folder / "model.safetensors")
    return folder


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_evaluate_calibrates_and_search_tells_probabilities(program, place):
    evaluate = ("evaluate", "-d", str(place / "data"), "--model", str(place / "model.safetensors"), "-j", "1")
    evaluate += ("--device", "cpu", "--store", str(place / "tiles.h5"))
    (record,) = lines(program(*evaluate))
    assert "ece" not in record
    done = program(*evaluate, "--split", "val", "--calibrate", "--hfov", "360", "--reliability", str(place / "r.png"))
    (record,) = lines(done)
    assert done.returncode == 0 and 0 <= record["ece_low"] <= record["ece"] <= 1 and record["none_auc"] > 0.8
    assert (place / "r.png").read_bytes()[:4] == b"\x89PNG"
    (fit,) = json.loads((place / "model.calibration.json").read_text())["fits"]
    assert fit["queries"] == 32 and fit["gallery"] == 32 and fit["heading_known"] is True
    picture = str(place / "data" / "pictures" / "ground003.png")
    search = ("search", picture, "--store", str(place / "tiles.h5"), "--heading", "0", "-k", "2", "--device", "cpu")
    hits = lines(program(*search))
    assert hits[0]["tile"] == "t003" and 0.3 < hits[0]["probability"] <= 1 and 0 <= hits[0]["none"] < 0.5
    (nothing,) = lines(program(*search, "--min-probability", "1"))
    assert nothing["rank"] is None and nothing["lat"] is None and nothing["probability"] == hits[0]["probability"]


def test_a_preset_cannot_be_calibrated(program, place):
    done = program("evaluate", "-d", str(place / "data"), "--model", "zero_shot", "--calibrate")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and b"preset" in done.stderr


def test_a_place_within_a_tile_is_found_on_imagery(program, place, rings_model):
    program("embed", "-d", str(place / "data"), "--model", str(rings_model()), "-o", str(place / "plain.h5"), "-j", "1")
    # The picture of the first place lies 6 m north and 4 m east of where its tile says.
    x, y = latlon_to_map(52.0, 13.0, rasterio.crs.CRS.from_epsg(32633))
    tile = cv2.imread(str(place / "data" / "pictures" / "aerial000.png"))[:, :, ::-1]
    side = round(RING_METRES / AREA_GSD)
    area = np.full((AREA_PIXELS, AREA_PIXELS, 3), 128, np.uint8)
    top, left = (AREA_PIXELS - side) // 2 - round(6 / AREA_GSD), (AREA_PIXELS - side) // 2 + round(4 / AREA_GSD)
    area[top : top + side, left : left + side] = cv2.resize(tile, (side, side))
    half = AREA_PIXELS * AREA_GSD / 2
    about = {"driver": "GTiff", "height": AREA_PIXELS, "width": AREA_PIXELS, "count": 3, "dtype": "uint8"}
    where = {"crs": "EPSG:32633", "transform": from_origin(float(x) - half, float(y) + half, AREA_GSD, AREA_GSD)}
    with rasterio.open(place / "area.tif", "w", **about, **where) as file:
        file.write(area.transpose(2, 0, 1))
    picture = str(place / "data" / "pictures" / "ground000.png")
    search = ("search", picture, "--store", str(place / "plain.h5"), "--heading", "0", "-k", "1", "--device", "cpu")
    done = program(*search, "--refine", str(place / "area.tif"))
    (hit,) = lines(done)
    assert done.returncode == 0 and hit["tile"] == "t000"
    north, east = (hit["lat"] - 52) * 111_270, (hit["lon"] - 13) * 68_680
    assert np.hypot(north - 6, east - 4) < np.hypot(6, 4) * 0.6
    assert hit["ellipse_major_m"] >= hit["ellipse_minor_m"] > 0
