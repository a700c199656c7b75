"""`cvgeo build-dataset tiles`: a gallery of overlapping tiles that covers an area."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo.data.dataset_files import write_dataset
from cvgeo.data.schema import Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.data.sources.grid import TileGrid
from cvgeo.data.sources.imagery import ImageryOptions, find_imagery
from cvgeo.data.sources.mosaic import Mosaic
from cvgeo.data.sources.web import is_url
from cvgeo.errors import InputError, UsageError
from cvgeo.geometry.geodesy import distance_m
from cvgeo.paths import FileBatch, resumable_folder
from cvgeo.pipelines import tile_cutting as cutting
from cvgeo.report import Reporter

TOGETHER = 16, 4  # neighbouring tiles of a row, and rows, that are cut from what is read once
MOST_TILES = 10_000_000  # in one gallery: their names and positions are held in memory


@dataclass(frozen=True)
class TilesSettings:
    """What a gallery is made from. `overlap` is the share of a tile's side that its neighbour shows too."""

    aerial: list[str]
    output: Path
    size: cutting.TileSize
    overlap: float = 0.5
    split: str = "test"
    least_valid: float = 0.75
    name: str = ""
    attribution: str = ""
    imagery: ImageryOptions = field(default_factory=ImageryOptions)
    jobs: int = 0
    overwrite: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The settings that decide what is in the gallery."""
        return {
            "tile_size": self.size.pixels,
            "gsd_m": self.size.gsd_m,
            "overlap": self.overlap,
            "split": self.split,
            "least_valid": self.least_valid,
            "name": self.name,
            "attribution": self.attribution,
            **cutting.imagery_settings(self.imagery),
        }


def areas(mosaic: Mosaic, slack_m: float) -> list[tuple[float, float, float, float]]:
    """South, west, north, east of the parts of a mosaic that lie apart by more than a tile, each once."""
    slack = slack_m / 111_000.0
    groups: list[np.ndarray] = []
    for bounds in mosaic.parts:
        joined = bounds
        apart = []
        for group in groups:
            near = (group[:2] <= joined[2:] + slack).all() and (joined[:2] <= group[2:] + slack).all()
            if near:
                joined = np.concatenate([np.minimum(group[:2], joined[:2]), np.maximum(group[2:], joined[2:])])
            else:
                apart.append(group)
        groups = [*apart, joined]
    return [tuple(float(edge) for edge in group) for group in groups]


def chosen_areas(
    mosaic: Mosaic, chosen: tuple[float, float, float, float] | None, slack_m: float
) -> list[tuple[float, float, float, float]]:
    """The area that the user chose, else all `areas`. Raises InputError for one that the imagery does not touch."""
    if chosen is None:
        return areas(mosaic, slack_m)
    south, west, north, east = chosen
    across = [(mosaic.parts[:, 1] + turn <= east) & (west <= mosaic.parts[:, 3] + turn) for turn in (-360, 0, 360)]
    if not (np.any(across, axis=0) & (mosaic.parts[:, 0] <= north) & (south <= mosaic.parts[:, 2])).any():
        own = ",".join(f"{edge:.6g}" for edge in np.r_[mosaic.parts.min(axis=0)[:2], mosaic.parts.max(axis=0)[2:]])
        fault = "--bbox lies outside the imagery"
        raise InputError(fault, path=mosaic.imagery[0].name, mend=f"the imagery lies within {own}")
    return [chosen]


def tile_names(lat: np.ndarray, lon: np.ndarray) -> list[str]:
    """Ids of tiles by their centres, as VIGOR names its tiles; seven decimals are a centimetre."""
    return [f"tile_{one_lat:.7f}_{one_lon:.7f}" for one_lat, one_lon in zip(lat.tolist(), lon.tolist(), strict=True)]


def _blocks(lat: np.ndarray) -> list[np.ndarray]:
    """The numbers of a grid's tiles (a latitude each row) in blocks of neighbours, which share what is read."""
    width, height = TOGETHER
    rows = np.split(np.arange(len(lat)), np.flatnonzero(np.diff(lat)) + 1)
    blocks = []
    for top in range(0, len(rows), height):
        some = rows[top : top + height]
        for left in range(0, max(map(len, some)), width):
            blocks.append(np.concatenate([row[left : left + width] for row in some]))
    return blocks


