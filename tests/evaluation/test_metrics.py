import math

import numpy as np
import pytest

from cvgeo.evaluation import metrics
from cvgeo.evaluation.intervals import bootstrap, wilson


def test_recall_counts_ranks():
    ranks = np.array([1, 2, 5, 6, 0, 100])
    assert metrics.recall_at(ranks, 1) == pytest.approx(1 / 6)
    assert metrics.recall_at(ranks, 5) == pytest.approx(3 / 6)
    assert math.isnan(metrics.recall_at(np.array([], dtype=int), 1))


@pytest.mark.parametrize(("gallery", "k"), [(1, 1), (99, 1), (100, 1), (199, 1), (200, 2), (8884, 88), (90618, 906)])
def test_one_percent_is_floored_and_at_least_one(gallery, k):
    assert metrics.one_percent(gallery) == k
    summary = metrics.summarise(np.array([k, k + 1]), gallery)
    assert summary["r@1%"] == 0.5


def test_reciprocal_rank_and_median():
    assert metrics.mean_reciprocal_rank(np.array([1, 2, 4, 0])) == pytest.approx((1 + 0.5 + 0.25) / 4)
    assert metrics.median_error(np.array([1.0, np.nan, 3.0, 100.0])) == 3.0
    assert math.isnan(metrics.median_error(np.array([np.nan])))


def test_wilson_against_published_values():
    # Newcombe (1998), Table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for successes, count, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        found = wilson(successes, count)
        assert found == pytest.approx((low, high), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    for count in range(1, 500):
        (low, _), (_, high) = wilson(0, count), wilson(count, count)
        assert (low, high) == (0.0, 1.0)
    assert all(math.isnan(value) for value in wilson(0, 0))


def test_bootstrap_covers_the_mean_of_a_known_law():
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        low, high = bootstrap(generator.exponential(size=80), np.mean, resamples=300, seed=seed)
        hits += low <= 1.0 <= high
    assert 48 <= hits <= 60


def test_bootstrap_is_repeatable_and_refuses_to_guess():
    values = np.random.default_rng(1).normal(size=50)
    assert bootstrap(values, np.median) == bootstrap(values, np.median)
    assert all(math.isnan(value) for value in bootstrap(values[:1], np.median))


def test_summary_holds_each_metric_with_its_interval():
    ranks = np.array([1, 3, 12, 1])
    summary = metrics.summarise(
        ranks,
        1000,
        masked=np.array([1, 1, 12, 1]),
        covers=np.array([True, False, False, True]),
        errors_m=np.array([0.0, 30.0, np.nan, 7.0]),
    )
    assert summary["r@1"] == 0.5 and summary["r@5"] == 0.75 and summary["r@10"] == 0.75 and summary["r@1%"] == 0.75
    assert summary["hit_masked"] == 0.75 and summary["hit_covers"] == 0.5
    assert summary["within_10m"] == pytest.approx(2 / 3) and summary["within_50m"] == 1.0
    assert summary["median_error_m"] == 7.0
    for name in ("r@1", "r@1%", "hit_masked", "within_10m", "median_error_m", "mrr"):
        assert summary[f"{name}_low"] <= summary[name] <= summary[f"{name}_high"]


def test_one_percent_may_differ_by_query():
    summary = metrics.summarise(np.array([2, 2]), [100, 300])
    assert summary["r@1%"] == 0.5


def test_unknown_positions_give_unknown_distances():
    summary = metrics.summarise(np.array([1, 2]), 10, errors_m=np.array([np.nan, np.nan]))
    assert math.isnan(summary["within_10m"]) and math.isnan(summary["median_error_m"])


def test_chance():
    assert metrics.chance(np.array([1, 1, 1]), 200) == pytest.approx(0.005)
    assert metrics.chance(np.array([1, 3]), 10) == pytest.approx(0.2)


def test_heading_metrics():
    found = metrics.heading_metrics(np.array([1.0, -5.0, 90.0, np.nan]), 9.0, np.array([8.0, -170.0, np.nan, np.nan]))
    assert found["heading_right"] == pytest.approx(2 / 3)
    assert found["median_heading_error_deg"] == 5.0 and found["top_median_heading_error_deg"] == 89.0
    assert found["heading_within_5"] == pytest.approx(2 / 3) and found["heading_within_10"] == pytest.approx(2 / 3)
    assert found["top_heading_within_5"] == 0 and found["top_heading_within_10"] == 0.5
    unknown = metrics.heading_metrics(np.array([np.nan]), 9.0, np.array([np.nan]))
    assert math.isnan(unknown["median_heading_error_deg"]) and math.isnan(unknown["heading_within_5"])


def test_collapsed():
    row = np.random.default_rng(0).normal(size=16)
    assert metrics.collapsed(np.tile(row, (5, 1)))
    assert not metrics.collapsed(np.random.default_rng(1).normal(size=(5, 16)))
    assert not metrics.collapsed(row[None])
