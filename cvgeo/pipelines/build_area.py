"""`cvgeo build-dataset area`: pairs of aerial tiles and panoramas that are made of the same imagery, to train on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo.data import splits
from cvgeo.data.area_views import BOTTOM_DEG, TOP_DEG, AreaStyle, render_panorama, standing_place
from cvgeo.data.dataset_files import write_dataset
from cvgeo.data.images import encode_image
from cvgeo.data.schema import POSITIVE, Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.data.sources.grid import TileGrid
from cvgeo.data.sources.imagery import ImageryOptions, find_imagery
from cvgeo.data.sources.mosaic import Mosaic
from cvgeo.data.sources.web import is_url
from cvgeo.errors import InputError, UsageError
from cvgeo.geometry.geodesy import move
from cvgeo.paths import FileBatch, cache_dir, resumable_folder
from cvgeo.pipelines import tile_cutting as cutting
from cvgeo.pipelines.build_tiles import MOST_TILES, chosen_areas, tile_names
from cvgeo.report import Reporter

PANORAMA_SUFFIX, PANORAMA_QUALITY = ".jpg", 92
CONTEXT = 2.0  # tiles' sides that a panorama sees
LEAST_CONTEXT = 0.6  # of what it sees that has data; the rest is filled with the mean
NOTE = "The panoramas are no photographs: they were drawn, of the aerial imagery and at random, to train on."


@dataclass(frozen=True)
class AreaSettings:
    """What pseudo-pairs are made from. `panoramas` None: one place every `spacing_m`, `views` drawn of each."""

    aerial: list[str]
    output: Path
    size: cutting.TileSize
    panoramas: int | None = None
    spacing_m: float = 15.0
    views: int = 1
    panorama_width: int = 640
    val_share: float = 0.1
    apart_m: float = 60.0
    least_valid: float = 0.9
    name: str = ""
    attribution: str = ""
    imagery: ImageryOptions = field(default_factory=ImageryOptions)
    seed: int = 0
    jobs: int = 0
    overwrite: bool = False
    style: AreaStyle = field(default_factory=AreaStyle)

    def as_dict(self) -> dict[str, Any]:
        """The settings that decide what is in the data set."""
        apart = {"aerial", "output", "size", "imagery", "jobs", "overwrite", "style"}
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in apart}
        size = {"tile_size": self.size.pixels, "gsd_m": self.size.gsd_m}
        return {"command": "area", **size, **own, **asdict(self.style), **cutting.imagery_settings(self.imagery)}


def area_dataset(aerial: list[str], jobs: int, reporter: Reporter) -> Path:
    """The folder of an area's pairs as `train --area` takes them, in the cache folder: made where it is not there."""
    named = AreaSettings(aerial, cache_dir(), cutting.tile_size(256, None, None), name="area", views=2, jobs=jobs)
    mark = cutting.fingerprint(named.as_dict(), find_imagery(aerial))
    output = cache_dir() / "areas" / mark[:16]
    build_area(replace(named, output=output), reporter)
    return output


def build_area(settings: AreaSettings, reporter: Reporter) -> dict[str, Any]:
    """Cut tiles around places of an area, draw what might be seen there, and write both as a data set of pairs.

    Places too near to another split, and those where the imagery ends, are left out and counted.

    Returns:
        The record for stdout. Raises InputError where no pair could be made, MismatchError where something else is at
        the output.
    """
    imagery = find_imagery(settings.aerial, settings.imagery)
    if settings.imagery.area is None and (web := [one.name for one in imagery if is_url(one.place)]):
        raise UsageError("a web source has no bounds of its own", path=web[0], mend="give --bbox S,W,N,E")
    mark = cutting.fingerprint(settings.as_dict(), imagery)
    dropped = cutting.Dropped(reporter)
    done = cutting.finished(settings.output, mark, settings.overwrite)
    if done is not None:
        reporter.note(f"{settings.output} is up to date")
        dropped.read(settings.output)
        return cutting.record(done, settings.output, dropped)
    with Mosaic(imagery) as mosaic, resumable_folder(settings.output, mark, settings.overwrite) as folder:
        cutting.warn_of_scale(settings.size, mosaic, reporter)
        dataset = _Area(settings, mosaic, folder, reporter, dropped).dataset()
        dataset.provenance = {"note": NOTE, **cutting.provenance(settings.as_dict(), mark, imagery)}
        dropped.write(folder)
        write_dataset(dataset, folder)
    return cutting.record(dataset, settings.output, dropped)


