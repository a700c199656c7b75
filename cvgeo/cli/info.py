"""`cvgeo info`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, print_listing, write_records

EXAMPLES = [
    ("cvgeo info tiles.h5 --verify", "what a store holds, and whether every row is as it was written"),
    ("cvgeo info data runs/small ortho.tif pano.jpg", "a data set, a run, a raster, a picture"),
    ("cvgeo info vigor:cross", "a data set of the field by name and protocol"),
    ("cvgeo info pano.jpg --json | jq '{lat, lon, heading}'", "a picture's place"),
    ("cvgeo info data --sheet samples.png", "pairs of a data set: do panorama and polar map line up?"),
]

STDIN = ("files",)

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Stores, indexes, checkpoints, run folders, data sets (also NAME:VARIANT), rasters, map tiles, packs, "
        "pictures; - reads their paths from stdin.",
    ),
]
Verify = Annotated[bool, typer.Option("--verify", help="Read all of it: checksums, weights, each picture.")]
Sheet = Annotated[
    Path | None,
    typer.Option(metavar="FILE.png", help="Draw samples: tile, panorama, polar map (one data set only)."),
]
Samples = Annotated[int, typer.Option(min=1, max=200, metavar="N", help="How many, spread evenly over the data set.")]


def info(
    files: Files,
    verify: Verify = False,
    sheet: Sheet = None,
    samples: Samples = 8,
    null: options.Null = False,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Describe files of any kind that the program reads or writes.

    With --verify what is damaged is named, and the exit status is 3 (5 where some files are whole).
    """
    if sheet is not None:
        _check_sheet(files, sheet)
    from cvgeo.cli.stdin import names_from
    from cvgeo.pipelines.info import describe_files
    from cvgeo.pipelines.samples import write_samples

    names: Iterable[str] = names_from(files, null)
    if sheet is not None:
        names = files = list(names)
        write_samples(sheet, files[0], samples, reporter)

    described = Counted(describe_files(names, verify, reporter))
    if format is None and chosen_format(format, json) is options.OutputFormat.TABLE:
        for number, record in enumerate(described):
            print_listing(record, first=number == 0)
    else:
        write_records(described, chosen_format(format, json))
    return described.count


def _check_sheet(files: list[str], sheet: Path) -> None:
    from cvgeo.cli.search import PICTURE_SUFFIXES
    from cvgeo.errors import UsageError

    if sheet.suffix.lower() not in PICTURE_SUFFIXES:
        raise UsageError("--sheet is written as a picture", path=sheet, mend="name a .png or .jpg file")
    if len(files) > 1:
        raise UsageError("--sheet shows one data set", mend="name one data set")


class Counted:
    """Counts what passes through."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items, self.count = items, 0

    def __iter__(self) -> Any:
        for item in self.items:
            self.count += 1
            yield item
