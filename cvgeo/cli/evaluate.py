"""`cvgeo evaluate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records

EXAMPLES = [
    ("cvgeo evaluate --dataset data --model runs/small", "recall on the split test, with 95 % intervals"),
    ("cvgeo evaluate --dataset data --model zero_shot --heading unknown", "each panorama turned by a random angle"),
    (
        "cvgeo evaluate --dataset data --model runs/any --heading unknown --hfov 90 --json",
        "as photos of 90 degrees: recall, and how far off headings are",
    ),
    ("cvgeo evaluate --dataset data --model runs/small --split val --calibrate", "so that search tells probabilities"),
    ("cvgeo evaluate --dataset data --model runs/small --reliability plot.png", "whether these mean what they say"),
    (
        "cvgeo build-dataset tiles --aerial ortho.tif -o gallery && "
        "cvgeo evaluate --dataset data --model runs/small --distractors gallery --both-ways",
        "among tiles of a whole area as well, and the other way around",
    ),
    (
        "cvgeo evaluate --dataset data --model zero_shot --per-query zero.csv >/dev/null && "
        "cvgeo evaluate --dataset data --model runs/small --against zero.csv",
        "whether a model is better than another, query by query",
    ),
    ("cvgeo evaluate --dataset data --model runs/small --per-query ranks.csv --json | jq '.\"r@1\"'", "for a script"),
]
COLUMNS = ["scope", "queries", "gallery", "chance", "r@1", "r@1_low", "r@1_high", "r@5", "r@10", "r@1%"]
COLUMNS += ["hit_masked", "hit_covers", "median_error_m", "median_error_offset_m", "mrr", "ece", "none_auc"]
DIFFERENCE_COLUMNS = [f"difference_{name}{end}" for name in ("r@1", "mrr") for end in ("", "_low", "_high")]
HEADING_COLUMNS = ["median_heading_error_deg", "heading_within_5", "heading_within_10", "heading_within_sd"]


class Heading(StrEnum):
    """Whether the panoramas' headings may be used."""

    KNOWN = "known"
    UNKNOWN = "unknown"


STDIN = ("dataset", "model")

Dataset = Annotated[
    str,
    typer.Option(
        "--dataset",
        "-d",
        metavar="NAME_OR_PATH",
        help="A data set by name or folder, or NAME:VARIANT, such as cvact:test-id; - from stdin.",
    ),
]
Model = Annotated[
    str, typer.Option(metavar="MODEL", help="A checkpoint, a run folder, or a preset such as zero_shot; - from stdin.")
]
Weights = Annotated[
    str | None, typer.Option(metavar="SOURCE", help="A preset's backbone weights: imagenet, lite, none, or a file.")
]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Its split; test by default, else val, else all.")]
Store = Annotated[
    str | None, typer.Option(metavar="STORE", help="Keep the tiles' embeddings here, and use those that are there.")
]
QueryStore = Annotated[str | None, typer.Option(metavar="STORE", help="The same for the panoramas' embeddings.")]
WithinSource = Annotated[
    bool, typer.Option("--within-source", help="Also search each source's panoramas among its own tiles only.")
]
HeadingOption = Annotated[
    Heading, typer.Option(help="unknown: turn each panorama by a random angle, and find the heading as well.")
]
Headings = Annotated[
    int | None,
    typer.Option(min=2, max=360, metavar="N", help="Headings tried where it is unknown; the model's own by default."),
]
Hfov = Annotated[
    float | None,
    typer.Option(
        metavar="DEG", min=1.0, max=360.0, help="Keep so many degrees of each panorama, in a random direction."
    ),
]
Azimuth = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Find headings by this model's azimuth columns instead of the evaluated model.",
    ),
]
Calibrate = Annotated[
    bool,
    typer.Option(
        "--calibrate",
        help="Fit probabilities at several fields of view and write them beside the checkpoint; use --split val.",
    ),
]
Reliability = Annotated[
    Path | None,
    typer.Option(metavar="FILE.png", help="Draw what came true against its probability; .svg works too."),
]
CalibrateHeading = Annotated[
    bool,
    typer.Option(
        "--calibrate-heading",
        help="Write into the checkpoint what makes 68 % of headings lie within their heading_sd; use --split val.",
    ),
]
PerQuery = Annotated[
    Path | None, typer.Option(metavar="FILE.csv", help="Each query's rank, top tile, and error; .jsonl works too.")
]
Distractors = Annotated[
    str | None,
    typer.Option(
        metavar="NAME_OR_PATH", help="Search among the tiles of this data set, too, such as build-dataset tiles cuts."
    ),
]
BothWays = Annotated[bool, typer.Option("--both-ways", help="Also search each tile among the panoramas.")]
Against = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Another model's --per-query file: give the differences, with intervals of a bootstrap."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Pictures at a time.")]


