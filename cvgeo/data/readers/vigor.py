"""VIGOR (Zhu et al. 2021): panoramas anywhere in 640-pixel tiles of four cities, each tile overlapping its neighbours.

A line of a label file names a panorama and four tiles, each with `d_lat d_lon`: tile centre minus panorama in pixels of
the tile, north and east. The first tile is the positive one, the other three show the panorama's place too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvgeo.data.readers import reader
from cvgeo.data.schema import EVERY_SPLIT, POSITIVE, SEMI_POSITIVE, Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.errors import InputError, explain_os_error

# Medians of metres a pixel: Chicago's over SliceMatch's corrected labels, the others from CCVPE's training code. The
# 0.114 of VIGOR's own code puts panoramas off by up to an eighth of the offset.
GSD_M = {"Chicago": 0.1112, "NewYork": 0.113248, "SanFrancisco": 0.118141, "Seattle": 0.100817}
CROSS_AREA = {"train": ("NewYork", "Seattle"), "test": ("Chicago", "SanFrancisco")}
LABELS = {"corrected": ("splits__corrected", "__corrected"), "original": ("splits", "")}
TILE_LIST = "satellite_list.txt"
FIELDS, TILES_A_LINE = 13, 4
VARIANTS = {
    "same": "each city in training and test, corrected labels where they are there",
    "cross": "trained on New York and Seattle, tested on Chicago and San Francisco, corrected labels likewise",
    "same-original": "same with the original labels",
    "cross-original": "cross with the original labels",
}


def _tile_list(folder: Path, city: str) -> Path | None:
    places = [folder / parent / city / TILE_LIST for parent in ("splits", "splits__corrected", ".")]
    return next((path for path in places if path.is_file()), None)


def _recognises(folder: Path) -> bool:
    return any(_tile_list(folder, city) is not None for city in GSD_M)


def _label_file(folder: Path, city: str, name: str, labels: str) -> Path | None:
    parent, ending = LABELS[labels]
    places = [folder / place / city / f"{name}{ending}.txt" for place in (parent, ".")]
    return next((path for path in places if path.is_file()), None)


def _files(protocol: str, city: str) -> dict[str, str]:
    """Label files of a city by the split that they make up."""
    if protocol == "same":
        return {split: f"same_area_balanced_{split}" for split in ("train", "test")}
    return {split: "pano_label_balanced" for split, cities in CROSS_AREA.items() if city in cities}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", path=path) from error


def _faulty_line(path: Path, text: str, row_of: dict[str, int]) -> InputError:
    """What is wrong with a label file, found line by line once it is known that something is."""
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if fields and len(fields) != FIELDS:
            return InputError(f"line {number}: {len(fields)} fields where {FIELDS} are due", path=path)
        for field in fields[1::3]:
            if field not in row_of:
                mend = "the labels and the list belong together: fetch both of one release"
                return InputError(f"line {number}: tile {field} is not in {TILE_LIST}", path=path, mend=mend)
        try:
            for field in [*fields[2::3], *fields[3::3], *(fields[0].split(",")[1:3] if fields else ())]:
                float(field)
        except ValueError:
            return InputError(f"line {number}: {field!r} is not a number", path=path)
    return InputError("a panorama's name is not id,latitude,longitude,.jpg", path=path)


class _Labels:
    """One label file as columns: names (N,), lat and lon (N,), tile rows (N, 4), tile minus panorama (N, 4) pixels."""

    def __init__(self, path: Path, row_of: dict[str, int]):
        text = _read_text(path)
        tokens = text.split()
        self.names = tokens[0::FIELDS]
        try:
            if len(tokens) % FIELDS or text.count(",") != 3 * len(self.names):
                raise ValueError("not one panorama and four tiles a line")
            parts = ",".join(self.names).split(",")
            self.ids = parts[0::4]
            self.lat, self.lon = (np.array(list(map(float, parts[part::4]))) for part in (1, 2))
            columns = [list(map(row_of.__getitem__, tokens[1 + 3 * at :: FIELDS])) for at in range(TILES_A_LINE)]
            self.tile = np.array(columns, dtype=np.int64).T.reshape(-1, TILES_A_LINE)
            self.north, self.east = (self._pixels(tokens, first) for first in (2, 3))
        except (KeyError, ValueError):
            raise _faulty_line(path, text, row_of) from None

    @staticmethod
    def _pixels(tokens: list[str], first: int) -> np.ndarray:
        columns = [list(map(float, tokens[first + 3 * at :: FIELDS])) for at in range(TILES_A_LINE)]
        return np.array(columns).T.reshape(-1, TILES_A_LINE)


def _tile_positions(path: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    parts = "_".join(names).replace(".png", "").split("_") if names else []
    try:
        if len(parts) != 3 * len(names):
            raise ValueError
        return np.array(list(map(float, parts[1::3]))), np.array(list(map(float, parts[2::3])))
    except ValueError:
        raise InputError("a tile's name is not satellite_LAT_LON.png", path=path) from None


def _picture_folders(folder: Path, city: str) -> tuple[Path, Path]:
    """Folders of a city's panoramas and tiles, of either layout."""
    if (folder / "ground").is_dir() or (folder / "satellite").is_dir():
        return folder / "ground" / city, folder / "satellite" / city
    return folder / city / "panorama", folder / city / "satellite"


