"""Writes two folders of pictures with equal names, in folders of splits: `python make.py FOLDER`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

_spec = importlib.util.spec_from_file_location("places", Path(__file__).parents[1] / "places.py")
places = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(places)


def make(
    folder: Path,
    counts: dict[str, int] | None = None,
    ground: str = "ground",
    aerial: str = "satellite",
    seed: int = 0,
    ground_size: tuple[int, int] = (32, 64),
    aerial_size: int = 48,
) -> Path:
    """Write so many pairs in each split (one called "" is the folder itself), their positions in their names."""
    generator = np.random.default_rng(seed)
    for split, count in (counts or {"train": 6, "test": 4}).items():
        for number in range(count):
            place = places.pattern(generator)
            name = f"{number:04d},{48 + 1e-3 * number:.6f},{-11.5 - 1e-3 * number:.6f},"
            places.write(folder / split / ground / f"{name}.jpg", places.draw_panorama(place, *ground_size))
            places.write(folder / split / aerial / f"{name}.png", places.draw_tile(place, aerial_size))
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
