"""The loss over tiles and turns against a literal loop, and what its label says of a turned view."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cvgeo.config.schema import TrainConfig, ViewConfig
from cvgeo.data.augment import draw_augmentation, limit_view
from cvgeo.errors import UsageError
from cvgeo.losses import PairGeometry, TurnedInfoNCELoss, build_loss
from cvgeo.losses.turned_info_nce import turn_targets
from cvgeo.models.aggregators.dsm import DynamicSimilarity

COLUMNS, CHANNELS, BATCH = 6, 4, 3


def descriptors(seed: int, unseen: tuple[int, ...] = ()) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randn(BATCH, COLUMNS, CHANNELS, generator=generator, dtype=torch.float64)
    columns[:, list(unseen)] = 0
    return functional.normalize(columns.flatten(1), dim=1)


def literal(
    ground: torch.Tensor, aerial: torch.Tensor, turn: list[float], kept: list[list[bool]], smoothing: float
) -> float:
    """Every candidate (tile, roll) of every panorama, and the other way round, one at a time."""
    score = np.zeros((BATCH, BATCH, COLUMNS))
    for i, query in enumerate(ground.view(BATCH, COLUMNS, CHANNELS)):
        seen = [w for w in range(COLUMNS) if any(query[w])]
        for j, row in enumerate(aerial.view(BATCH, COLUMNS, CHANNELS)):
            for roll in range(COLUMNS):
                crop = torch.stack([row[(w + roll) % COLUMNS] for w in seen])
                score[i, j, roll] = float(sum(query[w] @ crop[k] for k, w in enumerate(seen)) / crop.norm()) / 0.1
    total = 0.0
    for way in (score, score.transpose(1, 0, 2)):
        for i in range(BATCH):
            allowed = [j for j in range(BATCH) if j == i or (kept[i][j] if way is score else kept[j][i])]
            logs = {(j, roll): way[i, j, roll] for j in allowed for roll in range(COLUMNS)}
            norm = math.log(sum(math.exp(value) for value in logs.values()))
            place = turn[i] * COLUMNS % COLUMNS
            low, share = int(place), place - int(place)
            right = sum(
                weight * (norm - logs[i, roll % COLUMNS]) for roll, weight in ((low, 1 - share), (low + 1, share))
            )
            spread = sum(norm - value for value in logs.values()) / len(logs)
            total += ((1 - smoothing) * right + smoothing * spread) / BATCH / 2
    return total


@pytest.mark.parametrize("unseen", [(), (2, 3)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_equals_the_loop(unseen: tuple[int, ...], smoothing: float) -> None:
    ground, aerial, turn = descriptors(1, unseen), descriptors(2), [0.0, 0.3, -0.25]
    negatives = torch.tensor([[False, True, True], [True, False, False], [True, True, False]])
    loss = build_loss("turned_info_nce", {"temperature": 0.1, "label_smoothing": smoothing}, COLUMNS * CHANNELS)
    geometry = PairGeometry(negatives=negatives, azimuth_columns=COLUMNS, ground_turn=torch.tensor(turn))
    expected = literal(ground, aerial, turn, negatives.tolist(), smoothing)
    assert loss.with_geometry(ground, aerial, geometry).item() == pytest.approx(expected, rel=1e-5)


def test_a_turn_between_two_columns_is_shared_and_wraps() -> None:
    weights = turn_targets(torch.tensor([0.0, 1 / 8, 0.99999999, -1 / 16], dtype=torch.float64), 4)
    expected = torch.tensor([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [1, 0, 0, 0], [0.75, 0, 0, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(weights, expected, atol=1e-6, rtol=0)


def test_the_label_is_the_roll_of_a_view_that_was_turned() -> None:
    # A view whose every column is told apart: turned by the augmentation, it fits the unturned one at the label.
    train = TrainConfig(heading_noise=180.0)
    view = ViewConfig(ground_height=1, ground_width=24, aerial_height=1, aerial_width=24)
    draw = draw_augmentation(train, view, 0, 0, BATCH)
    ground = torch.randint(1, 255, (BATCH, 1, 24, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    turned, _ = limit_view(ground.clone(), None, draw)
    flat = [functional.normalize((one.double() - 128).flatten(1), dim=1) for one in (turned, ground)]
    loss = TurnedInfoNCELoss(temperature=0.01)

    def at(turn: np.ndarray) -> float:
        geometry = PairGeometry(azimuth_columns=24, ground_turn=torch.tensor(turn))
        return loss.with_geometry(flat[0], flat[1], geometry).item()

    right = np.rint(draw.ground_turn * 24) / 24
    assert at(right) < 0.01
    assert at(right + 1 / 24) > 1 and at(-right) > 1


def test_without_columns_or_sense_it_says_so() -> None:
    with pytest.raises(UsageError, match="azimuth columns"):
        TurnedInfoNCELoss()(descriptors(1), descriptors(2))
    with pytest.raises(UsageError, match="temperature"):
        TurnedInfoNCELoss(temperature=0)


def test_normalised_columns_make_all_crops_equally_long() -> None:
    torch.manual_seed(0)
    head = DynamicSimilarity(8, 4, COLUMNS, out_channels=4, inner=(8, 8), circular=True, normalise="column")
    columns = head(torch.randn(2, 8, 4, COLUMNS)).view(2, COLUMNS, -1)
    torch.testing.assert_close(columns.square().sum(dim=2), torch.full((2, COLUMNS), 1 / COLUMNS))
    with pytest.raises(UsageError, match="normalise"):
        DynamicSimilarity(8, 4, COLUMNS, normalise="rows")
