"""Maps on a feature grid as colours over a picture.

The colours are OpenCV's INFERNO: its lightness grows evenly with the value, so a map reads the same in grey print and
for the colour-blind, and no hue makes an edge where there is none. Jet's and TURBO's reds at the top are as dark as
their greens in the middle.
"""

from __future__ import annotations

import numpy as np

from cvgeo.geometry.opencv import import_cv2

STRONGEST = 0.8  # opacity of the largest value
FAINTEST_SHADE = 0.25  # where the colours start: the first quarter of INFERNO is all but black


def enlarge(values: np.ndarray, height: int, width: int, wraps: bool) -> np.ndarray:
    """A map (h, w) at (height, width) float32, bilinear between the centres of its cells.

    `wraps`: the left and right edge are neighbours, as of all that runs around the compass.
    """
    cv2 = import_cv2()
    values = np.ascontiguousarray(values, dtype=np.float32)
    if wraps:
        values = np.concatenate([values[:, -1:], values, values[:, :1]], axis=1)
    cells = values.shape[1] - (2 if wraps else 0)
    column = (np.arange(width) + 0.5) * cells / width - 0.5 + (1 if wraps else 0)
    row = (np.arange(height) + 0.5) * values.shape[0] / height - 0.5
    maps = np.meshgrid(column.astype(np.float32), row.astype(np.float32))
    return cv2.remap(values, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def colours(values: np.ndarray) -> np.ndarray:
    """Values (H, W) in 0..1 as RGB (H, W, 3) uint8."""
    cv2 = import_cv2()
    shade = FAINTEST_SHADE + (1 - FAINTEST_SHADE) * np.clip(values, 0, 1)
    return cv2.applyColorMap(np.rint(shade * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]


def opacity(values: np.ndarray) -> np.ndarray:
    """How much of the picture values (H, W) in 0..1 cover, 0..1: nothing where they are 0."""
    return STRONGEST * np.clip(values, 0, 1) ** 0.7


def overlay(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8, drained of most of its colour, under a map (H, W) in 0..1."""
    grey = picture.mean(axis=2, keepdims=True)
    base = (0.25 * picture + 0.75 * grey) * 0.85
    share = opacity(values)[..., None]
    return np.rint((1 - share) * base + share * colours(values)).astype(np.uint8)


def overlay_rgba(values: np.ndarray) -> np.ndarray:
    """A map (H, W) in 0..1 alone, to be laid over a picture elsewhere: RGBA (H, W, 4) uint8."""
    alpha = np.rint(opacity(values) * 255).astype(np.uint8)
    return np.concatenate([colours(values), alpha[..., None]], axis=2)


def colour_bar(width: int, height: int) -> np.ndarray:
    """The colours from 0 to 1 as they look over mid-grey, (height, width, 3) uint8."""
    values = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width))
    return overlay(np.full((height, width, 3), 170, np.uint8), values)
