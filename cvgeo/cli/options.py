"""Every option that several commands share, once.

| option | used by |
|---|---|
| Device, Jobs | polar, build-dataset, train, embed, search, evaluate, heatmap, demo |
| Threads | train, ablate, embed, search, evaluate |
| Memory | embed, search, evaluate; with another meaning train, ablate |
| Seed | build-dataset, train, demo |
| SkipMissing | train, embed, evaluate, ablate |
| AllowMismatch | embed, search, evaluate |
| Overwrite | polar, build-dataset, train, embed, ablate, heatmap, demo |
| Null | polar, build-dataset pairs, embed, search, heatmap, info |
| Format, Json | all that write records |
| Projection, Heading, Hfov, Pitch, Roll, Declination | search, embed, build-dataset pairs |
| Index, Milvus, Area, Near | search |
| Aerial, Zoom, Tms, Rate, NewDataset, TileMetres, TilePixels, Gsd | build-dataset pairs, tiles |
| LeastValid, SetName, Attribution | build-dataset pairs, tiles |
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cvgeo.data.sources.geotags import StatedPose


class OutputFormat(StrEnum):
    """How records are written to stdout."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"
    GEOJSON = "geojson"


class ProjectionName(StrEnum):
    """How a ground picture shows directions."""

    EQUIRECTANGULAR = "equirectangular"
    CYLINDRICAL = "cylindrical"
    PERSPECTIVE = "perspective"
    CUBE = "cube"


class IndexName(StrEnum):
    """By what a store is searched."""

    AUTO = "auto"
    EXACT = "exact"
    FAISS = "faiss"
    MILVUS = "milvus"


Device = Annotated[
    str, typer.Option(envvar="CVGEO_DEVICE", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.", show_default=True)
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", envvar="CVGEO_JOBS", min=0, help="Worker processes; 0 takes one a core.")
]
Threads = Annotated[
    int, typer.Option("--threads", envvar="CVGEO_THREADS", min=0, help="Threads of the CPU; 0 leaves it to torch.")
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        envvar="CVGEO_MEMORY",
        metavar="SIZE",
        help="Keep blocks, batches and queues within SIZE (512M, 2G), beside the program, the model and a picture a "
        "worker; as large as is fastest by default.",
    ),
]
Seed = Annotated[int, typer.Option(envvar="CVGEO_SEED", min=0, help="Seed of everything random.")]
AllowMismatch = Annotated[
    bool,
    typer.Option("--allow-mismatch", help="Only warn where the model was trained with other conventions."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start again over an existing output.")]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out pictures that the data set names but that are not there.")
]
Null = Annotated[
    bool,
    typer.Option("--null", "-0", help="Paths on stdin end with a null byte, as find -print0 writes them: any name."),
]
Format = Annotated[
    OutputFormat | None,
    typer.Option("--format", help="Form of the records on stdout; a table on a terminal, JSON Lines elsewhere."),
]
Json = Annotated[bool, typer.Option("--json", help="Same as --format jsonl.")]
Projection = Annotated[
    ProjectionName | None,
    typer.Option("--projection", help="Of the ground pictures; as their metadata and proportions tell by default."),
]
Heading = Annotated[
    str | None,
    typer.Option(
        metavar="DEG|unknown",
        help="Heading of the centre column, clockwise from north; each picture's own metadata by default.",
    ),
]
Hfov = Annotated[
    float | None,
    typer.Option(metavar="DEG", min=1.0, max=360.0, help="Horizontal field of view of the ground pictures."),
]
Pitch = Annotated[
    float | None,
    typer.Option(metavar="DEG", min=-90.0, max=90.0, help="Elevation of the ground pictures' centre, up positive."),
]
Roll = Annotated[
    float | None,
    typer.Option(metavar="DEG", min=-180.0, max=180.0, help="Tilt to the right: the horizon's turn counter-clockwise."),
]
Declination = Annotated[
    float | None,
    typer.Option(
        metavar="DEG", min=-180.0, max=180.0, help="Degrees of magnetic north east of true, for magnetic headings."
    ),
]
Index = Annotated[
    IndexName,
    typer.Option(
        "--index",
        help="exact, or an index made by cvgeo index, which may miss places. auto is exact, but by an up-to-date faiss "
        "index for stores above 4 GiB, which it tells.",
    ),
]
Milvus = Annotated[
    str | None,
    typer.Option("--milvus", metavar="URI", help="Where the milvus index is now; as it was made by default."),
]
Aerial = Annotated[
    list[str],
    typer.Option(
        "--aerial",
        metavar="IMAGERY",
        help="GeoTIFF or other raster, MBTiles or PMTiles file, folder of these or of map tiles zoom/x/y.png, or URL "
        "https://host/{z}/{x}/{y}.png; may be repeated.",
    ),
]
Zoom = Annotated[
    int | None,
    typer.Option("--zoom", min=0, max=24, help="Level of map tiles to cut from.", show_default="the one that fits"),
]
Tms = Annotated[bool, typer.Option("--tms", help="Rows of map tiles in folders and URLs count from south.")]
Rate = Annotated[float, typer.Option("--rate", min=0.01, max=100.0, help="Requests a second to a server of map tiles.")]
NewDataset = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the new data set.")]
TileMetres = Annotated[
    float | None, typer.Option("--tile-metres", min=1.0, help="Ground size of a tile in metres.", show_default="60")
]
TilePixels = Annotated[int, typer.Option("--tile-size", min=16, max=8192, help="Pixels a side of a tile.")]
Gsd = Annotated[float | None, typer.Option("--gsd", min=0.001, help="Metres a pixel, in place of --tile-metres.")]
LeastValid = Annotated[
    float, typer.Option("--min-valid", min=0.0, max=1.0, help="Share of a tile that must have data.")
]
SetName = Annotated[str, typer.Option("--name", help="Name of the data set; else the folder's.")]
Attribution = Annotated[
    str, typer.Option("--attribution", help="Whom to name as the source of the pictures; else whom the imagery names.")
]


