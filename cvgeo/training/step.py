"""The gradients of one batch, whether the model sees it at once or in chunks, on one process or several.

The loss is taken of descriptors that stand apart from the model. Its gradient with respect to them is then sent back
through the model, chunk by chunk and each rank its own part: the gradient caching of Gao et al. 2021 ("Scaling deep
contrastive learning batch size under memory limited setup"). But for batch norm in training, which knows its chunk
alone, the sum is the gradient of the whole batch.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cvgeo.config.schema import Config
from cvgeo.data.augment import Draw, draw_augmentation
from cvgeo.data.loader import PairBatch
from cvgeo.data.pair_facts import PairFacts
from cvgeo.losses import PairLoss
from cvgeo.models import Embedder
from cvgeo.training.inputs import augmented, geometry_of
from cvgeo.training.ranks import Ranks
from cvgeo.training.statistics import learning_norms, statistics_kept

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class Share:
    """This rank's part of a batch and what is done to it.

    `rows` (B, 2 or 3) are those of the whole batch, of which this rank's pairs stand at `place`; `draw` is what is done
    to its own pairs, `whole` to all; `chunks` of its pairs pass the model at once.
    """

    pairs: PairBatch
    rows: np.ndarray
    place: slice
    whole: Draw
    draw: Draw
    chunks: list[slice]


@dataclass
class BatchGradients:
    """Computes the gradients of a batch's loss. A function of (seed, epoch, batch), the weights and the pairs."""

    model: Embedder
    loss: PairLoss
    config: Config
    facts: PairFacts
    ranks: Ranks

    def __call__(self, pairs: PairBatch, epoch: int, batch: int, columns: int = 2) -> tuple[Tensor, int] | None:
        """Put the gradients of the batch, of which these pairs are this rank's part, into the parameters.

        `columns` is the number of rows that a pair has, 3 with semi-positive tiles. Returns the loss and the number B
        of pairs of the whole batch; None where there are not enough to learn from.
        """
        share = self._share(pairs, epoch, batch, columns)
        if share is None:
            return None
        cached = len(share.chunks) > 1
        # The first of two passes leaves no trace but descriptors.
        with torch.set_grad_enabled(not cached), statistics_kept(self.model) if cached else nullcontext():
            described = [self._describe(share, chunk, epoch, batch) for chunk in share.chunks]
        own = [torch.cat(parts) if cached else parts[0] for parts in zip(*described, strict=True)]
        leaves = [self._leaf(one, share) for one in own]
        value = self._value(share, leaves, epoch)
        value.backward()
        slopes = [None if one.grad is None else one.grad[share.place] for one in leaves]
        for chunk in share.chunks:
            again = self._describe(share, chunk, epoch, batch) if cached else described[0]
            parts = zip(again, slopes, strict=True)
            # A branch of which nothing learns has descriptors without a graph.
            ends = [(one, slope[chunk]) for one, slope in parts if slope is not None and one.requires_grad]
            torch.autograd.backward(*zip(*ends, strict=True))
        self.ranks.sum_gradients(self.model)
        return value.detach(), len(share.rows)

    def _leaf(self, own: Tensor, share: Share) -> Tensor:
        """Descriptors (B, D) of the whole batch, apart from the model, from this rank's; none where it has none."""
        if not len(own):
            return own.detach()
        return self.ranks.gathered(own.detach(), share.place, len(share.rows)).requires_grad_()

    def _share(self, pairs: PairBatch, epoch: int, batch: int, columns: int) -> Share | None:
        place, count = self.ranks.place(len(pairs.ground))
        # One without a pair has nothing to pass through the model: no rank goes on.
        (empty,) = self.ranks.largest(len(pairs.ground) == 0)
        if empty or count < 2:
            return None
        rows = self.ranks.gathered(torch.from_numpy(pairs.rows.reshape(-1, columns)), place, count).numpy()
        whole = draw_augmentation(self.config.train, self.config.model.view, epoch, batch, count)
        own = len(pairs.ground)
        size = self.config.train.cache_chunk or own
        chunks = [slice(start, min(start + size, own)) for start in range(0, own, size)]
        return Share(pairs, rows, place, whole, whole.take(place), chunks)

    def _describe(self, share: Share, chunk: slice, epoch: int, batch: int) -> list[Tensor]:
        """Descriptors of a chunk's (b) panoramas, tiles and semi-positive tiles, the latter (0, D) without them."""
        self._seed(epoch, batch, chunk.start)
        train, view = self.config.train, self.config.model.view
        device = next(self.model.parameters()).device
        inputs = augmented(share.pairs.take(chunk), share.draw.take(chunk), view, device)
        # Entered anew each time: what autocast keeps of a pass without gradients must not serve one with them.
        with torch.autocast(device.type, PRECISIONS[train.precision], enabled=train.precision != "float32"):
            ground, aerial = self.model(inputs.ground, inputs.aerial, inputs.mask)
        return [ground, aerial[: len(ground)], aerial[len(ground) :]]

    def _seed(self, epoch: int, batch: int, start: int) -> None:
        """What the model draws itself is the same in both passes of a chunk, and another in each."""
        where = [self.ranks.rank, start]
        entropy = [self.config.train.seed, epoch, 2, batch, *(where if any(where) else ())]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))

    def _value(self, share: Share, leaves: list[Tensor], epoch: int) -> Tensor:
        train, needs = self.config.train, self.loss.needs_at(epoch)
        ground, aerial, semi = leaves
        columns = self.model.azimuth_columns
        geometry = geometry_of(share.rows, share.whole, self.facts, train, needs, semi, epoch, columns)
        with torch.autocast(ground.device.type, PRECISIONS[train.precision], enabled=train.precision != "float32"):
            return self.loss.with_geometry(ground, aerial, geometry)


def batch_norm_remark(model: Embedder, config: Config, ranks: Ranks) -> str | None:
    """What batch norm, in a model in training mode, makes of chunks and ranks; None where they change nothing."""
    norms = learning_norms(model)
    apart = [] if not norms else [f"chunks of {config.train.cache_chunk} pairs"] * (config.train.cache_chunk > 0)
    if norms and ranks.size > 1 and not any(isinstance(one, torch.nn.SyncBatchNorm) for one in norms):
        apart.append(f"{ranks.size} processes on the CPU")
    if not apart:
        return None
    return (
        f"{len(norms)} batch norms of {model.config.name} learn, and normalise each part of a batch by itself: "
        f"{' and '.join(apart)} do not train quite as one whole batch would"
    )
