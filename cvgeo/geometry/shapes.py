"""Shapes of pictures: what is square, what is a picture at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cvgeo.errors import InputError
from cvgeo.geometry.opencv import import_cv2

REMAP_LIMIT = 32766  # pixels a side: OpenCV's remap addresses them with 16 bits
FOURTH_CHANNEL_PAYS = 10  # pixels of the picture for one that is sampled, up to which it does
SQUARE_TOLERANCE = 0.02  # of the longer side


class GeometryError(InputError, ValueError):
    """Numbers or shapes from which no geometry follows: a tile far from square, a field of view of 400 degrees."""


def require_picture(image: np.ndarray) -> None:
    """Raise GeometryError unless the array is (H, W) or (H, W, C) with at least one pixel and C of 1 to 4."""
    if image.ndim not in (2, 3) or image.size == 0 or (image.ndim == 3 and image.shape[2] > 4):
        raise GeometryError(f"an array of shape {image.shape} is no picture", mend="give (H, W) or (H, W, C), C 1 to 4")


def square(image: np.ndarray, tolerance: float = SQUARE_TOLERANCE) -> np.ndarray:
    """The picture (H, W[, C]) as a square: its centre where the sides differ by at most `tolerance` of the longer one.

    Raises GeometryError where they differ by more. A view of the picture is returned, not a copy.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    if max(height, width) - side > tolerance * max(height, width):
        raise GeometryError(
            f"{width}x{height} pixels is too far from square", mend=f"crop it to {side}x{side} around the position"
        )
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def keep_dtype(image: np.ndarray, work: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`work`, an interpolation by OpenCV, on a picture of any number type and 1 to 4 channels; both are kept.

    OpenCV 5 interpolates exactly in uint8, uint16 and float32 with 1, 3 or 4 channels; all else it does with positions
    rounded to 1/32 pixel, off by up to 6 of 255. So other types go through float32, and two channels one by one.
    """
    given = image.dtype
    picture = np.ascontiguousarray(image, dtype=given if given in (np.uint8, np.uint16, np.float32) else np.float32)
    if image.ndim == 3 and image.shape[2] == 2:
        result = np.stack([work(np.ascontiguousarray(picture[..., k])) for k in range(2)], axis=-1)
    else:
        result = work(picture)
        result = result.reshape(result.shape[:2] + image.shape[2:])
    if result.dtype == given:
        return result
    return np.rint(result).astype(given) if np.issubdtype(given, np.integer) else result.astype(given)


def sample(image: np.ndarray, cols: np.ndarray, rows: np.ndarray, clamp: bool = True) -> np.ndarray:
    """Bilinear samples of a picture (H, W[, C]) at pixel indices `cols`, `rows` (h, w) float32: (h, w[, C]).

    Outside the picture its border goes on (`clamp`), or all is 0. The picture's type is kept. No side may be longer
    than REMAP_LIMIT; `gather` has no such limit.
    """
    cv2 = import_cv2()
    border = cv2.BORDER_REPLICATE if clamp else cv2.BORDER_CONSTANT

    def work(picture: np.ndarray) -> np.ndarray:
        # Four channels are sampled twice as fast as three, to the same bits; what the fourth costs is a copy.
        colour = picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        if not (colour and picture.shape[0] * picture.shape[1] <= FOURTH_CHANNEL_PAYS * cols.size):
            return cv2.remap(picture, cols, rows, cv2.INTER_LINEAR, borderMode=border)
        wide = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
        return cv2.cvtColor(cv2.remap(wide, cols, rows, cv2.INTER_LINEAR, borderMode=border), cv2.COLOR_RGBA2RGB)

    return keep_dtype(image, work)


def gather(image: np.ndarray, cols: np.ndarray, rows: np.ndarray, clamp: bool) -> np.ndarray:
    """Bilinear samples of a picture (H, W[, C]) of any size at pixel indices `cols`, `rows` (h, w): (h, w[, C]).

    Outside the picture its border goes on (`clamp`), or all is 0. The picture's type is kept.
    """
    height, width = image.shape[:2]
    if clamp:
        rows, cols = np.clip(rows, 0, height - 1), np.clip(cols, 0, width - 1)
    top, left = np.floor(rows).astype(np.int64), np.floor(cols).astype(np.int64)
    total = np.zeros(rows.shape + image.shape[2:])
    for row, col in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        weight = (1 - np.abs(rows - row)) * (1 - np.abs(cols - col))
        weight = weight * ((row >= 0) & (row < height) & (col >= 0) & (col < width))
        samples = image[np.clip(row, 0, height - 1), np.clip(col, 0, width - 1)]
        total += weight.reshape(weight.shape + (1,) * (image.ndim - 2)) * samples
    return (np.rint(total) if np.issubdtype(image.dtype, np.integer) else total).astype(image.dtype)
