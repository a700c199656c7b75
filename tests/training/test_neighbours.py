from __future__ import annotations

import numpy as np
import pytest

from cvgeo.config.schema import TrainConfig
from cvgeo.data.samplers import UniquePlaceBatches
from cvgeo.data.schema import Pairs, Panoramas, Tiles
from cvgeo.training.neighbours import HardSampling, places, similar_neighbours


def test_similar_neighbours_agree_with_a_loop() -> None:
    generator = np.random.default_rng(0)
    panoramas, tiles = 40, 30
    ground, aerial = (generator.normal(size=(count, 6)).astype(np.float32) for count in (panoramas, tiles))
    own = generator.integers(0, tiles, panoramas)
    rows = np.r_[np.arange(panoramas), 3, 5]
    pairs = Pairs(rows, np.r_[own, (own[3] + 1) % tiles, 0], np.where(rows % 10 == 9, 1, 0))
    batches = UniquePlaceBatches(pairs, panoramas, 2, seed=0)
    table = similar_neighbours(ground, aerial, batches, 12)
    first = {p: min(pairs.tile[(pairs.panorama == p) & (pairs.role == 0)].tolist()) for p in batches.panoramas.tolist()}
    for panorama in range(panoramas):
        if panorama not in first:
            assert (table[panorama] == -1).all()
            continue
        scores = {other: float(ground[panorama] @ aerial[tile]) for other, tile in first.items() if other != panorama}
        expected = sorted(scores, key=lambda other: (-scores[other], other))[:12]
        np.testing.assert_allclose(
            [scores[one] for one in table[panorama]], [scores[one] for one in expected], rtol=1e-5
        )
        assert panorama not in table[panorama]
        assert len(set(table[panorama].tolist())) == 12


def test_fewer_samples_than_the_pool_leave_it_open() -> None:
    batches = UniquePlaceBatches(Pairs([0, 1, 2], [0, 1, 2], [0, 0, 0]), 3, 2, seed=0)
    table = similar_neighbours(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), batches, 5)
    assert [sorted(row) for row in table.tolist()] == [[-1, -1, -1, 1, 2], [-1, -1, -1, 0, 2], [-1, -1, -1, 0, 1]]


@pytest.mark.parametrize(
    ("sampling", "due"),
    [
        ("geographic", [0]),
        ("similarity", [3, 6, 9]),
        ("geographic_then_similarity", [0, 3, 6, 9]),
    ],
)
def test_when_tables_are_due(sampling: str, due: list[int]) -> None:
    sampling = HardSampling(TrainConfig(sampling=sampling, resample_every=3), None, None)
    assert [epoch for epoch in range(10) if sampling.due(epoch)] == due


def test_a_place_is_the_panoramas_else_its_tiles() -> None:
    panoramas = Panoramas(["a", "b", "c"], ["", "", ""], [1.0, np.nan, np.nan], [2.0, np.nan, np.nan])
    tiles = Tiles(["t", "u", "v"], ["", "", ""], [5.0, 6.0, np.nan], [7.0, 8.0, np.nan])
    batches = UniquePlaceBatches(Pairs([0, 1, 2], [0, 1, 2], [0, 0, 0]), 3, 2, seed=0)
    lat, lon = places(panoramas, tiles, batches)
    assert lat[:2].tolist() == [1, 6] and lon[:2].tolist() == [2, 8]
    assert np.isnan(lat[2]) and np.isnan(panoramas.lat[1])
