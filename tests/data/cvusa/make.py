"""Writes a miniature of CVUSA in the official layout: `python make.py FOLDER`.

Each place is a random pattern of sectors and rings, drawn as the tile shows it from above and as the panorama shows it
from 2 metres above the ground, so that the two views of a place agree and those of two places do not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

SECTORS, RINGS = 24, 4
GSD_M, CAMERA_M, VERTICAL_DEGREES = 0.2, 2.0, 360 * 224 / 1232
RING_EDGES_M = np.array([5.0, 9.0, 18.0])


def _pattern(generator: np.random.Generator) -> np.ndarray:
    return generator.integers(0, 256, (RINGS, SECTORS, 3), dtype=np.uint8)


def _colour(pattern: np.ndarray, heading: np.ndarray, distance: np.ndarray) -> np.ndarray:
    sector = (heading % 360 / 360 * SECTORS).astype(int) % SECTORS
    return pattern[np.digitize(distance, RING_EDGES_M), sector]


def draw_tile(pattern: np.ndarray, size: int) -> np.ndarray:
    """The place from above, north up: (size, size, 3)."""
    row, column = (np.mgrid[:size, :size] + 0.5 - size / 2) * GSD_M * 750 / size
    return _colour(pattern, np.degrees(np.arctan2(column, -row)), np.hypot(row, column))


def draw_panorama(pattern: np.ndarray, height: int, width: int) -> np.ndarray:
    """The place from the ground, north in the middle: (height, width, 3)."""
    heading = 180 + 360 * (np.arange(width) + 0.5) / width
    down = -VERTICAL_DEGREES * (0.5 - (np.arange(height) + 0.5) / height)
    distance = np.where(down > 0, CAMERA_M / np.tan(np.radians(np.maximum(down, 0.1))), 1e3)
    picture = _colour(pattern, *np.broadcast_arrays(heading[None], distance[:, None]))
    picture[down <= 0] = (picture[down <= 0] // 4 + np.array([120, 150, 190])).clip(0, 255).astype(np.uint8)
    return picture


def _write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1])):
        raise OSError(f"{path} was not written")


def make(
    folder: Path,
    train: int = 12,
    val: int = 6,
    seed: int = 0,
    ground_size: tuple[int, int] = (224, 1232),
    aerial_size: int = 750,
    polar_size: tuple[int, int] | None = None,
) -> Path:
    """Write the miniature: pictures, `splits/` and `split_locations/`; sizes are the official ones unless told.

    With a size of theirs it has polar maps too: blank ones, as a reader that takes them is wrong.
    """
    generator = np.random.default_rng(seed)
    count = train + val
    numbers = generator.permutation(2 * count)[:count] + 1
    rows = []
    for number in numbers:
        aerial, ground = f"bingmap/19/{number:07d}.jpg", f"streetview/panos/{number:07d}.jpg"
        pattern = _pattern(generator)
        _write(folder / aerial, draw_tile(pattern, aerial_size))
        _write(folder / ground, draw_panorama(pattern, *ground_size))
        if polar_size is not None:
            _write(folder / f"polarmap/19/input{number:07d}.png", np.zeros((*polar_size, 3), np.uint8))
        rows.append(f"{aerial},{ground},streetview/annotations/{number:07d}.png\n")
    (folder / "splits").mkdir()
    (folder / "splits" / "train-19zl.csv").write_text("".join(rows[:train]))
    (folder / "splits" / "val-19zl.csv").write_text("".join(rows[train:]))
    lat, lon = generator.uniform(30, 48, 2 * count), generator.uniform(-120, -75, 2 * count)
    lines = [f"{a + 1e-4:.15f},{b - 1e-4:.15f},{a:.6f},{b:.6f},0.000000\n" for a, b in zip(lat, lon, strict=True)]
    (folder / "split_locations").mkdir()
    (folder / "split_locations" / "all.csv").write_text("".join(lines))
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
