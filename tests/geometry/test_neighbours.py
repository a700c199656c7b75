from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.geometry.geodesy import distance_m, earth_centred
from cvgeo.geometry.neighbours import has_neighbour, near_pairs, nearest, nearest_rows


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.5, 50), st.integers(0, 99))
def test_neighbours_against_all_distances(count, others, distance, seed):
    generator = np.random.default_rng(seed)
    points, far = generator.uniform(-60, 60, (count, 3)), generator.uniform(-60, 60, (others, 3))
    gaps = np.linalg.norm(points[:, None] - far[None], axis=2)
    np.testing.assert_array_equal(has_neighbour(points, far, distance), (gaps < distance).any(axis=1))
    row, near = nearest(points, far, distance)
    for one, (found, metres) in enumerate(zip(row, near, strict=True)):
        within = [gap for gap in gaps[one] if gap < distance]
        assert metres == (min(within) if within else np.inf)
        assert found == -1 if not within else gaps[one, found] == metres
    pairs = {
        (a, b) for rows, others_, _ in near_pairs(points, far, distance) for a, b in zip(rows, others_, strict=True)
    }
    assert pairs == set(zip(*np.nonzero(gaps < distance), strict=True))


def test_chords_are_distances():
    lat, lon = np.array([48.0, 48.001]), np.array([179.9999, -179.9999])
    chord = np.linalg.norm(np.diff(earth_centred(lat, lon), axis=0))
    assert abs(chord / distance_m(lat[0], lon[0], lat[1], lon[1]) - 1) < 1e-8
    assert np.isnan(earth_centred(np.nan, 2.0)).any()


def brute(points: np.ndarray, count: int) -> list[list[int]]:
    """Every distance of every point, one row at a time."""
    found = []
    for row, point in enumerate(points):
        squared = ((point - points) ** 2).sum(axis=1)
        found.append([number for number in np.argsort(squared, kind="stable").tolist() if number != row][:count])
    return found


@pytest.mark.parametrize(("number", "count"), [(2, 1), (5, 3), (300, 7), (1300, 20), (1300, 700)])
def test_nearest_rows_are_those_of_brute_force(number: int, count: int) -> None:
    generator = np.random.default_rng(number)
    # Clusters of very different density, far from the origin.
    points = generator.normal(size=(number, 3)) * 10.0 ** generator.integers(0, 5, (number, 1)) + 6.4e6
    assert nearest_rows(points, count).tolist() == brute(points, count)


def test_fewer_points_than_asked_for() -> None:
    assert nearest_rows(np.array([[0.0], [3.0], [1.0]]), 9).tolist() == [[2, 1], [2, 0], [0, 1]]
    assert nearest_rows(np.zeros((1, 2)), 3).shape == (1, 0)
    assert nearest_rows(np.zeros((0, 2)), 3).shape == (0, 0)


def test_points_at_one_place_are_neighbours_of_each_other() -> None:
    points = np.repeat(np.arange(4.0), 400)[:, None]
    table = nearest_rows(points, 300)
    assert (points[table, 0] == points).all()
    assert (table != np.arange(1600)[:, None]).all()
    assert all(len(set(row)) == 300 for row in table.tolist())
