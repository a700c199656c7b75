"""What the batch losses share: their one contract with the trainer, checks, and similarities between the two views."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.models.registry import build

CROP_FLOOR = 1e-6  # of the squared length of a crop of a unit vector
SEMI_AERIAL = "semi_aerial"
OFFSET = "offset"
SAID = {
    SEMI_AERIAL: "semi-positive tiles and the offsets of the panoramas from them",
    OFFSET: "the offsets of the panoramas from their tiles and the tiles' size",
}


@dataclass(frozen=True)
class PairGeometry:
    """What is known of a batch of B pairs besides their descriptors; None is what nobody asked for.

    Offsets are panorama minus tile centre, north and east, as shares of the tile's side; NaN where unknown.

    Attributes:
        negatives: (B, B) bool, aerial j is no false negative of ground i, nor the other way round.
        offset: (B, 2) from the positive tile, in the north-up tile.
        shown_offset: the same after both views were turned and mirrored, as the descriptors can know it.
        semi_aerial: (B, D) descriptors of one semi-positive tile of each panorama.
        semi_offset: (B, 2) from that tile; NaN in the rows of panoramas without one.
        azimuth_columns: of which descriptors (B, D) consist, one after another; 0 where they cannot be rolled.
        ground_turn: (B,) shares of a full turn, clockwise, by which the ground views alone were turned; None: by none.
        epoch: counted from 0.
    """

    negatives: Tensor | None = None
    offset: Tensor | None = None
    shown_offset: Tensor | None = None
    semi_aerial: Tensor | None = None
    semi_offset: Tensor | None = None
    azimuth_columns: int = 0
    ground_turn: Tensor | None = None
    epoch: int = 0


class PairLoss(nn.Module, ABC):
    """A loss of a batch of pairs: `loss(ground, aerial)`, or `loss.with_geometry(ground, aerial, geometry)`.

    A loss of one's own implements `with_geometry`, and says in `needs` what the geometry has to hold.
    """

    needs: frozenset[str] = frozenset()

    def needs_at(self, epoch: int) -> frozenset[str]:
        """What the geometry has to hold in this epoch (from 0): of `SEMI_AERIAL` and `OFFSET`."""
        return self.needs

    def prepare(self, descriptor_size: int) -> None:
        """Build the parameters whose number goes with the length D of the descriptors."""

    def forward(self, ground: Tensor, aerial: Tensor) -> Tensor:
        """Descriptors (B, D) of both views, row i of each being one pair, of which nothing else is known -> scalar."""
        return self.with_geometry(ground, aerial, PairGeometry())

    @abstractmethod
    def with_geometry(self, ground: Tensor, aerial: Tensor, geometry: PairGeometry) -> Tensor:
        """Descriptors (B, D) of both views and what else is known of the pairs -> scalar."""


def build_loss(name: str, options: dict[str, Any], descriptor_size: int) -> PairLoss:
    """A registered loss, its parameters built, for descriptors (B, D) of this length."""
    loss: PairLoss = build("loss", name, **options)
    loss.prepare(descriptor_size)
    return loss


def check_given(geometry: PairGeometry, need: str, loss: str) -> None:
    """Raise UsageError where the geometry does not hold what a loss needs."""
    if getattr(geometry, need) is None:
        raise UsageError(f"the loss {loss} needs {SAID[need]}", mend="use a data set that has them, or another loss")


def similarities(ground: Tensor, aerial: Tensor) -> Tensor:
    """Inner products (B, B) of descriptors (B, D), ground in rows; half precision is raised to float32.

    Raises UsageError for shapes that differ and for a batch of one, which holds no negatives.
    """
    _check_pairs(ground, aerial)
    kind = torch.promote_types(ground.dtype, torch.float32)
    # Autocast would lower the product to half precision again.
    with torch.autocast(ground.device.type, enabled=False):
        return ground.to(kind) @ aerial.to(kind).T


def _check_pairs(ground: Tensor, aerial: Tensor) -> None:
    if ground.ndim != 2 or ground.shape != aerial.shape:
        raise UsageError(f"descriptors of shapes {tuple(ground.shape)} and {tuple(aerial.shape)} do not pair up")
    if len(ground) < 2:
        raise UsageError("a batch of one pair has no negatives", mend="use a batch size of 2 or more")


def rolled_similarities(ground: Tensor, aerial: Tensor, columns: int) -> Tensor:
    """Similarities (B, B) at the best circular alignment (DSM; Shi et al. 2020, Section 3.2), ground in rows.

    Descriptors (B, D) are rows of `columns` azimuth columns. Of each pair the aerial one is rolled to where its inner
    product with the ground one is largest, cropped to the columns that the ground one sees (those that are not all 0),
    and the crop L2-normalised. The correlations of all rolls are made by FFT; the roll itself carries no gradient.
    """
    products, squared = rolled_products(ground, aerial, columns)
    best = products.argmax(dim=2, keepdim=True)
    # A crop of nothing has no length, and the root at 0 no slope.
    return products.gather(2, best).squeeze(2) / squared.gather(2, best).squeeze(2).clamp(min=CROP_FLOOR).sqrt()


def rolled_products(ground: Tensor, aerial: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Inner products (B, B, A) of descriptors (B, D) of A azimuth columns at every roll, ground in rows, and the
    squared lengths (B, B, A) of the aerial ones' crops there. At roll a, ground column w meets aerial column w + a.
    """
    _check_pairs(ground, aerial)
    if columns < 1 or ground.shape[-1] % columns:
        fault = "comparing at every roll needs descriptors of azimuth columns in both views"
        raise UsageError(fault, mend="use an aggregator such as dsm and a polar aerial view, or another loss")
    kind = torch.promote_types(ground.dtype, torch.float32)
    with torch.autocast(ground.device.type, enabled=False):
        first, second = (one.to(kind).unflatten(1, (columns, -1)) for one in (ground, aerial))
        seen, energy = first.detach().ne(0).any(dim=2).to(kind), second.square().sum(dim=2)
        spectra = torch.fft.rfft(first, dim=1).conj(), torch.fft.rfft(second, dim=1)
        products = torch.fft.irfft(torch.einsum("ifc,jfc->ijf", *spectra), n=columns)
        window = torch.fft.rfft(seen, dim=1).conj()[:, None] * torch.fft.rfft(energy, dim=1)[None]
        return products, torch.fft.irfft(window, n=columns)


def negative_mask(ground: Tensor, geometry: PairGeometry) -> Tensor:
    """(B, B) bool: aerial j is a negative of ground i. A pair is none of itself, nor what the geometry rules out."""
    others = ~torch.eye(len(ground), dtype=torch.bool, device=ground.device)
    return others if geometry.negatives is None else others & geometry.negatives


def triplet_gaps(distances: Tensor) -> Tensor:
    """d_pos - d_neg of all triplets (2, B, B) from distances (B, B), anchors in rows: ground ones, then aerial ones."""
    positive = distances.diagonal()[:, None]
    return torch.stack([positive - distances, positive - distances.T])


def both_ways(negatives: Tensor) -> Tensor:
    """A mask (B, B) of negatives for both kinds of anchors, as `triplet_gaps` orders them: (2, B, B)."""
    return torch.stack([negatives, negatives.T])


def mean_of(values: Tensor) -> Tensor:
    """Mean, and 0 (with a gradient of 0) where there is nothing to average."""
    return values.sum() / max(values.numel(), 1)
