"""CVUSA in its official layout (Zhai et al. 2017): 35,532 training and 8,884 validation pairs, north at the centre.

`splits/{train,val}-19zl.csv` have no line of names: aerial, ground, annotation. The number in a file's name is the
image id; `split_locations/all.csv`, as far as it is there, holds the position of image N in line N: the tile's latitude
and longitude, the panorama's in columns 3 and 4, and a heading that is not applied, since the panoramas of this release
have north at the centre. It has 45,516 lines, more than the splits name images.

The ready-made polar maps of `polarmap/19` are not read, only noted: they fix one size and one convention (that of the
released code, `safa` here), while the model's view says how it wants tiles transformed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvgeo.data.readers import reader
from cvgeo.data.schema import POSITIVE, Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.data.tables import CsvTable
from cvgeo.errors import InputError

SPLITS = ("train", "val")
ZOOM = 19  # of the Bing tiles
POLAR_MAPS = f"polarmap/{ZOOM}"


def _split_file(folder: Path, split: str) -> Path:
    return folder / "splits" / f"{split}-{ZOOM}zl.csv"


def _recognises(folder: Path) -> bool:
    return any(_split_file(folder, split).is_file() for split in SPLITS)


def _numbers_in_names(table: CsvTable, aerials: list[str]) -> np.ndarray:
    stems = [path.rpartition("/")[2].partition(".")[0] for path in aerials]
    for row, stem in enumerate(stems):
        if not (stem.isascii() and stem.isdigit()) or int(stem) == 0:
            raise table.fault(row, f"{aerials[row]}: the file's name is not an image number of 1 or more")
    return np.array([int(stem) for stem in stems], dtype=np.int64)


def _positions(folder: Path, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    path = folder / "split_locations" / "all.csv"
    if not path.is_file():
        return np.full(len(numbers), np.nan), np.full(len(numbers), np.nan)
    table = CsvTable(path, columns=("aerial_lat", "aerial_lon", "lat", "lon"))
    if len(numbers) and numbers.max() > len(table):
        fault = f"has {len(table)} lines, but the splits name image {numbers.max()}"
        raise InputError(fault, path=path, mend="line N belongs to image N: fetch the whole file")
    return table.numbers("lat", -90, 90)[numbers - 1], table.numbers("lon", -180, 180)[numbers - 1]


def _ground_sampling_distance(lat: np.ndarray) -> np.ndarray:
    from cvgeo.geometry.geodesy import web_mercator_resolution

    return web_mercator_resolution(lat, ZOOM)


@reader(
    "cvusa",
    _recognises,
    layout="bingmap/19/*.jpg, streetview/panos/*.jpg, splits/{train,val}-19zl.csv, split_locations/all.csv",
    access="CVUSA is given out on request by the MVRL group (https://mvrl.cse.wustl.edu/datasets/cvusa/).",
)
def read(folder: Path) -> Dataset:
    """Read CVUSA, or a part of it, in its official layout: a missing split is left out, missing positions are NaN."""
    aerials: list[str] = []
    grounds: list[str] = []
    split: list[str] = []
    numbers = [np.empty(0, dtype=np.int64)]
    for name in SPLITS:
        if _split_file(folder, name).is_file():
            table = CsvTable(_split_file(folder, name), columns=("aerial", "ground"))
            aerials += table.ids("aerial")
            grounds += table.text("ground", required=True)
            split += [name] * len(table)
            numbers.append(_numbers_in_names(table, aerials[-len(table) :] if len(table) else []))
    number = np.concatenate(numbers)
    lat, lon = _positions(folder, number)
    count = len(number)
    ids = [f"{one:07d}" for one in number]
    heading, hfov = np.full(count, 180.0), np.full(count, 360.0)
    panoramas = Panoramas(ids, [folder / path for path in grounds], lat, lon, heading, hfov, split=split)
    gsd = _ground_sampling_distance(lat)
    tiles = Tiles(list(ids), [folder / path for path in aerials], lat.copy(), lon.copy(), gsd, list(split))
    offsets = np.where(np.isnan(lat), np.nan, 0.0)
    pairs = Pairs(np.arange(count), np.arange(count), np.full(count, POSITIVE), offsets, offsets.copy())
    noted = {"not_read": POLAR_MAPS} if (folder / POLAR_MAPS).is_dir() else {}
    return Dataset("cvusa", folder, panoramas, tiles, pairs, Conventions(fit="stretch", aligned=True), noted)
