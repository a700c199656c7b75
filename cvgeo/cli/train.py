"""`cvgeo train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records

EXAMPLES = [
    ("cvgeo train -d data --weights imagenet -o runs/paper", "the paper's model and recipe"),
    (
        "cvgeo train -d data --recipe demo -o runs/small",
        "a small model from scratch; the same line goes on after a stop",
    ),
    (
        "cvgeo train -d data --recipe strong --set train.fov_end=70 --set train.heading_noise=180 -o runs/any",
        "contrastive, in hard batches; pictures of ever smaller fields of view, headings unknown",
    ),
    ("cvgeo train -d data --recipe demo --set train.roll=0 --epochs 5 -o runs/unturned", "a setting changed"),
    ("cvgeo train -d data --pack -o runs/paper", "pictures decoded once, into the cache folder"),
    ("cvgeo train -d data --recipe demo -o runs/small | jq -r .checkpoint", "the path of the best checkpoint"),
    ("cvgeo train --area ortho.tif -o runs/area", "without any street-level picture, on drawn ones"),
    (
        "torchrun --nproc-per-node 2 --max-restarts 3 -m cvgeo train -d data --recipe strong -o runs/two",
        "two processes, each with half of every batch; on GPUs each takes one",
    ),
]
AREA_RECIPE = "synthetic"
FILES = [
    ("RUN/config.json", "the settings and the data set of the run"),
    ("RUN/metrics.jsonl", "one line an epoch: loss, learning rate, recalls on the split val, seconds, pairs a second"),
    ("RUN/best.safetensors", "the epoch with the highest r@1 on the split val; the lowest loss without such a split"),
    ("RUN/last.safetensors", "the last epoch"),
    ("RUN/state.pt", "what a stopped run needs to go on"),
    ("CACHE/areas/", "the pairs drawn for --area; may be removed at any time"),
    ("CACHE/packs/", "packs (--pack), one for each data set and size of views; may be removed at any time"),
]
STDIN = ("dataset",)
ENVIRONMENT = [("CVGEO_CACHE", "folder of packs and of drawn pairs")]

Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        metavar="NAME_OR_PATH",
        help="A data set by name or folder, or NAME:VARIANT, as in vigor:cross; its split train. "
        "- takes build-dataset's record.",
    ),
]
Area = Annotated[
    list[str] | None,
    typer.Option(
        metavar="IMAGERY",
        help="Aerial imagery, as build-dataset tiles takes it, in place of --dataset: train on pairs that are drawn of "
        "it, see build-dataset area.",
    ),
]
Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="Model preset; the recipe's own by default, else mc_gra.")
]
Recipe = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Learning rate, epochs, loss, batches and all else: paper, paper-small, strong, any-view, synthetic, "
        "demo, or a method's own: cai, dsm, geodtr, safa, safa_mining, sample4geo, vigor. By default that of the model "
        "preset, else paper; with --area, synthetic.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="SOURCE", help="The backbone's first weights: imagenet, lite, none, or a file."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, for example train.learning_rate=3e-4."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="RUN", help="Run folder; runs/<data set>-<model>-<recipe> by default."),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs; the recipe's by default.")]
BatchSize = Annotated[int | None, typer.Option(min=2, help="Pairs in a batch; the recipe's by default.")]
TrainSeed = Annotated[int | None, typer.Option(envvar="CVGEO_SEED", min=0, help="Seed of everything random.")]
Memory = Annotated[
    str, typer.Option(metavar="SIZE", help="Hold decoded pictures in memory if they take no more (512M, 4G; 0: never).")
]
Pack = Annotated[
    bool, typer.Option("--pack", help="Decode once into a file, and read it from then on: for what memory cannot hold.")
]
PackFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE.h5", help="Pack here, not in the cache folder; one that is there is used again."),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic", help="The same bits again on the same machine, on CUDA too; on the CPU it is always so."
    ),
]
SaveEvery = Annotated[
    float, typer.Option(min=0.0, metavar="SECONDS", help="Save the state this often within an epoch; 0: each batch.")
]


def train(
    dataset: Dataset = None,
    area: Area = None,
    model: Model = None,
    recipe: Recipe = None,
    weights: Weights = None,
    set: Set = None,
    output: Output = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: TrainSeed = None,
    device: options.Device = "auto",
    jobs: options.Jobs = 0,
    threads: options.Threads = 0,
    memory: Memory = "4G",
    pack: Pack = False,
    pack_file: PackFile = None,
    save_every: SaveEvery = 120.0,
    deterministic: Deterministic = False,
    overwrite: options.Overwrite = False,
    skip_missing: options.SkipMissing = False,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> None:
    """Train a model on a data set.

    The same call over a run that was stopped, by whatever means, goes on with it and ends as if it had not been; over
    a finished run it does nothing. A run with other settings is refused unless --overwrite is given.

    Under torchrun the processes, on one machine or several that share the run's folder, train one model: the batch size
    is that of all together, and every picture is compared with those of all.
    """
    from cvgeo.pipelines.train import TrainOptions
    from cvgeo.pipelines.train import train as run_training
    from cvgeo.training.ranks import is_first

    flags = {"weights": weights, "epochs": epochs, "batch_size": batch_size, "seed": seed}
    flags["deterministic"], held = deterministic or None, options.size_in_bytes(memory, "--memory")
    record = run_training(
        _trained_on(dataset, area or [], jobs, reporter),
        reporter=reporter,
        model=model,
        recipe=recipe or (AREA_RECIPE if area and model is None else None),
        changes=settings_from(set or [], flags),
        output=None if output is None else str(output),
        options=TrainOptions(device, jobs, threads, held, save_every, overwrite, skip_missing, pack, pack_file),
    )
    if is_first():
        write_records([record], chosen_format(format, json))


def _trained_on(dataset: str | None, area: list[str], jobs: int, reporter: ConsoleReporter) -> str:
    """The data set that is named, or that of the area that is."""
    from cvgeo.cli.stdin import reference_from
    from cvgeo.errors import UsageError

    if (dataset is None) != bool(area):
        raise UsageError("train on a data set or on an area", mend="give either --dataset or --area")
    if dataset is not None:
        return reference_from(dataset, "dataset")
    from cvgeo.pipelines.build_area import area_dataset
    from cvgeo.training.ranks import under_torchrun

    if under_torchrun():
        mend = "make its pairs first, with cvgeo build-dataset area, and name them with --dataset"
        raise UsageError("--area is for one process", mend=mend)
    return str(area_dataset(area, jobs, reporter))


def settings_from(assignments: list[str], flags: dict[str, Any]) -> dict[str, Any]:
    """Changes of the configuration from --set and from flags of training; where both name a key, --set counts."""
    from cvgeo.config.load import parse_settings
    from cvgeo.errors import UsageError

    changes = parse_settings(assignments)
    given = changes.setdefault("train", {})
    if not isinstance(given, dict):
        raise UsageError("--set train is a table", mend="for example --set train.epochs=3")
    for key, value in flags.items():
        if value is not None:
            given.setdefault(key, value)
    return changes
