"""The one schema into which every data set is read.

Tables are columns, not lists of objects: a set with a hundred thousand rows is a handful of arrays. Angles are degrees,
headings clockwise from north, distances metres; NaN stands for `unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

POSITIVE = 0
SEMI_POSITIVE = 1
ROLES = ("positive", "semi_positive")
EVERY_SPLIT = "*"  # as a row's split: the row belongs to each split, as VIGOR's tiles do in its same-area protocol


def _floats(values: ArrayLike | None, count: int) -> np.ndarray:
    if values is None:
        return np.full(count, np.nan)
    return np.asarray(values, dtype=np.float64)


@dataclass
class _Table:
    id: list[str]
    path: list[Path]

    def __len__(self) -> int:
        return len(self.id)

    def __post_init__(self) -> None:
        for column in fields(self):
            if column.type == "np.ndarray":
                setattr(self, column.name, _floats(getattr(self, column.name), len(self.id)))
            elif getattr(self, column.name) is None:
                setattr(self, column.name, [""] * len(self.id))
            if len(getattr(self, column.name)) != len(self.id):
                raise ValueError(
                    f"column {column.name} has {len(getattr(self, column.name))} rows, id has {len(self.id)}"
                )

    def take(self, rows: ArrayLike) -> Self:
        """The table of these rows, in this order."""
        rows = np.asarray(rows, dtype=np.int64)
        columns = {}
        for column in fields(self):
            values = getattr(self, column.name)
            columns[column.name] = values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
        return type(self)(**columns)

    @classmethod
    def joined(cls, tables: Sequence[Self]) -> Self:
        """Several tables as one, in this order."""
        columns = {}
        for column in fields(cls):
            values = [getattr(table, column.name) for table in tables]
            arrays = column.type == "np.ndarray"
            columns[column.name] = np.concatenate(values) if arrays else [one for part in values for one in part]
        return cls(**columns)


@dataclass
class Panoramas(_Table):
    """Ground pictures, one a row.

    `column0_heading` is the heading of the left edge of column 0; column j's centre looks along
    column0_heading + hfov (j + 1/2) / width. `vfov_top` and `vfov_bottom` are the elevations of the upper and lower
    edge, up positive. `source` names the origin of a picture in a set of several origins. `projection` is one of
    `cvgeo.geometry.PROJECTIONS`, empty for equirectangular; of a tilted picture (`pitch`, `roll` as
    `cvgeo.geometry.level_panorama` has them, NaN for level) all fields are those of the camera held level.
    """

    lat: np.ndarray = None
    lon: np.ndarray = None
    column0_heading: np.ndarray = None
    hfov: np.ndarray = None
    vfov_top: np.ndarray = None
    vfov_bottom: np.ndarray = None
    split: list[str] = None
    source: list[str] = None
    projection: list[str] = None
    pitch: np.ndarray = None
    roll: np.ndarray = None


@dataclass
class Tiles(_Table):
    """Aerial tiles, north up, one a row: position of the centre, ground sampling distance in metres a pixel."""

    lat: np.ndarray = None
    lon: np.ndarray = None
    gsd_m: np.ndarray = None
    split: list[str] = None
    source: list[str] = None


@dataclass
class Pairs:
    """Which tile shows which panorama's place: row numbers, role, offset panorama minus tile centre in metres."""

    panorama: np.ndarray
    tile: np.ndarray
    role: np.ndarray
    offset_north_m: np.ndarray = None
    offset_east_m: np.ndarray = None

    def __post_init__(self) -> None:
        self.panorama = np.asarray(self.panorama, dtype=np.int64)
        self.tile = np.asarray(self.tile, dtype=np.int64)
        self.role = np.asarray(self.role, dtype=np.int8)
        self.offset_north_m = _floats(self.offset_north_m, len(self.panorama))
        self.offset_east_m = _floats(self.offset_east_m, len(self.panorama))

    def __len__(self) -> int:
        return len(self.panorama)


@dataclass
class Conventions:
    """How a data set's pictures are to be understood.

    `fit`: `place` puts a ground picture where its fields of view belong on the canonical grid (360 degrees by +45 to
    -45) and masks the rest; `stretch` resizes it to the grid as the papers do. `ground_rows` (top, bottom, of) crops
    the rows first (CVACT: 208, 624 of 832). A `fit` of None is not stated: it is placed.
    """

    fit: str | None = "place"
    ground_rows: tuple[int, int, int] | None = None
    aligned: bool | None = None  # panoramas stand at the tile centres (True), anywhere in them (False), unknown (None)


@dataclass
class Dataset:
    """A data set: its tables, its conventions, and where it came from."""

    name: str
    root: Path
    panoramas: Panoramas
    tiles: Tiles
    pairs: Pairs
    conventions: Conventions = field(default_factory=Conventions)
    provenance: dict = field(default_factory=dict)
    attribution: str = ""
    protocols: dict[str, str] = field(default_factory=dict)  # by split: the practice of evaluating it, where it has one

    def splits(self) -> list[str]:
        """Names of the splits, sorted; rows that belong to each split name none."""
        return sorted((set(self.panoramas.split) | set(self.tiles.split)) - {EVERY_SPLIT})

    def subset(self, split: str | None = None, source: str | None = None) -> Dataset:
        """The part of one split and source; a pair stays if both its ends do. None means all."""

        def rows(table: Panoramas | Tiles) -> np.ndarray:
            keep = np.ones(len(table), dtype=bool)
            for column, wanted in ((table.split, (split, EVERY_SPLIT)), (table.source, (source,))):
                if wanted[0] is not None:
                    keep &= np.fromiter((value in wanted for value in column), dtype=bool, count=len(table))
            return np.flatnonzero(keep)

        part = self.select(rows(self.panoramas), rows(self.tiles))
        if split is not None:
            part.protocols = {name: text for name, text in self.protocols.items() if name == split}
        return part

    def select(self, panorama_rows: np.ndarray, tile_rows: np.ndarray) -> Dataset:
        """The part of these rows, (P,) and (T,) int64; a pair stays if both its ends do."""
        new_panorama = np.full(len(self.panoramas), -1)
        new_panorama[panorama_rows] = np.arange(len(panorama_rows))
        new_tile = np.full(len(self.tiles), -1)
        new_tile[tile_rows] = np.arange(len(tile_rows))
        keep = (new_panorama[self.pairs.panorama] >= 0) & (new_tile[self.pairs.tile] >= 0)
        pairs = Pairs(
            new_panorama[self.pairs.panorama[keep]],
            new_tile[self.pairs.tile[keep]],
            self.pairs.role[keep],
            self.pairs.offset_north_m[keep],
            self.pairs.offset_east_m[keep],
        )
        return Dataset(
            self.name,
            self.root,
            self.panoramas.take(panorama_rows),
            self.tiles.take(tile_rows),
            pairs,
            self.conventions,
            self.provenance,
            self.attribution,
            self.protocols,
        )
