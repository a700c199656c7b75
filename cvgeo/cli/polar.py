"""`cvgeo polar`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, print_line, write_records
from cvgeo.cli.stdin import names_from, require_named, require_piped, some_of
from cvgeo.errors import UsageError

EXAMPLES = [
    ("cvgeo polar tile.png", "makes tile.polar.png beside it and prints its path"),
    ("cvgeo polar bingmap/19 -o polarmap/19 --convention safa", "a whole folder, as the field's polar maps were made"),
    ("find . -name '*.tif' -print0 | cvgeo polar -0 - --json", "paths from stdin, one JSON record a map"),
    ("cvgeo polar - -o - < tile.png > map.png", "a picture through a pipe"),
]
EXIT_STATUS = [
    ("3", "A picture is missing, damaged, or more than 2 % off square; with several pictures, all of them are."),
    ("4", "The map exists and was made from another picture or with other settings, and --overwrite is not given."),
]
FILES = [("NAME.polar.png", "the map of NAME.png; a text chunk in it holds the settings and the picture's SHA-256")]

STDIN, STDOUT = ("aerial",), ("output",)
LARGEST = 32766  # cvgeo.geometry.shapes.REMAP_LIMIT, whose import would cost numpy's


def polar(
    aerial: Annotated[
        list[Path], typer.Argument(metavar="AERIAL", help="Pictures and folders; `-` reads paths, or one picture.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="A folder, a .png file, or `-`; else beside the picture."),
    ] = None,
    height: Annotated[int, typer.Option(min=1, max=LARGEST, help="Rows of the map.")] = 112,
    width: Annotated[int, typer.Option(min=1, max=LARGEST, help="Columns of the map.")] = 616,
    convention: Annotated[
        Literal["paper", "safa"],
        typer.Option(help="Formulas: paper (Eq. 1-2, column 0 north) or safa (the released code, column 0 south)."),
    ] = "paper",
    heading: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="Direction of column 0, clockwise from north; else the convention's own."),
    ] = None,
    null: options.Null = False,
    overwrite: options.Overwrite = False,
    jobs: options.Jobs = 0,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int | None:
    """Polar transform of north-up aerial pictures: directions become columns, distances rows.

    Square pictures; up to 2 % off square the centre is taken. Prints each map's path as it is done. A map that is
    there and was made from the same picture with the same settings is left as it is; folders pass over *.polar.png.
    """
    from cvgeo.pipelines.polar import PolarSettings, make_map, make_maps

    settings = PolarSettings(height, width, convention, heading)
    names: Any = [str(one) for one in aerial]
    picture = b""
    require_named(names, null)
    if names == ["-"]:
        picture, names = _from_stdin(null)
    elif "-" in names:
        names = names_from(names, null)
    if output == Path("-"):
        _write_to_stdout(picture, names, settings, json)
        return None
    if picture:
        if output is None:
            raise UsageError("a picture on stdin has no name to call its map by", mend="add `-o -` or `-o FILE.png`")
        return _show([make_map(picture, "stdin", output, settings, overwrite)], json)
    with closing(make_maps(names, output, settings, reporter, overwrite, jobs)) as records:
        return _show(records, json)


def _show(records: Iterable[dict[str, Any]], json: bool) -> int:
    if json:
        return write_records(records, options.OutputFormat.JSONL)
    count = 0
    for record in records:
        print_line(record["output"])
        count += 1
    return count


def _from_stdin(null: bool) -> tuple[bytes, Iterator[str]]:
    from cvgeo.pipelines.polar import read_names

    require_piped()
    picture, names = read_names(0, null)
    return picture, iter(()) if picture else some_of(names)


def _write_to_stdout(picture: bytes, names: Iterable[str], settings: Any, json: bool) -> None:
    from cvgeo.data.images import read_bytes
    from cvgeo.pipelines.polar import polar_bytes

    if json:
        raise UsageError("with `-o -` stdout takes the map, not records", mend="leave --json out")
    if os.isatty(1):
        raise UsageError("`-o -` writes a picture, and stdout is the terminal", mend="redirect it or name a file")
    name = "stdin"
    if not picture:
        every = list(names)
        if len(every) != 1:
            raise UsageError(f"`-o -` takes one picture, not {len(every)}", mend="name a folder with -o")
        name = every[0]
        picture = read_bytes(name)
    sys.stdout.buffer.write(polar_bytes(picture, name, settings))
