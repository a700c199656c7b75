import numpy as np
import pytest

from cvgeo.geometry.geodesy import move
from cvgeo.retrieval import exact
from cvgeo.retrieval.exact import ArrayGallery, search
from cvgeo.retrieval.heading import RollingScorer
from cvgeo.retrieval.probability import (
    Fit,
    LogSums,
    between,
    fit,
    grouped_log_sums,
    place_probabilities,
)


def unit(generator, *shape):
    values = generator.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def literal_softmax(scores, sharpness):
    """(N,) shares by a loop, in double precision."""
    largest = max(scores)
    parts = [float(np.exp(np.float64(sharpness) * (score - largest))) for score in scores]
    return [part / sum(parts) for part in parts]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rolled", [False, True])
def test_streamed_sums_are_those_of_a_full_softmax(rolled, threads, monkeypatch):
    monkeypatch.setattr(exact.torch, "get_num_threads", lambda: threads)
    generator = np.random.default_rng(0)
    # More rows than a block holds.
    tiles, queries = unit(generator, 9000, 16), unit(generator, 5, 16)
    scorer = RollingScorer(queries, 4) if rolled else queries
    full = np.stack([np.roll(queries.reshape(5, 4, 4), turn, axis=1).reshape(5, 16) @ tiles.T for turn in range(4)])
    full = full.max(axis=0) if rolled else full[0]
    sums = LogSums(np.tile([3.0, 40.0, 300.0], (5, 1)))
    rows, scores = search(ArrayGallery(tiles), scorer, 7, sums)
    for number, sharpness in enumerate((3.0, 40.0, 300.0)):
        shares = np.exp(sharpness * scores - sums.values()[:, [number]])
        for query in range(5):
            literal = literal_softmax(full[query].astype(np.float64), sharpness)
            np.testing.assert_allclose(shares[query], np.array(literal)[rows[query]], rtol=2e-3)


def test_hidden_rows_are_as_if_they_were_not_there():
    generator = np.random.default_rng(1)
    tiles, queries = unit(generator, 300, 8), unit(generator, 3, 8)
    best = search(ArrayGallery(tiles), queries, 1)[0][:, 0]
    sums = LogSums(np.full((3, 1), 20.0))
    rows, scores = search(ArrayGallery(tiles), queries, 5, sums, (np.arange(3), best))
    for query in range(3):
        left = np.delete(np.arange(300), best[query])
        alone = LogSums(np.full((1, 1), 20.0))
        expected, kept = search(ArrayGallery(tiles[left]), queries[[query]], 5, alone)
        assert rows[query].tolist() == left[expected[0]].tolist()
        np.testing.assert_allclose(scores[query], kept[0], rtol=1e-6)
        np.testing.assert_allclose(sums.values()[query], alone.values()[0], rtol=1e-6)


def test_sums_over_groups():
    query, scores = np.array([0, 2, 0]), np.array([0.5, 0.1, 0.2])
    sums = grouped_log_sums(query, scores, 3, np.array([10.0]))[:, 0]
    assert (
        sums[0] == pytest.approx(np.log(np.exp(5) + np.exp(2))) and sums[1] == -np.inf and sums[2] == pytest.approx(1)
    )


def planted(sharpness, none, level, count=6000, rows=50, seed=3):
    """L as `fit` takes them of queries whose right row, and whether it is there at all, is drawn from the model."""
    generator = np.random.default_rng(seed)
    # Queries differ in how high all their scores are: that is what tells those that are nowhere.
    scores = generator.uniform(0.0, 0.5, (count, rows)) + generator.uniform(-0.2, 0.2, (count, 1))
    right = (scores * sharpness - np.log(-np.log(generator.uniform(size=scores.shape)))).argmax(axis=1)
    grid = np.array([sharpness / 2, sharpness / 1.4, sharpness, sharpness * 1.4, sharpness * 2])
    sums = LogSums(np.tile(grid, (count, 1)))
    sums.add(slice(0, count), scores)
    values = sums.values()
    chosen = grouped_log_sums(np.arange(count), scores[np.arange(count), right], count, grid)
    chance = 1 / (1 + np.exp(-(none + level * (values[:, 2] - np.log(rows)))))
    return grid, values, chosen, generator.uniform(size=count) < chance


def test_a_planted_temperature_is_found():
    grid, values, chosen, _ = planted(16.0, 0.0, 0.0)
    found, _ = fit(values, chosen, values, 50, grid)
    assert found.sharpness == 16.0
    # Without and with its rows a picture scores the same here: the level tells nothing, and only the share is left.
    assert found.none_probability(values[:, 2], 50) == pytest.approx(0.1, abs=0.02)


def test_a_planted_none_logit_is_found():
    grid, values, chosen, out = planted(16.0, 5.0, -2.0)
    # Those that are out are the ones without; each kind is counted with its own share.
    inside, outside = values[~out], values[out]
    size = min(len(inside), len(outside))
    keep = np.random.default_rng(0).permutation(len(inside))[:size], np.random.default_rng(0).permutation(size)
    found, _ = fit(inside[keep[0]], chosen[~out][keep[0]], outside[:size][keep[1]], 50, grid, none_share=0.5)
    # Drawing as many of each kind moves the constant by the logarithm of their odds.
    moved = 5.0 - np.log(len(outside) / len(inside))
    assert found.level == pytest.approx(-2.0, abs=0.4) and found.sharpness == 16.0
    # The level at which both are equally likely.
    assert -found.none / found.level == pytest.approx(moved / 2.0, abs=0.3)


def test_shares_and_none_add_up_to_one():
    scores = np.array([[0.9, 0.5, 0.1]])
    sums = grouped_log_sums(np.zeros(3, int), scores[0], 1, np.array([10.0]))[:, 0]
    one = Fit(10.0, 1.0, -0.5)
    assert one.shares(scores, sums, 3).sum() + one.none_probability(sums, 3)[0] == pytest.approx(1.0)


def test_between_fields_of_view_and_beyond_them():
    fits = [Fit(10.0, 0.0, -1.0), Fit(40.0, 2.0, -3.0)]
    middle = between(fits, [90.0, 360.0], 180.0)
    assert (middle.sharpness, middle.none, middle.level) == pytest.approx((20.0, 1.0, -2.0))
    assert between(fits, [90.0, 360.0], 30.0).sharpness == pytest.approx(10.0)


def test_a_place_sums_the_tiles_that_show_it():
    # Two tiles of 60 m that share half of their ground, one far away, one of unknown position.
    lat, lon = move(45.0, 7.0, np.array([0.0, 30.0, 500.0]), 0.0)
    lat, lon = np.append(lat, np.nan), np.append(lon, np.nan)
    shares = np.array([0.4, 0.2, 0.1, 0.05])
    found = place_probabilities(shares, lat, lon, np.full(4, 60.0))
    np.testing.assert_allclose(found, [0.5, 0.4, 0.1, 0.05], atol=1e-3)
