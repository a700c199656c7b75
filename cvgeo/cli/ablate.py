"""`cvgeo ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records
from cvgeo.cli.train import BatchSize, Dataset, Epochs, Memory, Recipe, Set, Weights, settings_from

EXAMPLES = [
    ("cvgeo ablate --table 4 -d cvusa --seeds 3 -o runs/table4", "max pooling, CBAM and MC_GRA on CVUSA (Table 4)"),
    (
        "cvgeo ablate -d data --vary model=maxpool,cbam,mc_gra --set model.backbone=resnet18 --weights none -o grid",
        "three models, made smaller alike",
    ),
    (
        "cvgeo ablate -d data --recipe demo --vary train.roll=0,1 --vary train.batch_size=16,32 --seeds 5 -o grid",
        "all combinations of two settings, five seeds each",
    ),
]
EXIT_STATUS = [
    ("4", "The output holds another grid, and --overwrite is not given."),
    ("5", "Some cells failed: their reasons are on stderr, the tables hold the others."),
]
FILES = [
    ("DIR/table.md, table.tex, table.csv, table.json", "the results: Markdown, LaTeX, and all figures for programs"),
    ("DIR/recall.png, DIR/recall.svg", "recall@K curves (with the extra plots)"),
    ("DIR/cells/", "one folder a variant and seed: the run, each query's rank, the evaluation"),
]
COLUMNS = ["variant", "tier", "queries", "r@1", "r@1_low", "r@1_high", "r@5", "r@10", "r@1%"]
COLUMNS += ["difference_r@1", "difference_r@1_low", "difference_r@1_high", "difference_r@1_detectable"]

STDIN = ("dataset",)

Table = Annotated[
    str | None,
    typer.Option(metavar="N|FILE.toml", help="A table of the paper, 1 to 5; small; or a file of the same form."),
]
Vary = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE,...", help="Values of a setting to compare; model and recipe name presets. May be repeated."
    ),
]
Reference = Annotated[
    str | None, typer.Option(metavar="LABEL", help="The variant to which --vary takes differences; its first else.")
]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="Model preset of variants that name none.")]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds each variant is trained with: 0, 1, 2 ...")]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Split to evaluate; test by default, else val.")]
HeadingUnknown = Annotated[
    bool, typer.Option("--heading-unknown", help="Evaluate with panoramas turned by random angles.")
]
Workers = Annotated[int, typer.Option(min=0, help="Cells at a time; 0: one a device.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the grid.")]
Devices = Annotated[
    str, typer.Option("--device", envvar="CVGEO_DEVICE", metavar="DEVICE", help="As elsewhere, or several by commas.")
]


def ablate(
    dataset: Dataset,
    output: Output,
    table: Table = None,
    vary: Vary = None,
    reference: Reference = None,
    model: Model = None,
    recipe: Recipe = None,
    weights: Weights = None,
    set: Set = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seeds: Seeds = 1,
    split: Split = None,
    heading_unknown: HeadingUnknown = False,
    device: Devices = "auto",
    workers: Workers = 0,
    jobs: options.Jobs = 0,
    threads: options.Threads = 0,
    memory: Memory = "4G",
    skip_missing: options.SkipMissing = False,
    overwrite: options.Overwrite = False,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Train and evaluate variants alike and compare them: the paper's tables, or a grid over any settings.

    Each variant is trained with the same seeds. Tables give means and 95 % intervals over seeds, differences paired by
    seed, and the smallest difference that this many queries and seeds could show; published values stand beside them
    only on the same data set and protocol. Each variant says how true to its source its model is (tier). Where neither
    a variant nor --recipe names a recipe, each model is trained by its preset's own; --recipe trains them on equal
    terms. A variant that fails is reported and the rest goes on, one that cannot be built before any is trained; the
    same call again goes on where it was stopped, and with more seeds or values it adds what is new.
    """
    from cvgeo.cli.stdin import reference_from
    from cvgeo.config.grids import load_table, product_grid
    from cvgeo.errors import UsageError
    from cvgeo.pipelines.ablate import AblateOptions, AblateSettings
    from cvgeo.pipelines.ablate import ablate as run_ablation
    from cvgeo.pipelines.train import TrainOptions

    if (table is None) == (not vary):
        raise UsageError("give either --table or --vary", mend="for example --table 4")
    grid = load_table(table) if table is not None else product_grid(vary or [], reference)
    changes = settings_from(set or [], {"weights": weights, "epochs": epochs, "batch_size": batch_size})
    data = reference_from(dataset, "dataset")
    settings = AblateSettings(data, grid, output, model, recipe, changes, tuple(range(seeds)), split, heading_unknown)
    training = TrainOptions(
        jobs=jobs, threads=threads, memory=options.size_in_bytes(memory, "--memory"), skip_missing=skip_missing
    )
    records = run_ablation(settings, AblateOptions(device, workers, training, overwrite), reporter)
    write_records(records, chosen_format(format, json), COLUMNS)
    return sum(len(record["seeds"]) for record in records)
