"""What commands take from stdin: paths one a line, or the record that another command of the pipe gave out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator

from cvgeo.errors import InputError


def names_from(arguments: Iterable[str]) -> Iterator[str]:
    """The arguments, with `-` replaced by the lines of stdin as they come."""
    for argument in arguments:
        if argument != "-":
            yield argument
            continue
        from cvgeo.pipelines.polar import read_names

        picture, names = read_names(sys.stdin.fileno())
        if picture:
            raise InputError("is a picture, not a list of paths", path="standard input", mend="give paths, one a line")
        yield from names


def reference_from(value: str, key: str) -> str:
    """`value`; for `-` the `key` of the first JSON record on stdin, or the first line where it is no JSON."""
    if value != "-":
        return value
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
