"""`cvgeo embed`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, print_line, write_records

if TYPE_CHECKING:
    from cvgeo.retrieval.shards import Shard as StoreShard

EXAMPLES = [
    ("cvgeo embed --dataset data --split test --model runs/small -o tiles.h5", "the gallery of a data set"),
    ("cvgeo embed tiles/ --model zero_shot -o tiles.h5", "a folder of tiles, with a model that needs no training"),
    (
        "cvgeo embed --dataset data --model runs/small -o tiles.h5 --shard $SLURM_ARRAY_TASK_ID/8",
        "a job of an array of 1 to 8; the same call without --shard joins them",
    ),
    (
        "torchrun --nproc-per-node 2 -m cvgeo embed --dataset data --model runs/small -o tiles.h5",
        "two processes or GPUs of one machine",
    ),
    (
        "cvgeo embed tiles/ --model runs/small --azimuth runs/any -o tiles.h5",
        "with azimuth maps of a second model, from which search takes the headings",
    ),
    ("find tiles -name '*.png' | cvgeo embed - --model runs/small -o tiles.h5", "paths from a pipe"),
]
FILES = [
    ("STORE", "HDF5: embeddings, ids, positions, checksums, and which model made them"),
    ("STORE.parts/", "rows saved on the way, read together with STORE"),
    ("STORE.lock", "who is writing"),
    ("NAME.shard-I-of-N.h5", "a shard of NAME.h5 until it is joined"),
]
ENVIRONMENT = [
    ("CVGEO_WEIGHTS", "the backbone's weights for a model that is a preset"),
    ("CVGEO_STATE", "folder that remembers the store made last"),
]


class View(StrEnum):
    """Which of the two views is embedded."""

    AERIAL = "aerial"
    GROUND = "ground"


class Storage(StrEnum):
    """How the numbers of descriptors are stored."""

    HALF = "half"
    INT8 = "int8"


Pictures = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PICTURE|FOLDER]...", help="Pictures and folders of pictures; - reads paths from stdin."),
]
STDIN = ("model", "pictures", "dataset")

Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        metavar="NAME_OR_PATH",
        help="A data set in place of pictures; NAME:VARIANT names its protocol; - from stdin.",
    ),
]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Its split; all of it by default.")]
Model = Annotated[
    str, typer.Option(metavar="MODEL", help="A checkpoint, a run folder, or a preset such as zero_shot; - from stdin.")
]
Weights = Annotated[
    str | None, typer.Option(metavar="SOURCE", help="A preset's backbone weights: imagenet, lite, none, or a file.")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="STORE", help="The store, an .h5 file.")]
Azimuth = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Keep this model's azimuth maps of the tiles as well: search finds headings by them.",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Pictures at a time.")]
PartRows = Annotated[int, typer.Option(min=1, metavar="ROWS", help="Save at least every so many rows.")]
Prune = Annotated[bool, typer.Option("--prune", help="Remove the rows of pictures that are not there any more.")]
Shard = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Do only part I of N, beside the store; the same call without it joins them."),
]
StorageOption = Annotated[
    Storage | None,
    typer.Option(
        "--storage",
        help="How numbers are kept: int8 takes half the room of half, see cvgeo-scale(7); as the store is by default.",
        show_default="half for a new one",
    ),
]
Join = Annotated[bool, typer.Option("--join", help="End with one file, however large.")]


def embed(
    model: Model,
    output: Output,
    pictures: Pictures = None,
    dataset: Dataset = None,
    split: Split = None,
    view: Annotated[View, typer.Option(help="What the pictures are.")] = View.AERIAL,
    weights: Weights = None,
    azimuth: Azimuth = None,
    heading: options.Heading = None,
    hfov: options.Hfov = None,
    projection: options.Projection = None,
    pitch: options.Pitch = None,
    roll: options.Roll = None,
    declination: options.Declination = None,
    batch_size: BatchSize = 32,
    part_rows: PartRows = 4096,
    join: Join = False,
    prune: Prune = False,
    shard: Shard = None,
    storage: StorageOption = None,
    allow_mismatch: options.AllowMismatch = False,
    device: options.Device = "auto",
    jobs: options.Jobs = 0,
    threads: options.Threads = 0,
    memory: options.Memory = None,
    overwrite: options.Overwrite = False,
    skip_missing: options.SkipMissing = False,
    null: options.Null = False,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Compute descriptors of pictures into a store; only what is new or changed.

    The store may be interrupted at any moment, also by force: the same call goes on. A store of another model is
    refused unless --overwrite is given. Prints the store's path, or its record where stdout is no terminal.

    Several processes or machines may each do a --shard of the pictures; the same call without --shard joins what they
    made, and computes what they did not. Under torchrun, on one machine or several that share the disk, the processes
    share the pictures and join what they made.
    """
    options.use(threads, memory)
    _check(model, pictures, dataset, view, azimuth)
    loose = dataset is None and view is View.GROUND
    stated = options.stated_pose(projection, heading, hfov, pitch, roll, declination, loose)
    part = _shard(shard, prune)
    from cvgeo.cli.stdin import names_from, reference_from
    from cvgeo.pipelines.embed import EmbedOptions
    from cvgeo.pipelines.embed import embed as run_embedding

    carried_out = EmbedOptions(batch_size, device, jobs, part_rows, join, overwrite, skip_missing, allow_mismatch)
    carried_out.prune, carried_out.shard, carried_out.storage = prune, part, storage and storage.value
    asked = {"model": reference_from(model, "checkpoint"), "dataset": dataset and reference_from(dataset, "dataset")}
    asked |= {"split": split, "view": view.value, "weights": weights, "stated": stated, "azimuth": azimuth}
    names = list(names_from(pictures or [], null))
    reporter.now(f"opening {asked['dataset'] or 'the pictures'} and {asked['model']}")
    record = run_embedding(names, output, reporter=reporter, options=carried_out, **asked)
    return _concluded(record, prune, reporter, format, json)


