"""Peaks between the columns, their uncertainty, and azimuth correlation with masks, against literal loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvgeo.retrieval.heading import choose_scorer
from cvgeo.retrieval.peaks import best_turn, fine_curves, fit_sharpness, heading_sd, seen_share, share_within

COLUMNS, CHANNELS = 12, 5


def smooth_ring(generator: np.random.Generator, turn: float = 0.0, columns: int = COLUMNS) -> np.ndarray:
    """(columns, C): a ring of low frequencies, sampled after it was turned by `turn` degrees, as columns average it."""
    angles = np.radians(360 * np.arange(columns) / columns + turn)
    waves = np.arange(columns // 2)[:, None] * angles
    amplitudes = generator.normal(size=(2, CHANNELS, columns // 2))
    return (amplitudes[0] @ np.cos(waves) + amplitudes[1] @ np.sin(waves)).T


def apart(one: np.ndarray, other: np.ndarray | float) -> np.ndarray:
    return (one - other + 180) % 360 - 180


@pytest.mark.parametrize("turn", [0.0, 3.7, 15.0, 44.4, 181.0, 359.9])
def test_a_turn_by_part_of_a_column_is_found(turn: float) -> None:
    for seed in range(5):
        query, row = (smooth_ring(np.random.default_rng(seed), one) for one in (turn, 0.0))
        scorer = choose_scorer(query.reshape(1, 1, -1), COLUMNS, rolls=True, crops=True)
        found = best_turn(scorer.curves(np.array([0]), row.reshape(1, -1)))
        assert abs(apart(found, turn)[0]) < 0.05


def literal_curve(query: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Scores (A,): turn by turn and column by column, the columns that the query sees alone, over their length."""
    products, lengths = np.zeros(COLUMNS), np.zeros(COLUMNS)
    for turn in range(COLUMNS):
        for column in range(COLUMNS):
            if not query[column].any():
                continue
            met = row[(column + turn) % COLUMNS]
            products[turn] += float(query[column] @ met)
            lengths[turn] += float(met @ met)
    return products / math.sqrt(lengths[products.argmax()])


@pytest.mark.parametrize("seen", [12, 6, 3, 1])
def test_masked_correlation_equals_the_loop(seen: int) -> None:
    generator = np.random.default_rng(seen)
    queries, rows = generator.normal(size=(2, 4, COLUMNS, CHANNELS))
    for number in range(4):
        queries[number, (np.arange(COLUMNS - seen) + 2 * number) % COLUMNS] = 0
    queries, rows = (one / np.linalg.norm(one.reshape(4, -1), axis=1)[:, None, None] for one in (queries, rows))
    scorer = choose_scorer(queries.reshape(4, 1, -1), COLUMNS, rolls=True, crops=True)
    pairs = np.array([3, 1, 0])
    curves = scorer.curves(pairs, rows[pairs].reshape(3, -1))
    whole = seen == COLUMNS
    expected = [literal_curve(queries[n], rows[n]) for n in pairs]
    np.testing.assert_allclose(curves, expected, atol=1e-5)
    if whole:
        np.testing.assert_allclose(curves, scorer.turns(pairs, rows[pairs].reshape(3, -1)), atol=1e-6)


def test_a_finer_curve_passes_through_the_scores() -> None:
    for count in (16, 15):
        curves = np.random.default_rng(count).normal(size=(3, count))
        fine = fine_curves(curves)
        assert fine.shape[1] >= 720
        np.testing.assert_allclose(fine[:, :: fine.shape[1] // count], curves, atol=1e-9)


def literal_sd(curve: np.ndarray, sharpness: float) -> float:
    """The interval around the peak, widened by a step on both sides at a time, until it holds 68.3 %."""
    fine = fine_curves(curve[None])[0]
    weight = np.exp(sharpness * (fine - fine.max()))
    top, count = int(fine.argmax()), len(fine)
    held = weight[top]
    for step in range(1, count // 2 + 1):
        if held >= math.erf(math.sqrt(0.5)) * weight.sum():
            return (step - 1) * 360 / count
        held += weight[(top - step) % count] + (weight[(top + step) % count] if 2 * step < count else 0)
    return 180.0


@pytest.mark.parametrize("sharpness", [0.5, 3.0, 20.0])
def test_the_uncertainty_equals_the_loop(sharpness: float) -> None:
    curves = np.random.default_rng(2).normal(size=(20, COLUMNS))
    found = heading_sd(curves, 0.25, 4 * sharpness)
    expected = np.array([literal_sd(curve, sharpness) for curve in curves])
    assert (np.abs(found - expected) <= 0.5).all()  # a step
    assert (found > 0).all() and (found <= 180).all()


def test_the_uncertainty_of_known_shapes() -> None:
    turns = 2 * np.pi * np.arange(24) / 24
    # A von Mises distribution: its standard deviation is 1 / root(concentration).
    narrow = heading_sd(np.cos(turns)[None], 0.25, 1600.0)
    assert narrow[0] == pytest.approx(math.degrees(1 / 20), rel=0.02)
    assert heading_sd(np.zeros((1, 24)), 1.0, 10.0)[0] == pytest.approx(180 * 0.6827, abs=0.5)
    # Two peaks of a height: the other one lies a half turn away.
    assert heading_sd(np.cos(2 * turns)[None], 1.0, 400.0)[0] > 170
    assert np.isnan(heading_sd(np.ones((2, 1)), 1.0, 10.0)).all()


def test_a_sharpness_that_fits_holds_its_promise() -> None:
    # Headings drawn from the very distributions that the curves stand for.
    generator, truth = np.random.default_rng(0), 6.0
    curves = np.stack([smooth_ring(generator)[:, 0] for _ in range(1500)])
    curves /= np.abs(curves).max(axis=1, keepdims=True)
    fine = fine_curves(curves)
    share = seen_share(generator.choice([90.0, 360.0, np.nan], len(curves)))
    sums = np.cumsum(np.exp(truth * share[:, None] * fine), axis=1)
    drawn = [np.searchsorted(one, generator.random() * one[-1]) for one in sums]
    errors = apart(np.array(drawn) * 360 / fine.shape[1], best_turn(curves))
    assert fit_sharpness(curves, share, errors) == pytest.approx(truth, rel=0.15)
    assert share_within(errors, heading_sd(curves, share, truth)) == pytest.approx(0.683, abs=0.04)
    assert math.isnan(share_within(np.array([np.nan]), np.array([1.0])))
