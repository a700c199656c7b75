"""Maps as colours, on panels, and on the north-up tile."""

import numpy as np
import pytest

from cvgeo.config.schema import ViewConfig
from cvgeo.explain.heat import colour_bar, colours, enlarge, overlay, overlay_rgba
from cvgeo.explain.heat_panels import Marks, ModelMaps, map_panels, tile_values
from cvgeo.explain.heat_sheet import SIDE, WIDE, HeatRow, Panels, draw_heat_sheet
from cvgeo.explain.sample_sheet import BAND, TILE, Sample, draw_samples
from cvgeo.geometry.polar import polar_grid, polar_places

VIEW = {"ground_height": 32, "ground_width": 128, "aerial_height": 32, "aerial_width": 128}


def blank(value=90):
    return Panels(*(np.full((SIDE, width, 3), value, np.uint8) for width in (WIDE, WIDE, SIDE)))


def test_a_map_is_enlarged_between_the_centres_of_its_cells():
    values = np.arange(12, dtype=float).reshape(3, 4)
    large = enlarge(values, 15, 20, wraps=False)
    np.testing.assert_allclose(large[2::5, 2::5], values, atol=1e-6)
    assert large[7, 5] == pytest.approx(values[1, 0] * 0.4 + values[1, 1] * 0.6)
    np.testing.assert_allclose(large[:, 0], large[:, 2], atol=1e-6)


def test_a_map_that_wraps_turns_with_its_cells():
    values = np.random.default_rng(0).random((3, 8))
    large = enlarge(values, 12, 40, wraps=True)
    np.testing.assert_allclose(
        enlarge(np.roll(values, 3, axis=1), 12, 40, wraps=True), np.roll(large, 15, 1), atol=1e-6
    )


def test_colours_grow_lighter_evenly_and_nothing_covers_nothing():
    shades = colours(np.linspace(0, 1, 64)[None])[0].astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(shades) > -1).all() and shades[-1] > 220 > 60 > shades[0]
    picture = np.full((4, 4, 3), 100, np.uint8)
    assert (overlay(picture, np.zeros((4, 4))) == 85).all()
    rgba = overlay_rgba(np.array([[0.0, 1.0]]))
    assert rgba.shape == (1, 2, 4) and rgba[0, 0, 3] == 0 and rgba[0, 1, 3] == 204
    assert colour_bar(50, 5).shape == (5, 50, 3)


@pytest.mark.parametrize("convention", ["paper", "safa"])
@pytest.mark.parametrize(("column0", "heading"), [(180.0, 90.0), (0.0, 45.0), (30.0, 300.0)])
def test_what_is_hot_in_a_direction_lies_there_on_the_tile(convention, column0, heading):
    view = ViewConfig(polar_convention=convention, column0_heading=column0, **VIEW)
    column = int((heading - column0) % 360 / 360 * 16)
    hot = np.zeros((4, 16))
    hot[1, column] = 1
    tile = tile_values(ModelMaps(np.zeros((4, 16)), hot), view, 100)
    row, col = np.unravel_index(tile.argmax(), tile.shape)
    found = np.degrees(np.arctan2(col - 50, 50 - row)) % 360
    middle = (column0 + (column + 0.5) * 360 / 16) % 360
    assert abs((found - middle + 180) % 360 - 180) < 6
    assert np.hypot(row - 50, col - 50) == pytest.approx(50 * (1 - 1.5 / 4), abs=3)
    assert tile[0, 0] == tile[99, 99] == 0


def test_rows_of_models_that_face_elsewhere_line_up():
    hot = np.zeros((4, 16))
    hot[2, 3] = 1
    same = [
        map_panels(ModelMaps(np.roll(hot, turn, 1), np.roll(hot, turn, 1)), ViewConfig(column0_heading=own, **VIEW),
                   blank(), 180.0)
        for turn, own in ((0, 180.0), (4, 90.0))
    ]  # fmt: skip
    for name in ("ground", "polar", "tile"):
        assert np.abs(getattr(same[0], name).astype(int) - getattr(same[1], name)).max() <= 2, name
    assert (same[0].ground != overlay(blank().ground, np.zeros((SIDE, WIDE)))).any()


def test_a_plain_tiles_map_is_bent_into_the_polar_panel():
    view = ViewConfig(ground_height=32, ground_width=128, aerial="plain", aerial_height=64, aerial_width=64)
    hot = np.zeros((8, 8))
    hot[3:5, 6:] = 1  # in the east
    panels = map_panels(ModelMaps(np.zeros((4, 16)), hot), view, blank(), 180.0)
    warm = panels.polar.astype(int).sum(axis=(0, 2))
    assert abs(warm.argmax() / WIDE - 0.75) < 0.06
    assert panels.tile[SIDE // 2, -10].sum() > panels.tile[10, 10].sum() + 100


def test_marks_fall_on_the_same_place_of_map_and_tile():
    rows, columns = polar_grid(100, 32, 128, "paper", 180.0)
    at = polar_places(10, 70, 100, 32, 128, "paper", 180.0)
    assert (float(at[0]), float(at[1])) == (rows[10, 70], columns[10, 70])
    marks = Marks(np.array([0.5, 0.75]), [np.array([[0.5, 0.75], [0.5, 1.2], [-0.3, 0.1]])])
    maps = ModelMaps(np.zeros((4, 16)), np.zeros((4, 16)), marks, marks)
    panels = map_panels(maps, ViewConfig(**VIEW), blank(), 180.0)
    cyan = (panels.ground == (0, 229, 255)).all(axis=2)
    assert np.argwhere(cyan).mean(axis=0) == pytest.approx((SIDE / 2 - 0.5, 0.75 * WIDE - 0.5), abs=1)
    east = np.argwhere((panels.tile == (0, 229, 255)).all(axis=2)).mean(axis=0) / SIDE
    assert abs(east[0] - 0.5) < 0.2 and east[1] > 0.5


def test_the_sheet_has_a_row_a_model_and_a_colour_bar():
    rows = [HeatRow("one", "similarity 0.5", blank(40)), HeatRow("two" * 50, "", blank(200))]
    legend = [((0, 229, 255), "samples")]
    one = draw_heat_sheet("title " * 80, "subtitle " * 80, blank(), rows[:1], 180.0, "scale", legend)
    two = draw_heat_sheet("title", "", blank(), rows, 180.0, "scale")
    assert one.dtype == np.uint8 and one.shape[1] == two.shape[1] == 2 * WIDE + SIDE + 4 * 14
    assert two.shape[0] - one.shape[0] > SIDE
    assert (two == 200).all(axis=2).sum() >= SIDE * (2 * WIDE + SIDE)


def test_samples_of_pairs_and_of_a_gallery():
    tile, band = np.zeros((TILE, TILE, 3), np.uint8), np.zeros((BAND, 4 * BAND, 3), np.uint8)
    pairs = draw_samples("set", "3 of 9 pairs", [Sample(f"p{n}", tile, band, band) for n in range(3)])
    tiles = draw_samples("set", "", [Sample("long name " * 30, tile)] * 7)
    assert pairs.shape[1] == 2 * (TILE + 4 + 4 * BAND + 16) + 16 and (pairs == 0).all(axis=2).sum() > 3 * TILE * TILE
    assert tiles.shape[1] == 6 * (TILE + 16) + 16 and (tiles[-60] == 0).all(axis=1).sum() >= TILE