class _Area:
    """The making of one data set: which settings, from what, into which folder."""

    def __init__(
        self, settings: AreaSettings, mosaic: Mosaic, folder: Path, reporter: Reporter, dropped: cutting.Dropped
    ):
        self.settings, self.mosaic, self.folder = settings, mosaic, folder
        self.reporter, self.dropped = reporter, dropped

    def dataset(self) -> Dataset:
        """The data set, its pictures written."""
        settings = self.settings
        lat, lon = self._places()
        split = self._deal(lat, lon)
        names = tile_names(lat, lon)
        for row in np.flatnonzero(split == splits.DROPPED).tolist():
            self.dropped.add(names[row], "near", f"nearer than {settings.apart_m:g} m to a place of another split")
        rows = np.flatnonzero(split != splits.DROPPED)
        for kind in ("tiles", "panoramas"):
            (self.folder / kind).mkdir(exist_ok=True)
        cutting.tiles_space(settings.output, len(rows) * (1 + settings.views), settings.size, self.reporter)
        kept = []
        with FileBatch() as batch:
            faults = cutting.in_threads(
                lambda row: self._make(batch, row, names[row], lat[row], lon[row]), rows.tolist(), settings.jobs
            )
            for row, fault in zip(rows, self.reporter.track(faults, "drawing panoramas", len(rows)), strict=True):
                if fault is None:
                    kept.append(row)
                else:
                    self.dropped.add(names[row], "margin", fault)
        if not kept:
            largest = f"the imagery holds no place with {settings.size.metres:g} m of ground around it"
            raise InputError(largest, path=self.mosaic.imagery[0].name, mend=cutting.hint(self.mosaic))
        return self._tables([names[row] for row in kept], lat[kept], lon[kept], split[kept].tolist())

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Latitudes and longitudes of places about `spacing_m` apart where one could stand."""
        settings, size = self.settings, self.settings.size
        parts = chosen_areas(self.mosaic, settings.imagery.area, size.metres)
        grids = [TileGrid(part, size.metres, settings.spacing_m) for part in parts]
        if (wanted := sum(len(grid) for grid in grids)) > MOST_TILES:
            fault = f"its area has {wanted:,} places; at most {MOST_TILES:,} are taken"
            raise InputError(
                fault, path=self.mosaic.imagery[0].name, mend="give a part of it with --bbox, or --spacing"
            )
        lat, lon = (np.concatenate(one) for one in zip(*(grid.centres() for grid in grids), strict=True))
        if settings.panoramas is not None:
            places = -(-settings.panoramas // settings.views)
            chosen = np.random.default_rng(settings.seed).permutation(len(lat))[:places]
            lat, lon = lat[np.sort(chosen)], lon[np.sort(chosen)]
        reach = settings.spacing_m / 2
        pixels = max(16, round(2 * (reach + 3)))
        moves = [
            standing_place(
                self.mosaic.cut_tile(*place, pixels, 1.0)[0], 1.0, reach, np.random.default_rng([settings.seed, row])
            )
            for row, place in enumerate(zip(lat.tolist(), lon.tolist(), strict=True))
        ]
        return move(lat, lon, *np.array(moves).T)

    def _deal(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        settings = self.settings
        dealer = splits.PlaceSplit(lat, lon, settings.val_share, 0.0, settings.apart_m, settings.seed)
        split = splits.drop_near(lat, lon, dealer.of(lat, lon), settings.apart_m)
        if settings.val_share > 0 and not (split == splits.VAL).any():
            fault = f"no place is left for val: the area is too small for splits {settings.apart_m:g} m apart"
            self.reporter.warn(f"{fault}; give a smaller --apart")
        return split

    def _make(self, batch: FileBatch, row: int, name: str, lat: float, lon: float) -> str | None:
        """Write the pictures of a place; says why where that cannot be."""
        settings, size = self.settings, self.settings.size
        tile_path = self.folder / "tiles" / f"{name}{cutting.TILE_SUFFIX}"
        if tile_path.exists():  # by an interrupted call: the tile is written last
            return None
        wide = 2 * round(size.pixels * CONTEXT / 2)
        picture, mask = self.mosaic.cut_tile(lat, lon, wide, size.gsd_m)
        first = (wide - size.pixels) // 2
        middle = slice(first, first + size.pixels)
        valid, context = cutting.share_valid(mask[middle, middle]), cutting.share_valid(mask)
        if valid < settings.least_valid or context < LEAST_CONTEXT:
            return f"only {valid:.0%} of the tile and {context:.0%} of what is around have data"
        if not mask.all():
            picture[~mask] = picture[mask].mean(axis=0)
        files = []
        for view, path in enumerate(self._panorama_paths(name)):
            generator = np.random.default_rng([settings.seed, row, view])
            height, width = settings.panorama_width // 4, settings.panorama_width
            image = render_panorama(picture, size.gsd_m, height, width, generator, settings.style)
            files.append((path, encode_image(image, PANORAMA_SUFFIX, PANORAMA_QUALITY)))
        batch.write_all([*files, (tile_path, cutting.encode_tile(picture[middle, middle]))])
        return None

    def _panorama_paths(self, name: str) -> list[Path]:
        folder = self.folder / "panoramas"
        return [folder / f"{name.removeprefix('tile_')}_{view}{PANORAMA_SUFFIX}" for view in range(self.settings.views)]

    def _tables(self, names: list[str], lat: np.ndarray, lon: np.ndarray, split: list[str]) -> Dataset:
        settings, count, views = self.settings, len(names), self.settings.views
        paths = [path for name in names for path in self._panorama_paths(name)]
        place = np.repeat(np.arange(count), views)
        every = np.ones(len(paths))
        panoramas = Panoramas(
            [path.stem for path in paths],
            paths,
            lat[place],
            lon[place],
            column0_heading=180 * every,
            hfov=360 * every,
            vfov_top=TOP_DEG * every,
            vfov_bottom=BOTTOM_DEG * every,
            split=[split[row] for row in place],
        )
        tile_paths = [self.folder / "tiles" / f"{name}{cutting.TILE_SUFFIX}" for name in names]
        tiles = Tiles(names, tile_paths, lat, lon, np.full(count, settings.size.gsd_m), split)
        rows = np.arange(len(paths))
        pairs = Pairs(rows, place, np.full(len(rows), POSITIVE), 0 * every, 0 * every)
        name = settings.name or settings.output.resolve().name
        conventions = Conventions(fit="place", aligned=True)
        attribution = settings.attribution or self.mosaic.attribution
        return Dataset(name, self.folder, panoramas, tiles, pairs, conventions, attribution=attribution)
