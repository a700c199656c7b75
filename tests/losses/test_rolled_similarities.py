"""Similarities at the best circular alignment against a literal loop, and against retrieval's scorers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from cvgeo.errors import UsageError
from cvgeo.losses import PairGeometry, WeightedSoftMarginTripletLoss
from cvgeo.losses.pairs import rolled_similarities
from cvgeo.retrieval.exact import ArrayGallery, ranks, search
from cvgeo.retrieval.heading import CroppingRollingScorer, CroppingScorer, RollingScorer, Scorer, choose_scorer

COLUMNS, CHANNELS = 8, 3


def descriptors(batch: int, seed: int, unseen: tuple[int, ...] = ()) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randn(batch, COLUMNS, CHANNELS, generator=generator, dtype=torch.float64)
    columns[:, list(unseen)] = 0
    return functional.normalize(columns.flatten(1), dim=1)


def literal(ground: torch.Tensor, aerial: torch.Tensor) -> torch.Tensor:
    """Every pair at every shift, one column at a time; the crop at the best shift is normalised, as the code does."""
    result = torch.zeros(len(ground), len(aerial), dtype=torch.float64)
    for i, query in enumerate(ground.view(-1, COLUMNS, CHANNELS)):
        seen = [w for w in range(COLUMNS) if any(query[w])]
        for j, row in enumerate(aerial.view(-1, COLUMNS, CHANNELS)):
            correlation = [
                sum(float(query[w] @ row[(w + shift) % COLUMNS]) for w in range(COLUMNS)) for shift in range(COLUMNS)
            ]
            best = correlation.index(max(correlation))
            crop = torch.stack([row[(w + best) % COLUMNS] for w in seen])
            result[i, j] = sum(float(query[w] @ crop[k]) for k, w in enumerate(seen)) / crop.norm()
    return result


@pytest.mark.parametrize("unseen", [(), (0,), (2, 3, 4, 5, 6), (0, 7)])
def test_loss_and_scorer_equal_the_loop(unseen: tuple[int, ...]) -> None:
    ground, aerial = descriptors(5, 1, unseen), descriptors(5, 2)
    expected = literal(ground, aerial)
    torch.testing.assert_close(rolled_similarities(ground, aerial, COLUMNS), expected)
    scorer = choose_scorer(ground.numpy()[:, None], COLUMNS, rolls=True, crops=True)
    assert type(scorer) is (CroppingRollingScorer if unseen else RollingScorer)
    gallery = ArrayGallery(aerial.numpy())
    rows, scores = search(gallery, scorer, 5)
    found = np.empty((5, 5))
    np.put_along_axis(found, rows, scores, axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    own = np.arange(5)
    np.testing.assert_allclose(scorer.pair_scores(own, gallery, own), expected.diagonal(), atol=1e-5)
    above = (expected > expected.diagonal()[:, None]).sum(dim=1).numpy()
    assert ranks(gallery, scorer, (own, own)).exact.tolist() == (above + 1).tolist()


def test_known_headings_are_scored_over_what_is_seen() -> None:
    ground, aerial = descriptors(4, 3, (1, 2)), descriptors(4, 4)
    scorer = choose_scorer(ground.numpy()[:, None], COLUMNS, rolls=False, crops=True)
    assert type(scorer) is CroppingScorer
    seen = [w for w in range(COLUMNS) if w not in (1, 2)]
    crops = functional.normalize(aerial.view(-1, COLUMNS, CHANNELS)[:, seen].flatten(1), dim=1)
    expected = ground.view(-1, COLUMNS, CHANNELS)[:, seen].flatten(1) @ crops.T
    rows, scores = search(ArrayGallery(aerial.numpy()), scorer.take(np.array([2, 0])), 4)
    np.testing.assert_allclose(scores, np.take_along_axis(expected.numpy()[[2, 0]], rows, axis=1), atol=1e-5)
    turns = scorer.turns(np.array([1]), aerial[3:].numpy())
    assert turns[0, 0] == pytest.approx(float(expected[1, 3]), abs=1e-5)
    assert type(choose_scorer(ground.numpy()[:, None], COLUMNS, rolls=False, crops=False)) is Scorer


def test_a_turned_pair_is_as_near_as_an_aligned_one() -> None:
    ground = descriptors(4, 5)
    aerial = ground.view(4, COLUMNS, CHANNELS).roll(3, dims=1).flatten(1)
    torch.testing.assert_close(rolled_similarities(ground, aerial, COLUMNS).diagonal(), torch.ones(4).double())


@pytest.mark.parametrize("unseen", [(), (2, 3, 4)])
def test_gradients(unseen: tuple[int, ...]) -> None:
    ground, aerial = (descriptors(3, seed, unseen if seed == 6 else ()).requires_grad_() for seed in (6, 7))
    loss = WeightedSoftMarginTripletLoss(similarity="best_roll")
    geometry = PairGeometry(azimuth_columns=COLUMNS)
    # A step into an unseen column would make it a seen one: there the gradient is of the seen columns alone.
    columns = ground.detach().view(3, COLUMNS, CHANNELS).ne(0)
    kept = columns.flatten(1).double()

    def of(ground: torch.Tensor, aerial: torch.Tensor) -> torch.Tensor:
        return loss.with_geometry(ground * kept, aerial, geometry)

    assert torch.autograd.gradcheck(of, (ground, aerial))


def test_the_loss_is_that_of_the_literal_distances() -> None:
    ground, aerial = descriptors(4, 8, (0, 1)), descriptors(4, 9)
    distances = (2 - 2 * literal(ground, aerial)).numpy()
    gaps = [distances[i, i] - distances[i, j] for i in range(4) for j in range(4) if i != j]
    gaps += [distances[i, i] - distances[j, i] for i in range(4) for j in range(4) if i != j]
    loss = WeightedSoftMarginTripletLoss(similarity="best_roll")
    found = loss.with_geometry(ground, aerial, PairGeometry(azimuth_columns=COLUMNS))
    assert found.item() == pytest.approx(np.mean(np.log1p(np.exp(10 * np.array(gaps)))), rel=1e-6)


@pytest.mark.parametrize("columns", [0, 5])
def test_descriptors_without_columns_are_refused(columns: int) -> None:
    with pytest.raises(UsageError, match="needs descriptors of azimuth columns"):
        rolled_similarities(descriptors(3, 1), descriptors(3, 2), columns)
