"""`cvgeo build-dataset tiles`."""

from __future__ import annotations

from typing import Annotated

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records

EXAMPLES = [
    (
        "cvgeo build-dataset tiles --aerial ortho.tif -o gallery",
        "tiles of 60 m, half overlapping, over the whole raster",
    ),
    (
        "cvgeo build-dataset tiles --aerial sheets/ --tile-metres 100 --tile-size 384 --overlap 0.25 -o gallery",
        "a folder of GeoTIFF sheets as one",
    ),
    (
        "cvgeo build-dataset tiles --aerial 'https://tiles.example.org/{z}/{x}/{y}.jpg' --bbox 48.13,11.56,48.15,11.59 "
        "-o gallery",
        "map tiles of a server, fetched once and kept",
    ),
]
EXIT_STATUS = [
    ("3", "A raster is missing, damaged or without a coordinate reference system, or is smaller than one tile."),
    ("4", "The output exists and was made from other inputs or with other settings, and --overwrite is not given."),
]
FILES = [
    ("DIR/dataset.toml", "name, conventions, provenance"),
    ("DIR/tiles.csv, DIR/tiles/", "the tiles: positions of their centres, and the pictures"),
    ("DIR/dropped.csv", "tiles that were left out, and why"),
]

Bbox = Annotated[
    str | None,
    typer.Option(metavar="S,W,N,E", help="Area to cover, in degrees.", show_default="all of the imagery"),
]


def tiles(
    aerial: options.Aerial,
    output: options.NewDataset,
    tile_metres: options.TileMetres = None,
    tile_pixels: options.TilePixels = 256,
    gsd: options.Gsd = None,
    overlap: Annotated[
        float, typer.Option(min=0.0, max=0.95, help="Share of a tile's side that its neighbour shows too.")
    ] = 0.5,
    split: Annotated[str, typer.Option(help="Name of the split that the tiles belong to.")] = "test",
    min_valid: options.LeastValid = 0.75,
    zoom: options.Zoom = None,
    tms: options.Tms = False,
    rate: options.Rate = 5.0,
    bbox: Bbox = None,
    name: options.SetName = "",
    attribution: options.Attribution = "",
    overwrite: options.Overwrite = False,
    jobs: options.Jobs = 0,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Cover an area with overlapping aerial tiles: a gallery to embed and to search in.

    Tiles are cut true north up at one ground size, whatever the projection of the raster. Those with too little data
    are left out and counted. An interrupted call goes on where it was when it is given again.
    """
    from cvgeo.data.sources.imagery import ImageryOptions, parse_area
    from cvgeo.pipelines.build_tiles import TilesSettings, build_tiles
    from cvgeo.pipelines.tile_cutting import tile_size

    size = tile_size(tile_pixels, tile_metres, gsd)
    imagery = ImageryOptions(zoom, tms, rate, None if bbox is None else parse_area(bbox))
    settings = TilesSettings(
        aerial, output, size, overlap, split, min_valid, name, attribution, imagery, jobs=jobs, overwrite=overwrite
    )
    made = build_tiles(settings, reporter)
    write_records([made], chosen_format(format, json))
    return made["tiles"]
