"""Batches of pairs in which every other sample is a true negative."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from cvgeo.data.schema import POSITIVE, SEMI_POSITIVE, Pairs
from cvgeo.errors import InputError, UsageError
from cvgeo.geometry.geodesy import earth_centred
from cvgeo.geometry.neighbours import nearest_rows


@dataclass
class Related:
    """Which tiles show each panorama's place, as rows grouped by panorama (compressed rows).

    `tiles[starts[p] : starts[p + 1]]` are all tiles of panorama p, positive or semi-positive; `positive_tiles` with
    `positive_starts` only the positive ones, `semi_tiles` with `semi_starts` the others.
    """

    starts: np.ndarray
    tiles: np.ndarray
    positive_starts: np.ndarray
    positive_tiles: np.ndarray
    semi_starts: np.ndarray
    semi_tiles: np.ndarray


def _group(panorama: np.ndarray, tile: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((tile, panorama))
    starts = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(panorama, minlength=count), out=starts[1:])
    return starts, tile[order]


def group_pairs(pairs: Pairs, panoramas: int) -> Related:
    """Group a table of pairs by panorama; `panoramas` is the number of rows of the panorama table."""
    positive, semi = pairs.role == POSITIVE, pairs.role == SEMI_POSITIVE
    return Related(
        *_group(pairs.panorama, pairs.tile, panoramas),
        *_group(pairs.panorama[positive], pairs.tile[positive], panoramas),
        *_group(pairs.panorama[semi], pairs.tile[semi], panoramas),
    )


def _one_of(starts: np.ndarray, tiles: np.ndarray, panoramas: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """One tile of each panorama by numbers (n,) from 0 to 1; -1 for those without."""
    counts = starts[panoramas + 1] - starts[panoramas]
    chosen = starts[panoramas] + (chance * counts).astype(np.int64)
    return np.where(counts > 0, tiles[np.minimum(chosen, len(tiles) - 1)] if len(tiles) else -1, -1)


def geographic_neighbours(lat: np.ndarray, lon: np.ndarray, samples: np.ndarray, count: int) -> np.ndarray:
    """A table of neighbours by place: for every row of (P,) positions the `count` nearest of the rows `samples`.

    (P, count) int32, nearest first; -1 where there are no more, where the position is unknown, and for other rows.
    """
    known = samples[np.isfinite(lat[samples]) & np.isfinite(lon[samples])]
    nearest = nearest_rows(earth_centred(lat[known], lon[known]), count)
    table = np.full((len(lat), count), -1, dtype=np.int32)
    table[known, : nearest.shape[1]] = known[nearest]
    return table


class _Batch:
    """A batch that is being filled."""

    def __init__(self, related: Related, apart: bool):
        self.related, self.apart = related, apart
        self.samples: list[tuple[int, int]] = []
        self._taken: set[int] = set()  # tiles in the batch
        self._shown: set[int] = set()  # tiles of the batch's places

    def add(self, panorama: int, tile: int) -> bool:
        """Add a sample unless its place is there already; whether it was added."""
        starts = self.related.starts
        own = self.related.tiles[starts[panorama] : starts[panorama + 1]].tolist()
        if self.apart:
            clash = not self._shown.isdisjoint(own)
        else:
            clash = tile in self._shown or not self._taken.isdisjoint(own)
        if not clash:
            self.samples.append((panorama, tile))
            self._taken.add(tile)
            self._shown.update(own)
        return not clash


class UniquePlaceBatches:
    """An epoch's batches: each panorama that has a positive tile once, with one of its positive tiles.

    No two samples of a batch are the same place: neither sample's tile is positive or semi-positive for the other's
    panorama. A sample that does not fit into a batch waits for the next one. What is left at the end of an epoch and
    fills no batch is dropped; the next epoch's order is another. The batches depend on (seed, epoch) alone.

    With `apart` no two panoramas of a batch share any tile at all, nor semi-positive ones with each other (VIGOR). With
    `neighbours`, a table (P, K) of the K most alike panoramas of each (-1: none), a sample brings up to `select` of its
    own into its batch: the nearest half, and as many drawn from the rest of the K (Deuser et al. 2023, Sample4Geo).
    Then the batches depend on the table as well.

    Raises InputError without a pair, UsageError where there are fewer samples than a batch takes.
    """

    def __init__(self, pairs: Pairs, panoramas: int, batch_size: int, seed: int, select: int = 64, apart: bool = False):
        self.related = group_pairs(pairs, panoramas)
        self.batch_size, self.seed, self.select, self.apart = batch_size, seed, select, apart
        self.neighbours: np.ndarray | None = None
        self.panoramas = np.flatnonzero(np.diff(self.related.positive_starts))
        if not len(self.panoramas):
            raise InputError("no panorama has a positive tile to train on", mend="check pairs.csv")
        if batch_size < 2:
            raise UsageError(f"batch size {batch_size}: a pair needs others as its negatives", mend="take 2 or more")
        if len(self.panoramas) < batch_size:
            raise UsageError(
                f"batch size {batch_size} is larger than the training split of {len(self.panoramas)} pairs",
                mend=f"--batch-size {len(self.panoramas)} or less",
            )

    def epoch(self, epoch: int, semi_positives: bool = False) -> list[np.ndarray]:
        """The batches of an epoch: each (batch_size, 2) int64, rows of the panorama and of the tile table.

        `semi_positives` adds a third column, a semi-positive tile of each panorama, -1 for one without.
        """
        generator = np.random.default_rng([self.seed, epoch, 0])
        order = generator.permutation(self.panoramas)
        related = self.related
        tiles = _one_of(related.positive_starts, related.positive_tiles, order, generator.random(len(order)))
        batches = self._pack(order, tiles, generator)
        if not batches and self.neighbours is None:
            batches = self._pack(*self._rare_first(order, tiles), generator)
        if not batches:
            raise UsageError(
                f"no {self.batch_size} pairs of the training split show different places",
                mend="take a smaller --batch-size",
            )
        return self._with_semi_positives(batches, epoch) if semi_positives else batches

    def _rare_first(self, order: np.ndarray, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples whose tile shows the fewest other places first: in a small set an unlucky order may fill no batch."""
        starts = self.related.starts
        shown = np.concatenate([self.related.tiles[starts[one] : starts[one + 1]] for one in self.panoramas.tolist()])
        rare = np.argsort(np.bincount(shown)[tiles], kind="stable")
        return order[rare], tiles[rare]

    def _with_semi_positives(self, batches: list[np.ndarray], epoch: int) -> list[np.ndarray]:
        chance = np.random.default_rng([self.seed, epoch, 3]).random((len(batches), self.batch_size))
        starts, tiles = self.related.semi_starts, self.related.semi_tiles
        return [
            np.column_stack([batch, _one_of(starts, tiles, batch[:, 0], one)])
            for batch, one in zip(batches, chance, strict=True)
        ]

    def _pack(self, order: np.ndarray, tiles: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
        waiting = deque(order.tolist())
        left = dict(zip(order.tolist(), tiles.tolist(), strict=True))
        batches = []
        while len(left) >= self.batch_size:
            samples = self._fill(waiting, left, generator)
            if len(samples) < self.batch_size:
                break
            batches.append(np.array(samples, dtype=np.int64))
        return batches

    def _fill(self, waiting: deque[int], left: dict[int, int], generator: np.random.Generator) -> list[tuple[int, int]]:
        """The next batch's samples, taken out of `left` (tiles by panorama) in the order of `waiting`."""
        batch = _Batch(self.related, self.apart)
        skipped = []
        while waiting and len(batch.samples) < self.batch_size:
            panorama = waiting.popleft()
            if panorama not in left:
                continue
            if not batch.add(panorama, left[panorama]):
                skipped.append(panorama)
                continue
            del left[panorama]
            for other in self._company(panorama, generator):
                if len(batch.samples) < self.batch_size and other in left and batch.add(other, left[other]):
                    del left[other]
        waiting.extendleft(reversed(skipped))
        return batch.samples

    def _company(self, panorama: int, generator: np.random.Generator) -> list[int]:
        if self.neighbours is None:
            return []
        pool = self.neighbours[panorama]
        pool = pool[pool >= 0]
        near = self.select // 2
        return [*pool[:near].tolist(), *generator.permutation(pool[near:])[: self.select - near].tolist()]
