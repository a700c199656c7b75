"""`cvgeo build-dataset pairs`: pairs of geotagged panoramas and tiles cut out of aerial imagery."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo.data import splits
from cvgeo.data.dataset_files import write_dataset
from cvgeo.data.ground import fronts, is_face, parts, read_ground
from cvgeo.data.images import write_image
from cvgeo.data.schema import POSITIVE, SEMI_POSITIVE, Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.data.sources.geotags import Geotag, StatedPose
from cvgeo.data.sources.grid import TileGrid
from cvgeo.data.sources.imagery import ImageryOptions, find_imagery
from cvgeo.data.sources.mosaic import Mosaic
from cvgeo.data.sources.places import (
    Place,
    Positions,
    Unlocated,
    find_panoramas,
    read_place,
    read_positions,
    unique_ids,
)
from cvgeo.errors import InputError, UsageError
from cvgeo.geometry.panorama import level_panorama
from cvgeo.geometry.projections import CUBE, EQUIRECTANGULAR
from cvgeo.paths import FileBatch, atomic_file, resumable_folder
from cvgeo.pipelines import tile_cutting as cutting
from cvgeo.pipelines.build_tiles import cut_grid, tile_names
from cvgeo.report import Reporter

LEVEL_DEGREES = 0.05  # a tilt up to this is taken for level
UNKNOWN_FIELD = "no known field of view: they will be taken to go all around"
MADE_SUFFIX = ".jpg"  # of panoramas that are levelled or joined


@dataclass(frozen=True)
class SplitSettings:
    """How panoramas are dealt to train, val and test. `apart_m` is the least distance between two splits."""

    val_share: float = 0.1
    test_share: float = 0.1
    apart_m: float = 60.0
    at_random: bool = False
    seed: int = 0


@dataclass(frozen=True)
class PairsSettings:
    """What pairs are made from. `step_m` None: a tile centred on each panorama; else a grid of tiles that far apart."""

    panoramas: list[Path]
    aerial: list[str]
    output: Path
    size: cutting.TileSize
    split: SplitSettings
    positions: Path | None = None
    step_m: float | None = None
    least_valid: float = 0.9
    link: bool = False
    name: str = ""
    attribution: str = ""
    imagery: ImageryOptions = field(default_factory=ImageryOptions)
    jobs: int = 0
    overwrite: bool = False
    stated: StatedPose = field(default_factory=StatedPose)

    def as_dict(self) -> dict[str, Any]:
        """The settings that decide what is in the data set."""
        stated = self.stated.said()
        declination = stated.pop("declination", None)
        return {
            "command": "pairs",
            "tile_size": self.size.pixels,
            "gsd_m": self.size.gsd_m,
            "step_m": self.step_m,
            "least_valid": self.least_valid,
            "declination": declination,
            "name": self.name,
            "attribution": self.attribution,
            "split": asdict(self.split),
            **cutting.imagery_settings(self.imagery),
            **({"stated": stated} if stated else {}),
        }


def build_pairs(settings: PairsSettings, reporter: Reporter) -> dict[str, Any]:
    """Cut the tiles that show each panorama's place, and write both as a data set with splits by place.

    Panoramas that are broken, without a position, or outside the imagery are reported and left out; those too near to
    another split are left out and counted.

    Returns:
        The record for stdout. Raises InputError where no pair could be made, MismatchError where something else is at
        the output, UsageError for settings that contradict each other.
    """
    if not settings.panoramas and settings.positions is None:
        raise UsageError("no panorama is named", mend="name pictures or folders, or give --positions")
    if settings.split.val_share + settings.split.test_share > 1:
        raise UsageError("--val-share and --test-share together are more than 1")
    if settings.step_m is not None and settings.split.at_random:
        raise UsageError("--random-split goes with aligned pairs only", mend="off-centre tiles are split by place")
    positions = None if settings.positions is None else read_positions(settings.positions)
    pictures = _pictures(settings, positions)
    reporter.now("opening the imagery")
    imagery = find_imagery(settings.aerial, settings.imagery)
    inputs = [file for path in pictures for file in (parts(path, CUBE) if is_face(path) else [path])]
    inputs = [*inputs, *([] if settings.positions is None else [settings.positions])]
    mark = cutting.fingerprint(settings.as_dict(), imagery, inputs)
    dropped = cutting.Dropped(reporter)
    done = cutting.finished(settings.output, mark, settings.overwrite)
    if done is not None:
        reporter.note(f"{settings.output} is up to date")
        dropped.read(settings.output)
        return cutting.record(done, settings.output, dropped)
    with Mosaic(imagery) as mosaic:
        cutting.warn_of_scale(settings.size, mosaic, reporter)
        places = _located(pictures, positions, mosaic, settings, reporter, dropped)
        with resumable_folder(settings.output, mark, settings.overwrite) as folder:
            build = _Build(settings, mosaic, folder, reporter, dropped)
            dataset = build.aligned(places) if settings.step_m is None else build.off_centre(places, settings.step_m)
            dataset.provenance = cutting.provenance(settings.as_dict(), mark, imagery)
            dropped.write(folder)
            write_dataset(dataset, folder)
    if near := dropped.count().get("near"):
        reporter.note(f"{near} panoramas near another split were left out; --apart says how near that is")
    return cutting.record(dataset, settings.output, dropped)


def _pictures(settings: PairsSettings, positions: Positions | None) -> list[Path]:
    """The pictures named, else those of the table; six files of a cube map are told by its front."""
    if settings.panoramas or positions is None:
        found = find_panoramas(settings.panoramas)
        return list(fronts(found, settings.stated.projection))
    return find_panoramas(positions.present())


def _located(
    pictures: list[Path],
    positions: Positions | None,
    mosaic: Mosaic,
    settings: PairsSettings,
    reporter: Reporter,
    dropped: cutting.Dropped,
) -> list[Place]:
    """The panoramas whose places the imagery shows; the others are reported."""
    inside = []
    named = list(zip(unique_ids(pictures), pictures, strict=True))
    for name, path in reporter.track(named, "reading positions", total=len(named)):
        try:
            place = read_place(name, path, positions, settings.stated)
        except InputError as error:
            dropped.add(str(path), "unlocated" if isinstance(error, Unlocated) else "broken", str(error))
            continue
        if mosaic.shows(place.tag.lat, place.tag.lon):
            inside.append(place)
        else:
            dropped.add(str(path), "outside", _outside(place.tag.lat, place.tag.lon, mosaic))
    if not inside:
        _nothing(len(pictures), dropped)
    _remark(inside, reporter)
    return inside


def _outside(lat: float, lon: float, mosaic: Mosaic) -> str:
    fault = f"its place {lat:.6f}, {lon:.6f} lies outside the imagery"
    if abs(lon) <= 90 and mosaic.shows(lon, lat):
        return f"{fault}; with latitude and longitude exchanged it would not: are they swapped?"
    return fault


def _nothing(count: int, dropped: cutting.Dropped) -> None:
    why = ", ".join(f"{number} {kind}" for kind, number in dropped.count().items())
    raise InputError(f"no pair can be made of {count} pictures ({why})", mend="see the lines above")


def _remark(places: list[Place], reporter: Reporter) -> None:
    """Warn of what is unknown, and say what was assumed, once for all pictures that it is true of."""
    for angle, text in (("column0_heading", "no heading: north is unknown in them"), ("hfov", UNKNOWN_FIELD)):
        unknown = sum(math.isnan(getattr(place.tag, angle)) for place in places)
        if unknown:
            reporter.warn(f"{unknown} of {len(places)} panoramas have {text}")
    notes: dict[str, list[str]] = {}
    for place in places:
        for note in place.tag.notes:
            notes.setdefault(note.split(" (")[0], []).append(place.path.name)
    for note, names in notes.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        reporter.note(f"{names[0]}{more}: {note}")


def _positions(places: list[Place]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([place.tag.lat for place in places]), np.array([place.tag.lon for place in places])


class _Build:
    """The making of one data set: which settings, from what, into which folder."""

    def __init__(
        self, settings: PairsSettings, mosaic: Mosaic, folder: Path, reporter: Reporter, dropped: cutting.Dropped
    ):
        self.settings, self.mosaic, self.folder = settings, mosaic, folder
        self.reporter, self.dropped = reporter, dropped

    def aligned(self, places: list[Place]) -> Dataset:
        """One tile centred on each panorama."""
        split, _ = self._deal(places)
        keep = self._refuse(places, split == splits.DROPPED, "near", self._too_near())
        (self.folder / "tiles").mkdir(exist_ok=True)
        new = [
            place for place, kept in zip(places, keep, strict=True) if kept and not self._tile_path(place.id).exists()
        ]
        copies = 0 if self.settings.link else sum(_size(place.path) for place in new)
        cutting.tiles_space(self.settings.output, len(new), self.settings.size, self.reporter, copies)
        with FileBatch() as batch:
            keep = self._take_in(places, keep, partial(self._panorama_and_tile, batch))
        panoramas = self._panoramas(places, split, keep)
        count = len(panoramas)
        tiles = Tiles(
            list(panoramas.id),
            [self._tile_path(name) for name in panoramas.id],
            panoramas.lat.copy(),
            panoramas.lon.copy(),
            np.full(count, self.settings.size.gsd_m),
            list(panoramas.split),
        )
        rows = np.arange(count)
        return self._dataset(
            panoramas, tiles, Pairs(rows, rows, np.full(count, POSITIVE), np.zeros(count), np.zeros(count))
        )

    def off_centre(self, places: list[Place], step_m: float) -> Dataset:
        """A grid of tiles over the panoramas' area; the nearest tile is a panorama's positive, others semi-positive."""
        size = self.settings.size
        lat, lon = _positions(places)
        area = float(lat.min()), float(lon.min()), float(lat.max()), float(lon.max())
        grid = TileGrid(area, size.metres, step_m, middle=True)
        tile_lat, tile_lon = grid.centres()
        cut = np.zeros(len(grid), dtype=bool)
        for number, share in cut_grid(self.mosaic, tile_lat, tile_lon, self.settings, self.folder, self.reporter):
            cut[number] = share >= self.settings.least_valid
        place, tile, north, east = grid.covering(lat, lon)
        nearest = np.concatenate([[True], place[1:] != place[:-1]])[: len(place)]
        shown = np.isin(np.arange(len(places)), place[nearest & cut[tile]])
        split, tile_split = self._deal(places, (tile_lat, tile_lon))
        split, tile_split = splits.claim_tiles(split, place[cut[tile]], tile[cut[tile]], tile_split)
        keep = self._refuse(places, ~shown, "empty", "the tile around it has too little data")
        keep &= self._refuse(places, shown & (split == splits.DROPPED), "near", self._too_near())
        keep = self._take_in(places, keep, self._panorama)
        linked = cut[tile] & keep[place]
        roles = np.where(nearest, POSITIVE, SEMI_POSITIVE)[linked]
        rows, numbers = (np.cumsum(keep) - 1)[place[linked]], (np.cumsum(cut) - 1)[tile[linked]]
        pairs = Pairs(rows, numbers, roles, north[linked], east[linked])
        return self._dataset(
            self._panoramas(places, split, keep), self._grid_tiles(tile_lat[cut], tile_lon[cut], tile_split[cut]), pairs
        )

    def _deal(
        self, places: list[Place], tiles: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Splits of the places (DROPPED where too near to another split) and of the tiles' centres."""
        how = self.settings.split
        lat, lon = _positions(places)
        if how.at_random:
            text = "the split is random: places next to each other are on both sides, so results will flatter"
            self.reporter.warn(text)
            return splits.split_at_random(len(places), how.val_share, how.test_share, how.seed), np.empty(0, object)
        width = how.apart_m if tiles is None else max(how.apart_m, self.settings.size.metres)
        dealer = splits.PlaceSplit(lat, lon, how.val_share, how.test_share, width, how.seed, tiles)
        split = splits.drop_near(lat, lon, dealer.of(lat, lon), how.apart_m)
        for name, share in ((splits.VAL, how.val_share), (splits.TEST, how.test_share)):
            if share > 0 and not (split == name).any():
                text = f"no panorama is left for {name}: the area is too small for splits {how.apart_m:g} m apart"
                self.reporter.warn(f"{text}; give a smaller --apart")
        return split, np.empty(0, object) if tiles is None else dealer.of(*tiles)

    def _too_near(self) -> str:
        shared = "" if self.settings.step_m is None else ", or in a tile of it"
        return f"nearer than {self.settings.split.apart_m:g} m to a panorama of another split{shared}"

    def _refuse(self, places: list[Place], wrong: np.ndarray, kind: str, reason: str) -> np.ndarray:
        """Drop the places that are wrong; returns which are left, (N,) bool."""
        for row in np.flatnonzero(wrong):
            self.dropped.add(str(places[row].path), kind, reason)
        return ~wrong

    def _take_in(self, places: list[Place], keep: np.ndarray, work: Any) -> np.ndarray:
        """Do the work on each kept place; returns which are left when the failed ones are dropped, (N,) bool."""
        rows = np.flatnonzero(keep).tolist()
        faults = cutting.in_threads(lambda row: work(places[row]), rows, self.settings.jobs)
        left = keep.copy()
        for row, fault in zip(rows, self.reporter.track(faults, "making pairs", total=len(rows)), strict=True):
            if fault is not None:
                self.dropped.add(str(places[row].path), *fault)
                left[row] = False
        if not left.any():
            _nothing(len(places), self.dropped)
        return left

    def _panorama_and_tile(self, batch: FileBatch, place: Place) -> tuple[str, str] | None:
        path = self._tile_path(place.id)
        if path.exists():  # an interrupted call has finished the pair: the tile is written last
            return None
        data, share = cutting.cut_tile(self.mosaic, place.tag.lat, place.tag.lon, self.settings.size)
        if share < self.settings.least_valid:
            return "empty", f"only {share:.0%} of the tile around it has data"
        fault = self._panorama(place)
        if fault is None:
            batch.write(path, data)
        return fault

    def _panorama(self, place: Place) -> tuple[str, str] | None:
        """Take a panorama into the folder, level; returns kind and reason where it is broken."""
        target = self._panorama_path(place)
        if target.exists():
            return None
        tag = place.tag
        if not _is_level(tag) and math.isnan(tag.hfov):
            tilt = f"pitch {tag.pitch:g}, roll {tag.roll:g}"
            return "broken", f"it is tilted ({tilt}) and its field of view is unknown: it cannot be levelled"
        try:
            image = read_ground(place.path, tag.projection)
            if _is_levelled(tag):
                write_image(target, level_panorama(image, tag.pitch, tag.roll))
            elif _is_joined(place):
                write_image(target, image)
            else:
                _take_file(place.path, target, self.settings.link)
        except InputError as error:
            return "broken", str(error)
        return None

    def _tile_path(self, name: str) -> Path:
        return self.folder / "tiles" / f"{name}{cutting.TILE_SUFFIX}"

    def _panorama_path(self, place: Place) -> Path:
        rewritten = _is_levelled(place.tag) or _is_joined(place)
        suffix = MADE_SUFFIX if rewritten else place.path.suffix.lower()
        return self.folder / "panoramas" / f"{place.id}{suffix}"

    def _panoramas(self, places: list[Place], split: np.ndarray, keep: np.ndarray) -> Panoramas:
        kept = [places[row] for row in np.flatnonzero(keep)]
        fields = ("lat", "lon", "column0_heading", "hfov", "vfov_top", "vfov_bottom")
        angles = {name: np.array([getattr(place.tag, name) for place in kept]) for name in fields}
        # A full sphere lies in the data set levelled; a tilt that is taken for level stays unsaid, as ever.
        for name in ("pitch", "roll"):
            said = [math.nan if _is_level(place.tag) or _is_levelled(place.tag) else 1.0 for place in kept]
            angles[name] = np.array([getattr(place.tag, name) for place in kept]) * said
        projections = ["" if place.tag.projection == EQUIRECTANGULAR else place.tag.projection for place in kept]
        paths, names = [self._panorama_path(place) for place in kept], [place.id for place in kept]
        return Panoramas(names, paths, **angles, split=split[keep].tolist(), projection=projections)

    def _grid_tiles(self, lat: np.ndarray, lon: np.ndarray, split: np.ndarray) -> Tiles:
        names = tile_names(lat, lon)
        gsd = np.full(len(names), self.settings.size.gsd_m)
        return Tiles(names, [self._tile_path(name) for name in names], lat, lon, gsd, split.tolist())

    def _dataset(self, panoramas: Panoramas, tiles: Tiles, pairs: Pairs) -> Dataset:
        settings = self.settings
        name = settings.name or settings.output.resolve().name
        conventions = Conventions(fit="place", aligned=settings.step_m is None)
        attribution = settings.attribution or self.mosaic.attribution
        return Dataset(name, self.folder, panoramas, tiles, pairs, conventions, attribution=attribution)


def _is_level(tag: Geotag) -> bool:
    return abs(tag.pitch) <= LEVEL_DEGREES and abs(tag.roll) <= LEVEL_DEGREES


def _is_levelled(tag: Geotag) -> bool:
    """Whether the picture is made level for the data set; others are taken as they are, and their tilt is noted."""
    return tag.full_sphere and not _is_level(tag)


def _is_joined(place: Place) -> bool:
    """Whether the picture is one of a cube map's six files."""
    return place.tag.projection == CUBE and place.tag.height == place.tag.width


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _take_file(source: Path, target: Path, link: bool) -> None:
    with atomic_file(target) as temporary:
        if link:
            try:
                os.link(source, temporary)
                return
            except OSError:
                # Another file system, or one without hard links: a copy serves as well.
                temporary.unlink(missing_ok=True)
        shutil.copyfile(source, temporary)