def _city(folder: Path, city: str, protocol: str, labels: str) -> tuple[Panoramas, Tiles, Pairs]:
    """One city's tables; rows are counted from 0."""
    list_file = _tile_list(folder, city)
    names = _read_text(list_file).split()
    ground, aerial = _picture_folders(folder, city)
    row_of = dict(zip(names, range(len(names)), strict=True))
    if len(row_of) < len(names):
        raise InputError("names a tile twice", path=list_file)
    lat, lon = _tile_positions(list_file, names)
    splits = _files(protocol, city)
    tile_split = EVERY_SPLIT if protocol == "same" else next(iter(splits))
    count, gsd = len(names), GSD_M[city]
    ids = [name.removesuffix(".png") for name in names]
    paths = [aerial / name for name in names]
    tiles = Tiles(ids, paths, lat, lon, np.full(count, gsd), [tile_split] * count, [city] * count)
    read = {}
    for split, name in splits.items():
        path = _label_file(folder, city, name, labels)
        if path is None:
            raise _no_labels(folder, city, name, labels)
        read[split] = _Labels(path, row_of)
    return _panoramas(city, ground, read), tiles, _pairs(read, gsd)


def _no_labels(folder: Path, city: str, name: str, labels: str) -> InputError:
    parent, ending = LABELS[labels]
    mend = f"put VIGOR's {labels} labels there, or name another variant: {', '.join(VARIANTS)}"
    return InputError("no such label file", path=folder / parent / city / f"{name}{ending}.txt", mend=mend)


def _panoramas(city: str, ground: Path, read: dict[str, _Labels]) -> Panoramas:
    count = sum(len(one.names) for one in read.values())
    return Panoramas(
        [id for one in read.values() for id in one.ids],
        [ground / name for one in read.values() for name in one.names],
        np.concatenate([one.lat for one in read.values()]),
        np.concatenate([one.lon for one in read.values()]),
        np.full(count, 180.0),
        np.full(count, 360.0),
        np.full(count, 90.0),
        np.full(count, -90.0),
        [split for split, one in read.items() for _ in one.names],
        [city] * count,
    )


def _pairs(read: dict[str, _Labels], gsd: float) -> Pairs:
    tile = np.concatenate([one.tile for one in read.values()])
    north = np.concatenate([one.north for one in read.values()])
    east = np.concatenate([one.east for one in read.values()])
    roles = np.array([POSITIVE] + [SEMI_POSITIVE] * (TILES_A_LINE - 1))
    panorama = np.repeat(np.arange(len(tile)), TILES_A_LINE)
    return Pairs(panorama, tile.ravel(), np.tile(roles, len(tile)), -north.ravel() * gsd, -east.ravel() * gsd)


def _joined(cities: list[tuple[Panoramas, Tiles, Pairs]]) -> tuple[Panoramas, Tiles, Pairs]:
    panoramas, tiles, pairs = zip(*cities, strict=True)
    before = [np.cumsum([0, *map(len, tables[:-1])]) for tables in (panoramas, tiles)]
    return (
        Panoramas.joined(panoramas),
        Tiles.joined(tiles),
        Pairs(
            np.concatenate([one.panorama + first for one, first in zip(pairs, before[0], strict=True)]),
            np.concatenate([one.tile + first for one, first in zip(pairs, before[1], strict=True)]),
            *(
                np.concatenate([getattr(one, name) for one in pairs])
                for name in ("role", "offset_north_m", "offset_east_m")
            ),
        ),
    )


@reader(
    "vigor",
    _recognises,
    layout="CITY/{panorama,satellite} or {ground,satellite}/CITY, and splits/CITY/*.txt or "
    "splits__corrected/CITY/*__corrected.txt",
    access="VIGOR is given out by its authors through a form (https://github.com/Jeff-Zilence/VIGOR).",
    variants=VARIANTS,
)
def read(folder: Path, variant: str = "same") -> Dataset:
    """Read VIGOR, or those of its cities that are there.

    Same-area: a city's tiles are the gallery of training and test alike. Cross-area: they belong to the city's split.
    Corrected labels are taken where each city has them. Raises InputError naming file and line for what is wrong.
    """
    protocol, _, wanted = variant.partition("-")
    cities = [city for city in GSD_M if _tile_list(folder, city) is not None]
    names = [(city, name) for city in cities for name in _files(protocol, city).values()]
    whole = all(_label_file(folder, city, name, "corrected") is not None for city, name in names)
    labels = wanted or ("corrected" if whole else "original")
    panoramas, tiles, pairs = _joined([_city(folder, city, protocol, labels) for city in cities])
    asked = {split: [city for city in cities if split in _files(protocol, city)] for split in ("train", "test")}
    return Dataset(
        "vigor",
        folder,
        panoramas,
        tiles,
        pairs,
        Conventions(fit="stretch", aligned=False),
        {"protocol": protocol, "labels": labels, "cities": cities},
        protocols={split: f"{protocol}-area, {labels} labels, {', '.join(own)}" for split, own in asked.items() if own},
    )
