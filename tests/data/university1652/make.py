"""Writes a miniature of University-1652 in the official layout: `python make.py FOLDER`.

A street picture is a quarter of what is seen all around; a drone's picture is the tile, turned.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

_spec = importlib.util.spec_from_file_location("places", Path(__file__).parents[1] / "places.py")
places = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(places)


def _views(place: np.ndarray, size: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    around = places.draw_panorama(place, size, 4 * size)
    at = int(generator.integers(3 * size))
    tile = places.draw_tile(place, size)
    return {"satellite": tile, "street": around[:, at : at + size], "drone": np.rot90(tile, generator.integers(4))}


def make(
    folder: Path, train: int = 5, test: int = 4, distractors: int = 2, street: int = 2, drone: int = 3, size: int = 48,
    seed: int = 0,
) -> Path:  # fmt: skip
    """Write so many buildings of each kind, with so many pictures from the street and from a drone of each.

    The last training building has no picture from the street, the first one a noisy one of `google`.
    """
    generator = np.random.default_rng(seed)
    for number in range(train + test + distractors):
        building, place = f"{number:04d}", places.pattern(generator)
        training, distractor = number < train, number >= train + test
        counts = {"satellite": 1, "street": street, "drone": drone}
        if number == train - 1:
            counts["street"] = 0
        for kind, count in counts.items():
            homes = [f"train/{kind}"] if training else [f"test/gallery_{kind}", f"test/query_{kind}"]
            for home in homes[:1] if distractor else homes:
                for view in range(count):
                    name = building if kind == "satellite" else f"{view + 1}"
                    picture = _views(place, size, generator)[kind]
                    places.write(folder / home / building / f"{name}.jpg", picture)
    places.write(folder / "train" / "google" / "0000" / "1.png", _views(place, size, generator)["street"])
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
