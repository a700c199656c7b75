"""`cvgeo build-dataset world`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records

EXAMPLES = [
    (
        "cvgeo build-dataset world --size-km 0.6 --panoramas 60 -o world",
        "a world of 600 m with 60 panoramas",
    ),
    (
        "cvgeo build-dataset world --size-km 0.6 --preset terrain --set relief_m=20 --set haze=0.5 -o hills",
        "steeper hills, clearer air",
    ),
    (
        "cvgeo build-dataset pairs world/panoramas --aerial world/ortho.tif -o pairs",
        "cut the tiles of its panoramas, as from real imagery",
    ),
]
EXIT_STATUS = [
    ("4", "The output holds a world made with other settings, and --overwrite is not given."),
]
FILES = [
    ("DIR/ortho.tif", "the view from above: a GeoTIFF in a UTM zone"),
    ("DIR/panoramas/*.jpg", "equirectangular pictures with position and heading in EXIF and GPano"),
    ("DIR/truth.csv", "exact position, heading and field of view of each panorama"),
    ("DIR/world.toml", "seed, preset, knobs, and the tile size that the preset is made for"),
]


class Preset(StrEnum):
    """Worlds by name."""

    ALIGNED = "aligned"
    OFFCENTRE = "offcentre"
    LIMITED = "limited"
    TERRAIN = "terrain"


def world(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the new world.")],
    size_km: Annotated[float, typer.Option(min=0.2, max=50.0, help="Length of its sides in kilometres.")] = 1.0,
    preset: Annotated[
        Preset,
        typer.Option(
            help="aligned: tiles centred on full panoramas; offcentre: panoramas anywhere in overlapping tiles; "
            "limited: 270 degrees and a cut vertical field; terrain: relief and occlusion."
        ),
    ] = Preset.ALIGNED,
    panoramas: Annotated[
        int | None, typer.Option(min=1, help="How many panoramas; else as many as have room.", show_default="all")
    ] = None,
    texture: Annotated[
        list[Path] | None,
        typer.Option(metavar="RASTER", help="Orthophoto that lends ground and roofs its texture; may be repeated."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KNOB=VALUE", help="Change a knob of the preset, for example season=0.3."),
    ] = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    jobs: options.Jobs = 0,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Make a procedural world: an orthophoto and geotagged panoramas of one scene, with the exact truth.

    Streets, buildings, trees and cars come from a seed; both views are rendered from one height field, with other
    season, sun and camera. `build-dataset pairs` and `tiles` read the files as they read real imagery. The same seed
    and settings give the same files; a call that was interrupted goes on where it was when it is given again.
    `world.toml` lists every knob with its value; --set changes them.
    """
    from cvgeo.data.world.knobs import PRESETS
    from cvgeo.pipelines.world import WorldSettings, build_world

    knobs = PRESETS[str(preset)].with_settings(settings or ())
    wanted = WorldSettings(
        output,
        seed,
        size_km,
        str(preset),
        knobs,
        panoramas,
        textures=tuple(texture or ()),
        jobs=jobs,
        overwrite=overwrite,
    )
    made = build_world(wanted, reporter)
    write_records([made], chosen_format(format, json))
    return made["panoramas"]
