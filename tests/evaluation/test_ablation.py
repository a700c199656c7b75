"""Statistics of grids of variants against literal references."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from cvgeo.evaluation.ablation import difference, hits, mean_share, recall_curve, student_t


# Printed in any table of Student's t.
@pytest.mark.parametrize(
    ("share", "freedom", "quantile"),
    [(0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 4, 2.776), (0.975, 30, 2.042), (0.80, 4, 0.941), (0.80, 9, 0.883)],
)
def test_student_t(share, freedom, quantile):
    assert student_t(share, freedom) == pytest.approx(quantile, abs=6e-4)


def test_student_t_is_normal_for_many():
    normal = statistics.NormalDist()
    for share in (0.8, 0.975):
        assert student_t(share, 1e6) == pytest.approx(normal.inv_cdf(share), abs=1e-4)


def test_hits_count_no_positive_as_a_miss():
    ranks = np.array([[1, 0, 3, 300], [2, 0, 6, 11]])
    counted = hits(ranks, gallery=1200)
    assert counted["r@1"].tolist() == [[True, False, False, False], [False] * 4]
    assert counted["r@5"].sum() == 3 and counted["r@10"].sum() == 4 and counted["r@1%"].sum() == 5


def test_mean_share_with_one_seed_is_wilsons():
    counted = np.array([[True] * 8 + [False] * 2])
    mean, low, high = mean_share(counted)
    # Wilson's interval of 8 in 10.
    assert (mean, low, high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)


def test_difference_against_a_literal_reading():
    rng = np.random.default_rng(3)
    counted, other = rng.random((5, 40)) < 0.7, rng.random((5, 40)) < 0.5
    found = difference(counted, other)
    by_seed = [
        sum(int(a) - int(b) for a, b in zip(x, y, strict=True)) / 40 for x, y in zip(counted, other, strict=True)
    ]
    by_query = [sum(int(counted[s][q]) - int(other[s][q]) for s in range(5)) / 5 for q in range(40)]
    of_seeds, of_queries = statistics.variance(by_seed) / 5, statistics.variance(by_query) / 40
    error = math.sqrt(of_seeds + of_queries)
    freedom = (of_seeds + of_queries) ** 2 / (of_seeds**2 / 4 + of_queries**2 / 39)
    assert found.mean == pytest.approx(statistics.mean(by_seed))
    assert found.high - found.mean == pytest.approx(student_t(0.975, freedom) * error)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert found.detectable == pytest.approx((student_t(0.975, freedom) + student_t(0.8, freedom)) * error)


def test_intervals_cover_the_truth_as_often_as_they_say():
    # Seeds and queries both drawn at random, a true difference of 0.1: about 95 of 100 intervals hold it.
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        ease, luck = rng.normal(0, 0.15, 120), rng.normal(0, 0.02, (4, 2))
        chance = np.clip(0.5 + ease[None, None] + luck[..., None] + np.array([0.1, 0.0])[None, :, None], 0, 1)
        answers = rng.random(chance.shape) < chance
        found = difference(answers[:, 0], answers[:, 1])
        covered += found.low <= 0.1 <= found.high
    assert 0.93 <= covered / 400 <= 1.0


def test_equal_variants_differ_by_nothing():
    counted = np.random.default_rng(1).random((3, 20)) < 0.5
    found = difference(counted, counted)
    assert (found.mean, found.low, found.high, found.detectable) == (0, 0, 0, 0)


def test_recall_curve_against_a_loop():
    ranks = np.array([1, 1, 3, 0, 7, 120])
    expected = [sum(1 <= rank <= k for rank in ranks) / 6 for k in range(1, 11)]
    assert recall_curve(ranks, 10) == pytest.approx(expected)
