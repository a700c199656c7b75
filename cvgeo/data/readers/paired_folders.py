"""Two folders of pictures with equal names: a set of pairs that nobody has described.

One folder is called `ground`, `panoramas`, `street`, `streetview` or `query`, the other one `aerial`, `satellite`,
`tiles`, `overhead` or `reference`. Pictures whose paths in them are equal but for the suffix are a pair; what has no
partner stays in the gallery as a distractor, or among the panoramas without a pair. The two folders lie in the data
set's folder, which is then the split `test`, or in `train`, `val` and `test` in it.

A position in a name is taken as that of both pictures: two decimal numbers, latitude first, set off by commas or
underscores as VIGOR's are: `ID,48.137,11.575,.jpg`, `place_48.137_11.575.png`. Without one it is unknown; so are
heading, fields of view and ground size (a ground picture of unknown field of view is taken to go all around). Write a
`pairs.csv` to state them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cvgeo.data.images import list_images
from cvgeo.data.readers import reader, readers
from cvgeo.data.schema import POSITIVE, Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.errors import InputError

NAME = "paired-folders"
GROUND = ("ground", "panoramas", "street", "streetview", "query")
AERIAL = ("aerial", "satellite", "tiles", "overhead", "reference")
SPLITS = ("train", "val", "test")
POSITION = re.compile(r"(?:^|[,_])(-?\d{1,2}\.\d+)[,_](-?\d{1,3}\.\d+)(?=[,_]|$)")


def _homes(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of ground pictures and of tiles by split: in the folder itself, else in those of the splits."""
    for homes in ({"test": folder}, {split: folder / split for split in SPLITS}):
        found = {split: _both(home) for split, home in homes.items()}
        if any(found.values()):
            return {split: both for split, both in found.items() if both is not None}
    return {}


def _both(home: Path) -> tuple[Path, Path] | None:
    grounds, aerials = ([home / name for name in names if (home / name).is_dir()] for names in (GROUND, AERIAL))
    return (grounds[0], aerials[0]) if len(grounds) == len(aerials) == 1 else None


def _recognises(folder: Path) -> bool:
    others = (one for one in readers().values() if one.name != NAME)
    return bool(_homes(folder)) and not any(one.recognises(folder) for one in others)


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures below a folder by their path in it without suffix."""
    found: dict[str, Path] = {}
    for path in list_images(folder):
        key = path.relative_to(folder).with_suffix("").as_posix()
        if found.setdefault(key, path) != path:
            raise InputError(f"has the same name as {found[key].name}", path=path, mend="give each its own name")
    return found


def _positions(keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes (N,) of names that hold them, NaN of others."""
    lat, lon = np.full((2, len(keys)), np.nan)
    for row, key in enumerate(keys):
        found = POSITION.search(key.rpartition("/")[2])
        if found and abs(float(found[1])) <= 90 and abs(float(found[2])) <= 180:
            lat[row], lon[row] = float(found[1]), float(found[2])
    return lat, lon


def _split(split: str, whole: bool, grounds: dict[str, Path], aerials: dict[str, Path]) -> tuple[Panoramas, Tiles]:
    """A split's tables; its ids begin with its name unless it is all there is."""
    tables = []
    for kind, pictures in ((Panoramas, grounds), (Tiles, aerials)):
        keys = list(pictures)
        ids = keys if whole else [f"{split}/{key}" for key in keys]
        lat, lon = _positions(keys)
        tables.append(kind(ids, list(pictures.values()), lat, lon, split=[split] * len(keys)))
    return tuple(tables)


@reader(
    NAME,
    _recognises,
    layout=f"two folders of pictures with equal names, {'|'.join(GROUND)} and {'|'.join(AERIAL)}, "
    "or such folders in train, val and test",
)
def read(folder: Path) -> Dataset:
    """Read two folders of pictures with equal names as pairs; a panorama stands at its tile's centre.

    Raises InputError where two pictures of one folder have one name, or no picture has a partner.
    """
    homes = _homes(folder)
    whole = set(homes) == {"test"} and homes["test"][0].parent == folder
    tables = [_split(split, whole, *map(_pictures, both)) for split, both in homes.items()]
    panoramas, tiles = Panoramas.joined([one for one, _ in tables]), Tiles.joined([one for _, one in tables])
    row_of = {key: row for row, key in enumerate(tiles.id)}
    tile = np.array([row_of.get(key, -1) for key in panoramas.id], dtype=np.int64)
    paired = np.flatnonzero(tile >= 0)
    if not len(paired):
        ground, aerial = (home.relative_to(folder) for home in next(iter(homes.values())))
        fault = f"no picture in {ground} has the name of one in {aerial}"
        raise InputError(fault, path=folder, mend="give the pictures of a pair one name, or write a pairs.csv")
    offsets = np.where(np.isnan(panoramas.lat[paired]), np.nan, 0.0)
    pairs = Pairs(paired, tile[paired], np.full(len(paired), POSITIVE), offsets, offsets.copy())
    alone = {"panoramas": len(panoramas) - len(paired), "tiles": len(tiles) - len(paired)}
    return Dataset(
        folder.resolve().name, folder, panoramas, tiles, pairs, Conventions(fit=None), {"without_partner": alone}
    )
