"""Projections against loops over single directions with other formulas, round trips, seams and masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.geometry import GeometryError, place_on_grid
from cvgeo.geometry.projections import (
    FACES,
    LAYOUTS,
    PROJECTED,
    PROJECTIONS,
    Camera,
    cube_faces,
    cube_layout,
    cube_pixels,
    grid_directions,
    join_faces,
    project_on_grid,
    reduced_size,
    square_vfov,
)


def colours(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """A colour for each direction (degrees), continuous on the sphere, varying over some 20 degrees."""
    a, e = np.radians(azimuth), np.radians(elevation)
    x, y, z = np.broadcast_arrays(np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e))
    return 128 + 50 * np.stack([np.sin(7 * x) + np.cos(5 * z), np.sin(6 * y - 2 * z), np.cos(8 * x * y)], axis=-1)


def into_camera(azimuth: float, elevation: float, pitch: float, roll: float) -> tuple[float, float, float]:
    """Right, forward, up of a direction for a camera turned about its axes, one after another."""
    a, e, p, r = (math.radians(angle) for angle in (azimuth, elevation, pitch, roll))
    right, forward, up = math.sin(a) * math.cos(e), math.cos(a) * math.cos(e), math.sin(e)
    forward, up = math.cos(p) * forward + math.sin(p) * up, math.cos(p) * up - math.sin(p) * forward
    return math.cos(r) * right - math.sin(r) * up, forward, math.sin(r) * right + math.cos(r) * up


def out_of_camera(right: float, forward: float, up: float, pitch: float, roll: float) -> tuple[float, float]:
    """Azimuth and elevation in degrees: `into_camera` undone."""
    p, r = math.radians(pitch), math.radians(roll)
    right, up = math.cos(r) * right + math.sin(r) * up, math.cos(r) * up - math.sin(r) * right
    forward, up = math.cos(p) * forward - math.sin(p) * up, math.sin(p) * forward + math.cos(p) * up
    return math.degrees(math.atan2(right, forward)), math.degrees(math.atan2(up, math.hypot(right, forward)))


def literal(projection: str, vector: tuple[float, float, float], hfov: float, top: float, bottom: float):
    """Place of one direction in the picture by trigonometry: x, y, whether seen, name of the face."""
    right, forward, up = vector
    azimuth = math.degrees(math.atan2(right, forward))
    elevation = math.degrees(math.asin(max(-1.0, min(1.0, up))))
    if projection == "cube":
        return literal_cube(azimuth, elevation)
    if projection == "perspective":
        # The angle of the ray's shadow on the vertical plane through the axis.
        if abs(azimuth) >= 90:
            return 0.0, 0.0, False, None
        x = math.tan(math.radians(azimuth)) / math.tan(math.radians(hfov / 2)) / 2 + 0.5
        height = math.tan(math.radians(elevation)) / math.cos(math.radians(azimuth))
    else:
        x = (azimuth + hfov / 2) / hfov
        height = math.tan(math.radians(elevation))
    if projection == "equirectangular":
        y = (top - elevation) / (top - bottom)
    else:
        y = (math.tan(math.radians(top)) - height) / (math.tan(math.radians(top)) - math.tan(math.radians(bottom)))
    return x, y, 0 <= x <= 1 and 0 <= y <= 1, None


def literal_cube(azimuth: float, elevation: float):
    """Face and place in it by the azimuth within its quarter turn and the height of its corners there."""
    quarter = math.floor((azimuth + 45) / 90) % 4
    within = math.radians((azimuth + 45) % 90 - 45)
    rise = math.tan(math.radians(elevation)) / math.cos(within)
    if abs(rise) <= 1:
        return math.tan(within) / 2 + 0.5, -rise / 2 + 0.5, True, FACES[quarter]
    out = 1 / math.tan(math.radians(abs(elevation)))
    sideways, ahead = out * math.sin(math.radians(azimuth)), out * math.cos(math.radians(azimuth))
    return sideways / 2 + 0.5, (ahead if elevation > 0 else -ahead) / 2 + 0.5, True, "up" if elevation > 0 else "down"


def picture(projection: str, height: int, width: int, heading: float, camera: Camera) -> np.ndarray:
    """A picture of `colours`, pixel by pixel (its own inverse formulas); cubes as six squares in a row, or a cross."""
    camera = camera.settled(height, width)
    out = np.empty((height, width, 3))
    for i in range(height):
        for j in range(width):
            vector = ray(projection, (j + 0.5) / width, (i + 0.5) / height, camera, height, width)
            if vector is None:
                out[i, j] = 0
                continue
            azimuth, elevation = out_of_camera(*vector, camera.pitch, camera.roll)
            out[i, j] = colours(np.float64(azimuth + heading), np.float64(elevation))
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def ray(projection: str, x: float, y: float, camera: Camera, height: int, width: int):
    """Right, forward, up of the direction that a place in a picture shows; None for an empty square of a cross."""
    top, bottom = camera.vfov_top, camera.vfov_bottom
    if projection == "cube":
        _, cols, rows = cube_layout(height, width)
        letter = LAYOUTS[cols, rows][int(y * rows) * cols + int(x * cols)]
        u, v = x * cols % 1 * 2 - 1, y * rows % 1 * 2 - 1
        name = {face[0]: face for face in FACES}.get(letter)
        return (
            name
            and {
                "front": (u, 1, -v),
                "right": (1, -u, -v),
                "back": (-u, -1, -v),
                "left": (-1, u, -v),
                "up": (u, v, 1),
                "down": (u, -v, -1),
            }[name]
        )
    tangent = math.tan(math.radians(top)) * (1 - y) + math.tan(math.radians(bottom)) * y if top < 90 else 0
    if projection == "perspective":
        return (x - 0.5) * 2 * math.tan(math.radians(camera.hfov / 2)), 1.0, tangent
    azimuth = math.radians((x - 0.5) * camera.hfov)
    if projection == "equirectangular":
        elevation = math.radians(top + (bottom - top) * y)
        tangent = math.tan(elevation)
    return math.sin(azimuth), math.cos(azimuth), tangent


def on_grid(image: np.ndarray, height: int, width: int, column0: float, heading: float, camera: Camera):
    """`project_on_grid` by the heading of the picture's centre."""
    return project_on_grid(image, height, width, column0, heading - camera.settled(*image.shape[:2]).hfov / 2, camera)


