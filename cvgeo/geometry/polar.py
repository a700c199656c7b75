"""Polar transform of an aerial tile: rings around the camera become rows, directions become columns.

Row i of H and column j of W of the map show the tile (side S, north up) at

    row = S/2 - r(i) cos(t(j)),   col = S/2 + r(i) sin(t(j)),   t(j) = column0_heading + 360 j / W degrees,

in pixel indices. The published formulas put the pole at S/2, half a pixel from the true centre (S-1)/2, and take the
literal j, half a column from a column's centre; both are kept, since published maps and weights depend on them.

- `paper`: Eq. 1-2 of the paper. r(i) = S/2 (H-i)/H; column 0 is north; the coordinates are clamped at the border.
- `safa`: the released code that the field's polar maps were made with (SAFA, data_preparation.py).
  r(i) = S/2 (H-1-i)/H; column 0 is south; what is outside the tile counts as zero.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cvgeo.geometry.shapes import REMAP_LIMIT, GeometryError, gather, require_picture, sample, square

if TYPE_CHECKING:
    import torch

CONVENTIONS = {"paper": 0.0, "safa": 180.0}  # and the heading of column 0 that each has of its own
CACHED_PIXELS = 1 << 22
REMAP_BYTES = 1 << 31  # from here on OpenCV's remap reads outside the picture, which ends the process


def own_heading(convention: str, column0_heading: float | None = None) -> float:
    """Heading of column 0 in degrees: the one given, else the convention's own. Raises GeometryError."""
    if convention not in CONVENTIONS:
        raise GeometryError(f"unknown polar convention {convention!r}", mend="use paper or safa")
    heading = CONVENTIONS[convention] if column0_heading is None else float(column0_heading)
    if not np.isfinite(heading):
        raise GeometryError(f"heading {heading} is no direction", mend="give degrees clockwise from north")
    return heading


