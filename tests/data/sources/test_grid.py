from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cvgeo.data.sources.grid import TileGrid
from cvgeo.geometry.geodesy import move, offset_metres


def area(lat, lon, height, width):
    south, north = (float(move(lat, lon, climb, 0.0)[0]) for climb in (-height / 2, height / 2))
    west, east = (float(move(lat, lon, 0.0, run)[1]) for run in (-width / 2, width / 2))
    return south, west, north, east


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    lat=st.floats(-75, 75),
    lon=st.floats(-170, 170),
    height=st.floats(10, 700),
    width=st.floats(10, 700),
    overlap=st.floats(0.01, 0.9),
    middle=st.booleans(),
    data=st.data(),
)
def test_tiles_cover_the_area_and_the_nearest_come_first(lat, lon, height, width, overlap, middle, data):
    tile = 80.0
    step = tile * (1 - overlap)
    grid = TileGrid(area(lat, lon, height, width), tile, step, middle)
    tile_lat, tile_lon = grid.centres()
    assert len(grid) == len(tile_lat) == grid.rows * grid.columns
    north, east = (data.draw(st.floats(-0.499, 0.499)) * extent for extent in (height, width))
    place_lat, place_lon = move(lat, lon, north, east)
    place, tiles, up, right = grid.covering(np.array([place_lat]), np.array([place_lon]))
    # An independent list: every tile, by its exact offset.
    off_north, off_east = offset_metres(tile_lat, tile_lon, place_lat, place_lon)
    covering = np.flatnonzero(np.maximum(np.abs(off_north), np.abs(off_east)) <= tile / 2)
    assert sorted(tiles.tolist()) == covering.tolist() and not place.any()
    np.testing.assert_allclose(up, off_north[tiles], atol=1e-6)
    np.testing.assert_allclose(right, off_east[tiles], atol=1e-6)
    distances = np.hypot(off_north, off_east)
    assert len(tiles) and distances[tiles[0]] == pytest.approx(distances.min(), abs=1e-6)
    if middle:
        assert max(abs(up[0]), abs(right[0])) <= min(step, tile) / 2 + 0.05


def test_tiles_end_where_the_area_does():
    grid = TileGrid(area(48, 2, 500, 300), 60, 30)
    lat, lon = grid.centres()
    north, east = offset_metres(48, 2, lat, lon)
    assert (grid.rows, grid.columns) == (16, 9)
    assert north.max() == pytest.approx(220, abs=0.1) and east.max() == pytest.approx(120, abs=0.1)
    assert grid.step_north_m == pytest.approx(440 / 15, abs=0.01) and grid.step_east_m == pytest.approx(30, abs=0.01)


def test_places_outside_are_in_no_tile():
    grid = TileGrid(area(48, 2, 100, 100), 60, 30)
    place, *_ = grid.covering(np.array([48.0, 48.1, -48.0]), np.array([2.0, 2.0, 100.0]))
    assert set(place.tolist()) == {0}
    assert len(TileGrid(area(48, 2, 10, 10), 60, 30)) == 1
