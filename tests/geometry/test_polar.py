"""The polar transform against the published formulas, written out as loops in double precision."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.geometry import (
    GeometryError,
    inverse_polar_transform,
    polar_grid,
    polar_transform,
    polar_transform_batch,
)


def paper_coordinates(size: int, height: int, width: int, i: int, j: int) -> tuple[float, float]:
    """Eq. 1 and 2."""
    angle = 2 * math.pi / width * j
    return (
        size / 2 - size / 2 * (height - i) / height * math.cos(angle),
        size / 2 + size / 2 * (height - i) / height * math.sin(angle),
    )


def safa_coordinates(size: int, height: int, width: int, i: int, j: int) -> tuple[float, float]:
    """The released code's."""
    return (
        size / 2 + size / 2 / height * (height - 1 - i) * math.cos(2 * math.pi * j / width),
        size / 2 - size / 2 / height * (height - 1 - i) * math.sin(2 * math.pi * j / width),
    )


def bilinear(image: np.ndarray, row: float, col: float, clamp: bool) -> np.ndarray:
    size = image.shape[0]
    top, left = math.floor(row), math.floor(col)
    value = np.zeros(image.shape[2:])
    for r, row_weight in ((top, top + 1 - row), (top + 1, row - top)):
        for c, col_weight in ((left, left + 1 - col), (left + 1, col - left)):
            if clamp:
                tap = image[min(max(r, 0), size - 1), min(max(c, 0), size - 1)]
            else:
                tap = image[r, c] if 0 <= r < size and 0 <= c < size else 0 * image[0, 0]
            value = value + row_weight * col_weight * tap.astype(np.float64)
    return value


def literal_polar(image: np.ndarray, height: int, width: int, convention: str) -> np.ndarray:
    coordinates = paper_coordinates if convention == "paper" else safa_coordinates
    out = np.zeros((height, width, *image.shape[2:]))
    for i in range(height):
        for j in range(width):
            row, col = coordinates(image.shape[0], height, width, i, j)
            out[i, j] = bilinear(image, row, col, clamp=convention == "paper")
    return out


def literal_polar_arrays(image: np.ndarray, height: int, width: int, convention: str) -> np.ndarray:
    """The same without loops, as the released code does it; for speed and for full sizes."""
    size = image.shape[0]
    i, j = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    angle = 2 * np.pi * j / width
    ring = (height - i) if convention == "paper" else (height - 1 - i)
    sign = 1 if convention == "paper" else -1
    row = size / 2 - sign * size / 2 / height * ring * np.cos(angle)
    col = size / 2 + sign * size / 2 / height * ring * np.sin(angle)
    if convention == "paper":
        row, col = np.clip(row, 0, size - 1), np.clip(col, 0, size - 1)
    padded = np.pad(image.astype(np.float64), ((1, 2), (1, 2), (0, 0)))
    if convention == "paper":
        padded = np.pad(image.astype(np.float64), ((1, 2), (1, 2), (0, 0)), mode="edge")
    top, left = np.floor(row).astype(int), np.floor(col).astype(int)
    a, b = (row - top)[..., None], (col - left)[..., None]
    top, left = np.clip(top, -1, size) + 1, np.clip(left, -1, size) + 1
    return (
        (1 - a) * (1 - b) * padded[top, left]
        + (1 - a) * b * padded[top, left + 1]
        + a * (1 - b) * padded[top + 1, left]
        + a * b * padded[top + 1, left + 1]
    )


