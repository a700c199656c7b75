"""Whole worlds: the same seed gives the same pixels, panoramas stand where they may, colour alone finds nothing."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from cvgeo.config.schema import ViewConfig
from cvgeo.data.sources.geotags import read_geotag
from cvgeo.data.views import aerial_view, ground_view
from cvgeo.data.world import PRESETS, World
from cvgeo.data.world.files import panorama_bytes
from cvgeo.data.world.scene import in_buildings
from cvgeo.errors import UsageError
from cvgeo.geometry.geodesy import map_to_latlon


@pytest.fixture(scope="module")
def world() -> World:
    return World(5, 0.4, PRESETS["aligned"])


def test_same_seed_same_pixels_in_any_order(world):
    other = World(5, 0.4, PRESETS["aligned"])
    last = len(other.places) - 1
    assert np.array_equal(other.render_panorama(last), world.render_panorama(last))
    assert np.array_equal(other.render_panorama(0), world.render_panorama(0))
    assert np.array_equal(other.render_ortho_window(0, 0, 200, 300), world.render_ortho_window(0, 0, 200, 300))


def test_another_seed_is_another_world(world):
    other = World(6, 0.4, PRESETS["aligned"])
    assert not np.array_equal(other.render_ortho_window(0, 0, 64, 64), world.render_ortho_window(0, 0, 64, 64))


def test_windows_of_the_ortho_fit_together(world):
    whole = world.render_ortho_window(100, 200, 256, 256).astype(int)
    part = world.render_ortho_window(164, 264, 128, 128).astype(int)
    gap = np.abs(whole[64:192, 64:192] - part)
    assert np.percentile(gap[4:-4, 4:-4], 99.5) <= 2


def test_panoramas_stand_apart_and_in_the_open(world):
    places, knobs = world.places, world.knobs
    gaps = np.hypot(places.x[:, None] - places.x, places.y[:, None] - places.y) + 1e9 * np.eye(len(places))
    assert gaps.min() >= places.spacing_m
    assert not in_buildings(world.scene.buildings, places.x, places.y, 0.5).any()
    edge = knobs.tile_metres / 2
    assert min(places.x.min(), places.y.min()) > edge
    assert max(places.x.max(), places.y.max()) < world.size_m - edge


def test_as_many_panoramas_as_asked_for():
    assert len(World(5, 0.4, PRESETS["aligned"], 17).places) == 17
    assert len(World(5, 0.4, PRESETS["aligned"], 150).places) == 150
    with pytest.raises(UsageError, match="have room"):
        World(5, 0.4, PRESETS["aligned"], 100000).places  # noqa: B018


def test_truth_agrees_with_the_projection(world):
    truth = world.truth
    lat, lon = map_to_latlon(truth.easting, truth.northing, "EPSG:32630")
    assert np.allclose(lat, truth.lat) and np.allclose(lon, truth.lon)
    # A metre along grid north, as a heading from true north.
    lat2, lon2 = map_to_latlon(truth.easting, truth.northing + 1000.0, "EPSG:32630")
    turned = np.degrees(np.arctan2((lon2 - lon) * np.cos(np.radians(lat)), lat2 - lat))
    gap = (truth.column0_heading - world.places.column0 - turned + 180) % 360 - 180
    assert np.abs(gap).max() < 1e-3


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_files_tell_the_truth(preset, tmp_path):
    world = World(2, 0.3, PRESETS[preset], 3)
    image, truth = world.render_panorama(1), world.truth
    assert image.shape == (world.knobs.panorama_height, world.knobs.panorama_width, 3)
    path = tmp_path / "p.jpg"
    path.write_bytes(panorama_bytes(image, truth, 1, 88))
    with Image.open(path) as picture:
        assert picture.size == image.shape[1::-1]
        assert picture.getexif().get_ifd(0x8825)[1] == "N"
        assert b"GPano" in picture.info["xmp"]
    tag = read_geotag(path)
    assert tag.lat == pytest.approx(truth.lat[1], abs=1e-8)
    assert tag.lon == pytest.approx(truth.lon[1], abs=1e-8)
    assert tag.hfov == pytest.approx(world.knobs.hfov)
    assert tag.vfov_top == pytest.approx(world.knobs.vfov_top)
    assert tag.vfov_bottom == pytest.approx(world.knobs.vfov_bottom)
    assert (tag.column0_heading - truth.column0_heading[1] + 180) % 360 - 180 == pytest.approx(0, abs=1e-3)


def test_limited_sees_270_degrees():
    knobs = PRESETS["limited"]
    assert (knobs.hfov, knobs.panorama_width, knobs.panorama_height) == (270.0, 720, 192)


def test_terrain_has_relief_and_others_have_none(world):
    grid = np.linspace(0, 300, 40)
    hills = World(2, 0.3, PRESETS["terrain"]).scene.terrain(grid[None], grid[:, None])
    assert np.ptp(hills) > 5
    assert np.ptp(world.scene.terrain(grid[None], grid[:, None])) == 0
    assert np.ptp(World(2, 0.3, PRESETS["terrain"]).truth.altitude_m) > 2


def pairs_of(world: World, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Panorama grids and polar maps of the first places of a world."""
    view, truth, half = ViewConfig(), world.truth, round(30 / world.knobs.gsd_m)
    grounds, polars = [], []
    ortho = world.render_ortho_window(0, 0, world.pixels, world.pixels)
    order = [int(index) for tile in world.tiles() for index in world.panoramas_in(tile)]
    for index in order[:count]:
        fields = {
            name: float(getattr(truth, name)[index]) for name in ("column0_heading", "hfov", "vfov_top", "vfov_bottom")
        }
        grounds.append(ground_view(world.render_panorama(index), view, **fields)[0])
        col = round(world.places.x[index] / world.knobs.gsd_m)
        row = round((world.size_m - world.places.y[index]) / world.knobs.gsd_m)
        polars.append(aerial_view(ortho[row - half : row + half, col - half : col + half], view))
    return grounds, polars


