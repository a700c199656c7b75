"""How pictures show directions: equirectangular, cylindrical and perspective pictures and cube maps, on one grid.

A camera's frame is right, forward, up; `camera_axes` tilts it. Each projection is one function from directions in that
frame to places in the picture, given as parts of its width (x) and height (y), 0 to 1 from edge to edge, so that they
hold for any size of it. Of a cube map, `face` says in which of the FACES.

Cube maps: faces as they are seen from inside, upright; the lower edge of `up` meets the upper edge of `front`, the
upper edge of `down` the lower edge of `front`, as in a cross. One picture holds them as 3x2, 6x1 or 1x6 squares in the
order right, left, up, down, front, back (that of OpenGL and of ffmpeg's v360), or as a cross of 4x3: left, front,
right, back in the middle row, up above front and down below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cvgeo.geometry.opencv import import_cv2
from cvgeo.geometry.panorama import GRID_BOTTOM, GRID_TOP, camera_axes, default_vfov, place_on_grid, shrink
from cvgeo.geometry.shapes import REMAP_LIMIT, GeometryError, gather, keep_dtype, require_picture, sample

EQUIRECTANGULAR, CYLINDRICAL, PERSPECTIVE, CUBE = "equirectangular", "cylindrical", "perspective", "cube"
WIDEST_PHOTO = 179.0  # degrees: at 180 the plane of the picture is infinite
FACES = ("front", "right", "back", "left", "up", "down")
LAYOUTS = {
    (3, 2): "rludfb",
    (6, 1): "rludfb",
    (1, 6): "rludfb",
    (4, 3): ".u..lfrb.d..",
}
# Of each face: where it looks, and where its columns and its rows run to, each as right, forward, up.
_FACE_AXES = np.array(
    [
        [[0, 1, 0], [1, 0, 0], [0, 0, -1]],
        [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
        [[0, -1, 0], [-1, 0, 0], [0, 0, -1]],
        [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],
        [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        [[0, 0, -1], [1, 0, 0], [0, -1, 0]],
    ],
    dtype=np.float64,
)
_OVERSAMPLED = 2  # samples along each side of a grid pixel
_DENSITY = 1.5  # pixels that are kept of a finer picture for each of the grid, where the picture is coarsest


@dataclass(frozen=True)
class Camera:
    """How a picture was taken; angles in degrees, NaN is `unknown`.

    hfov: horizontal field of view, of a tilted picture in its own frame; 360 where it is unknown (a perspective
        picture's must be known) and for a cube map.
    vfov_top, vfov_bottom: angles of the middle of the upper and lower edge against the optical axis, up positive, as
        the level picture shows them; unknown means square pixels centred on the axis.
    pitch, roll: as `level_panorama` has them: elevation of the picture's centre, up positive; the horizon's turn
        counter-clockwise in the picture.
    """

    projection: str = EQUIRECTANGULAR
    hfov: float = math.nan
    vfov_top: float = math.nan
    vfov_bottom: float = math.nan
    pitch: float = 0.0
    roll: float = 0.0

    @property
    def level(self) -> bool:
        """Whether the camera is not tilted, as far as is known."""
        return all(angle == 0 or math.isnan(angle) for angle in (self.pitch, self.roll))

    def settled(self, height: int, width: int) -> Camera:
        """The camera with nothing unknown, for a picture of this size. Raises GeometryError for what cannot be."""
        if self.projection not in PROJECTIONS:
            raise GeometryError(f"projection {self.projection!r} is unknown", mend="known: " + ", ".join(PROJECTIONS))
        hfov = self.hfov
        if self.projection == CUBE or (math.isnan(hfov) and self.projection != PERSPECTIVE):
            hfov = 360.0
        _check_hfov(self.projection, hfov)
        top, bottom = square_vfov(self.projection, height, width, hfov)
        top = top if math.isnan(self.vfov_top) or self.projection == CUBE else self.vfov_top
        bottom = bottom if math.isnan(self.vfov_bottom) or self.projection == CUBE else self.vfov_bottom
        limit = 90.0 if self.projection in (EQUIRECTANGULAR, CUBE) else WIDEST_PHOTO / 2
        if not -limit - 1e-6 <= bottom < top <= limit + 1e-6:
            fault = f"a vertical field from {bottom:g} to {top:g} degrees"
            raise GeometryError(fault, mend=f"give {-limit:g} <= bottom < top <= {limit:g}")
        pitch, roll = (0.0 if math.isnan(angle) else angle for angle in (self.pitch, self.roll))
        if not (abs(pitch) <= 90 and abs(roll) <= 180):
            fault = f"a pitch of {pitch:g} and a roll of {roll:g} degrees"
            raise GeometryError(fault, mend="give a pitch of -90 to 90 and a roll of -180 to 180")
        return replace(self, hfov=hfov, vfov_top=top, vfov_bottom=bottom, pitch=pitch, roll=roll)


class Seen(NamedTuple):
    """Where directions lie in a picture: parts `x`, `y` of its width and height, whether within it, and which face."""

    x: np.ndarray
    y: np.ndarray
    within: np.ndarray
    face: np.ndarray | None = None


def _check_hfov(projection: str, hfov: float) -> None:
    widest = WIDEST_PHOTO if projection == PERSPECTIVE else 360.0
    if math.isnan(hfov):
        raise GeometryError(f"the field of view of a {projection} picture is unknown", mend="state it")
    if not 0 < hfov <= widest + 1e-6:
        kind = f"of a {projection} picture " if projection == PERSPECTIVE else ""
        fault = f"a horizontal field of view {kind}of {hfov:g} degrees"
        raise GeometryError(fault, mend=f"give more than 0, at most {widest:g}")


def square_vfov(projection: str, height: int, width: int, hfov: float) -> tuple[float, float]:
    """Angles (top, bottom) in degrees of a picture with square pixels centred on its axis."""
    if projection == CUBE:
        return 90.0, -90.0
    if projection == EQUIRECTANGULAR:
        return default_vfov(height, width, hfov)
    half_width = math.tan(math.radians(hfov / 2)) if projection == PERSPECTIVE else math.radians(hfov / 2)
    half = min(math.degrees(math.atan(half_width * height / width)), WIDEST_PHOTO / 2)
    return half, -half


def equirectangular_pixels(directions: np.ndarray, camera: Camera) -> Seen:
    """Columns are equal steps of azimuth, rows of elevation. `directions` (3, ...): right, forward, up."""
    right, forward, up = directions
    azimuth = np.degrees(np.arctan2(right, forward))
    elevation = np.degrees(np.arctan2(up, np.hypot(right, forward)))
    x = azimuth / camera.hfov + 0.5
    y = (camera.vfov_top - elevation) / (camera.vfov_top - camera.vfov_bottom)
    return Seen(x, y, _within(x, y))


def cylindrical_pixels(directions: np.ndarray, camera: Camera) -> Seen:
    """Columns are equal steps of azimuth, rows of the tangent of elevation, as on a cylinder unrolled."""
    right, forward, up = directions
    x = np.degrees(np.arctan2(right, forward)) / camera.hfov + 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        y = _tangent_rows(up / np.hypot(right, forward), camera)
    return Seen(x, y, _within(x, y))


def perspective_pixels(directions: np.ndarray, camera: Camera) -> Seen:
    """A plane before the camera, as lenses without distortion show it; nothing behind the camera is seen."""
    right, forward, up = directions
    before = forward > 1e-9
    with np.errstate(divide="ignore", invalid="ignore"):
        x = right / forward / (2 * math.tan(math.radians(camera.hfov / 2))) + 0.5
        y = _tangent_rows(up / forward, camera)
    return Seen(x, y, before & _within(x, y))


def cube_pixels(directions: np.ndarray, camera: Camera) -> Seen:
    """Six squares of 90 degrees; `x`, `y` are parts of the face that is seen."""
    along = np.tensordot(_FACE_AXES[:, 0], directions, axes=1)
    face = along.argmax(axis=0)
    depth = np.take_along_axis(along, face[None], axis=0)[0]
    x, y = (np.einsum("...k,k...->...", _FACE_AXES[face, part], directions) / depth / 2 + 0.5 for part in (1, 2))
    return Seen(x, y, np.ones(face.shape, dtype=bool), face)


PROJECTED: dict[str, Callable[[np.ndarray, Camera], Seen]] = {
    EQUIRECTANGULAR: equirectangular_pixels,
    CYLINDRICAL: cylindrical_pixels,
    PERSPECTIVE: perspective_pixels,
    CUBE: cube_pixels,
}
PROJECTIONS = tuple(PROJECTED)


def _tangent_rows(tangent: np.ndarray, camera: Camera) -> np.ndarray:
    top, bottom = (math.tan(math.radians(angle)) for angle in (camera.vfov_top, camera.vfov_bottom))
    return (top - tangent) / (top - bottom)


def _within(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    edge = 1e-9
    return (x >= -edge) & (x < 1 + edge) & (y >= -edge) & (y <= 1 + edge)


def grid_directions(height: int, width: int, turned: float, camera: Camera) -> np.ndarray:
    """Unit vectors (3, height, width) of the canonical grid's pixel centres in the camera's frame.

    turned: heading of the grid's left edge minus that of the picture's centre, degrees.
    """
    azimuth = np.radians(turned + 360 / width * (np.arange(width) + 0.5))
    elevation = np.radians(GRID_TOP - (GRID_TOP - GRID_BOTTOM) / height * (np.arange(height) + 0.5))
    flat = np.stack([np.sin(azimuth), np.cos(azimuth)])
    axes = camera_axes(camera.pitch, camera.roll)
    level = (axes[:, :2] @ flat)[:, None, :] * np.cos(elevation)[None, :, None]
    return level + axes[:, 2, None, None] * np.sin(elevation)[None, :, None]


@lru_cache(maxsize=24)
def _grid_maps(height: int, width: int, turned: float, camera: Camera) -> tuple[Seen, np.ndarray]:
    # Finer samples as float32, and which centres of grid pixels (height, width) are within the picture.
    project = PROJECTED[camera.projection]
    fine = project(grid_directions(height * _OVERSAMPLED, width * _OVERSAMPLED, turned, camera), camera)
    x, y = (np.clip(np.nan_to_num(part, nan=0.5), -1, 2).astype(np.float32) for part in fine[:2])
    within = project(grid_directions(height, width, turned, camera), camera).within
    return Seen(x, y, fine.within, fine.face), within


def project_on_grid(
    image: np.ndarray, height: int, width: int, column0_heading: float, image_column0_heading: float, camera: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """A picture of any projection where it belongs on the canonical grid: 360 degrees by +45 to -45 degrees.

    Args:
        image: (h, w[, C]); a cube map in one of the LAYOUTS.
        height, width: of the grid, in pixels; `column0_heading` the heading of the left edge of its column 0.
        image_column0_heading: that of the picture's centre less half its horizontal field of view, degrees; of a cube
            map, whose centre is that of its front, 180 less.
        camera: projection, fields of view and tilt.

    Returns: the grid (height, width[, C]) of the image's type, 0 where nothing is seen, and the mask (height, width)
    bool, True where the centre of a grid pixel lies in the picture. Averaged over areas where the picture is finer.

    Raises: GeometryError for a camera that cannot be, and for a cube map of other proportions.
    """
    require_picture(image)
    camera = camera.settled(*image.shape[:2])
    if not (math.isfinite(image_column0_heading) and math.isfinite(column0_heading)):
        raise GeometryError("the heading is unknown", mend="state it")
    if camera.projection == EQUIRECTANGULAR and camera.level:
        fields = camera.hfov, camera.vfov_top, camera.vfov_bottom
        return place_on_grid(image, height, width, column0_heading, image_column0_heading, *fields)
    turned = (column0_heading - image_column0_heading - camera.hfov / 2) % 360
    seen, mask = _grid_maps(height, width, round(turned, 6), camera)
    image = _not_finer(image, height, width, camera)
    if camera.projection == CUBE:
        fine = _sample_cube(image, seen)
    else:
        fine = _sample(image, seen, wraps=camera.projection != PERSPECTIVE and camera.hfov > 360 - 1e-6)
    cv2 = import_cv2()
    grid = keep_dtype(fine, lambda one: cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA))
    grid[~mask] = 0
    return grid, mask


def centre_density(camera: Camera) -> tuple[float, float]:
    """Parts of a settled camera's picture (of a cube map's face) that a radian takes at its centre: of width, height.

    The centre is where a perspective picture and a cube's face are coarsest.
    """
    if camera.projection == CUBE:
        return 0.5, 0.5
    top, bottom = math.radians(camera.vfov_top), math.radians(camera.vfov_bottom)
    across = math.radians(camera.hfov)
    if camera.projection == PERSPECTIVE:
        across = 2 * math.tan(across / 2)
    flat = camera.projection == EQUIRECTANGULAR
    return 1 / across, 1 / (top - bottom if flat else math.tan(top) - math.tan(bottom))


def reduced_size(shape: tuple[int, ...], pixels: tuple[float, float], camera: Camera) -> tuple[int, int]:
    """Height and width to which a picture is reduced to have at least `pixels` (down, across) a radian; never larger.

    A cube map keeps whole faces. Raises GeometryError for a cube map of other proportions.
    """
    height, width = shape[:2]
    across, down = centre_density(camera.settled(height, width))
    if camera.projection == CUBE:
        side, cols, rows = cube_layout(height, width)
        side = min(side, max(1, math.ceil(max(pixels) / across)))
        return side * rows, side * cols
    return min(height, max(1, round(pixels[0] / down))), min(width, max(1, round(pixels[1] / across)))


def _not_finer(image: np.ndarray, height: int, width: int, camera: Camera) -> np.ndarray:
    pixels = (height / math.radians(GRID_TOP - GRID_BOTTOM), width / math.radians(360))
    rows, cols = reduced_size(image.shape, (_DENSITY * pixels[0], _DENSITY * pixels[1]), camera)
    if max(rows, cols) + 2 > REMAP_LIMIT:
        raise GeometryError(f"more than {REMAP_LIMIT - 2} pixels a side", mend="reduce the picture first")
    return shrink(image, rows, cols)


def _sample(image: np.ndarray, seen: Seen, wraps: bool) -> np.ndarray:
    # Bilinear samples; beyond its edges the picture goes on as it ends, or around the compass.
    height, width = image.shape[:2]
    column, row = seen.x * np.float32(width) - np.float32(0.5), seen.y * np.float32(height) - np.float32(0.5)
    if wraps:
        image = np.concatenate([image[:, -1:], image, image[:, :1]], axis=1)
        column += 1
    return sample(image, column, row)


def cube_layout(height: int, width: int) -> tuple[int, int, int]:
    """Side of a face in pixels, and how many squares across and down, of a cube map in one picture.

    Raises GeometryError for a picture that is none of the LAYOUTS.
    """
    for cols, rows in LAYOUTS:
        if width * rows == height * cols and width % cols == 0:
            return width // cols, cols, rows
    known = ", ".join(f"{cols}x{rows}" for cols, rows in LAYOUTS)
    raise GeometryError(f"{width}x{height} pixels is no cube map", mend=f"give {known} squares, or six files")


def cube_faces(image: np.ndarray) -> np.ndarray:
    """The six faces (6, S, S[, C]) of a cube map in one picture, in the order of FACES."""
    side, cols, rows = cube_layout(*image.shape[:2])
    order = LAYOUTS[cols, rows]
    places = [divmod(order.index(face[0]), cols) for face in FACES]
    return np.stack([image[row * side : (row + 1) * side, col * side : (col + 1) * side] for row, col in places])


def join_faces(faces: np.ndarray) -> np.ndarray:
    """One picture (S, 6 S[, C]) of six faces (6, S, S[, C]) in the order of FACES; `cube_faces` takes it apart."""
    return np.concatenate([faces[[name[0] for name in FACES].index(letter)] for letter in LAYOUTS[6, 1]], axis=1)


def _bordered(faces: np.ndarray) -> np.ndarray:
    # Faces with a border of one pixel taken from their neighbours, (6, S + 2, S + 2[, C]): no seam between them.
    side = faces.shape[1]
    framed = np.pad(faces, [(0, 0), (1, 1), (1, 1)] + [(0, 0)] * (faces.ndim - 3), mode="edge")
    steps = (np.arange(-1, side + 1) + 0.5) / side * 2 - 1
    border = np.ones((side + 2, side + 2), dtype=bool)
    border[1:-1, 1:-1] = False
    rows, cols = np.nonzero(border)
    stack = faces.reshape(6 * side, *faces.shape[2:])
    for number, (ahead, across, down) in enumerate(_FACE_AXES):
        seen = cube_pixels(ahead[:, None] + across[:, None] * steps[cols] + down[:, None] * steps[rows], Camera(CUBE))
        x, y = (np.clip(part * side - 0.5, 0, side - 1)[None] for part in seen[:2])
        framed[number][border] = gather(stack, x, y + seen.face * side, clamp=True)[0]
    return framed


def _sample_cube(image: np.ndarray, seen: Seen) -> np.ndarray:
    faces = cube_faces(image)
    side = np.float32(faces.shape[1])
    framed = _bordered(faces)
    sheet = np.concatenate([np.concatenate(list(framed[:3]), axis=1), np.concatenate(list(framed[3:]), axis=1)])
    down, across = np.divmod(seen.face, 3)
    column = seen.x * side + np.float32(0.5) + across.astype(np.float32) * (side + 2)
    row = seen.y * side + np.float32(0.5) + down.astype(np.float32) * (side + 2)
    return sample(sheet, column, row)