CAMERAS = {
    "equirectangular": Camera("equirectangular", 220.0, 50.0, -40.0),
    "cylindrical": Camera("cylindrical", 250.0, 40.0, -30.0),
    "perspective": Camera("perspective", 95.0, 30.0, -45.0),
    "cube": Camera("cube", 360.0, 90.0, -90.0),
}


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (12.0, -8.0), (-35.0, 160.0), (90.0, 0.0)])
def test_directions_against_trigonometry(projection, pitch, roll):
    camera = Camera(**{**vars(CAMERAS[projection]), "pitch": pitch, "roll": roll})
    turned, height, width = 33.0, 19, 41
    seen = PROJECTED[projection](grid_directions(height, width, turned, camera), camera)
    hits = 0
    for i in range(height):
        for j in range(width):
            azimuth, elevation = turned + (j + 0.5) * 360 / width, 45 - (i + 0.5) * 90 / height
            vector = into_camera(azimuth, elevation, pitch, roll)
            x, y, within, face = literal(projection, vector, camera.hfov, camera.vfov_top, camera.vfov_bottom)
            assert seen.within[i, j] == within
            if within:
                hits += 1
                assert face is None or FACES[seen.face[i, j]] == face
                assert seen.x[i, j] == pytest.approx(x, abs=1e-9) and seen.y[i, j] == pytest.approx(y, abs=1e-9)
    assert hits > (0 if pitch == 90 else 40)


@settings(max_examples=15, deadline=None)
@given(
    projection=st.sampled_from(PROJECTIONS),
    heading=st.floats(0, 360),
    pitch=st.floats(-30, 30),
    roll=st.floats(-30, 30),
)
def test_pictures_land_where_they_belong(projection, heading, pitch, roll):
    camera = Camera(**{**vars(CAMERAS[projection]), "pitch": pitch, "roll": roll})
    size = (40, 240) if projection == "cube" else (60, 90)
    placed, mask = on_grid(picture(projection, *size, heading, camera), 36, 144, 180.0, heading, camera)
    azimuth, elevation = 180 + 2.5 * (np.arange(144) + 0.5), 45 - 2.5 * (np.arange(36) + 0.5)
    expected = colours(azimuth[None], elevation[:, None])
    assert mask.mean() > 0.1 and (placed[~mask] == 0).all()
    error = np.abs(placed - expected)[mask]
    # Half a pixel of 2.5 degrees at the picture's border, where its last pixel is repeated.
    assert error.mean() < 2.5 and np.quantile(error, 0.98) < 12


@pytest.mark.parametrize("size", [(3, 2), (6, 1), (1, 6), (4, 3)])
def test_every_layout_of_a_cube_is_the_same_view(size):
    cols, rows = size
    camera = Camera("cube")
    one = picture("cube", rows * 24, cols * 24, 70.0, camera)
    faces = cube_faces(one)
    assert faces.shape == (6, 24, 24, 3)
    np.testing.assert_array_equal(cube_faces(join_faces(faces)), faces)
    placed, mask = on_grid(one, 24, 96, 0.0, 70.0, camera)
    again, _ = on_grid(picture("cube", 24, 144, 70.0, camera), 24, 96, 0.0, 70.0, camera)
    assert mask.all()
    np.testing.assert_array_equal(placed, again)


