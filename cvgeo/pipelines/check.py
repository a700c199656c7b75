"""`cvgeo build-dataset check`: look at a data set's tables and pictures, and name what is wrong, each with its mend."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo.config.schema import ViewConfig
from cvgeo.data.checks import FAULT, Evidence, Finding, find_all
from cvgeo.data.checks.evidence import Agreement, Pictures, Shifts
from cvgeo.data.checks.north import COLUMNS, ROWS, agreement
from cvgeo.data.images import decode_image, image_size, read_bytes, read_image
from cvgeo.data.missing import is_there
from cvgeo.data.readers import find_dataset, open_dataset, reader_of, split_variant
from cvgeo.data.schema import Dataset, Tiles
from cvgeo.data.views import GroundViews, aerial_view
from cvgeo.errors import CvgeoError, InputError, UsageError
from cvgeo.geometry.geodesy import earth_centred, offset_metres
from cvgeo.geometry.neighbours import nearest
from cvgeo.geometry.opencv import import_cv2
from cvgeo.geometry.shapes import square
from cvgeo.pipelines.tile_cutting import in_threads
from cvgeo.report import Reporter

PORTION = 32  # pictures a task
SAMPLED = 64  # pairs of a split, tiles of a source, whose content is compared
VIEW = ViewConfig(ground_height=ROWS, ground_width=COLUMNS, aerial_height=ROWS, aerial_width=COLUMNS)
# Of layouts whose labels count in pixels: a tile's side, and the metres a pixel that their authors publish.
LAYOUTS = {"vigor": (640.0, 0.114)}
MATCH_SIZE, LEAST_MATCH = 256, 0.6
LEAST_SEEN = 0.5  # of the circle, for the test of north


@dataclass(frozen=True)
class CheckOptions:
    """How much is looked at: `labels_only` no picture, `quick` none whole; `shown` items a finding (None: all)."""

    quick: bool = False
    labels_only: bool = False
    shown: int | None = 5
    jobs: int = 0
    seed: int = 0


@dataclass
class Checked:
    """The findings as records, how many are faults, and what was looked at in one line."""

    records: list[dict[str, Any]]
    faults: int
    summary: str


def check_dataset(name: str, options: CheckOptions, reporter: Reporter) -> Checked:
    """Check a data set by name or path, of any known layout.

    Raises InputError where there is no such data set, UsageError for a variant that is not there; tables that cannot be
    read are a finding.
    """
    if options.quick and options.labels_only:
        raise UsageError("--quick and --labels-only exclude each other", mend="give one of them")
    reference, _ = split_variant(name)
    layout = reader_of(find_dataset(reference)).name
    reporter.now(f"opening {name}")
    try:
        dataset = open_dataset(name)
    except InputError as error:
        mend = error.mend or "correct the file"
        if "lat " in error.fault and "-90 to 90" in error.fault:
            mend = "latitude and longitude may be swapped: exchange the two columns"
        found = [Finding(FAULT, 1, [error.path or name], error.fault, mend, check="tables")]
        return _checked(name, found, "tables that could not be read", options)
    evidence = gather(dataset, layout, options, reporter)
    looked = f"{len(dataset.panoramas)} panoramas, {len(dataset.tiles)} tiles, {len(dataset.pairs)} pairs"
    return _checked(name, find_all(evidence), looked, options)


def _checked(name: str, found: list[Finding], looked: str, options: CheckOptions) -> Checked:
    faults = sum(one.grade == FAULT for one in found)
    summary = f"{faults} kinds of fault, {len(found) - faults} of remark, in {looked}"
    return Checked([_record(one, options.shown) for one in found], faults, summary)


def _record(found: Finding, shown: int | None) -> dict[str, Any]:
    return {
        "check": found.check,
        "grade": found.grade,
        "split": found.split or None,
        "count": found.count,
        "fault": found.fault,
        "mend": found.mend,
        "items": list(found.items[:shown]),
    }


def gather(dataset: Dataset, layout: str, options: CheckOptions, reporter: Reporter) -> Evidence:
    """Look at the pictures of a data set as the options say."""
    tile_pixels, published = LAYOUTS.get(layout, (math.nan, math.nan))
    tables = dataset.panoramas, dataset.tiles
    seen = [Pictures.unseen(len(table)) for table in tables]
    if options.labels_only:
        return Evidence(dataset, *seen, tile_pixels, published)
    for table, pictures, what in zip(tables, seen, ("panoramas", "tiles"), strict=True):
        pictures.there = is_there(table.path)
        _look(table.path, pictures, options, reporter, what)
    evidence = Evidence(dataset, *seen, tile_pixels, published)
    evidence.agreement = _agreement(evidence, options, reporter)
    evidence.shifts = _shifts(evidence, options, reporter)
    return evidence


@dataclass(frozen=True)
class _Look:
    size: tuple[int, int] = (0, 0)
    content: bytes = b""
    pixels: bytes = b""
    broken: str = ""


def _digest(data: bytes | np.ndarray) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _whole(path: Path) -> _Look:
    content = b""
    try:
        data = read_bytes(path)
        content = _digest(data)
        image = decode_image(data, path)
    except CvgeoError as error:
        return _Look(content=content, broken=error.fault)
    size = image.shape[:2]
    return _Look(size, content, _digest(str(size).encode() + np.ascontiguousarray(image).tobytes()))


def _header(path: Path) -> _Look:
    try:
        return _Look(image_size(path))
    except CvgeoError as error:
        return _Look(broken=error.fault)


def _look(paths: list[Path], seen: Pictures, options: CheckOptions, reporter: Reporter, what: str) -> None:
    """Fill in what is to be known of the pictures that are there, each file once."""
    first: dict[Path, int] = {}
    for row in np.flatnonzero(seen.there).tolist():
        first.setdefault(paths[row], row)
    files = list(first)
    portions = [files[start : start + PORTION] for start in range(0, len(files), PORTION)]
    work = _header if options.quick else _whole
    looks = (look for some in in_threads(lambda part: list(map(work, part)), portions, options.jobs) for look in some)
    of_file = dict(zip(files, reporter.track(looks, f"looking at {what}", len(files)), strict=True))
    for row in np.flatnonzero(seen.there).tolist():
        look = of_file[paths[row]]
        seen.height[row], seen.width[row] = look.size
        seen.content[row], seen.pixels[row] = look.content, look.pixels
        if look.broken:
            seen.broken[row] = look.broken


def _sample(labels: Sequence[str], rows: np.ndarray, seed: int) -> np.ndarray:
    """At most SAMPLED of the rows of each label, sorted."""
    own = np.array([labels[row] for row in rows.tolist()], dtype=object)
    generator = np.random.default_rng(seed)
    taken = [generator.permutation(rows[own == label])[:SAMPLED] for label in sorted(set(own.tolist()))]
    return np.sort(np.concatenate(taken)) if taken else rows


def _readable(seen: Pictures) -> np.ndarray:
    readable = seen.there.copy()
    readable[list(seen.broken)] = False
    return readable


def _agreement(evidence: Evidence, options: CheckOptions, reporter: Reporter) -> Agreement | None:
    """The two views of sampled positive pairs of known heading, compared at every turn."""
    pairs, panoramas = evidence.dataset.pairs, evidence.dataset.panoramas
    heading = panoramas.column0_heading[pairs.panorama]
    fit = evidence.positive & np.isfinite(heading)
    fit &= _readable(evidence.panoramas)[pairs.panorama] & _readable(evidence.tiles)[pairs.tile]
    rows = _sample(evidence.pair_splits(), np.flatnonzero(fit), options.seed)
    made = in_threads(lambda row: _views_agree(evidence, row), rows.tolist(), options.jobs)
    scores = list(reporter.track(made, "comparing views", len(rows)))
    known = [number for number, one in enumerate(scores) if one is not None]
    return Agreement(rows[known], np.array([scores[number] for number in known])) if known else None


def _views_agree(evidence: Evidence, row: int) -> np.ndarray | None:
    pairs, panoramas = evidence.dataset.pairs, evidence.dataset.panoramas
    place, tile = int(pairs.panorama[row]), int(pairs.tile[row])
    view = GroundViews(panoramas, VIEW, evidence.dataset.conventions, [place])[0]
    # Told of already: a picture that was read before, or a field of view that is impossible. The rim of a picture that
    # shows little of the circle turns with its heading, and would be taken for what it shows.
    if isinstance(view, CvgeoError) or view[1].any(axis=0).mean() < LEAST_SEEN:
        return None
    try:
        picture = square(read_image(evidence.dataset.tiles.path[tile]))
        return agreement(view[0], aerial_view(_around(picture, evidence, row), VIEW))
    except CvgeoError:
        return None


def _around(tile: np.ndarray, evidence: Evidence, row: int) -> np.ndarray:
    """The tile's inner half around the panorama; all of it where the set's panoramas stand at the centres."""
    pairs = evidence.dataset.pairs
    side = tile.shape[0]
    gsd = evidence.side_m[pairs.tile[row]] / side
    north, east = pairs.offset_north_m[row], pairs.offset_east_m[row]
    if evidence.dataset.conventions.aligned or not np.isfinite([north, east, gsd]).all() or north == east == 0:
        return tile
    half = side // 4
    top, left = (
        int(np.clip(round(side / 2 + pixels), half, side - half)) - half for pixels in (-north / gsd, east / gsd)
    )
    return tile[top : top + 2 * half, left : left + 2 * half]


def _shifts(evidence: Evidence, options: CheckOptions, reporter: Reporter) -> Shifts | None:
    """Metres a pixel of sampled tiles, by where a neighbour shows the same ground."""
    tiles = evidence.dataset.tiles
    fit = _readable(evidence.tiles) & np.isfinite(tiles.lat) & np.isfinite(evidence.side_m)
    rows = np.flatnonzero(fit)
    if len(rows) < 2:
        return None
    points = earth_centred(tiles.lat[rows], tiles.lon[rows])
    taken = np.flatnonzero(np.isin(rows, _sample(tiles.source, rows, options.seed)))
    pairs = [(rows[one], other) for one in taken.tolist() if (other := _neighbour(evidence, rows, points, one)) >= 0]
    made = in_threads(lambda pair: _measured_side(tiles, *map(int, pair)), pairs, options.jobs)
    sides = np.array(list(reporter.track(made, "matching tiles", len(pairs))))
    own = np.array([pair[0] for pair in pairs], dtype=np.int64)
    return Shifts(own, sides * tiles.gsd_m[own] / evidence.side_m[own]) if pairs else None


def _neighbour(evidence: Evidence, rows: np.ndarray, points: np.ndarray, one: int) -> int:
    """The row of the nearest tile that is clearly elsewhere and within a side, -1 for none."""
    side = evidence.side_m[rows[one]]
    elsewhere = np.flatnonzero(np.linalg.norm(points - points[one], axis=1) > side / 10)
    found, _ = nearest(points[one : one + 1], points[elsewhere], side)
    return int(rows[elsewhere[found[0]]]) if found[0] >= 0 else -1


def _measured_side(tiles: Tiles, one: int, other: int) -> float:
    """Metres that tile `one` is wide: a patch of it, on the side of its neighbour, is found again there; NaN if not."""
    cv2 = import_cv2()
    try:
        pictures = [square(read_image(tiles.path[row])) for row in (one, other)]
    except CvgeoError:
        return math.nan
    size = min(pictures[0].shape[0], MATCH_SIZE)
    grey = [
        cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (size, size), interpolation=cv2.INTER_AREA)
        for picture in pictures
    ]
    north, east = (float(x) for x in offset_metres(tiles.lat[one], tiles.lon[one], tiles.lat[other], tiles.lon[other]))
    way = np.array([-north, east]) / math.hypot(north, east)
    patch = size // 3
    top, left = np.rint((size - patch) / 2 * (1 + way / np.abs(way).max())).astype(int)
    scores = cv2.matchTemplate(grey[1], grey[0][top : top + patch, left : left + patch], cv2.TM_CCOEFF_NORMED)
    row, column = np.unravel_index(scores.argmax(), scores.shape)
    shift = np.array([top - row, left - column], dtype=float)
    length = np.hypot(*shift)
    # The direction is known: a match elsewhere is a chance one. So is one near the end of what was searched, where
    # streets go on from tile to tile though the two show no common ground.
    fits = size / 20 <= length <= 0.93 * (size - patch) and shift @ way >= 0.97 * length
    if scores.max() < LEAST_MATCH or not fits:
        return math.nan
    return math.hypot(north, east) / length * size


def as_table(records: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The records with their items in one text, as a table shows them."""
    for record in records:
        more = record["count"] - len(record["items"])
        text = ", ".join(record["items"]) + (f" and {more} more" if more > 0 and record["items"] else "")
        yield record | {"items": text}
