from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.geometry.areas import Box, Disc, Polygons
from cvgeo.geometry.geodesy import distance_m, move
from cvgeo.geometry.shapes import GeometryError


def even_odd(lat, lon, rings):
    """One position, side by side: the rule as it is told."""
    inside = False
    for ring in rings:
        for (x, y), (x2, y2) in pairwise(ring):
            if min(y, y2) <= lat < max(y, y2) and lon < x + (lat - y) * (x2 - x) / (y2 - y):
                inside = not inside
    return inside


# Whole degrees make vertices and sides of one latitude meet positions often.
corners = st.tuples(st.integers(-9, 9), st.integers(-9, 9)).map(lambda place: (float(place[0]), float(place[1])))
ring_lists = st.lists(
    st.lists(corners, min_size=3, max_size=8).map(lambda ring: [*ring, ring[0]]), min_size=1, max_size=3
)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(polygons=st.lists(ring_lists, min_size=1, max_size=3), places=st.lists(corners, min_size=1, max_size=40))
def test_polygons_are_as_a_literal_loop_says(polygons, places):
    lon, lat = np.array(places).T
    expected = [any(even_odd(y, x, rings) for rings in polygons) for x, y in places]
    assert Polygons(polygons).contains(lat, lon).tolist() == expected


def box(west, south, east, north):
    return [(west, south), (east, south), (east, north), (west, north), (west, south)]


def test_holes_unknown_positions_and_the_date_line():
    ring = Polygons([[box(0, 0, 10, 10), box(4, 4, 6, 6)]])
    assert ring.contains(np.array([5.0, 1.0, 11.0, np.nan]), np.array([5.0, 5.0, 5.0, 5.0])).tolist() == [0, 1, 0, 0]
    across = Polygons([[box(179, -1, -179, 1)]])
    lon = np.array([179.5, -179.5, 178.0, -178.0, 0.0])
    assert across.contains(np.zeros(5), lon).tolist() == [1, 1, 0, 0, 0]
    world = Polygons([[box(-180, -90, 180, 90)]])
    assert world.contains(np.array([0.0, 80.0]), np.array([-179.0, 100.0])).all()


@pytest.mark.parametrize(
    ("ring", "said"),
    [
        (box(0, 0, 1, 1)[:-1], "not closed"),
        ([(0, 0), (1, 1), (0, 0)], "fewer than four"),
        ([(0, 80), (120, 80), (-120, 80), (0, 80)], "around a pole"),
    ],
)
def test_rings_that_bound_nothing_are_refused(ring, said):
    with pytest.raises(GeometryError, match=said):
        Polygons([[ring]])


def test_a_disc_is_what_lies_within_the_geodesic():
    generator = np.random.default_rng(0)
    lat, lon = generator.uniform(59.9, 60.1, 400), generator.uniform(179.8, 180.2, 400)
    lon = (lon + 180) % 360 - 180
    inside = Disc(60.0, 180.0, 5000.0).contains(np.append(lat, np.nan), np.append(lon, 0.0))
    expected = [float(distance_m(60.0, 180.0, *place)) <= 5000 for place in zip(lat, lon, strict=True)]
    assert 20 < sum(expected) < 380 and inside.tolist() == [*expected, False]
    edge_lat, edge_lon = move(60.0, 180.0, 4999.99, 0.0)
    assert Disc(60.0, 180.0, 5000.0).contains(np.array([edge_lat]), np.array([edge_lon])).all()


def test_a_box_tells_how_far_outside_of_it_a_position_lies():
    box = Box.around(np.array([51.8, np.nan, 51.9]), np.array([4.9, np.nan, 5.0]))
    assert box == Box(51.8, 4.9, 51.9, 5.0) and str(box) == "51.80000,4.90000,51.90000,5.00000"
    assert box.beyond_m(51.85, 4.95) == 0
    assert box.beyond_m(51.85, 5.1) == pytest.approx(distance_m(51.85, 5.0, 51.85, 5.1))
    assert box.beyond_m(51.7, 4.8) == pytest.approx(distance_m(51.8, 4.9, 51.7, 4.8))
    near_the_date_line = Box.around(np.array([0.0, 0.0]), np.array([179.8, 179.9]))
    assert near_the_date_line.beyond_m(0.0, -179.9) == pytest.approx(distance_m(0.0, 179.9, 0.0, -179.9))
    assert Box.around(np.array([0.0, 1.0]), np.array([179.9, -179.9])).beyond_m(0.5, 20.0) == 0
