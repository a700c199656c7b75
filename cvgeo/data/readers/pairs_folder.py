"""A folder with a `pairs.csv` that names two pictures a line: the least that a set of pairs can be.

Columns: `ground`, `aerial` (paths relative to the folder) and, as far as known, `id`, `dataset` or `source`, `lat`,
`lon`, `heading_of_centre_column_deg`, `hfov`, `gsd_m`, `split`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvgeo.data.dataset_files import DESCRIPTION
from cvgeo.data.readers import reader
from cvgeo.data.schema import POSITIVE, Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.data.tables import CsvTable

FULL_TURN = 360.0


def _recognises(folder: Path) -> bool:
    return (folder / "pairs.csv").is_file() and not (folder / DESCRIPTION).exists()


def _positions(table: CsvTable) -> tuple[np.ndarray, np.ndarray]:
    lat, lon = table.numbers("lat", -90, 90), table.numbers("lon", -180, 180)
    halves = np.isnan(lat) != np.isnan(lon)
    if halves.any():
        raise table.fault(int(np.argmax(halves)), "has one of lat and lon only", mend="give both or neither")
    return lat, lon


def _tiles(folder: Path, table: CsvTable, panoramas: Panoramas) -> tuple[Tiles, np.ndarray]:
    # Several panoramas may name one picture: it is one tile of the gallery, not several that tie.
    keys = list(zip(table.files("aerial", folder), panoramas.split, strict=True))
    first: dict[tuple[Path, str], int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    rows = np.array(list(first.values()), dtype=np.int64)
    number = {key: tile for tile, key in enumerate(first)}
    one = panoramas.take(rows)
    paths = [path for path, _ in first]
    tiles = Tiles(one.id, paths, one.lat, one.lon, table.numbers("gsd_m", 0)[rows], one.split, one.source)
    return tiles, np.array([number[key] for key in keys], dtype=np.int64)


@reader("pairs-folder", _recognises, layout="pairs.csv with columns ground, aerial [id, source, lat, lon, ...]")
def read(folder: Path) -> Dataset:
    """Read a folder with a `pairs.csv` of columns ground and aerial.

    A panorama of unstated `hfov` is taken to go all around; without a heading of its centre column the heading is
    unknown. Each line is one positive pair; the panorama stands at the tile's centre.
    """
    table = CsvTable(folder / "pairs.csv")
    table.require("ground", "aerial")
    grounds = table.files("ground", folder)
    ids = table.ids() if "id" in table else [f"{row:05d}_{path.stem}" for row, path in enumerate(grounds)]
    source = table.text("source" if "source" in table else "dataset", default="")
    split = [name or "test" for name in table.text("split", default="test")]
    lat, lon = _positions(table)
    hfov = table.numbers("hfov", 0, FULL_TURN)
    hfov = np.where(np.isnan(hfov), FULL_TURN, hfov)
    heading = table.numbers("heading_of_centre_column_deg")
    column0_heading = (heading - hfov / 2) % FULL_TURN
    panoramas = Panoramas(ids, grounds, lat, lon, column0_heading, hfov, split=split, source=source)
    tiles, tile_of = _tiles(folder, table, panoramas)
    offsets = np.where(np.isnan(lat), np.nan, 0.0)
    pairs = Pairs(np.arange(len(ids)), tile_of, np.full(len(ids), POSITIVE), offsets, offsets.copy())
    return Dataset(folder.resolve().name, folder, panoramas, tiles, pairs, Conventions(fit=None))