def evaluate(
    dataset: Dataset,
    model: Model,
    weights: Weights = None,
    split: Split = None,
    store: Store = None,
    query_store: QueryStore = None,
    within_source: WithinSource = False,
    heading: HeadingOption = Heading.KNOWN,
    headings: Headings = None,
    hfov: Hfov = None,
    calibrate: Calibrate = False,
    reliability: Reliability = None,
    calibrate_heading: CalibrateHeading = False,
    azimuth: Azimuth = None,
    seed: options.Seed = 0,
    per_query: PerQuery = None,
    distractors: Distractors = None,
    both_ways: BothWays = False,
    against: Against = None,
    batch_size: BatchSize = 32,
    skip_missing: options.SkipMissing = False,
    allow_mismatch: options.AllowMismatch = False,
    device: options.Device = "auto",
    jobs: options.Jobs = 0,
    threads: options.Threads = 0,
    memory: options.Memory = None,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Measure how well a model finds a data set's panoramas among its tiles.

    Ranks count ties against the model. r@1% takes the first floor(0.01 N) tiles. hit_masked is VIGOR's hit rate,
    hit_covers counts a top tile that shows the camera's place. A model with an offset head (--recipe vigor) also
    gives median_error_offset_m, from where in the top tile it puts the camera instead of its centre. _low and _high
    are 95 % intervals. A data set of several sources is also measured within each source. Tiles of --distractors stand
    in every gallery. difference_ is this model minus that of --against, its queries drawn in pairs. Errors of headings
    are those that the right tile gives, of top_ the top one; heading_within_sd is the share within their heading_sd. A
    calibrated model also gives ece (expected calibration error) and none_auc, see cvgeo-probability(7).
    """
    options.use(threads, memory)
    _check(query_store, heading, hfov, calibrate_heading or azimuth is not None, reliability)
    from cvgeo.cli.stdin import reference_from
    from cvgeo.pipelines.embed import EmbedOptions
    from cvgeo.pipelines.evaluate import EvaluateOptions
    from cvgeo.pipelines.evaluate import evaluate as run_evaluation

    view = heading is Heading.UNKNOWN, headings, seed, hfov
    fitted = calibrate, calibrate_heading, azimuth
    wanted = EvaluateOptions(split, within_source, *view, *fitted, distractors, both_ways)
    work = EmbedOptions(batch_size, device, jobs, skip_missing=skip_missing, allow_mismatch=allow_mismatch)
    dataset = reference_from(dataset, "dataset")
    named = reference_from(model, "checkpoint"), weights, store, query_store, per_query, reliability, against
    reporter.now(f"opening {dataset} and {model}")
    records = run_evaluation(dataset, *named, reporter=reporter, options=wanted, embedding=work)
    columns = COLUMNS + HEADING_COLUMNS * view[0] + DIFFERENCE_COLUMNS * (against is not None)
    write_records(records, chosen_format(format, json), columns)
    return records[0]["queries"]


def _check(
    query_store: str | None, heading: Heading, hfov: float | None, for_headings: bool, reliability: Path | None
) -> None:
    """Raise UsageError for what makes no sense, before anything heavy is imported."""
    from cvgeo.errors import UsageError

    if query_store is not None and heading is Heading.UNKNOWN:
        raise UsageError("--query-store holds panoramas of known heading", mend="leave it away with --heading unknown")
    if query_store is not None and hfov is not None:
        raise UsageError("--query-store holds whole panoramas", mend="leave it away with --hfov")
    if for_headings and heading is not Heading.UNKNOWN:
        fault = "--calibrate-heading and --azimuth are for headings that are unknown"
        raise UsageError(fault, mend="add --heading unknown")
    if reliability is not None and reliability.suffix.lower() not in (".png", ".svg"):
        raise UsageError("--reliability is written as a picture", path=reliability, mend="name a .png or .svg file")
