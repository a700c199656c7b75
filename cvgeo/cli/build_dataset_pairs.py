"""`cvgeo build-dataset pairs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records
from cvgeo.errors import UsageError

EXAMPLES = [
    (
        "cvgeo build-dataset pairs panoramas/ --aerial ortho.tif -o data",
        "a tile of 60 m around each geotagged panorama",
    ),
    (
        "cvgeo build-dataset pairs panoramas/ --aerial ortho.tif --positions places.csv --test-share 0.3 -o data",
        "positions from a table in place of EXIF",
    ),
    (
        "cvgeo build-dataset pairs panoramas/ --aerial ortho.tif --offcentre --tile-metres 72 --step 36 -o data",
        "a grid of overlapping tiles; panoramas stand anywhere in them",
    ),
]
EXIT_STATUS = [
    ("3", "A raster is missing, damaged or without a coordinate reference system; or no panorama could be used."),
    ("4", "The output exists and was made from other inputs or with other settings, and --overwrite is not given."),
    ("5", "Some panoramas were broken, without a position, or outside the imagery; the others make the data set."),
]
FILES = [
    (
        "CSV of --positions",
        "columns file (or path), lat, lon, and as far as known heading (of the centre column) or column0_heading, "
        "projection, hfov, vfov_top, vfov_bottom, pitch, roll; degrees; of a cube map in six files file is the front",
    ),
    (
        "Mapillary export of --positions",
        "image entities as JSON, JSON Lines, GeoJSON or CSV: id, computed_geometry or geometry, computed_compass_angle "
        "or compass_angle, camera_type or is_pano, camera_parameters, computed_rotation; pictures beside or below it, "
        "named by their id",
    ),
    (
        "Panoramax export of --positions",
        "STAC ItemCollection: id, geometry, view:azimuth, pers:pitch, pers:roll, pers:interior_orientation "
        "(field_of_view), original_file:name; pictures beside or below it, named by their id or that name",
    ),
    (
        "cube maps",
        "one picture of 3x2, 6x1 or 1x6 squares (right, left, up, down, front, back) or a 4x3 cross, or six files "
        "..._front, _right, _back, _left, _up, _down (or f, r, b, l, u, d, or 0 to 5 in this order)",
    ),
    ("DIR/dataset.toml", "name, conventions, provenance"),
    ("DIR/panoramas.csv, DIR/panoramas/", "the panoramas: positions, headings, fields of view, splits; the pictures"),
    ("DIR/tiles.csv, DIR/tiles/", "the tiles: positions of their centres, and the pictures"),
    ("DIR/pairs.csv", "which tile shows which panorama's place, and where in it"),
    ("DIR/dropped.csv", "what was left out, and why"),
]


STDIN = ("panoramas",)

PanoramasArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PANORAMA", help="Pictures and folders, - reads paths; else the files that --positions names."
    ),
]
PositionsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Where the panoramas were taken: a CSV table, or an export of Mapillary or Panoramax."
    ),
]
OffCentre = Annotated[
    bool, typer.Option("--offcentre", help="Cut a grid of overlapping tiles in place of one around each panorama.")
]
Step = Annotated[
    float | None,
    typer.Option(min=1.0, help="Metres between neighbouring tiles of the grid.", show_default="half a tile"),
]
ValShare = Annotated[float, typer.Option(min=0.0, max=1.0, help="Part of the panoramas for validation.")]
TestShare = Annotated[float, typer.Option(min=0.0, max=1.0, help="Part of the panoramas held out.")]
Apart = Annotated[
    float | None, typer.Option(min=0.0, help="Least metres between panoramas of two splits.", show_default="a tile")
]
RandomSplit = Annotated[
    bool, typer.Option("--random-split", help="Split regardless of place: near places leak into training.")
]
Link = Annotated[bool, typer.Option("--link", help="Take panoramas in as hard links where that can be.")]


def pairs(
    aerial: options.Aerial,
    output: options.NewDataset,
    panoramas: PanoramasArgument = None,
    positions: PositionsOption = None,
    tile_metres: options.TileMetres = None,
    tile_pixels: options.TilePixels = 256,
    gsd: options.Gsd = None,
    offcentre: OffCentre = False,
    step: Step = None,
    val_share: ValShare = 0.1,
    test_share: TestShare = 0.1,
    apart: Apart = None,
    random_split: RandomSplit = False,
    declination: options.Declination = None,
    heading: options.Heading = None,
    hfov: options.Hfov = None,
    projection: options.Projection = None,
    pitch: options.Pitch = None,
    roll: options.Roll = None,
    min_valid: options.LeastValid = 0.9,
    link: Link = False,
    zoom: options.Zoom = None,
    tms: options.Tms = False,
    rate: options.Rate = 5.0,
    name: options.SetName = "",
    attribution: options.Attribution = "",
    seed: options.Seed = 0,
    null: options.Null = False,
    overwrite: options.Overwrite = False,
    jobs: options.Jobs = 0,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Make pairs of geotagged panoramas and aerial tiles, with splits by place.

    Positions and headings come from EXIF GPS and GPano, or from --positions. Tiles are cut true north up at one ground
    size, whatever the projection of the raster. Panoramas, photos and cube maps are copied as they are (tilted full
    spheres are levelled, cube maps of six files joined); their headings, projections and tilt are noted. Splits are
    areas apart from each other. An interrupted call goes on where it was when it is given again.
    """
    if step is not None and not offcentre:
        raise UsageError("--step goes with --offcentre")
    from cvgeo.cli.stdin import names_from
    from cvgeo.data.sources.imagery import ImageryOptions
    from cvgeo.pipelines.build_pairs import PairsSettings, SplitSettings, build_pairs
    from cvgeo.pipelines.tile_cutting import tile_size

    size = tile_size(tile_pixels, tile_metres, gsd)
    split = SplitSettings(val_share, test_share, size.metres if apart is None else apart, random_split, seed)
    step_m = (step or size.metres / 2) if offcentre else None
    stated = options.stated_pose(projection, heading, hfov, pitch, roll, declination)
    rest = link, name, attribution, ImageryOptions(zoom, tms, rate), jobs, overwrite, stated
    pictures = [Path(one) for one in names_from(list(map(str, panoramas or [])), null)]
    settings = PairsSettings(pictures, aerial, output, size, split, positions, step_m, min_valid, *rest)
    made = build_pairs(settings, reporter)
    write_records([made], chosen_format(format, json))
    return made["panoramas"]
