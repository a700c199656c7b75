"""Panoramas on the canonical grid against loops over directions."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.geometry import GeometryError, default_vfov, level_panorama, place_on_grid, roll_panorama
from cvgeo.geometry.panorama import camera_axes


def smooth(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """A colour for each direction (degrees), slowly varying."""
    a, e = np.radians(azimuth), np.radians(elevation)
    parts = np.broadcast_arrays(np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e))
    return 128 + 100 * np.stack(parts, axis=-1)


def view(height: int, width: int, column0: float, hfov: float, top: float, bottom: float) -> np.ndarray:
    azimuth = column0 + hfov * (np.arange(width) + 0.5) / width
    elevation = top - (top - bottom) * (np.arange(height) + 0.5) / height
    return smooth(azimuth[None, :], elevation[:, None]).astype(np.uint8)


@given(turn=st.integers(-100, 100), width=st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_whole_columns_roll_exactly(turn, width):
    image = np.random.default_rng(0).integers(0, 256, (3, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(roll_panorama(image, turn * 360 / width), np.roll(image, -turn, axis=1))


def test_rolling_raises_the_heading_of_column_0():
    panorama = view(20, 72, 180.0, 360.0, 45, -45)
    np.testing.assert_array_equal(roll_panorama(panorama, 90.0), np.roll(panorama, -18, axis=1))
    turned = roll_panorama(panorama, 33.0)
    assert np.abs(turned.astype(int) - view(20, 72, 213.0, 360.0, 45, -45)).max() <= 2


@pytest.mark.parametrize("degrees", [0.1, 7.77, 359.9, -3.3])
def test_parts_of_a_column_are_interpolated(degrees):
    image = np.random.default_rng(1).integers(0, 256, (4, 30, 3), dtype=np.uint8)
    shift = degrees / 360 * 30
    expected = np.zeros(image.shape)
    for j in range(30):
        left = math.floor(j + shift)
        part = j + shift - left
        expected[:, j] = (1 - part) * image[:, left % 30] + part * image[:, (left + 1) % 30]
    assert np.abs(roll_panorama(image, degrees) - expected).max() <= 0.51


@pytest.mark.parametrize("shape", [(5, 12), (5, 12, 1), (5, 12, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_rolling_keeps_shape_and_type(shape, dtype):
    rolled = roll_panorama(np.ones(shape, dtype), 10.0)
    assert rolled.shape == shape
    assert rolled.dtype == dtype
    assert (rolled == 1).all()


def test_default_vertical_field():
    assert default_vfov(224, 1232, 360.0) == pytest.approx((32.7272727, -32.7272727))
    assert default_vfov(1000, 2000, 360.0) == (90.0, -90.0)
    assert default_vfov(3000, 2000, 360.0) == (90.0, -90.0)
    assert default_vfov(300, 400, 80.0) == pytest.approx((30.0, -30.0))


@given(
    grid_heading=st.floats(-360, 720),
    heading=st.floats(-360, 720),
    hfov=st.floats(5, 360),
    top=st.floats(-60, 90),
    span=st.floats(5, 120),
    scale=st.sampled_from([0.5, 1.0, 2.0, 5.0]),
)
@settings(max_examples=60, deadline=None)
def test_any_field_of_view_lands_where_it_belongs(grid_heading, heading, hfov, top, span, scale):
    bottom = max(-90.0, top - span)
    height, width = 30, 120
    size = max(4, round((top - bottom) * height / 90 * scale)), max(4, round(hfov * width / 360 * scale))
    image = view(*size, heading, hfov, top, bottom)
    placed, mask = place_on_grid(image, height, width, grid_heading, heading, hfov, top, bottom)
    expected = view(height, width, grid_heading, 360.0, 45.0, -45.0)
    assert placed.dtype == np.uint8
    assert (placed[~mask] == 0).all()
    # At the border of a view the last pixel is repeated: half a source pixel's change of colour.
    assert np.abs(placed.astype(int) - expected)[mask].max(initial=0) <= 10 + 6 / scale
    for i in range(0, height, 7):
        for j in range(0, width, 11):
            azimuth = (grid_heading + 3.0 * (j + 0.5) - heading) % 360
            elevation = 45 - 3.0 * (i + 0.5)
            if min(azimuth, 360 - azimuth, abs(azimuth - hfov), abs(elevation - top), abs(elevation - bottom)) > 1e-6:
                assert mask[i, j] == (azimuth < hfov and bottom < elevation < top)


def test_a_picture_of_the_grid_s_own_shape_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (112, 616, 3), dtype=np.uint8)
    placed, mask = place_on_grid(image, 112, 616, 180.0, 180.0, 360.0, 45.0, -45.0)
    assert mask.all()
    np.testing.assert_array_equal(placed, image)
    turned, mask = place_on_grid(image, 112, 616, 180.0, 0.0, 360.0, 45.0, -45.0)
    assert mask.all()
    np.testing.assert_array_equal(turned, np.roll(image, 308, axis=1))


def test_a_finer_picture_is_averaged_over_areas():
    # A checkerboard of single pixels is grey from afar; sampling it would give black and white.
    image = np.indices((360, 720)).sum(axis=0) % 2 * np.uint8(255)
    placed, mask = place_on_grid(
        np.repeat(image[..., None], 3, 2).astype(np.uint8), 18, 72, 0.0, 0.0, 360.0, 90.0, -90.0
    )
    assert mask.all()
    assert np.abs(placed.astype(int) - 128).max() <= 1


def test_averages_over_whole_blocks_are_exact():
    image = np.random.default_rng(0).integers(0, 256, (160, 320, 3), dtype=np.uint8)
    placed, _ = place_on_grid(image, 20, 80, 0.0, 0.0, 360.0, 90.0, -90.0)
    expected = image[40:120].reshape(20, 4, 80, 4, 3).mean(axis=(1, 3))
    assert np.abs(placed - expected).max() <= 0.51


def test_a_cvusa_strip_leaves_the_rest_unseen():
    image = np.full((224, 1232, 3), 9, np.uint8)
    top, bottom = default_vfov(224, 1232, 360.0)
    placed, mask = place_on_grid(image, 112, 616, 180.0, 180.0, 360.0, top, bottom)
    rows = mask.any(axis=1)
    assert rows.sum() == 82  # 65.45 of 90 degrees, of 112 rows: 81.45, and 82 have their centre within
    assert (mask == rows[:, None]).all()
    assert (placed[rows] == 9).all()


def test_a_view_across_the_seam():
    image = np.full((10, 30, 3), 200, np.uint8)
    _, mask = place_on_grid(image, 9, 36, 180.0, 135.0, 90.0, 45.0, -45.0)
    np.testing.assert_array_equal(np.flatnonzero(mask[0]), [0, 1, 2, 3, 31, 32, 33, 34, 35])


def test_grey_and_other_types():
    placed, mask = place_on_grid(np.ones((10, 40), np.float32), 5, 20, 0.0, 0.0, 360.0, 45.0, -45.0)
    assert placed.shape == mask.shape == (5, 20)
    assert placed.dtype == np.float32


@pytest.mark.parametrize(
    "field", [(0.0, 45, -45), (400.0, 45, -45), (360.0, -45, 45), (360.0, 100, 0), (math.nan, 45, -45)]
)
def test_impossible_fields_are_refused(field):
    with pytest.raises(GeometryError):
        place_on_grid(np.zeros((4, 8, 3), np.uint8), 4, 8, 0.0, 0.0, *field)


def test_a_full_sphere_takes_well_under_a_fifth_of_a_second():
    image = np.zeros((2880, 5760, 3), np.uint8)
    place_on_grid(image, 112, 616, 180.0, 10.0, 360.0, 90.0, -90.0)
    start = time.process_time()
    place_on_grid(image, 112, 616, 180.0, 10.0, 360.0, 90.0, -90.0)
    assert time.process_time() - start < 0.2


def literal_level(image: np.ndarray, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrices and nearest directions, pixel by pixel, for smooth pictures."""
    height, width = image.shape[:2]
    p, r = math.radians(pitch), math.radians(roll)
    tilt = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    bank = np.array([[math.cos(r), 0, math.sin(r)], [0, 1, 0], [-math.sin(r), 0, math.cos(r)]])
    to_world = tilt @ bank
    out = np.zeros(image.shape)
    for i in range(height):
        for j in range(width):
            azimuth = math.radians(360 * (j + 0.5) / width - 180)
            elevation = math.radians(90 - 180 * (i + 0.5) / height)
            look = [
                math.cos(elevation) * math.sin(azimuth),
                math.cos(elevation) * math.cos(azimuth),
                math.sin(elevation),
            ]
            x, y, z = to_world.T @ look
            col = (math.degrees(math.atan2(x, y)) + 180) / 360 * width - 0.5
            row = (90 - math.degrees(math.asin(max(-1, min(1, z))))) / 180 * height - 0.5
            row = min(max(row, 0), height - 1)
            top, left = min(math.floor(row), height - 2), math.floor(col)
            a, b = row - top, col - left
            upper = (1 - b) * image[top, left % width] + b * image[top, (left + 1) % width]
            lower = (1 - b) * image[top + 1, left % width] + b * image[top + 1, (left + 1) % width]
            out[i, j] = (1 - a) * upper + a * lower
    return out


