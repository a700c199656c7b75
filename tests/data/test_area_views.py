"""Panoramas drawn of aerial pictures against literal rays, and what is found to stand on the ground."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from cvgeo.data.area_views import (
    BUILDING,
    CAR,
    GRID_M,
    GROUND,
    TREE,
    AreaStyle,
    Things,
    find_things,
    render_panorama,
    standing_place,
)
from cvgeo.geometry.polar import polar_transform

BARE = AreaStyle(things=0.0, passers=0, style=0.0, height_m=(2.0, 2.0))
GSD = 0.25


def quarters(size=480):
    """Ground of four colours: north-east red, south-east green, south-west blue, north-west grey."""
    picture = np.empty((size, size, 3), np.uint8)
    half = size // 2
    picture[:half, half:], picture[half:, half:] = (200, 40, 40), (40, 200, 40)
    picture[half:, :half], picture[:half, :half] = (40, 40, 200), (120, 120, 120)
    return picture


def test_ground_lies_in_its_direction_and_at_its_distance():
    # Rings of 4 m, lighter from one to the next, and a colour for each quarter.
    size = 480
    row, column = np.indices((size, size))
    far = np.hypot(row + 0.5 - size / 2, column + 0.5 - size / 2) * GSD
    picture = (quarters() * (0.4 + 0.6 * (np.floor(far / 4) % 2))[..., None]).astype(np.uint8)
    image = render_panorama(picture, GSD, 90, 360, np.random.default_rng(0), BARE, column0_heading=0.0)
    for i in range(52, 90, 3):
        elevation = 45 - 90 * (i + 0.5) / 90
        distance = 2.0 / math.tan(math.radians(-elevation))
        if abs(distance / 4 - round(distance / 4)) * 4 < 0.8 or distance > 40:
            continue
        for heading in (20.5, 70.5, 110.5, 160.5, 200.5, 250.5, 290.5, 340.5):
            east, north = distance * math.sin(math.radians(heading)), distance * math.cos(math.radians(heading))
            expected = picture[int(size / 2 - north / GSD), int(size / 2 + east / GSD)]
            assert np.abs(image[i, int(heading)].astype(int) - expected).max() <= 12, (i, heading)


@pytest.mark.parametrize("heading", [0.0, 90.0, 180.0])
def test_columns_are_those_of_the_polar_map(heading):
    image = render_panorama(quarters(), GSD, 64, 256, np.random.default_rng(1), BARE, column0_heading=heading)
    polar = polar_transform(quarters(), 64, 256, column0_heading=heading)
    here, there = image[40:60].mean(0), polar[10:50].mean(0)
    apart = np.abs(here - there).max(axis=1)
    # The four edges between the quarters are blurred over a column or two.
    assert np.count_nonzero(apart > 12) <= 12


def test_the_same_state_draws_the_same_and_another_one_another():
    picture = np.random.default_rng(3).integers(0, 255, (320, 320, 3), np.uint8)
    one, same, other = (render_panorama(picture, 0.3, 32, 128, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert one.dtype == np.uint8 and one.shape == (32, 128, 3)
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_walls_hide_what_is_behind_them_against_literal_rays():
    """Dark ground with bright blocks of three heights: each pixel is what a ray meets that is followed step by step."""
    cells, camera = 160, 2.0
    kind, height, number = (np.zeros((cells, cells), dtype) for dtype in (np.uint8, np.float32, np.int32))
    picture = np.full((480, 480, 3), 40, np.uint8)
    blocks = [(60, 66, 73, 87, 6.0), (80, 100, 100, 113, 1.5), (87, 40, 107, 53, 3.0), (40, 60, 47, 93, 14.0)]
    for one, (top, left, bottom, right, tall) in enumerate(blocks, 1):
        kind[top:bottom, left:right], number[top:bottom, left:right] = CAR, one
        height[top:bottom, left:right] = tall
        picture[3 * top : 3 * bottom, 3 * left : 3 * right] = 220
    things = Things(kind, height, number)
    image = render_panorama(picture, GSD, 60, 120, np.random.default_rng(0), BARE, column0_heading=0.0, things=things)

    def met(elevation, heading):
        for distance in np.arange(1.0, 59.4, 0.1):
            north, east = distance * math.cos(heading), distance * math.sin(heading)
            cell = int(cells / 2 - north / GRID_M), int(cells / 2 + east / GRID_M)
            z = camera + distance * math.tan(elevation)
            if z <= 0:
                return "ground"
            if z <= height[cell]:
                return "thing"
        return "beyond"

    wrong = 0
    for i in range(60):
        for j in range(0, 120, 3):
            seen = met(math.radians(45 - 90 * (i + 0.5) / 60), math.radians(360 * (j + 0.5) / 120))
            wrong += seen == "ground" and image[i, j].mean() > 120
            wrong += seen == "thing" and image[i, j].mean() < 120
    # Of 2400 rays some graze an edge, which the drawing meets half a metre sooner or later.
    assert wrong < 60


def test_things_are_guessed_by_colour_and_shape():
    generator = np.random.default_rng(7)
    picture = np.full((480, 480, 3), 128, np.uint8)
    crowns = generator.integers(-40, 40, (15, 20, 1)).repeat(8, 0).repeat(8, 1)  # light and shade of 2 m
    leaves = crowns + np.array([50, 95, 45])
    picture[40:160, 40:200] = leaves.clip(0, 255)  # a rough green patch
    picture[300:340, 300:380] = (200, 120, 100)  # a roof of 10 by 20 m
    picture[200:206, 380:396] = (220, 30, 30)  # a car of 1.5 by 4 m
    found = [find_things(picture, GSD, AreaStyle(things=1.0), np.random.default_rng(seed)) for seed in range(20)]
    shares = {
        "tree": np.mean([np.mean(one.kind[17:50, 17:63] == TREE) for one in found]),
        "roof": np.mean([np.mean(one.kind[102:111, 102:124] == BUILDING) for one in found]),
        "car": np.mean([one.kind[67, 129] == CAR for one in found]),
        "street": np.mean([np.mean(one.kind[120:, :66] != GROUND) for one in found]),
    }
    assert shares["tree"] > 0.4 and shares["roof"] > 0.5 and shares["car"] > 0.2 and shares["street"] < 0.05
    for one in found:
        assert (one.height_m[one.kind == GROUND] == 0).all() and (one.height_m[one.kind != GROUND] > 1).all()
        assert one.height_m.max() < 20 and (one.kind[78:82, 78:82] == GROUND).all()


def test_one_stands_where_it_is_smooth_and_grey():
    generator = np.random.default_rng(0)
    picture = (generator.integers(0, 90, (60, 60, 1)) + np.array([10, 60, 10])).astype(np.uint8)
    picture[:, 40:50] = 130  # a street 10 to 20 m east of the middle
    places = [standing_place(picture, 1.0, 20.0, np.random.default_rng(seed)) for seed in range(20)]
    assert all(abs(north) <= 20 and abs(east) <= 20 for north, east in places)
    assert np.mean([9 <= east <= 20 for _, east in places]) > 0.9


@pytest.mark.parametrize("fill", [0, 128, 255])
def test_ground_without_any_feature_is_drawn(fill):
    image = render_panorama(np.full((64, 64, 3), fill, np.uint8), 1.0, 16, 64, np.random.default_rng(0))
    assert image.shape == (16, 64, 3)


def test_many_are_drawn_in_a_second():
    picture = np.random.default_rng(3).integers(0, 255, (256, 256, 3), np.uint8)
    start = time.process_time()
    for seed in range(20):
        render_panorama(picture, 0.47, 64, 256, np.random.default_rng(seed))
    assert (time.process_time() - start) / 20 < 0.2
