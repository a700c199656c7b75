"""The log that `--log-file` asks for: one JSON object a line, appended, so that calls and processes may share a file.

Each line has `time` (UTC), `level` (info, warning, error), `command`, `process` and `message`; a failed `item` of many
is named. The first line of a call holds its `settings`, the last one its exit `status` and the `seconds` that it took.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cvgeo.errors import explain_os_error

_QUERY = re.compile(r"(\w+://[^\s?]+)\?\S+")


class Log:
    """The log of one call. Raises OutputError where the file cannot be opened; `complain` is told of later faults."""

    def __init__(self, path: Path, command: str, complain: Callable[[str], None]):
        self.path, self.command, self._complain = path, command, complain
        self._started = time.monotonic()
        try:
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise explain_os_error(error, path) from error

    def write(self, level: str, message: str, **more: Any) -> None:
        """Append one line; after a fault, which is told once, nothing more."""
        if self._handle < 0:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "level": level, "command": self.command, "process": os.getpid(), "message": message}
        data = memoryview((json.dumps(_without_keys(line | more)) + "\n").encode())
        try:
            # In one call, so that lines of processes that share the file do not mix.
            while data:
                data = data[os.write(self._handle, data) :]
        except OSError as error:
            self._close()
            self._complain(f"warning: {explain_os_error(error, self.path)}; this call logs no more")

    def end(self, status: int) -> None:
        """The last line."""
        seconds = round(time.monotonic() - self._started, 3)
        self.write("info" if status == 0 else "error", "end", status=status, seconds=seconds)
        self._close()

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _without_keys(value: Any) -> Any:
    """A value without what stands behind the ? of URLs, which is where servers take their keys."""
    if isinstance(value, dict):
        return {key: _without_keys(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_keys(one) for one in value]
    return _QUERY.sub(r"\1?...", value) if isinstance(value, str) else value


_open: list[Log] = []


def start(path: Path, command: str, settings: dict[str, Any], complain: Callable[[str], None]) -> None:
    """Begin the log of this call. Raises OutputError where the file cannot be opened."""
    from cvgeo import __version__

    _open[:] = [Log(path, command, complain)]
    write("info", "start", version=__version__, python=sys.version.split()[0], settings=settings)


def write(level: str, message: str, **more: Any) -> None:
    """Append a line to the log of this call, if it has one."""
    for log in _open:
        log.write(level, message, **more)


def end(status: int) -> None:
    """End the log of this call, if it has one."""
    for log in _open:
        log.end(status)
    _open.clear()
