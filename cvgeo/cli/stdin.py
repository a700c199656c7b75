"""What commands take from stdin: paths one a line, or the record that another command of the pipe gave out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cvgeo.cli.pages import Page, Parameter
from cvgeo.cli.waiting import waiting
from cvgeo.errors import InputError, UsageError


def check_streams(page: Page, given: Mapping[str, Any], read: Collection[str], written: Collection[str]) -> None:
    """Whether each `-` of a call means something; `read` and `written` are the parameters that take one.

    Raises UsageError for a file or folder that cannot be a stream, and where stdin would have to give two things.
    """
    dashed = [one for one in page.parameters if _is_dash(given.get(one.key))]
    for one in dashed:
        if one.key not in (*read, *written) and {"file", "folder", "store"} & set(one.offered):
            fault = f"{_called(one)} cannot be `-`: it is not read or written as a stream"
            raise UsageError(fault, mend="name a file or folder; one that is called so is ./-")
    fed = [_called(one) for one in dashed if one.key in read]
    if len(fed) > 1:
        raise UsageError(f"stdin cannot give both {fed[0]} and {fed[1]}", mend="name one of them")


def _is_dash(value: Any) -> bool:
    return any(one in ("-", Path("-")) for one in (value if isinstance(value, list) else [value]))


def _called(parameter: Parameter) -> str:
    return max(parameter.names, key=len)


def names_from(arguments: list[str], null: bool = False) -> Iterator[str]:
    """The arguments, with `-` replaced by the lines of stdin as they come; with `null` a null byte ends each.

    Raises UsageError for `null` without `-`; at its end InputError where stdin was read and no name came at all.
    """
    require_named(arguments, null)
    names = _names_from(arguments, null)
    return some_of(names) if "-" in arguments else names


def some_of(names: Iterable[str]) -> Iterator[str]:
    """Names from stdin as they come. Raises InputError at the end where there was none."""
    name = None
    for name in names:
        yield name
    if name is None:
        raise InputError("is empty", path="standard input", mend="pipe paths into it, one a line")


def require_named(arguments: list[str], null: bool) -> None:
    """Raise UsageError where it is said how stdin is written, but not that it is read."""
    if null and "-" not in arguments:
        raise UsageError("--null tells how paths are written on stdin, which is not read", mend="name `-` too")


def _names_from(arguments: Iterable[str], null: bool) -> Iterator[str]:
    for argument in arguments:
        if argument != "-":
            yield argument
            continue
        from cvgeo.pipelines.polar import read_names

        require_piped()
        _wait()
        picture, names = read_names(sys.stdin.fileno(), null)
        if picture:
            raise InputError("is a picture, not a list of paths", path="standard input", mend="give paths, one a line")
        for name in names:
            yield name
            _wait()


def require_piped() -> None:
    """Raise UsageError where stdin is a terminal: the program would seem to hang."""
    if os.isatty(0):
        raise UsageError("`-` reads stdin, which is the terminal", mend="pipe into it what it is to read")


def _wait() -> None:
    waiting.now("reading standard input")


def reference_from(value: str, key: str) -> str:
    """`value`; for `-` the `key` of the first JSON record on stdin, or the first line where it is no JSON."""
    if value != "-":
        return value
    require_piped()
    _wait()
    line = sys.stdin.readline().strip()
    if not line:
        raise InputError("nothing came from stdin", path="-", mend=f"pipe in a record with {key!r}, or name it")
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return line
    if not isinstance(record, dict) or key not in record:
        raise InputError(f"the record on stdin has no {key!r}", path="-", mend="name it as an option")
    return str(record[key])
