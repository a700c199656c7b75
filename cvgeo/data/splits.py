"""Splits by place: no held-out place is seen, even from a neighbouring one, in training.

The ground is laid out in blocks; whole blocks go to a split, and panoramas that are too near to one of another split
are dropped. Distances are taken in space (chords), so that it works across zone edges and the date line.
"""

from __future__ import annotations

import math

import numpy as np

from cvgeo.geometry.geodesy import earth_centred
from cvgeo.geometry.neighbours import has_neighbour

TRAIN, VAL, TEST = "train", "val", "test"
DROPPED = ""
# The split that loses a panorama where two are too near: training first, the held-out places last.
LOSES_FIRST = (TRAIN, VAL, TEST)
METRES_A_DEGREE = 111_195.0
BLOCKS_IN_SMALLEST_SHARE = 6


def block_size_m(lat: np.ndarray, lon: np.ndarray, smallest_share: float, apart_m: float) -> float:
    """Side of the blocks in metres: some blocks for the smallest split, none so small that its border eats it up."""
    fine = blocks(lat, lon, max(apart_m, 25.0))
    area = len(np.unique(fine, axis=0)) * max(apart_m, 25.0) ** 2
    return max(3 * apart_m, math.sqrt(area * smallest_share / BLOCKS_IN_SMALLEST_SHARE))


def blocks(lat: np.ndarray, lon: np.ndarray, side_m: float) -> np.ndarray:
    """Row and column of each position's block, (N, 2) int64: rows along latitude, each divided at its own width."""
    rows = np.floor(np.asarray(lat) * METRES_A_DEGREE / side_m).astype(np.int64)
    middle = np.radians(np.clip((rows + 0.5) * side_m / METRES_A_DEGREE, -89.9, 89.9))
    columns = np.floor(np.asarray(lon) * METRES_A_DEGREE * np.cos(middle) / side_m).astype(np.int64)
    return np.stack([rows, columns], axis=1)


def drop_near(lat: np.ndarray, lon: np.ndarray, split: np.ndarray, apart_m: float) -> np.ndarray:
    """The splits with DROPPED where a panorama lies nearer than `apart_m` to one of a split that keeps its own."""
    points, split = earth_centred(np.asarray(lat), np.asarray(lon)), np.array(split, dtype=object)
    for turn, name in enumerate(LOSES_FIRST[:-1]):
        own = np.flatnonzero(split == name)
        kept = np.flatnonzero(np.isin(split, LOSES_FIRST[turn + 1 :]))
        split[own[has_neighbour(points[own], points[kept], apart_m)]] = DROPPED
    return split


def claim_tiles(
    split: np.ndarray, place: np.ndarray, tile: np.ndarray, tile_split: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give each tile that shows panoramas to one split, so that no tile is in two.

    Args:
        split: of the panoramas, (N,).
        place, tile: rows of panoramas and of the tiles that show them, (M,) each.
        tile_split: the split of tiles that show no panorama, (T,).

    Returns:
        The panoramas' splits, with DROPPED for those that share a tile with one of a split that keeps its own, and the
        tiles' splits.
    """
    split, claimed = np.array(split, dtype=object), np.full(len(tile_split), DROPPED, dtype=object)
    for name in reversed(LOSES_FIRST):
        own = split[place] == name
        split[place[own & (claimed[tile] != DROPPED)]] = DROPPED
        claimed[tile[split[place] == name]] = name
    return split, np.where(claimed == DROPPED, tile_split, claimed)


def _deal(counts: np.ndarray, val_share: float, test_share: float, seed: int) -> np.ndarray:
    """A split for each block, dealt in random order: val and test come as near to their shares as blocks allow."""
    dealt = np.full(len(counts), TRAIN, dtype=object)
    order = np.random.default_rng(seed).permutation(len(counts))
    for name, share in ((TEST, test_share), (VAL, val_share)):
        wanted, held = share * counts.sum(), 0
        for block in order:
            # A block that overshoots by more than it closes the gap is left to the next.
            if dealt[block] == TRAIN and held < wanted and held + counts[block] / 2 <= wanted:
                dealt[block] = name
                held += counts[block]
        if wanted > 0 and held == 0 and (dealt == TRAIN).sum() > 1:
            free = order[dealt[order] == TRAIN]
            dealt[free[np.argmin(counts[free])]] = name
    return dealt


class PlaceSplit:
    """Blocks dealt to train, val and test by the share of the panoramas in them; the same seed deals the same way.

    Args:
        lat, lon: positions of the panoramas, (N,) degrees.
        val_share, test_share: parts of the panoramas that go to val and test.
        apart_m: least distance in metres between panoramas of two splits: blocks are a few times as wide.
        seed: of the order in which blocks are dealt.
        extra: positions (lat, lon) of places without panoramas, such as tile centres, whose blocks are dealt too.
    """

    def __init__(
        self,
        lat: np.ndarray,
        lon: np.ndarray,
        val_share: float,
        test_share: float,
        apart_m: float,
        seed: int,
        extra: tuple[np.ndarray, np.ndarray] | None = None,
    ):
        shares = [share for share in (val_share, test_share) if share > 0] or [1.0]
        self.side_m = block_size_m(lat, lon, min(shares), apart_m)
        places = blocks(lat, lon, self.side_m)
        every = places if extra is None else np.concatenate([places, blocks(*extra, self.side_m)])
        distinct, number = np.unique(every, axis=0, return_inverse=True)
        counts = np.bincount(number.ravel()[: len(places)], minlength=len(distinct))
        dealt = _deal(counts, val_share, test_share, seed)
        self._split_of = {tuple(block): name for block, name in zip(distinct.tolist(), dealt, strict=True)}
        self.blocks = int((counts > 0).sum())

    def of(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """The split of positions in blocks that were dealt, (N,) strings."""
        names = [self._split_of[tuple(block)] for block in blocks(lat, lon, self.side_m).tolist()]
        return np.array(names, dtype=object)


def split_at_random(count: int, val_share: float, test_share: float, seed: int) -> np.ndarray:
    """A split for each of `count` rows regardless of place: neighbours end up on both sides, so figures flatter."""
    split = np.full(count, TRAIN, dtype=object)
    order = np.random.default_rng(seed).permutation(count)
    tests, vals = round(count * test_share), round(count * val_share)
    split[order[:tests]] = TEST
    split[order[tests : tests + vals]] = VAL
    return split
