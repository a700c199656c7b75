"""University-1652 (Zheng et al. 2020): 1652 buildings, a folder of pictures for each and for each way of looking at it.

A picture's folder is the building's number. A building has one satellite tile and several pictures from the street or
from a drone; each of them is paired with its building's tile. Of the 951 tiles of the test 250 are distractors, which
have no query. There are no positions, no headings, and the photos' fields of view and the tiles' ground size are not
stated: all of that is unknown, and a photo is stretched to the whole grid as the authors do it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvgeo.data.images import list_images
from cvgeo.data.readers import reader
from cvgeo.data.schema import POSITIVE, Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.errors import InputError

TILES = {"train": "train/satellite", "test": "test/gallery_satellite"}
GROUND = {
    "street": {"train": ("train/street",), "test": ("test/query_street",)},
    "street-google": {"train": ("train/street", "train/google"), "test": ("test/query_street",)},
    "drone": {"train": ("train/drone",), "test": ("test/query_drone",)},
}
VARIANTS = {
    "street": "street to satellite",
    "street-google": "street to satellite, trained also on the noisy pictures of train/google",
    "drone": "drone to satellite",
}


def _recognises(folder: Path) -> bool:
    train = folder / "train"
    return (folder / TILES["test"]).is_dir() or all((train / name).is_dir() for name in ("satellite", "drone"))


def _pictures(folder: Path, home: str) -> list[tuple[str, Path, str]]:
    """All pictures below a folder: id (the path within the data set), path, and building."""
    root, pictures = folder / home, []
    for path in list_images(root):
        parts = path.relative_to(root).parts
        if len(parts) != 2:
            raise InputError("is not in the folder of a building", path=path, mend=f"{home}/BUILDING/PICTURE is due")
        pictures.append((f"{home}/{parts[0]}/{parts[1]}", path, parts[0]))
    return pictures


def _split(folder: Path, split: str, homes: tuple[str, ...]) -> tuple[Panoramas, Tiles, np.ndarray]:
    """A split's tables, and its pairs as rows (N, 2) of them: each picture with all tiles of its building."""
    aerials = _pictures(folder, TILES[split])
    grounds = [picture for home in homes for picture in _pictures(folder, home)]
    rows_of: dict[str, list[int]] = {}
    for row, (_, _, building) in enumerate(aerials):
        rows_of.setdefault(building, []).append(row)
    pairs = [(row, tile) for row, (_, _, building) in enumerate(grounds) for tile in rows_of.get(building, ())]
    tables = (
        kind([one for one, _, _ in pictures], [path for _, path, _ in pictures], split=[split] * len(pictures))
        for kind, pictures in ((Panoramas, grounds), (Tiles, aerials))
    )
    return *tables, np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _present(folder: Path, variant: str) -> dict[str, tuple[str, ...]]:
    """Folders of ground pictures that are there, of the splits whose tiles are there."""
    there = {
        split: tuple(home for home in homes if (folder / home).is_dir())
        for split, homes in GROUND[variant].items()
        if (folder / TILES[split]).is_dir()
    }
    there = {split: homes for split, homes in there.items() if homes}
    if not there:
        due = " or ".join(home for homes in GROUND[variant].values() for home in homes)
        mend = f"{due} is due, beside the tiles; or name another variant: {', '.join(VARIANTS)}"
        raise InputError(f"has no pictures for the variant {variant}", path=folder, mend=mend)
    return there


@reader(
    "university1652",
    _recognises,
    layout="train/{drone,satellite,street,google}/BUILDING/*, "
    "test/{query_drone,query_street,gallery_satellite}/BUILDING/*",
    access="University-1652 is given out by its authors on request "
    "(https://github.com/layumi/University1652-Baseline).",
    variants=VARIANTS,
)
def read(folder: Path, variant: str = "street") -> Dataset:
    """Read University-1652, or the splits of it that are there, for one of its tasks.

    Raises InputError where no pictures of the task are there, or a picture lies outside a building's folder.
    """
    splits = {split: _split(folder, split, homes) for split, homes in _present(folder, variant).items()}
    panoramas, tiles, pairs = zip(*splits.values(), strict=True)
    before = np.cumsum([(0, 0), *((len(p), len(t)) for p, t in zip(panoramas, tiles, strict=True))], axis=0)
    rows = np.concatenate([one + first for one, first in zip(pairs, before, strict=False)])
    text = {split: VARIANTS["street" if split == "test" and variant != "drone" else variant] for split in splits}
    return Dataset(
        "university1652",
        folder,
        Panoramas.joined(panoramas),
        Tiles.joined(tiles),
        Pairs(rows[:, 0], rows[:, 1], np.full(len(rows), POSITIVE)),
        Conventions(fit="stretch"),
        {"variant": variant},
        protocols=text,
    )