def use_threads(count: int) -> None:
    """Have torch, numpy and OpenCV, none of which is imported yet, compute in so many threads; 0 leaves it to them."""
    if count:
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
            os.environ[variable] = str(count)


UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
LEAST_MEMORY = 16 << 20


def size_in_bytes(text: str, option: str) -> int:
    """Bytes of a size such as 512M or 2G; a number alone counts GiB. Raises UsageError for what is none."""
    from cvgeo.errors import UsageError

    number = text.strip().upper().removesuffix("B").removesuffix("I")
    unit = number[-1:] if number[-1:] in UNITS else ""
    try:
        size = float(number.removesuffix(unit)) * UNITS[unit or "G"]
    except ValueError:
        size = -1.0
    if not 0 <= size < 1 << 60:
        raise UsageError(f"{option} {text!r} is no size", mend="give bytes with a unit, such as 512M or 2G")
    return int(size)


def use_memory(size: str | None) -> None:
    """Keep blocks, batches and queues within a size; None leaves them. Raises UsageError for less than is any use."""
    if size is None:
        return
    from cvgeo.errors import UsageError
    from cvgeo.memory import limit_memory

    limit = size_in_bytes(size, "--memory")
    if limit < LEAST_MEMORY:
        raise UsageError(f"--memory {size} is too little to work in", mend="give at least 16M")
    limit_memory(limit)


def use(threads: int, memory: str | None) -> None:
    """Both, where a command has both."""
    use_threads(threads)
    use_memory(memory)


def stated_pose(
    projection: ProjectionName | None,
    heading: str | None,
    hfov: float | None,
    pitch: float | None,
    roll: float | None,
    declination: float | None,
    loose: bool = True,
) -> StatedPose:
    """What these options say of all ground pictures. Raises UsageError for what makes no sense, and unless `loose`."""
    degrees = _degrees(heading)
    if not loose and (projection, heading, hfov, pitch, roll, declination) != (None,) * 6:
        from cvgeo.errors import UsageError

        raise UsageError(
            "--projection, --heading, --hfov, --pitch, --roll and --declination are for loose ground pictures",
            mend="give --view ground and pictures",
        )
    from cvgeo.data.sources.geotags import StatedPose

    numbers = {"heading": degrees, "hfov": hfov, "pitch": pitch, "roll": roll, "declination": declination}
    said = {name: value for name, value in numbers.items() if value is not None}
    return StatedPose("" if projection is None else projection.value, heading_unknown=heading == "unknown", **said)


def _degrees(heading: str | None) -> float | None:
    from cvgeo.errors import UsageError

    if heading is None or heading == "unknown":
        return None
    try:
        degrees = float(heading)
    except ValueError:
        degrees = float("nan")
    if not -360.0 <= degrees <= 360.0:
        raise UsageError(f"--heading {heading!r} is no heading", mend="give degrees from north, or unknown")
    return degrees % 360.0