def polar_grid(
    size: int, height: int = 112, width: int = 616, convention: str = "paper", column0_heading: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the tile, float64 (height, width) each, that the map's pixels show; see the module.

    size: side of the tile in pixels. Coordinates may lie outside the tile. Source: Eq. 1-2; SAFA's released code.
    """
    if min(size, height, width) < 1:
        raise GeometryError(f"a polar map of {width}x{height} from {size} pixels", mend="sizes must be 1 or more")
    rows, columns = np.arange(height)[:, None], np.arange(width)
    return polar_places(rows, columns, size, height, width, convention, column0_heading)


def polar_places(
    row: ArrayLike,
    column: ArrayLike,
    size: int,
    height: int = 112,
    width: int = 616,
    convention: str = "paper",
    column0_heading: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the tile that places of the map show; `row`, `column` are its pixel indices or fractions."""
    heading = own_heading(convention, column0_heading)
    ring = height - np.asarray(row, dtype=np.float64) - (convention == "safa")
    radius = size / 2 * ring / height
    # Columns are turned before the scale to radians, so that a turn by whole columns gives the same coordinates.
    angle = (np.asarray(column) + heading / 360 * width) * (2 * np.pi / width)
    return size / 2 - radius * np.cos(angle), size / 2 + radius * np.sin(angle)


def _make_maps(*key: int | str | float) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = polar_grid(*key)
    maps = cols.astype(np.float32), rows.astype(np.float32)
    # All callers share them.
    for one in maps:
        one.setflags(write=False)
    return maps


_cached_maps = lru_cache(maxsize=16)(_make_maps)


def polar_transform(
    image: np.ndarray,
    height: int = 112,
    width: int = 616,
    convention: str = "paper",
    column0_heading: float | None = None,
) -> np.ndarray:
    """Polar map of a north-up aerial tile, bilinear.

    Args:
        image: (S, S) or (S, S, C), C up to 4, of uint8, uint16 or float; up to 2 % off square is centre-cropped.
        height, width: of the map, in pixels.
        convention: `paper` or `safa`, see the module.
        column0_heading: direction of column 0 in degrees clockwise from north; None means the convention's own.

    Returns: (height, width[, C]) of the image's type. uint8 agrees with the formula in double precision to within one
    grey level; uint16 to within 16 of 65535, the resolution of the cached float32 coordinates.

    Raises: GeometryError for a picture too far from square, of more than 32766 pixels a side, or no picture.
    Source: Eq. 1-2 of the paper; SAFA's released code.
    """
    require_picture(image)
    image = square(image)
    size = image.shape[0]
    if max(size, height, width) > REMAP_LIMIT:
        raise GeometryError(f"more than {REMAP_LIMIT} pixels a side", mend="reduce the picture first")
    make = _cached_maps if height * width <= CACHED_PIXELS else _make_maps
    maps = make(size, height, width, convention, own_heading(convention, column0_heading))
    if image.nbytes >= REMAP_BYTES:
        return gather(image, *maps, clamp=convention == "paper")
    return sample(image, *maps, clamp=convention == "paper")


@lru_cache(maxsize=16)
def _sampling_grid(key: tuple, device: str) -> torch.Tensor:
    import torch

    rows, cols = polar_grid(*key)
    # grid_sample with align_corners takes -1 for index 0 and 1 for index S-1.
    grid = np.stack([cols, rows], axis=-1) * (2 / max(key[0] - 1, 1)) - 1
    return torch.from_numpy(grid.astype(np.float32)).to(device)


def polar_transform_batch(
    images: torch.Tensor,
    height: int = 112,
    width: int = 616,
    convention: str = "paper",
    column0_heading: float | None = None,
) -> torch.Tensor:
    """Polar maps of a batch of north-up tiles on their own device, differentiable with respect to the tiles.

    images: (B, C, S, S), floating point or uint8. Returns (B, C, height, width) of the same type, within one grey
    level of `polar_transform`; uint8 is rounded. Raises GeometryError unless the tiles are square.
    """
    import torch
    from torch.nn.functional import grid_sample

    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise GeometryError(f"tiles of shape {tuple(images.shape)} are not (B, C, S, S)", mend="crop them to squares")
    key = (images.shape[2], height, width, convention, own_heading(convention, column0_heading))
    grid = _sampling_grid(key, str(images.device)).expand(len(images), -1, -1, -1)
    padding = "border" if convention == "paper" else "zeros"
    with torch.autocast(images.device.type, enabled=False):
        maps = grid_sample(images.float(), grid, mode="bilinear", padding_mode=padding, align_corners=True)
    return maps.to(images.dtype) if images.is_floating_point() else maps.round().to(images.dtype)


def inverse_polar_transform(
    polar: np.ndarray, size: int, convention: str = "paper", column0_heading: float | None = None
) -> np.ndarray:
    """The north-up tile of which `polar` is the map, as far as the map shows it.

    polar: (H, W[, C]). Returns (size, size[, C]) of the same type; the corners beyond the outermost ring are 0, and
    inside the innermost ring its values go on. Inverts the formulas of the module; bilinear, so sharpness is lost.
    """
    require_picture(polar)
    heading = own_heading(convention, column0_heading)
    height, width = polar.shape[:2]
    if size < 1 or max(size, height, width + 1) > REMAP_LIMIT:
        raise GeometryError(f"no tile of {size} pixels from {width}x{height}", mend=f"1 to {REMAP_LIMIT} pixels a side")
    north = size / 2 - np.arange(size)[:, None]
    east = np.arange(size)[None] - size / 2
    outermost = height - (convention == "safa")
    row = outermost - np.hypot(north, east) * (2 * height / size)
    turn = (np.degrees(np.arctan2(east, north)) - heading) / 360
    column = (turn - np.floor(turn)) * width
    # The column after the last one is column 0 again.
    wrapped = np.concatenate([polar, polar[:, :1]], axis=1)
    maps = column.astype(np.float32), row.astype(np.float32)
    tile = sample(wrapped, *maps)
    tile[row < -1e-6] = 0
    return tile
