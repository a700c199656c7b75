"""CVACT (Liu and Li 2019): Canberra; 35,532 training, 8,884 validation and 92,802 test pairs, north at the centre.

`ACT_data.mat` holds the ids (`panoIds`), positions (`utm`, metres) and row numbers of the splits (`trainSet`, `valSet`,
`valSetAll`). Not every id has both its pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cvgeo.data.readers import reader
from cvgeo.data.schema import POSITIVE, Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.errors import CvgeoError, InputError
from cvgeo.geometry.geodesy import map_to_latlon, web_mercator_resolution

TABLE = "ACT_data.mat"
SPLITS = {"train": ("trainSet", "trainInd", "small"), "val": ("valSet", "valInd", "small")}
TEST = ("valSetAll", "valInd", "test")
ZOOM = 20  # of the tiles, 1200 pixels a side
CRS = "EPSG:32755"  # UTM 55 south, where Canberra lies
HIT_M = 5.0
ROWS = (208, 624, 832)  # the rows that the field crops panoramas to
VARIANTS = {
    "test-5m": "a test query is found by any tile within 5 m of it, by UTM (the authors' evaluation)",
    "test-id": "a test query is found by the tile of its id alone (Sample4Geo's evaluation)",
}


def _load(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise CvgeoError("reading MATLAB files needs SciPy", mend="pip install 'cvgeo[cvact]'") from error
    if h5py.is_hdf5(path):
        raise InputError("is a MATLAB 7.3 file", path=path, mend="save it with -v7")
    wanted = ["panoIds", "utm", "trainSet", "valSet", "valSetAll"]
    try:
        values = loadmat(path, variable_names=wanted)
    except (MatReadError, ValueError, TypeError, OSError, KeyError, IndexError) as error:
        raise InputError(f"is not a readable MATLAB file: {error}", path=path, mend="fetch it again") from error
    missing = [name for name in wanted[:4] if name not in values]
    if missing:
        raise InputError(f"has no variable {missing[0]}", path=path, mend="it is not CVACT's table: fetch it again")
    return values


def _rows(values: dict[str, Any], name: str, member: str, count: int, path: Path) -> np.ndarray:
    """Row numbers of a split, counted from 0."""
    try:
        rows = np.asarray(values[name][member][0, 0], dtype=np.int64).ravel() - 1
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise InputError(f"has no {name}.{member}", path=path, mend="fetch it again") from error
    if len(rows) and not 0 <= rows.min() <= rows.max() < count:
        raise InputError(f"{name}.{member} names rows that are not in panoIds (1 to {count})", path=path)
    return rows


def _utm(values: dict[str, Any], count: int, path: Path) -> np.ndarray:
    """Easting and northing (N, 2): of the two columns the northing is the larger everywhere near Canberra."""
    utm = np.asarray(values["utm"], dtype=np.float64)
    if utm.shape != (count, 2):
        raise InputError(f"utm has shape {utm.shape} for {count} panoIds", path=path)
    return np.sort(utm, axis=1)


def _splits(folder: Path, values: dict[str, Any], count: int) -> dict[str, tuple[np.ndarray, Path]]:
    """Rows and picture folder of the splits whose pictures are there; all small ones where none are."""
    known = {**SPLITS, "test": TEST} if "valSetAll" in values else SPLITS
    there = {name: one for name, one in known.items() if (folder / f"ANU_data_{one[2]}").is_dir()} or SPLITS
    path = folder / TABLE
    return {
        name: (_rows(values, one[0], one[1], count, path), folder / f"ANU_data_{one[2]}") for name, one in there.items()
    }


def within(utm: np.ndarray, distance_m: float) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs of positions (N, 2) in metres no farther apart than a distance, each with itself: (M,) each."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(utm).query_pairs(distance_m, output_type="ndarray")
    own = np.arange(len(utm))
    one, other = pairs[:, 0], pairs[:, 1]
    return np.concatenate([own, one, other]), np.concatenate([own, other, one])


def _pairs(utm: np.ndarray, split: np.ndarray, variant: str) -> Pairs:
    """One pair an id, and in the test split by distance also the other tiles near by."""
    own = np.arange(len(utm))
    panorama, tile = own, own
    test = np.flatnonzero(split == "test")
    if variant == "test-5m" and len(test):
        one, other = within(utm[test], HIT_M)
        apart = one != other
        panorama, tile = np.concatenate([own, test[one[apart]]]), np.concatenate([own, test[other[apart]]])
    east, north = (utm[panorama] - utm[tile]).T
    return Pairs(panorama, tile, np.full(len(panorama), POSITIVE), north, east)


@reader(
    "cvact",
    lambda folder: (folder / TABLE).is_file(),
    layout="ACT_data.mat, ANU_data_small/{streetview,satview_polish}, and for the test split ANU_data_test",
    access="CVACT is given out by its authors on request (https://github.com/Liumouliu/OriCNN).",
    variants=VARIANTS,
)
def read(folder: Path, variant: str = "test-5m") -> Dataset:
    """Read CVACT: splits train and val of `ANU_data_small`, test of `ANU_data_test` where it is there.

    In the variant test-5m each test query has all tiles within 5 m as positives, else the one of its id.
    """
    path = folder / TABLE
    values = _load(path)
    ids = np.char.strip(np.asarray(values["panoIds"]).astype(str).ravel())
    utm = _utm(values, len(ids), path)
    splits = _splits(folder, values, len(ids))
    rows = np.concatenate([part for part, _ in splits.values()])
    split = [name for name, (part, _) in splits.items() for _ in part]
    homes = [home for part, home in splits.values() for _ in part]
    lat, lon = map_to_latlon(utm[rows, 0], utm[rows, 1], CRS)
    names, count = ids[rows].tolist(), len(rows)
    keys = [f"test/{name}" if part == "test" else name for name, part in zip(names, split, strict=True)]
    grounds = [home / "streetview" / f"{name}_grdView.jpg" for home, name in zip(homes, names, strict=True)]
    aerials = [home / "satview_polish" / f"{name}_satView_polish.jpg" for home, name in zip(homes, names, strict=True)]
    heading, hfov = np.full(count, 180.0), np.full(count, 360.0)
    panoramas = Panoramas(keys, grounds, lat, lon, heading, hfov, split=split)
    tiles = Tiles(list(keys), aerials, lat.copy(), lon.copy(), web_mercator_resolution(lat, ZOOM), list(split))
    pairs = _pairs(utm[rows], np.array(split), variant)
    protocols = {name: variant if name == "test" else "one tile a query, by id" for name in splits}
    return Dataset(
        "cvact", folder, panoramas, tiles, pairs, Conventions("stretch", ROWS, aligned=True), protocols=protocols
    )
