"""`cvgeo build-dataset area`."""

from __future__ import annotations

from typing import Annotated

import typer

from cvgeo.cli import options
from cvgeo.cli.build_dataset_tiles import Bbox
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records

EXAMPLES = [
    ("cvgeo build-dataset area --aerial ortho.tif -o area", "pairs to train on from imagery alone"),
    (
        "cvgeo build-dataset area --aerial ortho.tif --spacing 8 --views 4 -o area",
        "places closer together, and four panoramas drawn of each",
    ),
    (
        "cvgeo build-dataset area --aerial ortho.tif -o area | cvgeo train -d - --recipe demo -o runs/area",
        "a model trained on them; train --area makes them by itself",
    ),
]
EXIT_STATUS = [
    ("3", "The imagery is missing, damaged or without a coordinate reference system, or is smaller than one tile."),
    ("4", "The output exists and was made from other inputs or with other settings, and --overwrite is not given."),
]
FILES = [
    ("DIR/dataset.toml", "name, conventions, provenance"),
    ("DIR/tiles.csv, DIR/tiles/", "the tiles, cut from the imagery"),
    ("DIR/panoramas.csv, DIR/panoramas/", "the panoramas, drawn: 360 degrees by +45 to -45, north in the middle"),
    ("DIR/pairs.csv", "which belong together"),
    ("DIR/dropped.csv", "places that were left out, and why"),
]


def area(
    aerial: options.Aerial,
    output: options.NewDataset,
    tile_metres: options.TileMetres = None,
    tile_pixels: options.TilePixels = 256,
    gsd: options.Gsd = None,
    panoramas: Annotated[
        int | None,
        typer.Option(min=1, help="How many panoramas at most; else one for each place and view.", show_default="all"),
    ] = None,
    spacing: Annotated[float, typer.Option(min=1.0, metavar="METRES", help="From place to place.")] = 15.0,
    views: Annotated[int, typer.Option(min=1, max=1000, help="Panoramas drawn of each place.")] = 1,
    panorama_width: Annotated[int, typer.Option(min=64, max=4096, help="Pixels; a quarter of them high.")] = 640,
    val_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Part of the places for validation.")] = 0.1,
    apart: Annotated[
        float | None, typer.Option(min=0.0, help="Least metres between places of two splits.", show_default="a tile")
    ] = None,
    min_valid: options.LeastValid = 0.9,
    zoom: options.Zoom = None,
    tms: options.Tms = False,
    rate: options.Rate = 5.0,
    bbox: Bbox = None,
    name: options.SetName = "",
    attribution: options.Attribution = "",
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    jobs: options.Jobs = 0,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Make pairs to train on from aerial imagery alone: no street-level picture is needed.

    Of places all over the area, tiles are cut, and panoramas are drawn as a camera there might see them: the ground is
    the imagery, in perspective; trees, buildings and cars are guessed from its colours and stand up as high as chance
    has it; sky, passers-by, haze and the camera's colours are drawn by chance, too. They are no photographs, and no
    figure measured on them says how well real pictures are found. An interrupted call goes on where it was.
    """
    from cvgeo.data.sources.imagery import ImageryOptions, parse_area
    from cvgeo.pipelines.build_area import AreaSettings, build_area
    from cvgeo.pipelines.tile_cutting import tile_size

    size = tile_size(tile_pixels, tile_metres, gsd)
    imagery = ImageryOptions(zoom, tms, rate, None if bbox is None else parse_area(bbox))
    drawn = panoramas, spacing, views, panorama_width, val_share, size.metres if apart is None else apart
    rest = min_valid, name, attribution, imagery, seed, jobs, overwrite
    made = build_area(AreaSettings(aerial, output, size, *drawn, *rest), reporter)
    write_records([made], chosen_format(format, json))
    return made["panoramas"]
