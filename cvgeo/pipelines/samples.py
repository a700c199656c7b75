"""The sheet of a data set's samples that `cvgeo info --sheet` draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvgeo.config.schema import ViewConfig
from cvgeo.data.images import read_image, write_image
from cvgeo.data.missing import missing_pictures, told_missing, without_missing
from cvgeo.data.readers import open_dataset
from cvgeo.data.schema import POSITIVE, Dataset
from cvgeo.data.views import GroundViews, aerial_view
from cvgeo.errors import CvgeoError, InputError
from cvgeo.explain.sample_sheet import BAND, TILE, Sample, draw_samples
from cvgeo.geometry.shapes import square
from cvgeo.report import Reporter

BANDS = ViewConfig(ground_height=BAND, ground_width=4 * BAND, aerial_height=BAND, aerial_width=4 * BAND)
TILES = ViewConfig(aerial="plain", aerial_height=TILE, aerial_width=TILE)


def write_samples(path: Path, dataset: str, count: int, reporter: Reporter) -> None:
    """Draw pairs spread evenly over a data set: tile, panorama on the canonical grid, and polar map from the same side.

    Where headings are right, the same things stand one above the other. Pictures that are missing, and those that
    cannot be read, are reported and left out. Raises InputError where none is left, OutputError.
    """
    data = open_dataset(dataset)
    missing = missing_pictures(data)
    if missing:
        reporter.fail(str(data.root), f"{told_missing(data, missing)}; fetch them")
        data = without_missing(data, True, Reporter())
    chosen, total = _chosen(data, count)
    samples = []
    for panorama, tile in chosen:
        try:
            samples.append(_sample(data, panorama, tile))
        except CvgeoError as error:
            reporter.fail(str(data.tiles.id[tile]), str(error))
    if not samples:
        raise InputError("none of its pictures can be shown", path=dataset, mend="see cvgeo info --verify")
    what = "tiles" if samples[0].ground is None else "pairs"
    write_image(path, draw_samples(data.name, f"{len(samples)} of {total:,} {what}", samples))


def _chosen(data: Dataset, count: int) -> tuple[list[tuple[int, int]], int]:
    """Rows (panorama, tile) of positive pairs, one a panorama, and how many there are; (-1, tile) in a mere gallery."""
    positive = np.flatnonzero(data.pairs.role == POSITIVE)
    panoramas, first = np.unique(data.pairs.panorama[positive], return_index=True)
    tiles = data.pairs.tile[positive][first]
    if not len(panoramas):
        tiles = np.arange(len(data.tiles))
        panoramas = np.full(len(tiles), -1)
    if not len(tiles):
        raise InputError("holds no tiles", path=data.root, mend="name a data set that does")
    spread = np.unique(np.linspace(0, len(tiles) - 1, min(count, len(tiles))).round().astype(int))
    return [(int(panoramas[n]), int(tiles[n])) for n in spread], len(tiles)


def _sample(data: Dataset, panorama: int, tile: int) -> Sample:
    image = square(read_image(data.tiles.path[tile]))
    plain = aerial_view(image, TILES)
    if panorama < 0:
        return Sample(data.tiles.id[tile], plain)
    view = GroundViews(data.panoramas, BANDS, data.conventions)[panorama]
    if isinstance(view, CvgeoError):
        raise view
    names = [data.panoramas.id[panorama], data.tiles.id[tile]]
    label = names[0] if names[0] == names[1] else f"{names[0]}  ·  tile {names[1]}"
    split = data.panoramas.split[panorama]
    return Sample(f"{label}  ·  {split}" if split else label, plain, view[0], aerial_view(image, BANDS))
