"""Pictures of made places for the miniatures: a pattern of sectors and rings from above and from the ground.

The two views of a place agree and those of two places do not.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SECTORS, RINGS = 24, 4


def pattern(generator: np.random.Generator) -> np.ndarray:
    """A place: colours (RINGS, SECTORS, 3)."""
    return generator.integers(0, 256, (RINGS, SECTORS, 3), dtype=np.uint8)


def draw_tile(place: np.ndarray, size: int, north: float = 0.0, east: float = 0.0) -> np.ndarray:
    """The place from above, north up, its centre so many tile sizes north and east of the tile's: (size, size, 3)."""
    row, column = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    row, column = row + north, column - east
    sector = (np.degrees(np.arctan2(column, -row)) % 360 / 360 * SECTORS).astype(int) % SECTORS
    return place[np.digitize(np.hypot(row, column), [0.08, 0.2, 0.5]), sector]


def draw_panorama(place: np.ndarray, height: int, width: int) -> np.ndarray:
    """The place from the ground, north in the middle, from near at the bottom to far in the middle."""
    heading = (180 + 360 * (np.arange(width) + 0.5) / width) % 360
    ring = np.clip(((height - np.arange(height)) / height * 2 * RINGS).astype(int), 0, RINGS - 1)
    return place[ring[:, None], (heading / 360 * SECTORS).astype(int)[None]]


def write(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1])):
        raise OSError(f"{path} was not written")
