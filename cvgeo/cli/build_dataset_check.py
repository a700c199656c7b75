"""`cvgeo build-dataset check`."""

from __future__ import annotations

from typing import Annotated

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records
from cvgeo.errors import InputError

EXAMPLES = [
    ("cvgeo build-dataset check data", "everything: each picture is decoded"),
    ("cvgeo build-dataset check vigor:same --labels-only", "only the tables of a data set by name, in seconds"),
    (
        "cvgeo build-dataset check cvusa --all --json | jq -r 'select(.check == \"missing\") | .items[]'",
        "what to fetch",
    ),
]
EXIT_STATUS = [("3", "There are faults, or there is no such data set. Remarks alone leave status 0.")]
COLUMNS = ["grade", "check", "split", "count", "fault", "mend", "items"]

STDIN = ("dataset",)

DatasetArgument = Annotated[
    str, typer.Argument(metavar="DATASET", help="A data set by name or folder, or NAME:VARIANT; - from stdin.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Read headers in place of whole pictures: damage and duplicates go unseen.")
]
LabelsOnly = Annotated[bool, typer.Option("--labels-only", help="Look at the tables alone, at no picture.")]
All = Annotated[bool, typer.Option("--all", help="List every item of a finding, not the first five.")]


def check(
    dataset: DatasetArgument,
    quick: Quick = False,
    labels_only: LabelsOnly = False,
    all: All = False,
    seed: options.Seed = 0,
    jobs: options.Jobs = 0,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Say what is missing, damaged, mislabelled or misplaced in a data set of any known layout, and the mend for each.

    Looked at are existence and decodability, sizes, duplicates within and between splits (equal pixels), positions,
    offsets and pairs, whether north is where the headings say (by the content of sampled pairs), metres a pixel (by
    positions, and by what neighbouring tiles show), and splits that are near each other.

    A fault has to be mended and makes the exit status 3; a remark is to be known.
    """
    from cvgeo.cli.stdin import reference_from
    from cvgeo.pipelines.check import CheckOptions, as_table, check_dataset

    dataset = reference_from(dataset, "dataset")
    checked = check_dataset(dataset, CheckOptions(quick, labels_only, None if all else 5, jobs, seed), reporter)
    form = chosen_format(format, json)
    records = checked.records
    if form in (options.OutputFormat.TABLE, options.OutputFormat.CSV):
        records = list(as_table(records))
    write_records(records, form, COLUMNS)
    if checked.faults:
        raise InputError(checked.summary, path=dataset)
    reporter.note(f"{dataset}: {checked.summary}")
    return 1