def test_no_seam_between_faces():
    one = picture("cube", 16, 96, 0.0, Camera("cube"))
    for camera in (Camera("cube"), Camera("cube", pitch=40.0, roll=20.0)):
        placed, _ = on_grid(one, 90, 360, 0.0, 0.0, camera)
        steps = np.abs(np.diff(placed.astype(int), axis=1)).max()
        # Faces of 16 pixels: 5.6 degrees each; clamped at the edges, colours would stand still and then jump.
        assert steps <= 18, camera


def test_a_cube_shows_every_direction_once():
    vectors = np.random.default_rng(0).normal(size=(3, 500))
    seen = cube_pixels(vectors, Camera("cube"))
    assert seen.within.all() and set(seen.face) == set(range(6))
    assert min(seen.x.min(), seen.y.min()) >= 0 and max(seen.x.max(), seen.y.max()) <= 1


@pytest.mark.parametrize("projection", ["equirectangular", "cylindrical"])
def test_around_the_compass_there_is_no_seam(projection):
    camera = Camera(projection, 360.0, 50.0, -50.0, pitch=3.0)
    strip = picture(projection, 50, 180, 0.0, camera)
    placed, mask = on_grid(strip, 45, 180, 0.0, 0.0, camera)
    assert mask.all()
    step = np.abs(np.diff(placed.astype(int), axis=1)).max(axis=(0, 2))
    assert step[88:92].max() <= step.max() <= 20


def test_a_level_equirectangular_picture_is_placed_as_ever():
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    placed = project_on_grid(image, 20, 72, 180.0, -10.0, CAMERAS["equirectangular"])
    expected = place_on_grid(image, 20, 72, 180.0, -10.0, 220.0, 50.0, -40.0)
    for one, other in zip(placed, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_much_finer_pictures_are_averaged(projection):
    fine = np.indices((600, 900) if projection != "cube" else (400, 600)).sum(axis=0) % 2 * np.uint8(255)
    camera = CAMERAS[projection]
    placed, mask = on_grid(fine.astype(np.uint8), 18, 72, 0.0, 0.0, Camera(**{**vars(camera), "pitch": 1.0}))
    assert np.abs(placed[mask].astype(int) - 128).max() <= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_type_and_channels_are_kept(dtype, channels):
    image = np.full((40, 60, *channels), 7, dtype=dtype)
    placed, mask = on_grid(image, 18, 72, 0.0, 0.0, Camera("perspective", 60.0))
    assert placed.dtype == dtype and placed.shape == (18, 72, *channels)
    assert np.allclose(placed[mask], 7) and 0 < mask.mean() < 0.2


def test_square_pixels():
    assert square_vfov("perspective", 90, 160, 90.0) == pytest.approx((29.3578, -29.3578), abs=1e-4)
    assert square_vfov("cylindrical", 100, 628, 360.0)[0] == pytest.approx(26.57, abs=0.02)
    assert square_vfov("cube", 10, 60, 360.0) == (90.0, -90.0)


def test_pictures_are_reduced_to_whole_faces():
    assert reduced_size((4000, 6000, 3), (100.0, 100.0), Camera("cube")) == (400, 600)
    assert reduced_size((40, 60, 3), (100.0, 100.0), Camera("cube")) == (40, 60)
    rows, cols = reduced_size((3000, 4000, 3), (200.0, 300.0), Camera("perspective", 90.0))
    assert cols == 600 and rows == 300


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (Camera("fisheye"), "projection 'fisheye' is unknown; known: equirectangular, cylindrical, perspective, cube"),
        (Camera("cylindrical", 0.0), "a horizontal field of view of 0 degrees; give more than 0, at most 360"),
        (Camera("equirectangular", 400.0), "a horizontal field of view of 400 degrees"),
        (Camera("perspective", 180.0), "a horizontal field of view of a perspective picture of 180 degrees"),
        (Camera("perspective"), "the field of view of a perspective picture is unknown; state it"),
        (Camera("perspective", 60.0, 10.0, 20.0), "a vertical field from 20 to 10 degrees"),
        (Camera("cylindrical", 60.0, 90.0, -20.0), "give -89.5 <= bottom < top <= 89.5"),
        (Camera("cylindrical", 60.0, pitch=91.0), "a pitch of 91 and a roll of 0 degrees; give a pitch of -90 to 90"),
        (Camera("cylindrical", 60.0, roll=math.inf), "a roll of inf degrees"),
        (Camera("cube"), "50x40 pixels is no cube map; give 3x2, 6x1, 1x6, 4x3 squares, or six files"),
    ],
)
def test_impossible_cameras(camera, message):
    with pytest.raises(GeometryError) as caught:
        project_on_grid(np.zeros((40, 50, 3), np.uint8), 18, 72, 0.0, 0.0, camera)
    assert message in str(caught.value)