def _concluded(
    record: dict[str, Any], pruned: bool, reporter: ConsoleReporter, format: options.OutputFormat | None, json: bool
) -> int:
    """How many pictures have a row now; the record is shown, and told how many are of which kind."""
    from cvgeo.training.ranks import is_first

    if is_first():
        _show(record, format, json)
        kinds = ("new", "reused", "failed", *(["pruned"] if pruned else []))
        rows = ", ".join(f"{record[kind]} {kind}" for kind in kinds)
        reporter.note(f"{record['rows']} rows ({rows}) in {record['store']}")
    return record["new"] + record["reused"]


def _check(model: str, pictures: list[str] | None, dataset: str | None, view: View, azimuth: str | None) -> None:
    """Raise UsageError for what makes no sense, before anything heavy is imported."""
    from cvgeo.errors import UsageError

    if bool(pictures) == (dataset is not None):
        raise UsageError("give pictures or --dataset, one of them", mend="see cvgeo embed --help")
    if azimuth is not None and view is View.GROUND:
        raise UsageError("--azimuth keeps azimuth maps of tiles", mend="leave it away with --view ground")
    if "-" in (model, dataset, *(pictures or [])):
        from cvgeo.training.ranks import under_torchrun

        if under_torchrun():
            raise UsageError("processes of torchrun share no stdin", mend="name what would come from it")


def _shard(text: str | None, prune: bool) -> StoreShard | None:
    """The shard that `I/N` means. Raises UsageError for what is none, and where it does not go with --prune."""
    from cvgeo.errors import UsageError

    if text is None:
        return None
    number, slash, count = text.partition("/")
    if not (slash and number.isascii() and number.isdigit() and count.isascii() and count.isdigit()):
        raise UsageError(f"--shard {text!r} is no part of a whole", mend="give I/N, such as 3/8")
    if not 1 <= int(number) <= int(count) <= 100_000:
        raise UsageError(f"--shard {text} is not there", mend="I counts from 1 to N")
    if prune:
        raise UsageError("--prune is for the whole store", mend="give it with the call that joins the shards")
    from cvgeo.retrieval.shards import Shard as StoreShard

    return StoreShard(int(count), int(number))


def _show(record: dict[str, Any], format: options.OutputFormat | None, json: bool) -> None:
    if format is None and chosen_format(format, json) is options.OutputFormat.TABLE:
        print_line(record["store"])
    else:
        write_records([record], chosen_format(format, json))
