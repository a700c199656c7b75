from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cvgeo.data.pair_facts import PairFacts
from cvgeo.data.schema import Dataset, Pairs
from cvgeo.geometry.geodesy import move


@pytest.fixture
def rings(make_rings: Callable[..., Dataset], tmp_path: Path) -> Dataset:
    dataset = make_rings(tmp_path / "rings", train=5, val=0)  # tiles of 64 pixels of 0.5 m
    rows = np.arange(5)
    dataset.pairs = Pairs(
        np.r_[rows, rows[:3]],
        np.r_[rows, rows[:3] + 1],
        np.r_[rows * 0, rows[:3] * 0 + 1],
        np.r_[rows * 1.0, -8.0, 8.0, 0.0],
        np.r_[rows * -2.0, 0.0, 0.0, np.nan],
    )
    return dataset


def test_offsets_are_shares_of_the_tiles_side(rings: Dataset) -> None:
    facts = PairFacts(rings)
    np.testing.assert_allclose(
        facts.offsets(np.array([4, 0, 1]), np.array([4, 0, 2])), [[0.125, -0.25], [0, 0], [0.25, 0]]
    )
    unknown = facts.offsets(np.array([0, 2, 3, 4]), np.array([-1, 3, 0, 0]))
    assert np.isnan(unknown[:, 1]).all()
    assert np.isnan(unknown[[0, 2, 3], 0]).all()


def test_a_tile_of_unknown_size_has_unknown_offsets(rings: Dataset) -> None:
    rings.tiles.gsd_m[1] = np.nan
    Path(rings.tiles.path[2]).write_bytes(b"no picture")
    assert np.isnan(PairFacts(rings).offsets(np.arange(4), np.arange(4))).all(axis=1).tolist() == [
        False,
        True,
        True,
        False,
    ]


def test_near_places_by_metres(rings: Dataset) -> None:
    lat, lon = move(52.0, 13.0, np.array([0.0, 24.9, 0.0, 50.1, 0.0]), np.array([0.0, 0.0, 25.1, 0.0, 3.0]))
    rings.panoramas.lat, rings.panoramas.lon = lat, lon
    rings.panoramas.lat[4] = rings.panoramas.lon[4] = np.nan
    rings.tiles.lat[4], rings.tiles.lon[4] = lat[0], lon[0]
    near = PairFacts(rings).near(np.arange(5), np.arange(5), 25.0)
    expected = np.eye(5, dtype=bool)
    for one, other in ((0, 1), (0, 4), (1, 4)):
        expected[one, other] = expected[other, one] = True
    # 24.9 m north and 25.1 m east of the same place are farther apart.
    assert near.tolist() == expected.tolist()
    rings.tiles.lat[4] = np.nan
    assert not PairFacts(rings).near(np.arange(5), np.arange(5), 1e9)[4].any()