def noise(size: int, channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    span = 1.0 if np.issubdtype(dtype, np.floating) else float(np.iinfo(dtype).max)
    return (np.random.default_rng(seed).random((size, size, channels)) * span).astype(dtype)


@pytest.mark.parametrize("convention", ["paper", "safa"])
@pytest.mark.parametrize(("size", "height", "width"), [(64, 12, 40), (33, 20, 31), (17, 30, 24), (1, 3, 5)])
def test_every_pixel_is_within_one_grey_level_of_the_literal_formula(convention, size, height, width):
    image = noise(size)
    expected = literal_polar(image, height, width, convention)
    assert np.abs(polar_transform(image, height, width, convention) - expected).max() < 1


@pytest.mark.parametrize("convention", ["paper", "safa"])
@pytest.mark.parametrize(("size", "height", "width"), [(750, 112, 616), (1200, 112, 616), (256, 128, 512)])
def test_at_the_field_s_sizes(convention, size, height, width):
    image = noise(size)
    expected = literal_polar_arrays(image, height, width, convention)
    assert np.abs(polar_transform(image, height, width, convention) - expected).max() < 1


def test_the_two_references_agree():
    image = noise(21)
    for convention in ("paper", "safa"):
        loops, arrays = (f(image, 9, 14, convention) for f in (literal_polar, literal_polar_arrays))
        np.testing.assert_allclose(loops, arrays, atol=1e-9)


def test_corner_values_of_the_paper():
    rows, cols = polar_grid(750, 112, 616, "paper")
    assert (rows[0, 0], cols[0, 0]) == (0.0, 375.0)
    assert rows[0, 308] == pytest.approx(750.0)
    assert (rows[0, 154], cols[0, 154]) == (pytest.approx(375.0), pytest.approx(750.0))
    assert rows[111, 0] == pytest.approx(375 - 375 / 112)


def test_corner_values_of_safa():
    rows, cols = polar_grid(750, 112, 616, "safa")
    assert rows[0, 0] == pytest.approx(375 + 371.6517857)
    assert rows[0, 308] == pytest.approx(375 - 371.6517857)
    assert cols[0, 154] == pytest.approx(375 - 371.6517857)
    assert cols[0, 462] == pytest.approx(375 + 371.6517857)
    np.testing.assert_allclose((rows[111], cols[111]), 375.0)


@pytest.mark.parametrize(("convention", "north_column"), [("paper", 0), ("safa", 20)])
def test_where_north_is(convention, north_column):
    image = np.zeros((80, 80), np.uint8)
    image[:20, 36:45] = 200
    polar = polar_transform(image, 10, 40, convention)
    assert polar[2].argmax() == north_column or polar[2, north_column] == polar[2].max()
    east = np.rot90(image, -1)
    assert polar_transform(east, 10, 40, convention)[2, (north_column + 10) % 40] == 200


@pytest.mark.parametrize("convention", ["paper", "safa"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int16, np.float16])
def test_types_and_channels_are_kept(convention, dtype):
    for channels in (1, 2, 3, 4):
        image = noise(40, channels, dtype)
        polar = polar_transform(image, 11, 26, convention)
        assert polar.dtype == dtype
        assert polar.shape == (11, 26, channels)
        grey = polar_transform(image[..., 0], 11, 26, convention)
        assert grey.shape == (11, 26)
        np.testing.assert_array_equal(grey, polar[..., 0])


def test_sixteen_bits_are_within_their_stated_error():
    image = noise(750, 1, np.uint16)
    assert np.abs(polar_transform(image) - literal_polar_arrays(image, 112, 616, "paper")).max() < 16


@given(
    size=st.integers(2, 40),
    height=st.integers(1, 12),
    width=st.integers(1, 24),
    turn=st.integers(-30, 30),
    convention=st.sampled_from(["paper", "safa"]),
)
@settings(max_examples=60, deadline=None)
def test_a_turn_by_whole_columns_is_a_roll(size, height, width, turn, convention):
    image = noise(size)
    own = {"paper": 0.0, "safa": 180.0}[convention]
    turned = polar_transform(image, height, width, convention, own + turn * 360 / width)
    straight = polar_transform(image, height, width, convention)
    # Coordinates that differ in the last bit may round a value of n + 1/2 either way.
    assert np.abs(turned.astype(int) - np.roll(straight, -turn, axis=1)).max() <= 1


@given(size=st.integers(4, 40), turns=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_a_constant_tile_stays_constant_inside(size, turns):
    image = np.full((size, size, 3), 77, np.uint8)
    assert (polar_transform(image, 7, 20, "paper", 90.0 * turns) == 77).all()
    assert (polar_transform(image, 3, 20, "safa", 90.0 * turns)[1:] == 77).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int16])
def test_no_type_falls_back_to_rounded_positions(channels, dtype):
    image = noise(90, channels, dtype)
    off = np.abs(polar_transform(image, 30, 70).astype(np.float64) - literal_polar_arrays(image, 30, 70, "paper"))
    span = 1.0 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    assert off.max() / span < 1 / 255


