import numpy as np
import pytest

from cvgeo.evaluation.calibration import area_under_roc, expected_error, reliability
from cvgeo.evaluation.plots import plot_reliability


def literal_error(probabilities, true, weights, bins):
    total = 0.0
    for number in range(bins):
        members = [
            q
            for q, p in enumerate(probabilities)
            if number <= p * bins < number + 1 or (number == bins - 1 and p == 1.0)
        ]
        if members:
            weight = sum(weights[q] for q in members)
            mean = sum(weights[q] * probabilities[q] for q in members) / weight
            share = sum(weights[q] * true[q] for q in members) / weight
            total += weight * abs(mean - share)
    return total / sum(weights)


@pytest.mark.parametrize("weighted", [False, True])
def test_expected_error_is_that_of_a_loop(weighted):
    generator = np.random.default_rng(0)
    probabilities = np.append(generator.uniform(size=200), [0.0, 1.0, 0.5])
    true = generator.uniform(size=203) < probabilities**2
    weights = generator.uniform(0.5, 2.0, 203) if weighted else np.ones(203)
    value, low, high = expected_error(probabilities, true, weights)
    assert value == pytest.approx(literal_error(probabilities, true, weights, 10)) and low <= high
    assert value > 0.1


def test_true_probabilities_have_a_small_error():
    generator = np.random.default_rng(1)
    probabilities = generator.uniform(size=20000)
    assert reliability(probabilities, generator.uniform(size=20000) < probabilities).error < 0.02


def test_area_under_roc_counts_pairs():
    generator = np.random.default_rng(2)
    positive, negative = generator.integers(0, 9, 40) / 9.0, generator.integers(0, 7, 55) / 9.0
    literal = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative) / (40 * 55)
    assert area_under_roc(positive, negative) == pytest.approx(literal)
    assert area_under_roc(np.ones(3), np.zeros(4)) == 1.0


def test_the_diagram_is_drawn_with_empty_bins(tmp_path):
    pytest.importorskip("matplotlib")
    weights = np.array([0.1, 0.9, 0.9])
    found = reliability(np.array([0.05, 0.95, 0.97]), np.array([False, True, True]), weights)
    plot_reliability(found, "three", [tmp_path / "a.png", tmp_path / "a.svg"])
    assert (tmp_path / "a.png").stat().st_size > 5000 and b"three" in (tmp_path / "a.svg").read_bytes()
