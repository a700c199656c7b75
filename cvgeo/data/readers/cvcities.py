"""CV-Cities (Huang et al. 2024): 223,736 pairs of 16 cities, ten for training and six for testing.

`CITY/img_info.csv` has no line of names: name, longitude, latitude, city, satellite picture, panorama, the paths
relative to the data set's folder, with either slash. The authors test each city by itself, among its own tiles: the
records `within CITY` of an evaluation. Neither the direction of the panoramas nor the ground size of the tiles is
stated, and panoramas were seen that are centred on the road rather than on north: both count as unknown.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvgeo.data.readers import reader
from cvgeo.data.schema import POSITIVE, Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.data.tables import CsvTable
from cvgeo.errors import InputError

INFO = "img_info.csv"
COLUMNS = ("name", "longitude", "latitude", "city", "satellite", "panorama")
CITIES = {
    "train": (
        "barcelona", "captown", "losangeles", "maynila", "melbourne", "mexico", "newyork", "paris", "santiago", "tokyo"
    ),
    "test": ("taipei", "singapore", "london", "seattle", "rio", "sydney"),
}  # fmt: skip
OTHER = "other"  # a city of neither list
SPLIT_OF = {city: split for split, cities in CITIES.items() for city in cities}
PROTOCOLS = {
    "train": "the authors' ten training cities",
    "test": "the authors' six test cities; theirs are the figures within each city",
    OTHER: "cities of neither of the authors' lists",
}


def _cities(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"*/{INFO}"))


def _city(folder: Path, city: str) -> tuple[Panoramas, Tiles, np.ndarray]:
    """A city's tables, and the tile's row of each panorama. Panoramas that name one picture share its tile."""
    table = CsvTable(folder / city / INFO, columns=COLUMNS)
    lat, lon = table.numbers("latitude", -90, 90, required=True), table.numbers("longitude", -180, 180, required=True)
    # Lists that were written on Windows have its slashes.
    grounds, aerials = (
        [name.replace("\\", "/") for name in names]
        for names in (table.ids("panorama"), table.text("satellite", required=True))
    )
    first: dict[str, int] = {}
    for row, name in enumerate(aerials):
        first.setdefault(name, row)
    number, rows = {name: tile for tile, name in enumerate(first)}, np.array(list(first.values()), dtype=np.int64)
    count, split = len(table), SPLIT_OF.get(city, OTHER)
    labels, whole = {"split": [split] * count, "source": [city] * count}, np.full(count, 360.0)
    panoramas = Panoramas(_ids(grounds), [folder / name for name in grounds], lat, lon, None, whole, **labels)
    labels = {name: values[: len(rows)] for name, values in labels.items()}
    tiles = Tiles(_ids(list(first)), [folder / name for name in first], lat[rows], lon[rows], None, **labels)
    return panoramas, tiles, np.array([number[name] for name in aerials], dtype=np.int64)


def _ids(names: list[str]) -> list[str]:
    return [name.rpartition(".")[0] or name for name in names]


@reader(
    "cvcities",
    lambda folder: bool(_cities(folder)),
    layout="CITY/img_info.csv (name, longitude, latitude, city, satellite path, panorama path) and the pictures",
    access="CV-Cities is given out by its authors (https://github.com/GaoShuang98/CVCities).",
)
def read(folder: Path) -> Dataset:
    """Read CV-Cities, or those of its cities that are there; a city of neither list gets the split `other`.

    Raises InputError naming file and line for what is wrong.
    """
    cities = _cities(folder)
    panoramas, tiles, tile = zip(*(_city(folder, city) for city in cities), strict=True)
    before = np.cumsum([0, *map(len, tiles)])
    rows = np.concatenate([one + first for one, first in zip(tile, before, strict=False)])
    panoramas, tiles, count = Panoramas.joined(panoramas), Tiles.joined(tiles), len(rows)
    if not count:
        raise InputError("lists no pictures", path=folder / cities[0] / INFO, mend="fetch it again")
    return Dataset(
        "cvcities",
        folder,
        panoramas,
        tiles,
        Pairs(np.arange(count), rows, np.full(count, POSITIVE), np.zeros(count), np.zeros(count)),
        Conventions(fit="stretch", aligned=True),
        {"cities": cities},
        protocols={split: PROTOCOLS[split] for split in dict.fromkeys(panoramas.split)},
    )