def test_headings_with_either_convention_look_the_same_way():
    grids = {name: polar_grid(64, 16, 40, name, 45.0) for name in ("paper", "safa")}
    for name, (rows, cols) in grids.items():
        heading = np.degrees(np.arctan2(cols[3] - 32, 32 - rows[3])) % 360
        expected = 45 + 360 * np.arange(40) / 40
        np.testing.assert_allclose((heading - expected + 180) % 360, 180, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("convention", ["paper", "safa"])
@pytest.mark.parametrize("heading", [None, 180.0, 33.3])
def test_batches_agree_with_single_pictures_within_one_grey_level(convention, heading):
    images = np.stack([noise(96, seed=seed) for seed in range(3)])
    batch = polar_transform_batch(torch.from_numpy(images).permute(0, 3, 1, 2), 20, 50, convention, heading)
    assert batch.dtype == torch.uint8
    assert batch.shape == (3, 3, 20, 50)
    single = np.stack([polar_transform(image, 20, 50, convention, heading) for image in images])
    assert np.abs(batch.permute(0, 2, 3, 1).numpy().astype(int) - single).max() <= 1


def test_a_batch_s_rows_do_not_depend_on_each_other():
    images = torch.rand(4, 3, 30, 30)
    together = polar_transform_batch(images, 8, 20)
    for k in range(4):
        torch.testing.assert_close(polar_transform_batch(images[k : k + 1], 8, 20)[0], together[k])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_batch_types_are_kept(dtype):
    assert polar_transform_batch(torch.rand(1, 1, 9, 9).to(dtype), 4, 6).dtype == dtype


@pytest.mark.parametrize("convention", ["paper", "safa"])
def test_gradients_reach_the_tile(convention):
    tile = torch.rand(1, 1, 12, 12, requires_grad=True)
    weights = torch.rand(1, 1, 5, 8)
    (polar_transform_batch(tile, 5, 8, convention) * weights).sum().backward()
    # The transform is linear: its gradient is its transpose, found here one pixel at a time.
    for row, col in ((0, 6), (6, 6), (3, 9), (11, 0)):
        unit = torch.zeros(1, 1, 12, 12)
        unit[0, 0, row, col] = 1
        expected = (polar_transform_batch(unit, 5, 8, convention) * weights).sum()
        torch.testing.assert_close(tile.grad[0, 0, row, col], expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu():
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(
        polar_transform_batch(images.cuda(), 16, 40).cpu(), polar_transform_batch(images, 16, 40), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("convention", ["paper", "safa"])
@pytest.mark.parametrize("heading", [None, 77.0])
def test_the_inverse_gives_back_a_smooth_tile(convention, heading):
    size = 120
    row, col = np.mgrid[:size, :size]
    tile = (128 + 60 * np.sin(row / 17) + 50 * np.cos(col / 13)).astype(np.uint8)
    polar = polar_transform(tile, 120, 720, convention, heading)
    back = inverse_polar_transform(polar, size, convention, heading)
    assert back.shape == tile.shape
    assert back.dtype == np.uint8
    radius = np.hypot(row - size / 2, col - size / 2)
    assert np.abs(back.astype(int) - tile)[radius < 58].max() <= 3
    assert (back[radius > 60.1] == 0).all()


def test_the_inverse_has_no_seam():
    polar = np.full((40, 90, 3), 50, np.uint8)
    back = inverse_polar_transform(polar, 64)
    row, col = np.mgrid[:64, :64]
    assert (back[np.hypot(row - 32, col - 32) < 32] == 50).all()


def test_nearly_square_is_cropped_and_the_rest_refused():
    image = noise(100)
    np.testing.assert_array_equal(polar_transform(image[:98], 8, 20), polar_transform(image[:98, 1:99], 8, 20))
    with pytest.raises(GeometryError, match="square"):
        polar_transform(image[:97], 8, 20)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: polar_transform(noise(9), 4, 4, "other"), "convention"),
        (lambda: polar_transform(noise(9), 4, 4, "paper", math.nan), "heading"),
        (lambda: polar_transform(noise(9), 0, 4), "polar map"),
        (lambda: polar_transform(np.zeros((0, 0, 3), np.uint8)), "no picture"),
        (lambda: polar_transform(np.zeros((5, 5, 7), np.uint8)), "no picture"),
        (lambda: polar_transform(np.zeros(5, np.uint8)), "no picture"),
        (lambda: polar_transform(np.zeros((32767, 32767), np.bool_)), "32766"),
        (lambda: polar_transform_batch(torch.zeros(1, 3, 8, 9)), "B, C, S, S"),
        (lambda: inverse_polar_transform(noise(9), 0), "tile"),
    ],
)
def test_nonsense_is_refused_as_a_value_error_too(call, match):
    with pytest.raises(GeometryError, match=match) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("convention", ["paper", "safa"])
def test_a_30000_pixel_tile_is_taken(convention, channels):
    image = np.zeros((30_000, 30_000, channels), np.uint8)
    image[:15_000, 14_900:15_100] = 100  # a strip, so that the test needs little memory
    polar = polar_transform(image, 10, 40, convention, column0_heading=0)
    assert (polar[2, 0] == 100).all()
    assert (polar[2, 20] == 0).all()


@pytest.mark.parametrize("convention", ["paper", "safa"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_tiles_too_large_for_opencv_follow_the_same_formula(monkeypatch, convention, dtype):
    image = noise(60, 3, dtype)
    usual = polar_transform(image, 11, 26, convention, 30.0)
    monkeypatch.setattr("cvgeo.geometry.polar.REMAP_BYTES", 0)
    large = polar_transform(image, 11, 26, convention, 30.0)
    assert large.dtype == dtype
    np.testing.assert_allclose(large.astype(float), usual.astype(float), atol=1 if dtype == np.uint8 else 1e-4)


@pytest.mark.slow
def test_at_least_25_times_as_fast_as_the_released_way():
    import cv2

    image = noise(750)
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        polar_transform(image)
        ours, theirs = [], []
        for _ in range(30):  # by turns, so that what else the machine does falls on both
            ours += [_seconds(lambda: polar_transform(image)) for _ in range(5)]
            theirs.append(_seconds(lambda: literal_polar_arrays(image, 112, 616, "safa")))
    finally:
        cv2.setNumThreads(before)
    assert min(theirs) / min(ours) >= 25


def _seconds(call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
