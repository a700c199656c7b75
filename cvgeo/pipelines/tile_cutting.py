"""What building data sets from imagery has in common: sizes of tiles, work in threads, fingerprints, the record."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cvgeo import __version__
from cvgeo.data.dataset_files import DESCRIPTION, read_dataset, read_description
from cvgeo.data.images import encode_image
from cvgeo.data.schema import Dataset
from cvgeo.data.sources.imagery import Imagery, ImageryOptions
from cvgeo.data.sources.mosaic import Mosaic
from cvgeo.data.sources.web import is_url
from cvgeo.data.tables import CsvTable, write_csv
from cvgeo.errors import MismatchError, UsageError
from cvgeo.paths import atomic_file, check_space, quick_digest
from cvgeo.report import Reporter

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_TILE_METRES = 60.0
TILE_SUFFIX = ".jpg"
TILE_QUALITY = 95
TYPICAL_BYTES, LEAST_BYTES = 0.5, 0.02  # a pixel of a JPEG: of an aerial photograph, and of an even colour
DROPPED = "dropped.csv"
FAILED = ("broken", "unlocated", "outside", "empty")  # reasons that make a call done in part; `near` is by design


@dataclass(frozen=True)
class TileSize:
    """Pixels a side and metres on the ground a pixel."""

    pixels: int
    gsd_m: float

    @property
    def metres(self) -> float:
        """Metres on the ground a side."""
        return self.pixels * self.gsd_m


def tile_size(pixels: int, metres: float | None, gsd_m: float | None) -> TileSize:
    """A tile's size from pixels and either metres or gsd. Raises UsageError where the three contradict each other."""
    if metres is not None and gsd_m is not None and abs(metres / (pixels * gsd_m) - 1) > 1e-6:
        fault = f"{pixels} pixels of {gsd_m:g} m are {pixels * gsd_m:g} m, not {metres:g} m"
        raise UsageError(fault, mend="give --tile-metres or --gsd, not both")
    if gsd_m is None:
        gsd_m = (DEFAULT_TILE_METRES if metres is None else metres) / pixels
    return TileSize(pixels, gsd_m)


def warn_of_scale(size: TileSize, mosaic: Mosaic, reporter: Reporter) -> None:
    """Warn where tiles are much finer than the imagery: they would be blurred."""
    if size.gsd_m < 0.5 * mosaic.gsd_m:
        text = f"tiles of {size.gsd_m:.3g} m a pixel from imagery of {mosaic.gsd_m:.3g} m: more pixels than detail"
        reporter.warn(f"{text}; a larger --tile-metres or a smaller --tile-size fits it")


def in_threads(work: Callable[[T], R], items: Sequence[T], jobs: int) -> Iterator[R]:
    """`work` on each item, results in order. An interrupt leaves at once what has not begun."""
    workers = jobs or os.cpu_count() or 1
    if workers == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def cut_tile(mosaic: Mosaic, lat: float, lon: float, size: TileSize) -> tuple[bytes, float]:
    """The file of a tile, and the share of it that has data."""
    tile, mask = mosaic.cut_tile(lat, lon, size.pixels, size.gsd_m)
    return encode_tile(tile), share_valid(mask)


def encode_tile(tile: np.ndarray) -> bytes:
    """The file of a tile (S, S, 3) uint8, or (S, S, 4) with a fourth channel that the format leaves out."""
    return encode_image(tile, TILE_SUFFIX, TILE_QUALITY)


def tiles_space(output: Path, count: int, size: TileSize, reporter: Reporter, more: float = 0) -> None:
    """Warn, or refuse, where the disk has no room for so many tiles and `more` bytes. Raises OutputError."""
    pixels = count * size.pixels**2
    expected, least = TYPICAL_BYTES * pixels + more, LEAST_BYTES * pixels
    reporter.warn_if(check_space(output, f"a data set of {count:,} tiles", expected, least))


def share_valid(mask: np.ndarray) -> float:
    """The share of a tile's mask (S, S) that has data."""
    return int(np.count_nonzero(mask)) / mask.size


def fingerprint(settings: dict[str, Any], imagery: Iterable[Imagery], inputs: Iterable[Path] = ()) -> str:
    """SHA-256 over settings and over digests of imagery and other input files; a missing file counts as missing."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for source in imagery:
        digest.update(f"{source.name}\0{source.digest()}\0".encode(errors="surrogateescape"))
    for path in inputs:
        content = quick_digest(path) if path.is_file() else "missing"
        digest.update(f"{path.name}\0{content}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def provenance(settings: dict[str, Any], mark: str, imagery: Sequence[Imagery]) -> dict[str, Any]:
    """What `dataset.toml` says about how a data set was made."""
    return {
        "tool": f"cvgeo {__version__}",
        "fingerprint": mark,
        "imagery": [source.name for source in imagery],
        "settings": settings,
    }


def finished(output: Path, mark: str, overwrite: bool) -> Dataset | None:
    """The data set that is there already with this fingerprint; None where there is nothing, or it is overwritten.

    Raises MismatchError where something else is there.
    """
    if overwrite or not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    mend = "name another folder, or --overwrite it"
    if not (output / DESCRIPTION).is_file():
        raise MismatchError("exists and is no data set of this program", path=output, mend=mend)
    if read_description(output).get("provenance", {}).get("fingerprint") != mark:
        raise MismatchError("holds a data set made from other inputs or with other settings", path=output, mend=mend)
    return read_dataset(output)


def imagery_settings(options: ImageryOptions) -> dict[str, Any]:
    """What of the imagery's options decides what is in a data set; nothing where they are as usual."""
    given = {"zoom": options.zoom, "tms": options.tms or None, "bbox": options.area and list(options.area)}
    return {name: value for name, value in given.items() if value is not None}


def hint(mosaic: Mosaic) -> str:
    """What to do where imagery has no tile to give."""
    web = any(is_url(source.place) for source in mosaic.imagery)
    return "give another --zoom or --bbox" if web else "give a smaller --tile-metres"


class Dropped:
    """What was left out and why; `dropped.csv` keeps it with the data set."""

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._rows: list[tuple[str, str, str]] = []

    def add(self, item: str, kind: str, reason: str) -> None:
        """Leave an item out. Kinds in FAILED are reported one by one, others only counted."""
        self._rows.append((item, kind, reason))
        if kind in FAILED:
            self._reporter.fail(item, reason)

    def count(self) -> dict[str, int]:
        """How many items were dropped, by kind."""
        return dict(sorted(Counter(kind for _, kind, _ in self._rows).items()))

    def write(self, folder: Path) -> None:
        """Write `dropped.csv`; none where nothing was dropped."""
        if self._rows:
            columns = dict(zip(("item", "kind", "reason"), zip(*self._rows, strict=True), strict=True))
            with atomic_file(folder / DROPPED) as temporary:
                write_csv(temporary, columns)

    def read(self, folder: Path) -> None:
        """Take over, and report again, what an earlier call dropped."""
        if (folder / DROPPED).is_file():
            table = CsvTable(folder / DROPPED)
            for row in zip(*(table.text(column, raw=True) for column in ("item", "kind", "reason")), strict=True):
                self.add(*row)


def record(dataset: Dataset, output: Path, dropped: Dropped) -> dict[str, Any]:
    """What a command says on stdout about the data set that it built."""
    table = dataset.panoramas if len(dataset.panoramas) else dataset.tiles
    return {
        "dataset": str(output),
        "panoramas": len(dataset.panoramas),
        "tiles": len(dataset.tiles),
        "pairs": len(dataset.pairs),
        "splits": dict(sorted(Counter(table.split).items())),
        "dropped": dropped.count(),
    }
