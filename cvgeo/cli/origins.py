"""Where the value of each setting comes from, as the parser itself finds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer

from cvgeo.cli._manual import ENVIRONMENT
from cvgeo.cli.pages import Page, Parameter
from cvgeo.cli.settings import PROJECT_FILE, file_layers, merged, settable
from cvgeo.errors import UsageError
from cvgeo.paths import cache_dir, config_file, data_dir, state_dir
from cvgeo.report import Reporter

FOLDERS = {"CVGEO_DATA": data_dir, "CVGEO_CACHE": cache_dir, "CVGEO_STATE": state_dir, "CVGEO_CONFIG": config_file}


def _leaves(page: Page) -> Iterator[Page]:
    for child in page.commands:
        yield from _leaves(child) if child.commands else [child]


def _wanted(page: Page, words: str) -> list[Page]:
    """The commands that are `words` or lie in that group. Raises UsageError where there is none."""
    every = list(_leaves(page))
    chosen = [one for one in every if f"{one.name} ".startswith(f"{words} ".lstrip())]
    if not chosen:
        names = sorted({one.name for one in every} | {child.name for child in page.commands})
        near = get_close_matches(words, names, n=1)
        mend = f"did you mean {near[0]}?" if near else "known: " + ", ".join(names)
        raise UsageError(f"no command {words!r}", mend=mend)
    return chosen


def _record(command: str | None, setting: str, value: Any, source: str, where: str | None) -> dict[str, Any]:
    return {"command": command, "setting": setting, "value": value, "source": source, "where": where}


class _Origins:
    """The parser's view of every command, with the settings files below it."""

    def __init__(self, page: Page, app: typer.Typer, reporter: Reporter):
        self.layers = file_layers(page)
        self.reporter = reporter
        self.program = typer.main.get_command(app)
        self.context = self.program.make_context("cvgeo", [], resilient_parsing=True)
        self.context.default_map = merged(self.layers)

    def of(self, page: Page) -> Iterator[dict[str, Any]]:
        """The records of one command."""
        command, context = self.program, self.context
        for word in page.name.split():
            command = command.commands[word]
            context = command.make_context(word, [], parent=context, resilient_parsing=True)
        parsed = {one.name: one for one in command.params}
        for setting, parameter in settable(page).items():
            given, source = parsed[parameter.key].consume_value(context, {})
            if source.name == "ENVIRONMENT":
                where = self._variable(parameter, context)
                value = self._fitting(parsed[parameter.key], context, given, where)
                yield _record(page.name, setting, value, "environment", where)
            elif source.name == "DEFAULT_MAP":
                kind, path = self._file(page, parameter)
                yield _record(page.name, setting, given, kind, str(path))
            else:
                yield _record(page.name, setting, _default(given, parameter), "default", None)

    def _variable(self, parameter: Parameter, context: Any) -> str:
        explicit = [name for name in parameter.envvar.split(", ") if os.environ.get(name)]
        return (*explicit, f"{context.auto_envvar_prefix}_{parameter.key.upper()}")[0]

    def _fitting(self, parsed: Any, context: Any, given: Any, variable: str) -> Any:
        """The value as its option takes it; one that does not fit is reported and left as it is."""
        try:
            return parsed.process_value(context, given)
        except typer.BadParameter as error:
            self.reporter.fail(variable, f"{error.message.rstrip('.')}; mend or unset it")
            return given

    def _file(self, page: Page, parameter: Parameter) -> tuple[str, Path]:
        for path, table in reversed(self.layers):
            for word in page.name.split():
                table = table.get(word, {})
            if parameter.key in table:
                return ("project" if path == PROJECT_FILE else "user"), path
        raise KeyError(parameter.key)


def _default(value: Any, parameter: Parameter) -> Any:
    """The default's value, or what the help says of it where it is found out while the command runs."""
    return parameter.default or None if value is None else value


def settings_of(
    page: Page, app: typer.Typer, words: str, changed: bool, reporter: Reporter
) -> Iterator[dict[str, Any]]:
    """A record of each setting of the commands named `words` (all of them for ""), then of the program's folders.

    A record holds `command`, `setting`, `value`, `source` (environment, project, user or default) and `where`, the
    variable or the file; with `changed` those at their default are left out. A variable whose value does not fit is
    reported. Raises UsageError for words that are no command.
    """
    chosen, origins = _wanted(page, words), _Origins(page, app, reporter)
    records = [record for command in chosen for record in origins.of(command)]
    if not words:
        for name, folder in FOLDERS.items():
            source = "environment" if os.environ.get(name) else "default"
            records.append(_record(None, name, folder(), source, name if os.environ.get(name) else None))
    yield from (one for one in records if not changed or one["source"] != "default")


def _variables(page: Page) -> set[str]:
    known = {"CVGEO_CONFIG_DIR", "CVGEO_QUIET", *(name for name, _ in ENVIRONMENT)}
    for one in _leaves(page):
        known |= {name for name, _ in one.environment}
        for parameter in one.parameters:
            words = f"cvgeo {one.name} {parameter.key}"
            known |= {words.upper().replace(" ", "_").replace("-", "_"), *parameter.envvar.split(", ")}
    return known


def unknown_variables(page: Page) -> Iterator[str]:
    """A line on each `CVGEO_...` in the environment that nothing reads, with the nearest name that something does."""
    known = _variables(page)
    for name in sorted(one for one in os.environ if one.startswith("CVGEO_") and one not in known):
        near = get_close_matches(name, known, n=1)
        yield f"{name}: no such setting" + (f"; did you mean {near[0]}?" if near else "")
