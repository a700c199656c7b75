from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.data import splits
from cvgeo.geometry.geodesy import distance_m


def town(count, metres, seed=0, lat=48.0, lon=2.0):
    generator = np.random.default_rng(seed)
    span = metres / 111_195
    return lat + generator.uniform(0, span, count), lon + generator.uniform(0, span, count) / np.cos(np.radians(lat))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    apart=st.floats(1, 200),
    lat=st.floats(-80, 80),
    lon=st.sampled_from([-180.0, 0.0, 179.999]),
)
def test_splits_are_apart(seed, apart, lat, lon):
    lats, lons = town(60, 500, seed, lat, lon)
    split = splits.PlaceSplit(lats, lons, 0.2, 0.3, apart, seed).of(lats, lons)
    kept = splits.drop_near(lats, lons, split, apart)
    for one in range(len(kept)):
        gaps = distance_m(lats[one], lons[one], lats, lons)
        others = (kept != kept[one]) & (kept != splits.DROPPED)
        # The ball is a sphere here and an ellipsoid there: within 0.7 %.
        assert kept[one] == splits.DROPPED or not (gaps[others] < apart * 0.99).any()
        if kept[one] == splits.DROPPED:
            assert (gaps[split != split[one]] < apart * 1.01).any()


def test_held_out_places_are_never_dropped():
    lat, lon = town(500, 800)
    split = splits.PlaceSplit(lat, lon, 0.1, 0.2, 40, 0).of(lat, lon)
    kept = splits.drop_near(lat, lon, split, 40)
    assert ((split == splits.TEST) == (kept == splits.TEST)).all()
    assert (kept == splits.DROPPED).sum() > (split == splits.TRAIN).sum() - (kept == splits.TRAIN).sum() > 0


@pytest.mark.parametrize(("val", "test"), [(0.1, 0.1), (0.06, 0.25), (0, 0.5), (0, 0), (0, 1)])
def test_shares(val, test):
    lat, lon = town(2000, 2000)
    split = splits.PlaceSplit(lat, lon, val, test, 10, 0).of(lat, lon)
    counts = Counter(split)
    assert counts["test"] / 2000 == pytest.approx(test, abs=0.03)
    assert counts["val"] / 2000 == pytest.approx(val, abs=0.03)
    assert sum(counts.values()) == 2000


def test_same_seed_same_deal():
    lat, lon = town(300, 600)

    def deal(seed):
        return splits.PlaceSplit(lat, lon, 0.2, 0.2, 20, seed).of(lat, lon).tolist()

    assert deal(4) == deal(4) != deal(5)


def test_no_tile_is_in_two_splits():
    generator = np.random.default_rng(0)
    split = generator.choice(["train", "val", "test"], 40).astype(object)
    place, tile = generator.integers(0, 40, 120), generator.integers(0, 30, 120)
    kept, tiles = splits.claim_tiles(split, place, tile, np.full(30, "train", dtype=object))
    assert ((split == "test") == (kept == "test")).all()
    for one, other in zip(place, tile, strict=True):
        assert kept[one] in ("", tiles[other])
    assert set(tiles[np.setdiff1d(np.arange(30), tile)]) <= {"train"}


def test_random_split():
    split = splits.split_at_random(100, 0.1, 0.25, 0)
    assert Counter(split) == {"train": 65, "val": 10, "test": 25}
    assert (splits.split_at_random(100, 0.1, 0.25, 1) != split).any()
