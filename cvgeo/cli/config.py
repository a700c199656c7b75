"""`cvgeo config`."""

from __future__ import annotations

from typing import Annotated

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records

EXAMPLES = [
    ("cvgeo config", "every setting of every command"),
    ("cvgeo config --changed", "only what the environment and the settings files say"),
    ("cvgeo config build-dataset tiles", "those of one command"),
    ("cvgeo config train --json | jq -r 'select(.setting == \"device\").value'", "one value, for a script"),
]
EXIT_STATUS = [("5", "A variable of the environment has a value that does not fit its option.")]
COLUMNS = ["command", "setting", "value", "source", "where"]

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[COMMAND]...", help="A command or a group of them; all by default."),
]
Changed = Annotated[bool, typer.Option("--changed", help="Leave out what is at its default.")]


def config(
    command: Words = None,
    changed: Changed = False,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Show each setting and where its value comes from: environment, project's file, user's file, default.

    A setting is an option's long name, and an option that is given wins over all of these. The folders that the program
    uses stand at the end, named by their variables. A variable that starts like those of the program and is none of
    them is warned of.
    """
    from cvgeo.cli import app
    from cvgeo.cli.origins import settings_of, unknown_variables

    page = app.program_page()
    records = settings_of(page, app.app, " ".join(command or []), changed, reporter)
    for warning in unknown_variables(page):
        reporter.warn(warning)
    return write_records(records, chosen_format(format, json), COLUMNS, grouped="command", spare=["where"])