def histograms(images: list[np.ndarray], rows: slice, balanced: bool) -> np.ndarray:
    found = []
    for image in images:
        pixels = image[rows].reshape(-1, 3).astype(np.float64)
        if balanced:
            pixels = np.clip(pixels * (128 / pixels.mean(axis=0)), 0, 255)
        found.append(np.concatenate([np.histogram(pixels[:, channel], 16, (0, 256))[0] for channel in range(3)]))
    return np.array(found) / found[0].sum()


@pytest.mark.slow
@pytest.mark.parametrize("balanced", [False, True], ids=["plain", "balanced"])
@pytest.mark.parametrize(
    "rows", [(slice(None), slice(None)), (slice(56, None), slice(28, None))], ids=["all", "ground"]
)
def test_colour_alone_finds_nothing(rows, balanced, many_pairs):
    """A histogram matcher stays under three times chance: its expected r@1 over random galleries of 100."""
    grounds, polars = many_pairs
    queries, tiles = histograms(grounds, rows[0], balanced), histograms(polars, rows[1], balanced)
    scores = np.minimum(queries[:, None], tiles[None]).sum(axis=2)
    better = (scores >= np.diag(scores)[:, None]).sum(axis=1) - 1
    recall = np.mean((1 - better / (len(scores) - 1)) ** 99)
    assert recall < 0.03


@pytest.fixture(scope="module")
def many_pairs() -> tuple[list[np.ndarray], list[np.ndarray]]:
    grounds, polars = [], []
    for seed in (21, 22):
        one = pairs_of(World(seed, 0.6, PRESETS["aligned"], 120), 120)
        grounds += one[0]
        polars += one[1]
    return grounds, polars


@pytest.mark.slow
def test_speed_on_one_core():
    """A block's panoramas and its share of the orthophoto, encoded: processor time, with room for a busy machine."""
    world = World(3, 0.6, PRESETS["aligned"])
    tile = next(world.tiles())
    numbers = world.panoramas_in(tile)
    _ = world.truth, world._patterns
    start = time.process_time()
    for index in numbers:
        panorama_bytes(world.render_panorama(int(index)), world.truth, int(index), 88)
    image = world.render_tile(tile)
    Image.fromarray(image).save(io.BytesIO(), "JPEG")
    rate = len(numbers) / (time.process_time() - start)
    assert rate > 4, f"{rate:.1f} pairs a second"
