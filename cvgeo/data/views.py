"""From pictures to what the two branches see: the canonical panorama grid, and the polar (or plain) aerial view.

Both views start at the same heading (`ViewConfig.column0_heading`), so that a column means the same direction in both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from cvgeo.config.schema import ViewConfig
from cvgeo.data.ground import read_ground
from cvgeo.data.images import read_image
from cvgeo.data.schema import Conventions, Panoramas, Tiles
from cvgeo.errors import CvgeoError
from cvgeo.geometry.opencv import import_cv2
from cvgeo.geometry.panorama import roll_panorama
from cvgeo.geometry.polar import polar_transform, square
from cvgeo.geometry.projections import EQUIRECTANGULAR, PERSPECTIVE, Camera, project_on_grid, reduced_size


def _known(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else float(value)


def ground_view(
    image: np.ndarray,
    view: ViewConfig,
    *,
    column0_heading: float = math.nan,
    hfov: float = math.nan,
    vfov_top: float = math.nan,
    vfov_bottom: float = math.nan,
    projection: str = "",
    pitch: float = math.nan,
    roll: float = math.nan,
    conventions: Conventions | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A ground picture on the canonical panorama grid.

    Args:
        image: (H, W, 3) uint8 RGB.
        view: the grid's size and the heading of its column 0.
        column0_heading: heading of the picture's left edge in degrees; NaN leaves the picture where it is.
        hfov: horizontal field of view in degrees; NaN means 360.
        vfov_top, vfov_bottom: elevations of the upper and lower edge; NaN means square pixels centred on the horizon.
        projection, pitch, roll: see Panoramas. A picture that is tilted or not equirectangular is always placed.
        conventions: of the data set: `place` (default) or `stretch`, and rows to crop first.

    Returns:
        The view (ground_height, ground_width, 3) uint8, unseen pixels filled with the mean colour, and the mask
        (ground_height, ground_width) bool of the seen ones.
    """
    conventions = conventions or Conventions()
    if conventions.ground_rows is not None:
        top, bottom, of = conventions.ground_rows
        scale = image.shape[0] / of
        image = image[round(top * scale) : round(bottom * scale)]
    heading = _known(column0_heading, view.column0_heading)
    width = float(hfov) if projection == PERSPECTIVE else _known(hfov, 360.0)
    camera = Camera(projection or EQUIRECTANGULAR, width, float(vfov_top), float(vfov_bottom), pitch, roll)
    if conventions.fit == "stretch" and width > 359.0 and camera.projection == EQUIRECTANGULAR and camera.level:
        turned = roll_panorama(
            _resize(image, view.ground_height, view.ground_width), (view.column0_heading - heading) % 360.0
        )
        return turned, np.ones(turned.shape[:2], dtype=bool)
    size = view.ground_height, view.ground_width
    placed, mask = project_on_grid(image, *size, view.column0_heading, heading, camera)
    return _fill(placed, mask, view), mask


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    cv2 = import_cv2()
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _fill(image: np.ndarray, mask: np.ndarray, view: ViewConfig) -> np.ndarray:
    if not mask.all():
        image[~mask] = np.rint(np.asarray(view.mean) * 255).astype(np.uint8)
    return image


def coarsen(image: np.ndarray, view: ViewConfig, camera: Camera) -> np.ndarray:
    """A picture much finer than the grid reduced to four times its density, once, before it is placed many times."""
    density = 4 * view.ground_width / math.radians(360)
    height, width = reduced_size(image.shape, (density, density), camera)
    return image if image.shape[1] < 1.5 * width else _resize(image, height, width)


def aerial_view(image: np.ndarray, view: ViewConfig) -> np.ndarray:
    """A north-up tile (S, S, 3) uint8 as its branch sees it: polar map or resized (aerial_height, aerial_width, 3)."""
    tile = square(image)
    if view.aerial == "polar":
        return polar_transform(tile, view.aerial_height, view.aerial_width, view.polar_convention, view.column0_heading)
    return _resize(tile, view.aerial_height, view.aerial_width)


def to_tensor(
    images: torch.Tensor | np.ndarray, mask: torch.Tensor | np.ndarray | None, view: ViewConfig
) -> torch.Tensor:
    """Views (B, H, W, 3) uint8 as normalised float32 (B, 3, H, W); unseen pixels (mask (B, H, W) False) become 0."""
    images = torch.as_tensor(images)
    mean = torch.tensor(view.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(view.std, device=images.device).view(1, 3, 1, 1)
    tensor = images.permute(0, 3, 1, 2).float().div_(255.0).sub_(mean).div_(std)
    if mask is not None:
        tensor = tensor * torch.as_tensor(mask, device=images.device).unsqueeze(1)
    return tensor


class GroundViews(TorchDataset):
    """The ground views of rows of a panorama table; item i is (view, mask), or the CvgeoError of that picture."""

    def __init__(
        self, panoramas: Panoramas, view: ViewConfig, conventions: Conventions, rows: Sequence[int] | None = None
    ):
        self.panoramas, self.view, self.conventions = panoramas, view, conventions
        self.rows = np.arange(len(panoramas)) if rows is None else np.asarray(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> tuple[np.ndarray, np.ndarray] | CvgeoError:
        row, table = int(self.rows[item]), self.panoramas
        try:
            return ground_view(
                read_ground(table.path[row], table.projection[row]),
                self.view,
                column0_heading=table.column0_heading[row],
                hfov=table.hfov[row],
                vfov_top=table.vfov_top[row],
                vfov_bottom=table.vfov_bottom[row],
                projection=table.projection[row],
                pitch=table.pitch[row],
                roll=table.roll[row],
                conventions=self.conventions,
            )
        except CvgeoError as error:
            error.path = error.path or str(table.path[row])
            return error


class WindowedViews(TorchDataset):
    """Ground views of which nothing but a window of headings is kept, as if taken by a camera of that field of view.

    `left` (N,) are the headings of the windows' left edges, `hfov` their width in degrees. A view of which a window
    would leave nothing stays as it is. Items are those of `GroundViews`.
    """

    def __init__(self, views: GroundViews, left: np.ndarray, hfov: float):
        self.views, self.left, self.hfov = views, left, hfov
        width = views.view.ground_width
        self._headings = views.view.column0_heading + 360.0 * (np.arange(width) + 0.5) / width

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, item: int) -> tuple[np.ndarray, np.ndarray] | CvgeoError:
        found = self.views[item]
        if isinstance(found, CvgeoError):
            return found
        image, mask = found
        kept = mask & ((self._headings - self.left[item]) % 360.0 < self.hfov)
        return (_fill(image, kept, self.views.view), kept) if kept.any() else found


class AerialViews(TorchDataset):
    """The aerial views of rows of a tile table; item i is (view, mask of ones), or the CvgeoError of that picture."""

    def __init__(self, tiles: Tiles, view: ViewConfig, rows: Sequence[int] | None = None):
        self.tiles, self.view = tiles, view
        self.rows = np.arange(len(tiles)) if rows is None else np.asarray(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> tuple[np.ndarray, np.ndarray] | CvgeoError:
        path = self.tiles.path[int(self.rows[item])]
        try:
            image = aerial_view(read_image(path), self.view)
        except CvgeoError as error:
            error.path = error.path or str(path)
            return error
        return image, np.ones(image.shape[:2], dtype=bool)
