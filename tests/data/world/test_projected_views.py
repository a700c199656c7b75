"""One place of the made world as a panorama, a photo, a strip and a cube map: on the grid they agree."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cvgeo.config.schema import ViewConfig
from cvgeo.data.views import ground_view
from cvgeo.data.world import PRESETS, World

VIEW = ViewConfig()
SIDES = {
    "r": lambda u, v: (1 + 0 * u, -u, -v),
    "l": lambda u, v: (-1 + 0 * u, u, -v),
    "u": lambda u, v: (u, v, 1 + 0 * u),
    "d": lambda u, v: (u, -v, -1 + 0 * u),
    "f": lambda u, v: (u, 1 + 0 * u, -v),
    "b": lambda u, v: (-u, -1 + 0 * u, -v),
}


@pytest.fixture(scope="module")
def panorama() -> np.ndarray:
    """A full sphere whose column 0 looks south; slightly smoothed, so that interpolation twice costs little."""
    world = World(5, 0.4, PRESETS["aligned"])
    image = world.render_panorama_at(float(world.places.x[0]), float(world.places.y[0]), 180.0)
    assert image.shape[1] == 2 * image.shape[0]
    return cv2.GaussianBlur(image, (0, 0), 1.0)


def cut(panorama: np.ndarray, right, forward, up) -> np.ndarray:
    """The panorama's colours along directions: right is east, forward north."""
    height, width = panorama.shape[:2]
    azimuth, elevation = np.arctan2(right, forward), np.arctan2(up, np.hypot(right, forward))
    column = (azimuth / (2 * np.pi) + 0.5) % 1 * width
    row = np.clip((0.5 - elevation / np.pi) * height - 0.5, 0, height - 1)
    wide = np.concatenate([panorama[:, -1:], panorama, panorama[:, :1]], axis=1)
    return cv2.remap(wide, (column + 0.5).astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)


def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres from -1 to 1, across and down."""
    down, across = np.mgrid[:height, :width]
    return (across + 0.5) / width * 2 - 1, (down + 0.5) / height * 2 - 1


def photo(panorama: np.ndarray, heading: float, hfov: float, pitch: float, roll: float, size=(600, 800)) -> np.ndarray:
    u, v = grid(*size)
    half = np.tan(np.radians(hfov / 2))
    right, forward, up = u * half, np.ones_like(u), -v * half * size[0] / size[1]
    p, r, a = np.radians([pitch, roll, heading])
    right, up = np.cos(r) * right + np.sin(r) * up, np.cos(r) * up - np.sin(r) * right
    forward, up = np.cos(p) * forward - np.sin(p) * up, np.sin(p) * forward + np.cos(p) * up
    return cut(panorama, np.cos(a) * right + np.sin(a) * forward, np.cos(a) * forward - np.sin(a) * right, up)


def strip(panorama: np.ndarray, top: float, bottom: float, size=(400, 2048)) -> np.ndarray:
    u, v = grid(*size)
    rise = np.tan(np.radians(top)) * (1 - v) / 2 + np.tan(np.radians(bottom)) * (1 + v) / 2
    return cut(panorama, np.sin(np.pi * u), np.cos(np.pi * u), rise)


def agrees(panorama: np.ndarray, image: np.ndarray, share: float, **pose) -> None:
    expected, _ = ground_view(panorama, VIEW, column0_heading=180.0)
    seen, mask = ground_view(image, VIEW, **pose)
    assert mask.mean() == pytest.approx(share, abs=0.02)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    error = np.abs(seen.astype(int) - expected)[inner]
    assert error.mean() < 1.5 and np.quantile(error, 0.99) < 10
    # Turned by three degrees it disagrees: the test can fail.
    turned, there = ground_view(image, VIEW, **{**pose, "column0_heading": pose["column0_heading"] + 3})
    assert np.abs(turned.astype(int) - expected)[inner & there].mean() > 3 * error.mean()


@pytest.mark.parametrize(("heading", "hfov", "pitch", "roll"), [(40, 65, 0, 0), (350, 90, 12, -7), (180, 50, -20, 25)])
def test_a_photo_agrees_with_the_panorama(panorama, heading, hfov, pitch, roll):
    image = photo(panorama, heading, hfov, pitch, roll)
    # A share of the grid between what the level photo's middle row and its diagonal would take.
    share = hfov / 360 * np.degrees(2 * np.arctan(np.tan(np.radians(hfov / 2)) * 0.75)) / 90
    pose = {"projection": "perspective", "hfov": hfov, "pitch": pitch, "roll": roll}
    agrees(panorama, image, share, column0_heading=heading - hfov / 2, **pose)


def test_a_strip_agrees_with_the_panorama(panorama):
    pose = {"projection": "cylindrical", "vfov_top": 40.0, "vfov_bottom": -30.0, "column0_heading": 180.0}
    agrees(panorama, strip(panorama, 40.0, -30.0), 70 / 90, **pose)
    with pytest.raises(AssertionError):
        agrees(panorama, strip(panorama, 40.0, -30.0), 70 / 90, **{**pose, "projection": "equirectangular"})


@pytest.mark.parametrize("layout", ["rlu/dfb", "rludfb", ".u../lfrb/.d.."])
def test_a_cube_map_agrees_with_the_panorama(panorama, layout):
    u, v = grid(400, 400)
    empty = np.zeros((400, 400, 3), np.uint8)
    rows = [
        np.hstack([empty if name == "." else cut(panorama, *SIDES[name](u, v)) for name in row])
        for row in layout.split("/")
    ]
    agrees(panorama, np.vstack(rows), 1.0, projection="cube", column0_heading=180.0)


def test_a_tilted_panorama_agrees_with_the_level_one(panorama):
    u, v = grid(*panorama.shape[:2])
    a, e = np.pi * u, -np.pi / 2 * v
    right, forward, up = np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e)
    p, r = np.radians([6, -4])
    right, up = np.cos(r) * right + np.sin(r) * up, np.cos(r) * up - np.sin(r) * right
    forward, up = np.cos(p) * forward - np.sin(p) * up, np.sin(p) * forward + np.cos(p) * up
    agrees(panorama, cut(panorama, right, forward, up), 1.0, pitch=6.0, roll=-4.0, column0_heading=180.0)
