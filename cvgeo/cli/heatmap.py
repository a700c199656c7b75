"""`cvgeo heatmap`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records
from cvgeo.errors import UsageError

EXAMPLES = [
    (
        "cvgeo heatmap 00012 -d data --model runs/paper --model runs/cbam -o 12.png",
        "two models on a pair of a data set",
    ),
    ("cvgeo heatmap pano.jpg --store tiles.h5 -o maps", "with the best match of a store, by the model that made it"),
    ("cvgeo heatmap pano.jpg --tile tile.png --model zero_shot", "with a tile of one's own"),
    ("cvgeo heatmap 00012 -d data --model runs/paper --kind points --at 90,-20", "where the deformable kernels sample"),
    ("cvgeo heatmap 00012 -d data --model runs/paper --geotiff overlays", "for a GIS as well"),
]
EXIT_STATUS = [
    ("2", "A model lacks what --kind shows; the line names models that have it."),
    ("4", "An output exists and was made from something else, and --overwrite is not given."),
    ("5", "Some pictures or their tiles cannot be read, or a GeoTIFF was asked for a tile of unknown place."),
]
FILES = [
    ("DIR/NAME.heatmap.png", "the sheet of picture NAME: its views above, a row of maps for each model below"),
    ("DIR/NAME.MODEL.tif", "with --geotiff DIR: the map on the tile, as RGBA in a transverse mercator of the tile"),
]
ENVIRONMENT = [("CVGEO_WEIGHTS", "the backbone's weights for a model that is a preset")]
COLUMNS = ["query", "tile", "model", "kind", "similarity", "files"]

Pictures = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURE|FOLDER...",
        help="Ground pictures and folders of them; with --dataset ids or paths of its panoramas; - reads from stdin.",
    ),
]
Model = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL", help="A checkpoint, a run folder, or a preset; may be repeated; by default the store's."
    ),
]
Tile = Annotated[Path | None, typer.Option(metavar="TILE", help="The aerial picture to compare with, north up.")]
Store = Annotated[
    str | None, typer.Option(metavar="STORE", help="Take the best match of a store; the one made last by default.")
]
STDIN = ("pictures", "dataset")

Dataset = Annotated[
    str | None,
    typer.Option("--dataset", "-d", metavar="NAME_OR_PATH", help="Take the pairs of a data set; - from stdin."),
]
Kind = Annotated[
    Literal["gradcam", "attention", "points", "relation"],
    typer.Option(
        help="Grad-CAM of the similarity; attention; MC_GRA's sampling points; affinities with one node of it."
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        metavar="HEADING,ELEVATION", help="Node of points and relation, in degrees; that of most attention by default."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR|FILE.png", help="Folder of the sheets, or one.")]
Geotiff = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write the map on the tile as a GeoTIFF overlay, one a model.")
]
Weights = Annotated[
    str | None, typer.Option(metavar="SOURCE", help="Presets' backbone weights: imagenet, lite, none, or a file.")
]


def heatmap(
    pictures: Pictures,
    model: Model = None,
    dataset: Dataset = None,
    store: Store = None,
    tile: Tile = None,
    kind: Kind = "gradcam",
    at: At = None,
    output: Output = Path("heatmaps"),
    geotiff: Geotiff = None,
    weights: Weights = None,
    heading: options.Heading = None,
    hfov: options.Hfov = None,
    projection: options.Projection = None,
    pitch: options.Pitch = None,
    roll: options.Roll = None,
    declination: options.Declination = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    null: options.Null = False,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Show what makes a ground picture and an aerial tile alike to models: heat maps of both, side by side.

    A sheet holds both views and below them a row of maps for each model, the aerial one also bent back onto the
    north-up tile. Grad-CAM's target is the cosine similarity of the two descriptors. A sheet that is there and was made
    from the same pictures and models with the same settings is left as it is.

    Where a picture's heading is unknown, the one at which the first model finds it most like the tile is taken.
    """
    node = _node(at, kind)
    _check(model, dataset, store, tile)
    pose = projection, heading, hfov, pitch, roll, declination
    if dataset is not None and pose != (None,) * len(pose):
        raise UsageError("a data set says itself how its panoramas were taken", mend="leave --heading and the like out")
    stated = options.stated_pose(*pose)
    from cvgeo.cli.stdin import names_from, reference_from
    from cvgeo.pipelines.heatmap import HeatmapOptions, heatmaps

    wanted = HeatmapOptions(kind, node, stated, device, overwrite)
    names = names_from(pictures, null) if "-" in pictures or null else pictures
    done = Flattened(
        heatmaps(
            names,
            output,
            reporter=reporter,
            models=model or (),
            weights=weights,
            dataset=dataset and reference_from(dataset, "dataset"),
            tile=tile,
            store=store,
            geotiff=geotiff,
            options=wanted,
        )
    )
    write_records(done, chosen_format(format, json), COLUMNS)
    return done.pictures


class Flattened:
    """The records of all pictures one by one; counts the pictures."""

    def __init__(self, found: Iterable[list[dict[str, Any]]]) -> None:
        self.found, self.pictures = found, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for records in self.found:
            self.pictures += 1
            yield from records


def _check(model: list[str] | None, dataset: str | None, store: str | None, tile: Path | None) -> None:
    """UsageError for what makes no sense, before anything heavy is imported."""
    if sum(one is not None for one in (dataset, store, tile)) > 1:
        raise UsageError("--dataset, --store and --tile each name the tile", mend="give one of them")
    if not model and (dataset is not None or tile is not None):
        raise UsageError("no --model is named", mend="name a checkpoint, a run folder or a preset such as zero_shot")


def _node(at: str | None, kind: str) -> tuple[float, float] | None:
    if at is None:
        return None
    if kind not in ("points", "relation"):
        raise UsageError("--at names the node of --kind points and relation", mend="leave it out or add --kind")
    heading, comma, elevation = at.partition(",")
    try:
        node = float(heading) % 360.0, float(elevation)
    except ValueError:
        node = 0.0, float("nan")
    if not comma or not -45.0 <= node[1] <= 45.0 or node[0] != node[0]:
        raise UsageError(f"--at {at!r} is no direction", mend="give a heading and an elevation of -45 to 45, as 90,-20")
    return node
