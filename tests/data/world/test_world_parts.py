"""Streets, blocks, noise and shadows, one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from cvgeo.data.world import World, blocks
from cvgeo.data.world.knobs import WorldKnobs
from cvgeo.data.world.layout import lay_out, stream
from cvgeo.data.world.light import Sun, cast_shadows
from cvgeo.data.world.noise import Texture, Waves, spread, texture
from cvgeo.data.world.scene import Bend, Surface
from cvgeo.data.world.streets import EDGE, LOCAL, MARGIN_M, Block, StreetPlan, cut
from cvgeo.data.world.window import Window
from cvgeo.errors import UsageError


def square(size: float = 200.0) -> Block:
    return Block(np.array([(0, 0), (size, 0), (size, size), (0, size)], dtype=float), [EDGE] * 4, "suburb")


@settings(max_examples=60, deadline=None)
@given(st.floats(60, 140), st.floats(60, 140), st.floats(0, 3.14))
def test_a_cut_keeps_the_area_and_the_orientation(x, y, angle):
    pieces = cut(square(), np.array([x, y]), angle, LOCAL)
    if pieces is None:
        return
    left, right, street = pieces
    assert left.area > 0 and right.area > 0
    assert left.area + right.area == pytest.approx(200.0**2)
    assert left.kinds.count(LOCAL) == right.kinds.count(LOCAL) == 1
    assert len(left.kinds) == len(left.corners)
    assert street.length > 20


def test_the_blocks_of_a_plan_tile_the_world():
    plan = StreetPlan(600.0, stream(1, 1))
    assert sum(block.area for block in plan.blocks) == pytest.approx((600 + 2 * MARGIN_M) ** 2)
    assert {block.district for block in plan.blocks} <= set(blocks.MIX)
    assert any(street.meets for street in plan.streets)


def test_meetings_are_where_streets_cross():
    plan = StreetPlan(500.0, stream(4, 1))
    for street in plan.streets:
        for at, _ in street.meets:
            point = street.start + at * street.direction
            distances = []
            for other in plan.streets:
                along = float(np.clip((point - other.start) @ other.direction, 0, other.length))
                distances.append(np.hypot(*(other.start + along * other.direction - point)))
            assert sorted(distances)[1] < 0.2


def test_an_inset_keeps_off_the_streets():
    block = Block(square().corners, [LOCAL] * 4, "suburb")
    inner = blocks.inset(block, 3.0)
    assert inner.min() == pytest.approx(LOCAL.margin + 3.0)
    assert inner.max() == pytest.approx(200 - LOCAL.margin - 3.0)
    assert len(blocks.inset(block, 200.0)) == 0


@pytest.mark.parametrize("kind", sorted({kind for mix in blocks.MIX.values() for kind in mix}))
def test_every_kind_of_block_fills_any_shape(kind):
    from cvgeo.data.world.scene import Sketch

    corners = np.array([(0, 0), (150, 10), (140, 120), (30, 90)], dtype=float)
    tiny = np.array([(0, 0), (14, 0), (0, 14)], dtype=float)
    for shape in (corners, tiny):
        sketch = Sketch(stream(3, 9))
        blocks._BUILDERS[kind](Block(shape, [LOCAL] * len(shape), "suburb"), sketch)
        assert sketch.features


def test_a_scene_has_everything():
    scene = lay_out(0, 800.0, WorldKnobs())
    surfaces = {one.surface for one in scene.features}
    assert {Surface.ROAD, Surface.PAVEMENT, Surface.GARDEN, Surface.CAR_PARK, Surface.PATH} <= surfaces
    assert min(len(scene.buildings), len(scene.trees), len(scene.cars), len(scene.poles)) > 200
    assert len(scene.marks) > 1000
    assert set(np.unique(scene.cars["seen"])) == {0, 1, 2}
    assert (scene.buildings["eave"] > 0.5).all()


def test_the_bend_is_gentle_and_turns_what_it_says():
    bend = Bend(stream(2, 3))
    points = np.random.default_rng(0).uniform(0, 1000, (200, 2))
    ahead = bend(points + (0.5, 0.0)) - bend(points - (0.5, 0.0))
    assert np.abs(np.hypot(*ahead.T) - 1).max() < 0.45
    turned = np.degrees(np.arctan2(ahead[:, 1], ahead[:, 0]) - bend.turn(points))
    assert np.abs(turned).max() < 20


def test_waves_between_nodes_agree_with_waves():
    waves, window = Waves(stream(0, 1), 150.0), Window(-12.0, 300.0, 70, 90, 0.25)
    full = spread(waves.nodes(window), window.shape)
    rows, cols = np.mgrid[:70, :90]
    exact = waves.at(window.x0 + 0.25 * (cols + 0.5), window.y_top - 0.25 * (rows + 0.5))
    assert np.abs(full - exact).max() < 0.02


def test_textures_wrap_and_windows_overlap():
    values = texture(np.random.default_rng(0), ((4, 1.0), (1, 0.3)), 64)
    assert abs(values.mean()) < 1e-5 and values.std() == pytest.approx(1, abs=1e-4)
    pattern = Texture(values)
    one = pattern.window(Window(-10.0, 50.0, 100, 120, 0.5))
    other = pattern.window(Window(-5.0, 45.0, 80, 90, 0.5))
    assert np.array_equal(one[10:90, 10:100], other)


def test_shadows_against_a_ray_for_every_pixel():
    rng = np.random.default_rng(3)
    height = np.zeros((60, 80), np.float32)
    for _ in range(6):
        row, col = rng.integers(5, 50), rng.integers(5, 70)
        height[row : row + 6, col : col + 6] = rng.uniform(2, 9)
    height = np.repeat(np.repeat(height, 2, 0), 2, 1)
    sun = Sun(np.radians(45.0), np.radians(35.0), 0.6)
    lit = cast_shadows(height, sun, 0.5)[::2, ::2]
    literal = np.ones((60, 80))
    small = height[::2, ::2]
    for row in range(60):
        for col in range(80):
            for step in range(1, 40):
                r, c = row - step, col + step  # the sun is in the north-east
                if (
                    0 <= r < 60
                    and 0 <= c < 80
                    and small[r, c] > small[row, col] + step * 2**0.5 * np.tan(sun.elevation)
                ):
                    literal[row, col] = 0
    assert np.mean(np.abs(lit - literal) > 0.5) < 0.08


def test_knobs_are_set_by_name():
    knobs = WorldKnobs().with_settings(["season=0.25", "panorama_width=512", "turn=north"])
    assert (knobs.season, knobs.panorama_width, knobs.turn) == (0.25, 512, "north")
    assert (knobs.panorama_height, knobs.haze) == (256, WorldKnobs().haze)


@pytest.mark.parametrize(
    "assignment, says",
    [("seasn=1", "season"), ("season", "knob"), ("season=x", "number"), ("hfov=400", "range"), ("turn=up", "north")],
)
def test_bad_knobs_are_named(assignment, says):
    with pytest.raises(UsageError, match=says):
        WorldKnobs().with_settings([assignment])


def test_textures_of_a_raster_change_both_views(tmp_path):
    path = tmp_path / "stripes.tif"
    image = np.zeros((3, 300, 300), np.uint8) + np.uint8(90)
    image[:, :, ::6] = 200
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=300,
        height=300,
        count=3,
        dtype="uint8",
        crs="EPSG:32631",
        transform=from_origin(500000, 5000000, 0.25, 0.25),
    ) as raster:
        raster.write(image)
    plain, textured = World(1, 0.3, panoramas=1), World(1, 0.3, panoramas=1, textures=[path])
    for one, other in (
        (plain.render_panorama(0), textured.render_panorama(0)),
        (plain.render_ortho_window(300, 300, 100, 100), textured.render_ortho_window(300, 300, 100, 100)),
    ):
        assert np.abs(one.astype(int) - other).mean() > 1
    factor = textured._details[0].values
    assert np.array_equal(factor, factor[::-1]) and np.array_equal(factor, factor[:, ::-1])
    assert 90 < factor[..., :3].mean() < 110


ORTHOPHOTO = (
    Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "orthophotos" / "deepforest" / "test_tiled.tif"
)


@pytest.mark.skipif(not ORTHOPHOTO.is_file(), reason="the real orthophotos are not here")
def test_textures_of_a_real_orthophoto():
    world = World(1, 0.3, panoramas=1, textures=[ORTHOPHOTO])
    assert world.render_ortho_window(0, 0, 64, 64).shape == (64, 64, 3)
    assert world._details[0].values.std() > 3