@pytest.mark.parametrize(("pitch", "roll"), [(10.0, 0.0), (0.0, 20.0), (-13.0, 40.0), (88.0, -179.0)])
def test_levelling_against_rotation_matrices(pitch, roll):
    image = np.random.default_rng(0).random((30, 60)).astype(np.float32)
    assert np.abs(level_panorama(image, pitch, roll) - literal_level(image, pitch, roll)).max() < 0.01


def test_levelling_puts_a_tilted_horizon_straight():
    # What a camera with its nose up by 12 and its right side down by 8 degrees sees of a world that is dark below.
    height, width = 180, 360
    azimuth = np.radians(np.arange(width) + 0.5 - 180)[None]
    elevation = np.radians(90 - np.arange(height) - 0.5)[:, None]
    parts = np.broadcast_arrays(
        np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth), np.sin(elevation)
    )
    seen = np.stack(parts, axis=-1)
    up = (seen @ camera_axes(12.0, 8.0))[..., 2]
    tilted = np.where(up > 0, 200, 20).astype(np.uint8)
    assert tilted[90, 180] == 200  # the picture's centre looks up, into the sky
    assert (tilted[90, 270], tilted[90, 90]) == (20, 200)  # and its horizon rises to the right
    level = level_panorama(tilted, 12.0, 8.0)
    assert (level[:87] == 200).all()
    assert (level[93:] == 20).all()


def test_the_horizon_turns_counter_clockwise_with_roll():
    right, _, up = camera_axes(0.0, 10.0)
    assert right[2] < 0  # the camera's right side is down, so level things rise to the right in its picture
    assert up[2] > 0


def test_a_level_camera_s_picture_is_unchanged_and_odd_shapes_are_refused():
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(level_panorama(image, 0.0, 0.0), image)
    with pytest.raises(GeometryError, match="sphere"):
        level_panorama(image[:10], 1.0, 0.0)
    with pytest.raises(GeometryError, match="unknown"):
        level_panorama(image, math.nan, 0.0)
