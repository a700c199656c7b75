"""From a decoded batch to what the model sees and what the loss is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cvgeo.config.schema import TrainConfig, ViewConfig
from cvgeo.data.augment import (
    Draw,
    change_colours,
    change_geometry,
    erase_rectangles,
    keep_four_bits,
    limit_view,
    turn_aerial,
    turn_offsets,
)
from cvgeo.data.loader import PairBatch
from cvgeo.data.pair_facts import PairFacts
from cvgeo.data.views import to_tensor
from cvgeo.losses.pairs import OFFSET, SEMI_AERIAL, PairGeometry


@dataclass
class Inputs:
    """Augmented views of B pairs: ground (B, 3, H, W), mask (B, H, W) bool or None, aerial (B or 2 B, 3, h, w).

    The second half of aerial are the semi-positive tiles, where there are any.
    """

    ground: Tensor
    aerial: Tensor
    mask: Tensor | None


def augmented(pairs: PairBatch, draw: Draw, view: ViewConfig, device: torch.device) -> Inputs:
    """A batch on its device, changed as drawn. A semi-positive tile is changed as the positive one of its pair."""
    mask = None if pairs.mask is None else pairs.mask.to(device)
    ground, mask, aerial = change_geometry(pairs.ground.to(device), mask, pairs.aerial.to(device), draw, view)
    ground, mask = limit_view(ground, mask, draw)
    tiles = [aerial] if pairs.semi is None else [aerial, turn_aerial(pairs.semi.to(device), draw, view)]
    ground = _coloured(ground, mask, draw, 0, view)
    shown = [_coloured(one, None, draw, 1, view) for one in tiles]
    return Inputs(ground, torch.cat(shown) if len(shown) > 1 else shown[0], mask)


def _coloured(images: Tensor, mask: Tensor | None, draw: Draw, kind: int, view: ViewConfig) -> Tensor:
    """Views of a kind, 0 ground and 1 aerial, normalised, with colours changed and a rectangle hidden."""
    if draw.posterise is not None:
        images = keep_four_bits(images, draw.posterise[kind])
    images = to_tensor(images, mask, view)
    return erase_rectangles(change_colours(images, mask, draw.colour[kind], view), draw.erase[kind])


def geometry_of(
    rows: np.ndarray,
    draw: Draw,
    facts: PairFacts,
    train: TrainConfig,
    needs: frozenset[str],
    semi_aerial: Tensor,
    epoch: int,
    azimuth_columns: int = 0,
) -> PairGeometry:
    """What the loss is told of a batch: what it needs, and the false negatives where `false_negative_m` asks for them.

    `rows` (B, 2 or 3) are those of its panoramas, tiles and semi-positive tiles; `semi_aerial` (B, D) are the
    descriptors of the latter, (0, D) without them.
    """
    device, panoramas, tiles = semi_aerial.device, rows[:, 0], rows[:, 1]

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, device=device)

    known: dict[str, Tensor] = {}
    if train.false_negative_m > 0:
        known["negatives"] = tensor(~facts.near(panoramas, tiles, train.false_negative_m))
    if needs & {OFFSET, SEMI_AERIAL}:
        offset = facts.offsets(panoramas, tiles).astype(np.float32)
        known |= {"offset": tensor(offset), "shown_offset": tensor(turn_offsets(offset, draw).astype(np.float32))}
    if SEMI_AERIAL in needs:
        semi_offset = facts.offsets(panoramas, rows[:, 2]).astype(np.float32)
        known |= {"semi_offset": tensor(semi_offset), "semi_aerial": semi_aerial}
    if draw.ground_turn is not None:
        known["ground_turn"] = tensor(draw.ground_turn.astype(np.float32))
    return PairGeometry(**known, azimuth_columns=azimuth_columns, epoch=epoch)