def cut_grid(
    mosaic: Mosaic, lat: np.ndarray, lon: np.ndarray, settings: Any, folder: Path, reporter: Reporter
) -> Iterator[tuple[int, float]]:
    """Cut the tiles around these centres into `tiles/` of a folder; yields each one's number and share with data."""
    paths = [folder / "tiles" / f"{name}{cutting.TILE_SUFFIX}" for name in tile_names(lat, lon)]
    (folder / "tiles").mkdir(parents=True, exist_ok=True)
    finished = set(os.listdir(folder / "tiles"))  # by an interrupted call
    size = settings.size
    cutting.tiles_space(settings.output, sum(path.name not in finished for path in paths), size, reporter)

    def cut(block: np.ndarray) -> list[float]:
        there = [paths[number].name in finished for number in block]
        if all(there):
            return [1.0] * len(there)
        # All of them again, as their last digits depend on what is read together.
        tiles = mosaic.cut_tiles(lat[block], lon[block], size.pixels, size.gsd_m)
        shares = [cutting.share_valid(mask) for _, mask in tiles]
        batch.write_all(
            [
                (paths[number], cutting.encode_tile(tile))
                for number, done, (tile, _), share in zip(block, there, tiles, shares, strict=True)
                if not done and share >= settings.least_valid
            ]
        )
        return shares

    blocks = _blocks(lat)
    numbers = (number for block in blocks for number in block.tolist())
    with FileBatch() as batch:
        done = cutting.in_threads(cut, blocks, settings.jobs)
        shares = (share for block in done for share in block)
        yield from zip(numbers, reporter.track(shares, "cutting tiles", total=len(paths)), strict=True)


def build_tiles(settings: TilesSettings, reporter: Reporter) -> dict[str, Any]:
    """Cover the area of some rasters with overlapping tiles and write them as a data set that is a gallery only.

    Tiles of which less than `least_valid` has data are left out and counted.

    Returns:
        The record for stdout. Raises InputError where no tile could be cut, MismatchError where something else is at
        the output.
    """
    reporter.now("opening the imagery")
    imagery = find_imagery(settings.aerial, settings.imagery)
    if settings.imagery.area is None and (web := [one.name for one in imagery if is_url(one.place)]):
        raise UsageError("a web source has no bounds of its own", path=web[0], mend="give --bbox S,W,N,E")
    mark = cutting.fingerprint({"command": "tiles", **settings.as_dict()}, imagery)
    dropped = cutting.Dropped(reporter)
    done = cutting.finished(settings.output, mark, settings.overwrite)
    if done is not None:
        reporter.note(f"{settings.output} is up to date")
        dropped.read(settings.output)
        return cutting.record(done, settings.output, dropped)
    with Mosaic(imagery) as mosaic, resumable_folder(settings.output, mark, settings.overwrite) as folder:
        cutting.warn_of_scale(settings.size, mosaic, reporter)
        dataset = _gallery(mosaic, settings, folder, reporter, dropped)
        dataset.provenance = cutting.provenance({"command": "tiles", **settings.as_dict()}, mark, imagery)
        dropped.write(folder)
        write_dataset(dataset, folder)
    return cutting.record(dataset, settings.output, dropped)


def _gallery(
    mosaic: Mosaic, settings: TilesSettings, folder: Path, reporter: Reporter, dropped: cutting.Dropped
) -> Dataset:
    size = settings.size
    parts = chosen_areas(mosaic, settings.imagery.area, size.metres)
    grids = [TileGrid(part, size.metres, size.metres * (1 - settings.overlap)) for part in parts]
    if (wanted := sum(len(grid) for grid in grids)) > MOST_TILES:
        fault = f"its area takes {wanted:,} tiles of {size.metres:g} m; at most {MOST_TILES:,} are cut at once"
        raise InputError(fault, path=mosaic.imagery[0].name, mend="give a part of it with --bbox, or larger tiles")
    lat, lon = (np.concatenate(parts) for parts in zip(*(grid.centres() for grid in grids), strict=True))
    names = tile_names(lat, lon)
    shares = np.zeros(len(lat))
    for number, share in cut_grid(mosaic, lat, lon, settings, folder, reporter):
        shares[number] = share
    kept = np.flatnonzero(shares >= settings.least_valid).tolist()
    for number in np.flatnonzero(shares < settings.least_valid).tolist():
        dropped.add(names[number], "margin", f"only {shares[number]:.0%} of the tile has data")
    if not kept:
        south, west, north, east = parts[0]
        spans = f"{distance_m(south, west, north, west):.0f} by {distance_m(south, west, south, east):.0f} m"
        square = f"no square of {size.metres:g} m with {settings.least_valid:.0%} data"
        raise InputError(
            f"the imagery ({spans}) holds {square}", path=mosaic.imagery[0].name, mend=cutting.hint(mosaic)
        )
    tiles = Tiles(
        [names[number] for number in kept],
        [folder / "tiles" / f"{names[number]}{cutting.TILE_SUFFIX}" for number in kept],
        lat[kept],
        lon[kept],
        np.full(len(kept), size.gsd_m),
        [settings.split] * len(kept),
    )
    name = settings.name or settings.output.resolve().name
    conventions = Conventions(fit="place", aligned=False)
    attribution = settings.attribution or mosaic.attribution
    return Dataset(name, folder, Panoramas([], []), tiles, Pairs([], [], []), conventions, attribution=attribution)
