"""One thing placed by hand is where both views say it is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvgeo.data.world.aerial import render_ortho
from cvgeo.data.world.ground import Camera, prepare_ground, see
from cvgeo.data.world.knobs import WorldKnobs
from cvgeo.data.world.layout import stream
from cvgeo.data.world.light import make_look, make_patterns
from cvgeo.data.world.raster import rasterise
from cvgeo.data.world.scene import BUILDING, CAR, POLE, TREE, Roof, Scene
from cvgeo.data.world.sprites import draw_cars, draw_poles, draw_trees
from cvgeo.data.world.window import Window

KNOBS = WorldKnobs()
SIZE = 128.0
EYE = (64.0, 60.0)
LENS = 2.5
SIGHT = 60.0
PATTERNS = make_patterns(stream(0, 5))


def place(kind: np.dtype, heading: float, distance: float, **values) -> np.ndarray:
    """A table with one thing, its centre at a heading and a distance from the eye."""
    table = np.zeros(1, kind)
    table["x"] = EYE[0] + distance * math.sin(math.radians(heading))
    table["y"] = EYE[1] + distance * math.cos(math.radians(heading))
    for name, value in values.items():
        table[name] = value
    return table


def scene_of(**tables: np.ndarray) -> Scene:
    scene = Scene.empty(SIZE)
    for name, table in tables.items():
        setattr(scene, name, table)
    return scene


def layers_of(scene: Scene):
    return rasterise(scene, Window(0.0, SIZE, round(SIZE / 0.25), round(SIZE / 0.25), 0.25))


def look_of(seed: int = 0):
    return make_look(stream(seed, 6), KNOBS, 0.0, PATTERNS)


def view_of(scene: Scene, column0: float = 180.0, width: int = 720, **fields):
    camera = Camera(
        *EYE,
        LENS,
        column0,
        width,
        fields.get("height", width // 2),
        fields.get("hfov", 360.0),
        fields.get("top", 90.0),
        fields.get("bottom", -90.0),
    )
    look = look_of()
    ground = prepare_ground(scene, layers_of(scene), look, KNOBS)
    view = see(scene, ground, camera, SIGHT)
    draw_cars(scene, view, look, SIGHT)
    draw_poles(scene, view, SIGHT)
    draw_trees(scene, view, look, SIGHT)
    return view


def tower(heading: float, distance: float, half: float = 1.0, eave: float = 12.0, **values) -> np.ndarray:
    angle = math.radians(90 - heading)  # its x axis points away from the eye
    table = place(BUILDING, heading, distance, angle=angle, half_x=half, half_y=half, eave=eave, **values)
    table["wall_rgb"], table["roof_rgb"], table["window"] = 0.5, (1.0, 0.0, 0.0), (3, 3, 0.5, 0.5)
    return table


@pytest.mark.parametrize("heading", [0.0, 37.0, 90.0, 143.5, 180.0, 251.0, 359.0])
@pytest.mark.parametrize("column0", [180.0, 0.0, 77.0])
def test_a_tower_stands_at_its_heading(heading, column0):
    view = view_of(scene_of(buildings=tower(heading, 21.0)), column0)
    horizon = int(np.argmin(np.abs(view.tangent - 0.1)))  # a little above the horizon: only the tower is there
    columns = np.flatnonzero(np.isfinite(view.distance[:, horizon]))
    seen = (column0 + 360 * (columns + 0.5) / 720 - heading + 180) % 360 - 180
    half = math.degrees(math.atan(1.0 / 20.0))
    assert abs(seen.min() + half) < 0.5
    assert abs(seen.max() - half) < 0.5
    assert abs(seen.mean()) < 0.26


@pytest.mark.parametrize("distance, eave", [(8.0, 5.0), (21.0, 12.0), (45.0, 30.0)])
def test_a_tower_reaches_its_elevations(distance, eave):
    view = view_of(scene_of(buildings=tower(30.0, distance, eave=eave)), 30.0 - 90.0, 1440)
    column = view.distance[360]
    wall = np.flatnonzero(np.isclose(column, distance - 1.0, atol=0.01))
    elevations = np.degrees(view.camera.elevations)
    assert abs(elevations[wall].max() - math.degrees(math.atan2(eave - LENS, distance - 1))) < 0.26
    assert abs(elevations[wall].min() - math.degrees(math.atan2(-LENS, distance - 1))) < 0.3


def test_level_ground_is_where_the_rays_meet_it():
    view = view_of(Scene.empty(SIZE))
    below = view.tangent < -LENS / 50
    expected = -LENS / view.tangent[below]
    assert np.allclose(view.distance[:, below], expected[None], rtol=2e-3)
    assert np.isinf(view.distance[:, view.tangent > 0]).all()


def test_a_tower_hides_what_is_behind_it():
    near, far = tower(30.0, 12.0, half=2.0, eave=9.0), tower(30.0, 40.0, half=1.0, eave=9.0)
    view = view_of(scene_of(buildings=np.concatenate((near, far))), 30.0 - 180.0)
    assert np.nanmin(np.abs(view.distance[360] - 39.0)) > 5
    assert np.isclose(view.distance[360], 10.0, atol=0.01).any()


@pytest.mark.parametrize("heading, distance", [(0.0, 20.0), (90.0, 30.0), (225.0, 41.0)])
def test_the_ortho_shows_the_tower_at_its_pixel(heading, distance):
    scene = scene_of(buildings=tower(heading, distance, half=3.0))
    layers = layers_of(scene)
    rows, cols = np.nonzero(layers.building)
    x, y = (cols + 0.5) * 0.25, SIZE - (rows + 0.5) * 0.25
    assert math.degrees(math.atan2(x.mean() - EYE[0], y.mean() - EYE[1])) % 360 == pytest.approx(heading % 360, abs=0.2)
    assert math.hypot(x.mean() - EYE[0], y.mean() - EYE[1]) == pytest.approx(distance, abs=0.1)
    assert len(rows) * 0.25**2 == pytest.approx(36.0, rel=0.05)
    image = render_ortho(scene, layers, look_of(), KNOBS).astype(int)
    red = image[..., 0] - image[..., 1]
    assert red[int(rows.mean()), int(cols.mean())] > 60
    assert np.median(red) < 30


def test_shadows_fall_away_from_the_sun():
    scene = scene_of(buildings=tower(0.0, 20.0, half=2.0, eave=10.0))
    look = look_of()
    look.sun.direct, look.sun.azimuth, look.sun.elevation = 0.6, 0.0, math.radians(45)  # in the east
    layers = layers_of(scene)
    image = render_ortho(scene, layers, look, KNOBS).astype(float).mean(axis=2)
    row, col = (int(one.mean()) for one in np.nonzero(layers.building))
    west, east = image[row - 4 : row + 4, col - 40 : col - 12], image[row - 4 : row + 4, col + 12 : col + 40]
    assert west.mean() < 0.75 * east.mean()


@pytest.mark.parametrize("kind", ["trees", "poles", "cars"])
def test_upright_things_stand_at_their_heading(kind):
    tables = {
        "trees": place(TREE, 200.0, 15.0, radius=2.0, top=8.0, base=3.0, shade=0.5),
        "poles": place(POLE, 200.0, 15.0, top=8.0, radius=0.3),
        "cars": place(CAR, 200.0, 15.0, angle=math.radians(90 - 200.0), size=(4.4, 1.8, 1.5), rgb=0.5),
    }
    view = view_of(scene_of(**{kind: tables[kind]}), 20.0, 1440)
    bare = view_of(Scene.empty(SIZE), 20.0, 1440)
    columns = np.flatnonzero((view.distance < bare.distance - 0.5).any(axis=1))
    headings = 20.0 + 360 * (columns + 0.5) / 1440
    assert (headings.min() + headings.max()) / 2 == pytest.approx(200.0, abs=0.4)
    half = {"trees": 2.0 / 15, "poles": 0.3 / 15, "cars": 0.9 / 12.8}[kind]
    assert (headings.max() - headings.min()) / 2 == pytest.approx(math.degrees(half), abs=0.6)


def test_a_tree_is_on_its_pixels_from_above():
    scene = scene_of(trees=place(TREE, 45.0, 20.0, radius=3.0, top=9.0, base=3.0, shade=0.5))
    layers = layers_of(scene)
    rows, cols = np.nonzero(layers.crown)
    assert (cols.mean() + 0.5) * 0.25 == pytest.approx(scene.trees["x"][0], abs=0.1)
    assert SIZE - (rows.mean() + 0.5) * 0.25 == pytest.approx(scene.trees["y"][0], abs=0.1)
    assert layers.canopy.max() == pytest.approx(9.0, abs=0.05)


def test_a_gable_rises_to_its_ridge():
    scene = scene_of(buildings=tower(0.0, 20.0, half=4.0, eave=5.0, rise=3.0, roof=int(Roof.GABLE)))
    height = layers_of(scene).height
    assert height.max() == pytest.approx(8.0, abs=0.15)
    assert height[height > 0].min() == pytest.approx(5.0, abs=0.15)


def test_a_cut_view_is_part_of_the_full_one():
    scene = scene_of(buildings=tower(30.0, 18.0, half=3.0))
    full = view_of(scene, 0.0, 720)
    cut = view_of(scene, 10.0, 540, height=144, hfov=270.0, top=36.0, bottom=-36.0)
    assert np.allclose(cut.distance, full.distance[20:560, 108:252], rtol=1e-4)


def test_hills_hide_and_lift():
    flat = Scene.empty(SIZE)
    hill = Scene.empty(SIZE)
    hill.terrain = lambda x, y: 6.0 * np.exp(-((np.asarray(y) - EYE[1] - 25.0) ** 2) / 60.0) + 0.0 * np.asarray(x)
    north = 360
    row = int(np.argmin(np.abs(view_of(flat).tangent - 0.05)))
    assert np.isinf(view_of(flat).distance[north, row])
    assert 10 < view_of(hill).distance[north, row] < 25
