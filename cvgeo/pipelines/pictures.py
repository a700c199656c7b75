"""Pictures that stand in no data set, as tables: what their names and metadata tell of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cvgeo.config.schema import ViewConfig
from cvgeo.data.ground import fronts
from cvgeo.data.images import image_size
from cvgeo.data.schema import Panoramas, Tiles
from cvgeo.data.sources.geotags import Geotag, StatedPose, read_geotag
from cvgeo.data.sources.places import check_pose, recognise_cube
from cvgeo.data.sources.slippy import slippy_address
from cvgeo.data.views import ground_view
from cvgeo.errors import CvgeoError, InputError
from cvgeo.geometry.geodesy import tile_position, web_mercator_resolution
from cvgeo.geometry.projections import EQUIRECTANGULAR, PERSPECTIVE, WIDEST_PHOTO
from cvgeo.pipelines.polar import find_pictures
from cvgeo.report import Reporter
from cvgeo.retrieval.store import relative_to_store

PANORAMA_ASPECT = 1.9
PHOTO_HFOV = 65.0
_NAMED_POSITION = re.compile(r"(?:.*_)?(-?\d{1,2}\.\d{3,})_(-?\d{1,3}\.\d{3,})(?:_.*)?")


def picture_files(names: Iterable[str], reporter: Reporter) -> Iterator[Path]:
    """Pictures named and those in folders named, each once, in order; what is not there is reported."""
    seen: set[Path] = set()
    for path, found in find_pictures(names):
        if isinstance(found, CvgeoError):
            reporter.fail(str(path), str(found))
        elif path not in seen:
            seen.add(path)
            yield path


def ground_files(names: Iterable[str], stated: StatedPose, reporter: Reporter) -> Iterator[Path]:
    """Ground pictures named and those in folders named; six files of a cube map are told by its front."""
    return fronts(picture_files(names, reporter), stated.projection)


def named_position(path: Path) -> tuple[float, float, float]:
    """Latitude, longitude and metres a pixel of a tile by its name; NaN where the name does not tell.

    Understood are slippy-map tiles (`zoom/x/y.png`) and `..._<lat>_<lon>.png` as VIGOR names its tiles.
    """
    match = _NAMED_POSITION.fullmatch(path.stem)
    if match and abs(float(match[1])) <= 90 and abs(float(match[2])) <= 180:
        return float(match[1]), float(match[2]), math.nan
    address = slippy_address(path)
    if address is None:
        return math.nan, math.nan, math.nan
    zoom, x, y = address
    lat, lon = (float(value) for value in tile_position(x + 0.5, y + 0.5, zoom))
    return lat, lon, math.nan


def _named_gsd(path: Path, lat: float) -> float:
    try:
        return float(web_mercator_resolution(lat, int(path.parent.parent.name), image_size(path)[1]))
    except (CvgeoError, ValueError):
        return math.nan


def loose_tiles(pictures: list[Path], store: Path) -> Tiles:
    """Tiles that stand in no data set; ids are their paths as the store names them."""
    positions = np.array([named_position(path) for path in pictures]).reshape(-1, 3)
    for row in np.flatnonzero(~np.isnan(positions[:, 0])):
        if not _NAMED_POSITION.fullmatch(pictures[row].stem):
            positions[row, 2] = _named_gsd(pictures[row], positions[row, 0])
    return Tiles([relative_to_store(store, path) for path in pictures], pictures, *positions.T)


@dataclass
class GroundPicture:
    """A ground picture and what is known of it; `lat`, `lon` are NaN without a usable GPS position."""

    path: Path
    tag: Geotag
    lat: float = math.nan
    lon: float = math.nan


def read_ground_picture(path: Path, reporter: Reporter, stated: StatedPose | None = None) -> GroundPicture:
    """What a picture tells of its pose; what the user states counts more. Damaged metadata is told of, no fault.

    Raises InputError where the file itself cannot be read, or is not what it is said to be.
    """
    height, width = image_size(path)
    stated = stated or StatedPose()
    try:
        tag = read_geotag(path, declination=stated.declination, position=False)
    except InputError as error:
        reporter.note(f"{error}: its heading is taken as unknown")
        tag = Geotag(height=height, width=width)
    picture = GroundPicture(path, tag)
    try:
        located = read_geotag(path)
        picture.lat, picture.lon = located.lat, located.lon
    except InputError:
        pass  # where it was taken is what is asked for
    stated.apply(tag)
    if recognise_cube(tag, path):
        reporter.note(f"{path}: it and the five faces beside it are taken as a cube map; else say --projection")
    _settle(picture, reporter)
    check_pose(tag, path)
    return picture


def _settle(picture: GroundPicture, reporter: Reporter) -> None:
    """Assume what is not known of the projection and the field of view, and say so."""
    tag = picture.tag
    wide = tag.width >= PANORAMA_ASPECT * tag.height
    if math.isnan(tag.hfov):
        wide = wide and tag.projection != PERSPECTIVE
        tag.widen(360.0 if wide else PHOTO_HFOV)
        reporter.warn(f"{picture.path}: its field of view is unknown, {tag.hfov:g} degrees are assumed; say --hfov")
    if not tag.projection:
        tag.project(EQUIRECTANGULAR if wide or tag.hfov > WIDEST_PHOTO else PERSPECTIVE)


def view_of(
    picture: GroundPicture, image: np.ndarray, heading: float, view: ViewConfig
) -> tuple[np.ndarray, np.ndarray]:
    """The ground view and mask of a picture's image whose centre looks along `heading`; see `ground_view`."""
    camera = picture.tag.camera()
    return ground_view(image, view, column0_heading=(heading - camera.hfov / 2) % 360, **asdict(camera))


def loose_panoramas(pictures: list[GroundPicture], store: Path) -> Panoramas:
    """Ground pictures that stand in no data set as a table; ids are their paths as the store names them."""
    tags = [picture.tag for picture in pictures]
    columns = {
        name: np.array([getattr(tag, name) for tag in tags], dtype=float)
        for name in ("column0_heading", "hfov", "vfov_top", "vfov_bottom", "pitch", "roll")
    }
    return Panoramas(
        [relative_to_store(store, picture.path) for picture in pictures],
        [picture.path for picture in pictures],
        np.array([picture.lat for picture in pictures], dtype=float),
        np.array([picture.lon for picture in pictures], dtype=float),
        **columns,
        projection=[tag.projection for tag in tags],
    )
