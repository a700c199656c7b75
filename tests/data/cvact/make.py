"""Writes a miniature of CVACT in the official layout: `python make.py FOLDER`.

The test set covers the whole area, as CVACT's does: its first two ids stand three metres apart.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
from scipy.io import savemat

_spec = importlib.util.spec_from_file_location("places", Path(__file__).parents[1] / "places.py")
places = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(places)

LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))


def make(
    folder: Path,
    train: int = 8,
    val: int = 5,
    test: int = 6,
    seed: int = 0,
    ground_size: tuple[int, int] = (104, 208),
    aerial_size: int = 96,
    pictures: bool = True,
) -> Path:
    """Write `ACT_data.mat` and the pictures of both folders, small ones unless told."""
    generator = np.random.default_rng(seed)
    count = train + val + test
    ids = ["".join(generator.choice(LETTERS, 22)) for _ in range(count)]
    utm = np.stack([690_000 + 40.0 * np.arange(count), np.full(count, 6_090_000.0)], axis=1)
    first = train + val
    if test > 1:
        utm[first + 1] = utm[first] + (0.0, 3.0)
    rows = np.arange(1, count + 1, dtype=np.float64)[:, None]
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "panoIds": np.array(ids),
        "utm": utm,
        "trainSet": {"trainIdx": rows[:train], "trainInd": rows[:train]},
        "valSet": {"valIdx": rows[train:first], "valInd": rows[train:first]},
        "valSetAll": {"valIdx": rows[first:], "valInd": rows[first:]},
    }
    savemat(folder / "ACT_data.mat", table)
    for number, name in enumerate(ids if pictures else []):
        home = folder / ("ANU_data_small" if number < first else "ANU_data_test")
        place = places.pattern(generator)
        places.write(home / "streetview" / f"{name}_grdView.jpg", places.draw_panorama(place, *ground_size))
        places.write(home / "satview_polish" / f"{name}_satView_polish.jpg", places.draw_tile(place, aerial_size))
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
