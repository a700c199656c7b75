"""Settings files: defaults of options from ./cvgeo.toml and, below it, the user's file.

A key is an option's long name. At the top of the file it holds for every command that has the option, in a table
named like a command (`[polar]`, `[build-dataset.world]`) for that one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cvgeo.cli.pages import Page, Parameter
from cvgeo.errors import InputError, UsageError, explain_os_error
from cvgeo.paths import config_file

PROJECT_FILE = Path("cvgeo.toml")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not valid TOML: {error}", path=path, mend="mend or remove it") from error


def _unknown(path: Path, key: str, known: Iterable[str]) -> UsageError:
    names = sorted(set(known))
    near = get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(names)
    return UsageError(f"unknown setting {key!r}", path=path, mend=hint)


def _expected(parameter: Parameter, value: Any) -> str | None:
    """What should stand there instead of `value`, None where it fits."""
    if parameter.choices and not parameter.repeatable:
        return None if value in parameter.choices else "one of " + ", ".join(parameter.choices)
    if parameter.kind in (bool, int, float):
        fits = {bool: bool, int: int, float: int | float}[parameter.kind]
        if not isinstance(value, fits) or (isinstance(value, bool) and parameter.kind is not bool):
            return {bool: "true or false", int: "a whole number", float: "a number"}[parameter.kind]
        low, high = parameter.bounds
        if low is not None and value < low:
            return f"at least {low}"
        return f"at most {high}" if high is not None and value > high else None
    return None if isinstance(value, str) else "a text in quotes"


def _checked(path: Path, parameter: Parameter, value: Any) -> Any:
    values = value if parameter.repeatable and isinstance(value, list) else [value]
    for one in values:
        expected = _expected(parameter, one)
        if expected:
            raise UsageError(f"{parameter.setting} = {one!r} does not fit", path=path, mend=f"give {expected}")
    return values if parameter.repeatable else value


def settable(page: Page) -> dict[str, Parameter]:
    """The options of a command that may stand in a settings file, by their key there."""
    return {one.setting: one for one in page.options if one.setting != "help"}


def _commands(page: Page) -> list[Page]:
    return [one for child in page.commands for one in (_commands(child) if child.commands else [child])]


def _defaults(path: Path, table: dict[str, Any], page: Page, inherited: dict[str, Any]) -> dict[str, Any]:
    """The default map of a group from its table; `inherited` are the keys that stand further up."""
    children = {child.name.split()[-1]: child for child in page.commands}
    below = {key: one for command in _commands(page) for key, one in settable(command).items()}
    own = {key.replace("_", "-"): value for key, value in table.items() if key not in children}
    for key, value in own.items():
        if key not in below:
            raise _unknown(path, key, [*below, *children])
        _checked(path, below[key], value)
    passed = inherited | own
    return {name: _child_defaults(path, table.get(name, {}), child, passed) for name, child in children.items()}


def _child_defaults(path: Path, table: Any, page: Page, inherited: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(table, dict):
        fault = f"{page.name!r} is a command: its settings are a table"
        raise UsageError(fault, path=path, mend=f"write [{page.name}]")
    if page.commands:
        return _defaults(path, table, page, inherited)
    known = settable(page)
    values = {key: value for key, value in inherited.items() if key in known}
    for key, value in table.items():
        if key.replace("_", "-") not in known:
            raise _unknown(path, key, known)
        values[key.replace("_", "-")] = value
    return {known[key].key: _checked(path, known[key], value) for key, value in values.items()}


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _over(merged.get(key, {}), value) if isinstance(value, dict) else value
    return merged


def file_layers(page: Page) -> list[tuple[Path, dict[str, Any]]]:
    """Each settings file and the defaults that it gives, by command and Python parameter, the weaker file first.

    Raises UsageError for a file that is no TOML, for unknown keys (with the nearest known one) and for values that do
    not fit, InputError for a file that cannot be read or a $CVGEO_CONFIG that is not there.
    """
    user = config_file()
    if os.environ.get("CVGEO_CONFIG") and not user.exists():
        raise InputError("no such file", path=user, mend="mend or unset CVGEO_CONFIG")
    return [(path, _defaults(path, _read(path), page, {})) for path in (user, PROJECT_FILE)]


def merged(layers: list[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """The defaults of all layers as Typer takes them, the later over the earlier."""
    defaults: dict[str, Any] = {}
    for _, table in layers:
        defaults = _over(defaults, table)
    return defaults


def default_map(page: Page) -> dict[str, Any]:
    """The defaults of every command from both files. Raises what `file_layers` raises."""
    return merged(file_layers(page))
