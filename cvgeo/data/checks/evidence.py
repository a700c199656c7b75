"""What the checks look at: a data set's tables, and what was seen of its pictures, as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cvgeo.data.schema import POSITIVE, Dataset, Panoramas, Tiles
from cvgeo.geometry.geodesy import offset_metres

FAULT, REMARK = "fault", "remark"
DIGEST = "S16"


@dataclass(frozen=True)
class Finding:
    """One kind of thing found in one split: a fault has to be mended, a remark is to be known.

    `items` names what was found, all of it: ids of panoramas or tiles, pairs as `panorama -> tile`, or paths.
    """

    grade: str
    count: int
    items: Sequence[str]
    fault: str
    mend: str
    split: str = ""
    check: str = ""


@dataclass
class Pictures:
    """What was seen of the pictures of one table, one a row; see `unseen` for what is not known."""

    there: np.ndarray  # (N,) bool
    height: np.ndarray  # (N,) int32, 0 unknown
    width: np.ndarray
    content: np.ndarray  # (N,) S16, digest of the file's bytes, empty unknown
    pixels: np.ndarray  # (N,) S16, digest of the decoded pixels and their shape, empty unknown
    broken: dict[int, str] = field(default_factory=dict)  # why a row's picture cannot be read

    @classmethod
    def unseen(cls, count: int) -> Pictures:
        """Of pictures that nobody has looked at: all there, of unknown size and content."""
        size = np.zeros(count, np.int32)
        digest = np.zeros(count, DIGEST)
        return cls(np.ones(count, bool), size, size.copy(), digest, digest.copy())


@dataclass
class Agreement:
    """How well the two views of sampled pairs agree when the ground view is turned: see `checks.north`.

    pair: rows of the pairs, (P,). scores: (P, T) at T turns of the panorama clockwise, equally spaced from 0.
    """

    pair: np.ndarray
    scores: np.ndarray


@dataclass
class Shifts:
    """Metres a pixel by the shift of the picture content of a tile against that of a neighbour, (P,) each."""

    tile: np.ndarray
    gsd_m: np.ndarray


@dataclass
class Evidence:
    """A data set, what was seen of its pictures, and what its layout says of them.

    `tile_pixels` is the side of the tiles whose pixels the labels and `gsd_m` count, whatever a copy was resized to
    (NaN: that of the pictures); `published_gsd_m` the metres a pixel that the layout's authors state.
    """

    dataset: Dataset
    panoramas: Pictures
    tiles: Pictures
    tile_pixels: float = np.nan
    published_gsd_m: float = np.nan
    agreement: Agreement | None = None
    shifts: Shifts | None = None

    @property
    def tables(self) -> tuple[tuple[str, Panoramas | Tiles, Pictures], ...]:
        """Both tables with what they are called and what was seen of their pictures."""
        return ("panorama", self.dataset.panoramas, self.panoramas), ("tile", self.dataset.tiles, self.tiles)

    @cached_property
    def side_m(self) -> np.ndarray:
        """Ground size of each tile's side in metres, (T,); NaN unknown."""
        if np.isfinite(self.tile_pixels):
            return self.dataset.tiles.gsd_m * self.tile_pixels
        pixels = np.minimum(self.tiles.height, self.tiles.width).astype(float)
        return self.dataset.tiles.gsd_m * np.where(pixels > 0, pixels, np.nan)

    @cached_property
    def positive(self) -> np.ndarray:
        """Which pairs are positive, bool."""
        return self.dataset.pairs.role == POSITIVE

    @cached_property
    def apart(self) -> tuple[np.ndarray, np.ndarray]:
        """Metres that each pair's panorama lies north and east of its tile's centre by position, NaN unknown."""
        panoramas, tiles, pairs = self.dataset.panoramas, self.dataset.tiles, self.dataset.pairs
        north, east = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
        ends = (panoramas.lat[pairs.panorama], panoramas.lon[pairs.panorama])
        ends += (tiles.lat[pairs.tile], tiles.lon[pairs.tile])
        with np.errstate(invalid="ignore"):
            known = np.isfinite(ends).all(axis=0) & (np.abs(ends[0::2]) <= 90).all(axis=0)
        lat, lon, tile_lat, tile_lon = (one[known] for one in ends)
        north[known], east[known] = offset_metres(tile_lat, tile_lon, lat, lon)
        return north, east

    def pair_names(self, rows: np.ndarray) -> list[str]:
        """Pairs as `panorama -> tile`."""
        pairs, panoramas, tiles = self.dataset.pairs, self.dataset.panoramas.id, self.dataset.tiles.id
        ends = zip(pairs.panorama[rows].tolist(), pairs.tile[rows].tolist(), strict=True)
        return [f"{panoramas[panorama]} -> {tiles[tile]}" for panorama, tile in ends]

    def pair_splits(self) -> np.ndarray:
        """The split of each pair's panorama, (P,)."""
        return np.array(self.dataset.panoramas.split, dtype=object)[self.dataset.pairs.panorama]


def by_split(
    splits: Sequence[str] | np.ndarray,
    rows: np.ndarray,
    names: Callable[[np.ndarray], Sequence[str]],
    grade: str,
    fault: str,
    mend: str,
) -> Iterator[Finding]:
    """One finding for each split that has some of these rows; `names(rows)` gives the items."""
    rows = np.asarray(rows, dtype=np.int64)
    if not len(rows):
        return
    own = np.array([splits[row] for row in rows.tolist()], dtype=object)
    for split in sorted(set(own.tolist())):
        some = rows[own == split]
        yield Finding(grade, len(some), names(some), fault, mend, split)


def named(ids: Sequence[str]) -> Callable[[np.ndarray], Sequence[str]]:
    """`names` for `by_split` from a column of a table."""
    return lambda rows: [str(ids[row]) for row in rows.tolist()]
