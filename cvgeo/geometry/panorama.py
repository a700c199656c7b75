"""Panoramas: turning them, placing any field of view on the canonical grid, levelling them.

A panorama is equirectangular: columns are equal steps of heading, rows equal steps of elevation. Column j's centre
looks along column0_heading + hfov (j + 1/2) / W, row i's centre up by top - (top - bottom) (i + 1/2) / H.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from cvgeo.geometry.opencv import import_cv2
from cvgeo.geometry.shapes import REMAP_LIMIT, GeometryError, keep_dtype, require_picture, sample

GRID_TOP, GRID_BOTTOM = 45.0, -45.0  # elevations of the canonical grid's edges, degrees


def roll_panorama(image: np.ndarray, degrees: float) -> np.ndarray:
    """A 360-degree panorama (H, W[, C]) turned so that its column0_heading is larger by `degrees`.

    Whole columns are moved exactly; the fraction of a column is interpolated linearly. Returns the image's type.
    """
    require_picture(image)
    if not math.isfinite(degrees):
        raise GeometryError(f"a turn by {degrees} degrees", mend="give a finite angle")
    shift = degrees / 360 * image.shape[1]
    whole = math.floor(shift + 1e-6)
    fraction = shift - whole
    near = np.roll(image, -whole, axis=1)
    if fraction < 1e-6:
        return near
    cv2 = import_cv2()
    return keep_dtype(near, lambda here: cv2.addWeighted(here, 1 - fraction, np.roll(here, -1, axis=1), fraction, 0.0))


def default_vfov(height: int, width: int, hfov: float) -> tuple[float, float]:
    """Elevations (top, bottom) in degrees of square angular pixels centred on the horizon, at most +-90."""
    half = min(90.0, hfov * height / width / 2)
    return half, -half


def _check_field(hfov: float, top: float, bottom: float, *headings: float) -> None:
    if not all(map(math.isfinite, (hfov, top, bottom, *headings))):
        raise GeometryError("the field of view or heading is unknown", mend="state them, or assume default_vfov")
    if not 0 < hfov <= 360 + 1e-6:
        raise GeometryError(f"a horizontal field of view of {hfov:g} degrees", mend="give more than 0, at most 360")
    if not -90 - 1e-6 <= bottom < top <= 90 + 1e-6:
        raise GeometryError(
            f"a vertical field from {bottom:g} to {top:g} degrees", mend="give -90 <= bottom < top <= 90"
        )


def _grid_rows(image: np.ndarray, top: float, bottom: float) -> tuple[np.ndarray, float, float]:
    # The rows within the grid's elevations, and the elevations of the outer edges of what remains.
    height = image.shape[0]
    step = (top - bottom) / height
    first = min(height - 1, max(0, math.floor((top - GRID_TOP) / step + 1e-6)))
    last = max(first + 1, min(height, math.ceil((top - GRID_BOTTOM) / step - 1e-6)))
    return image[first:last], top - first * step, top - last * step


def shrink(image: np.ndarray, height: float, width: float) -> np.ndarray:
    """The picture (H, W[, C]) averaged over areas down to this size, so that detail does not alias; never enlarged."""
    cv2 = import_cv2()
    rows = min(image.shape[0], max(1, round(height)))
    cols = min(image.shape[1], max(1, round(width)))
    if (rows, cols) == image.shape[:2]:
        return image
    return keep_dtype(image, lambda one: cv2.resize(one, (cols, rows), interpolation=cv2.INTER_AREA))


def place_on_grid(
    image: np.ndarray,
    height: int,
    width: int,
    column0_heading: float,
    image_column0_heading: float,
    hfov: float,
    vfov_top: float,
    vfov_bottom: float,
) -> tuple[np.ndarray, np.ndarray]:
    """A picture of any field of view where it belongs on the canonical grid: 360 degrees by +45 to -45 degrees.

    Args:
        image: (h, w[, C]), equirectangular within its field of view.
        height, width: of the grid, in pixels; `column0_heading` the heading of the left edge of its column 0.
        image_column0_heading, hfov: heading of the picture's left edge and its horizontal field, degrees.
        vfov_top, vfov_bottom: elevations of its upper and lower edge, degrees, up positive.

    Returns: the grid (height, width[, C]) of the image's type, 0 where nothing is seen, and the mask (height, width)
    bool, True where the centre of a grid pixel lies in the picture. Averaged over areas where the picture is finer.

    Raises: GeometryError for an impossible or unknown field of view.
    """
    require_picture(image)
    _check_field(hfov, vfov_top, vfov_bottom, column0_heading, image_column0_heading)
    hfov = min(hfov, 360.0)
    image, top, bottom = _grid_rows(image, vfov_top, vfov_bottom)
    small = shrink(image, height * (top - bottom) / (GRID_TOP - GRID_BOTTOM), width * hfov / 360)

    azimuth = column0_heading - image_column0_heading + 360 / width * (np.arange(width) + 0.5)
    azimuth = azimuth - 360 * np.floor(azimuth / 360 + 1e-9)
    elevation = GRID_TOP - (GRID_TOP - GRID_BOTTOM) / height * (np.arange(height) + 0.5)
    mask = ((elevation <= top) & (elevation >= bottom))[:, None] & (azimuth < hfov)[None]
    column = azimuth / hfov * small.shape[1] - 0.5
    row = (top - elevation) / (top - bottom) * small.shape[0] - 0.5
    if hfov > 360 - 1e-6:
        small = np.concatenate([small[:, -1:], small, small[:, :1]], axis=1)
        column = column + 1
    maps = (
        np.broadcast_to(column.astype(np.float32), (height, width)).copy(),
        np.broadcast_to(row.astype(np.float32)[:, None], (height, width)).copy(),
    )
    grid = sample(small, *maps)
    grid[~mask] = 0
    return grid, mask


def level_panorama(image: np.ndarray, pitch: float, roll: float) -> np.ndarray:
    """A full-sphere panorama (H, W[, C]) of a tilted camera as a level camera would have taken it.

    pitch: elevation of the picture's centre, degrees, up positive. roll: degrees by which the horizon is turned
    counter-clockwise in the picture, that is, the camera's right side is down. (GPano PosePitchDegrees and
    PoseRollDegrees.) The heading of the centre stays. Bilinear; directions are exact to 0.01 degrees, OpenCV's own
    accuracy of angles. Raises GeometryError unless W = 2 H within 2 %.
    """
    cv2 = import_cv2()
    require_picture(image)
    height, width = image.shape[:2]
    if abs(width - 2 * height) > 0.02 * width:
        raise GeometryError(f"{width}x{height} is no full sphere", mend="only a 360 by 180 degree picture is levelled")
    if width + 2 > REMAP_LIMIT:
        raise GeometryError(f"more than {REMAP_LIMIT - 2} pixels a side", mend="reduce the picture first")
    if not (math.isfinite(pitch) and math.isfinite(roll)):
        raise GeometryError("pitch or roll is unknown", mend="state them, or take the picture for level")
    if pitch == roll == 0:
        return image.copy()
    padded = np.concatenate([image[:, -1:], image, image[:, :1]], axis=1)
    return keep_dtype(padded, lambda picture: _levelled(cv2, picture, (height, width), camera_axes(pitch, roll)))


def _levelled(cv2: ModuleType, padded: np.ndarray, size: tuple[int, int], axes: np.ndarray) -> np.ndarray:
    height, width = size
    out = np.empty((height, width, *padded.shape[2:]), padded.dtype)
    # In strips that stay in the processor's cache.
    for top in range(0, height, 64):
        rows = np.arange(top, min(top + 64, height))
        right, forward, up = _seen_by_camera(rows, height, width, axes)
        # phase gives 0 to 360 degrees: turned by half a turn, that is the column from the left edge.
        column = cv2.phase(-forward, -right, angleInDegrees=True) * np.float32(width / 360) + np.float32(0.5)
        row = cv2.phase(up, cv2.magnitude(right, forward), angleInDegrees=True)
        row = row * np.float32(height / 180) - np.float32(0.5)
        strip = cv2.remap(padded, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        out[rows] = strip.reshape(out[rows].shape)
    return out


def camera_axes(pitch: float, roll: float) -> np.ndarray:
    """Right, forward and up axis (rows) of a camera in the level frame (right, forward, up); see level_panorama."""
    p, r = math.radians(pitch), math.radians(roll)
    forward = np.array([0.0, math.cos(p), math.sin(p)])
    upward = np.array([0.0, -math.sin(p), math.cos(p)])
    sideways = np.array([1.0, 0.0, 0.0])
    right = math.cos(r) * sideways - math.sin(r) * upward
    return np.stack([right, forward, math.sin(r) * sideways + math.cos(r) * upward])


def _seen_by_camera(rows: np.ndarray, height: int, width: int, axes: np.ndarray) -> Iterator[np.ndarray]:
    # How far right, forward and up of the tilted camera the level picture's pixels look, float32 (rows, width) each.
    azimuth = np.radians((np.arange(width) + 0.5) / width * 360 - 180)
    elevation = np.radians(90 - (rows + 0.5) / height * 180)
    along = (axes[:, :2] @ np.stack([np.sin(azimuth), np.cos(azimuth)])).astype(np.float32)
    cosine, sine = (part.astype(np.float32)[:, None] for part in (np.cos(elevation), np.sin(elevation)))
    return (cosine * along[k] + sine * np.float32(axes[k, 2]) for k in range(3))
