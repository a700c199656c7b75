"""Which tile belongs to a ground picture whose heat maps are asked for: of a data set, a tile named, the best match."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from cvgeo.config.schema import ViewConfig
from cvgeo.data.ground import read_ground
from cvgeo.data.images import read_image
from cvgeo.data.missing import missing_pictures, told_missing
from cvgeo.data.readers import open_dataset
from cvgeo.data.schema import POSITIVE, Conventions, Dataset
from cvgeo.data.sources.geotags import StatedPose
from cvgeo.data.views import ground_view
from cvgeo.errors import CvgeoError, InputError
from cvgeo.geometry.projections import Camera
from cvgeo.pipelines.pictures import GroundPicture, ground_files, loose_tiles, read_ground_picture
from cvgeo.pipelines.search import Searcher
from cvgeo.report import Reporter

ANGLES = ("hfov", "vfov_top", "vfov_bottom", "pitch", "roll")  # of a camera, as tables of panoramas have them
Found = tuple[Path, "Pair | CvgeoError"]


@dataclass
class Pair:
    """A ground picture and how it was taken, and an aerial tile with its place; NaN is `unknown`."""

    query: str
    path: Path
    tile: str
    tile_path: Path
    lat: float = math.nan
    lon: float = math.nan
    gsd_m: float = math.nan
    column0_heading: float = math.nan
    camera: Camera = field(default_factory=Camera)
    conventions: Conventions | None = None

    def read_ground(self) -> np.ndarray:
        """The ground picture (H, W, 3) uint8. Raises InputError."""
        return read_ground(self.path, self.camera.projection)

    def place(self, image: np.ndarray, view: ViewConfig) -> tuple[np.ndarray, np.ndarray]:
        """The ground picture on a view's grid, and its mask; see `cvgeo.data.views.ground_view`."""
        camera = asdict(self.camera)
        return ground_view(image, view, column0_heading=self.column0_heading, conventions=self.conventions, **camera)


def pairs_of_dataset(names: Iterable[str], dataset: str) -> Iterator[Found]:
    """Panoramas of a data set, named by id or path, each with the first of its positive tiles."""
    data = open_dataset(dataset)
    rows: dict[str, int] = {os.path.abspath(path): row for row, path in enumerate(data.panoramas.path)}
    rows |= {id: row for row, id in enumerate(data.panoramas.id)}
    missing = missing_pictures(data)
    for name in names:
        row = rows.get(name, rows.get(os.path.abspath(name)))
        if row is None:
            fault = f"is no panorama of {data.root}"
            yield Path(name), InputError(fault, path=name, mend="name one by its id or path, or give --tile or --store")
            continue
        pair = _positive(data, row)
        if isinstance(pair, Pair) and (gone := {pair.path, pair.tile_path}.intersection(missing)):
            told = told_missing(data, sorted(gone) + [path for path in missing if path not in gone])
            pair = InputError(told, path=data.root, mend="fetch them")
        yield data.panoramas.path[row], pair


def _positive(data: Dataset, row: int) -> Pair | InputError:
    panoramas, tiles, pairs = data.panoramas, data.tiles, data.pairs
    positive = np.flatnonzero((pairs.panorama == row) & (pairs.role == POSITIVE))
    if not len(positive):
        return InputError("has no positive tile in its data set", path=panoramas.id[row], mend="give --tile")
    tile = int(pairs.tile[positive[0]])
    angles = {name: float(getattr(panoramas, name)[row]) for name in ANGLES}
    place = {name: float(getattr(tiles, name)[tile]) for name in ("lat", "lon", "gsd_m")}
    return Pair(
        panoramas.id[row],
        panoramas.path[row],
        tiles.id[tile],
        tiles.path[tile],
        **place,
        column0_heading=float(panoramas.column0_heading[row]),
        camera=Camera(panoramas.projection[row], **angles),
        conventions=data.conventions,
    )


def _loose_pair(picture: GroundPicture, heading: float, tile: tuple[str, Path, float, float, float]) -> Pair:
    # `heading` is that of the centre column, `tile` its id, path, latitude, longitude and metres a pixel.
    camera = picture.tag.camera()
    return Pair(str(picture.path), picture.path, *tile, (heading - camera.hfov / 2) % 360, camera)


def pairs_with_tile(names: Iterable[str], tile: Path, stated: StatedPose, reporter: Reporter) -> Iterator[Found]:
    """Pictures and folders of pictures, each with the same tile; its place is what its name tells."""
    read_image(tile)
    table = loose_tiles([tile], Path("store"))
    place = (str(tile), tile, float(table.lat[0]), float(table.lon[0]), float(table.gsd_m[0]))
    for path in ground_files(names, stated, reporter):
        try:
            picture = read_ground_picture(path, reporter, stated)
        except CvgeoError as error:
            yield path, error
            continue
        yield path, _loose_pair(picture, picture.tag.heading, place)


def pairs_from_store(names: Iterable[str], searcher: Searcher, reporter: Reporter) -> Iterator[Found]:
    """Pictures and folders of pictures, each with the tile of a store that matches best, at the heading found."""
    store, stated = searcher.store, searcher.options.stated
    for path in ground_files(names, stated, reporter):
        try:
            found = searcher.find([read_ground_picture(path, reporter, stated)])
        except CvgeoError as error:
            yield path, error
            continue
        for one in found:
            hit = one.hits[0]
            if not store.columns.path[hit.row]:
                fault = "does not say where its tiles' pictures lie"
                yield path, InputError(fault, path=store.path, mend="give --tile, or embed the tiles again")
                continue
            tile = (store.columns.id[hit.row], store.file_of(hit.row), hit.lat, hit.lon)
            yield path, _loose_pair(one.picture, hit.heading, (*tile, float(store.columns.gsd_m[hit.row])))
