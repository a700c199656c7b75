import math

import numpy as np
import pytest

from cvgeo.geometry.geodesy import move, offset_metres
from cvgeo.retrieval.exact import ArrayGallery, search
from cvgeo.retrieval.fusion import FusedScorer
from cvgeo.retrieval.heading import RollingScorer, Scorer, VariantScorer
from cvgeo.retrieval.locate import AXES_SD, error_ellipses, place_weights


def test_weights_are_a_softmax_that_several_pictures_sharpen():
    scores = np.array([0.9, 0.8, 0.5], np.float32)
    expected = [math.exp(3 * 2 * float(score)) for score in scores]
    np.testing.assert_allclose(place_weights(scores, 6.0), np.divide(expected, sum(expected)))
    assert place_weights(np.zeros(0)).shape == (0,)


def literal_ellipse(hit, lat, lon, ground, weights):
    """Sums over the tiles, one by one."""
    total, moment = 0.0, np.zeros((2, 2))
    for row in range(len(lat)):
        north, east = (float(one) for one in offset_metres(lat[hit], lon[hit], lat[row], lon[row]))
        reach = (ground[hit] + ground[row]) / 2 * 1.02
        if abs(north) <= reach and abs(east) <= reach:
            total += weights[row]
            square = ground[row] ** 2 / 12
            moment += weights[row] * np.array([[north**2 + square, north * east], [north * east, east**2 + square]])
    values, vectors = np.linalg.eigh(moment / total)
    return AXES_SD * np.sqrt(values[1]), AXES_SD * np.sqrt(values[0]), vectors[:, 1]


def test_ellipses_are_the_sums_over_the_tiles_that_touch():
    generator = np.random.default_rng(1)
    lat, lon = move(60.0, 10.0, generator.uniform(-150, 150, 60), generator.uniform(-150, 150, 60))
    ground, weights = generator.uniform(40, 80, 60), generator.uniform(0, 1, 60)
    found = error_ellipses(np.arange(10), lat, lon, ground, weights)
    for hit in range(10):
        major, minor, axis = literal_ellipse(hit, lat, lon, ground, weights)
        assert found.major_m[hit] == pytest.approx(major) and found.minor_m[hit] == pytest.approx(minor)
        angle = math.radians(found.azimuth[hit])
        assert abs(math.cos(angle) * axis[0] + math.sin(angle) * axis[1]) == pytest.approx(1, abs=1e-6)


def test_a_tile_alone_is_its_own_ground_and_unknown_stays_unknown():
    lat, lon = np.array([10.0, 10.5, 11.0, np.nan]), np.array([10.0, 10.0, 10.0, np.nan])
    found = error_ellipses(np.arange(4), lat, lon, np.array([60.0, 60, np.nan, 60]), np.array([0.5, 0.5, 0, 0]))
    # 68.3 % of a round normal distribution with the variance of a square of 60 m.
    radius = 60 / math.sqrt(12) * math.sqrt(-2 * math.log(1 - 0.6826894921))
    np.testing.assert_allclose(found.major_m[:2], radius)
    np.testing.assert_allclose(found.minor_m[:2], radius)
    assert np.isnan(found.major_m[2:]).all() and np.isnan(found.azimuth[2:]).all()


def test_neighbours_draw_the_ellipse_out():
    lat, lon = move(50.0, 5.0, np.array([0.0, 0.0, 0.0]), np.array([0.0, 60.0, -60.0]))
    found = error_ellipses(np.array([0]), lat, lon, np.full(3, 60.0), np.full(3, 1 / 3))
    assert found.major_m[0] > 2 * found.minor_m[0] and found.azimuth[0] == pytest.approx(90, abs=0.1)


def unit(*shape, seed):
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_several_pictures_score_the_mean_of_their_own_scores():
    rows = unit(5000, 24, seed=0)
    known, turned, rolled = unit(11, 24, seed=1), unit(3, 4, 24, seed=2), unit(2, 24, seed=3)
    total = (known @ rows.T).sum(axis=0) + np.einsum("qvd,nd->qvn", turned, rows).max(axis=1).sum(axis=0)
    for query in rolled.reshape(2, 6, 4):
        total += np.max([np.roll(query, roll, axis=0).reshape(-1) @ rows.T for roll in range(6)], axis=0)
    scorer = FusedScorer([Scorer(known), VariantScorer(turned), RollingScorer(rolled, 6)])
    found, scores = search(ArrayGallery(rows), scorer, 7)
    assert found.shape == (1, 7) and scorer.pictures == 16
    np.testing.assert_allclose(scores[0], np.sort(total / 16)[::-1][:7], atol=1e-5)
    np.testing.assert_allclose(total[found[0]] / 16, scores[0], atol=1e-5)
