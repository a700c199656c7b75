"""Several losses at once, each with its weight and the epoch from which on it counts."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.losses.pairs import PairGeometry, PairLoss
from cvgeo.models.registry import build, register


@register("loss", "sum")
class SumLoss(PairLoss):
    """Weighted sum of registered losses.

    `terms` is a table by the losses' names; each entry holds `weight` (1 by default), `from_epoch` (0; a stage of a
    training that begins later) and the options of that loss.
    """

    def __init__(self, terms: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        if not terms or not isinstance(terms, dict) or not all(isinstance(entry, dict) for entry in terms.values()):
            raise UsageError("the terms of a sum are a table of tables", mend='for example {"info_nce": {"weight": 1}}')
        self.weights: dict[str, float] = {}
        self.first_epochs: dict[str, int] = {}
        self.terms = nn.ModuleDict()
        for name, entry in terms.items():
            options = dict(entry)
            self.weights[name] = float(options.pop("weight", 1.0))
            self.first_epochs[name] = int(options.pop("from_epoch", 0))
            self.terms[name] = build("loss", name, **options)
        if min(self.first_epochs.values()) > 0:
            raise UsageError("no loss counts in the first epoch", mend="let one have from_epoch = 0")

    def _active(self, epoch: int) -> list[str]:
        return [name for name, first in self.first_epochs.items() if epoch >= first and self.weights[name]]

    def needs_at(self, epoch: int) -> frozenset[str]:
        """What the losses that count in this epoch need."""
        return frozenset().union(*(self.terms[name].needs_at(epoch) for name in self._active(epoch)))

    def prepare(self, descriptor_size: int) -> None:
        """Prepare each of them."""
        for term in self.terms.values():
            term.prepare(descriptor_size)

    def with_geometry(self, ground: Tensor, aerial: Tensor, geometry: PairGeometry) -> Tensor:
        """Descriptors (B, D) of both views, and what the terms of the geometry's epoch need -> scalar."""
        values = [
            self.weights[name] * self.terms[name].with_geometry(ground, aerial, geometry)
            for name in self._active(geometry.epoch)
        ]
        return sum(values[1:], start=values[0])
