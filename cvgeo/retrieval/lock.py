"""One writer at a time: a lock file beside the output that tells who is writing."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cvgeo.errors import OutputError, explain_os_error

_HELD: set[str] = set()


def _holder(handle: int) -> str:
    try:
        owner = json.loads(os.pread(handle, 4096, 0))
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _take(path: Path) -> int:
    # A record lock dies with its process, even by kill -9, and is not inherited by its worker processes: a lock file
    # that was left behind is free to take, so that a stale one never has to be guessed from its age.
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            holder = _holder(handle)
            os.close(handle)
            raise OutputError(
                f"{holder} is writing it", path=path.with_suffix(""), mend="wait for it or end it"
            ) from error
        try:
            if os.fstat(handle).st_ino == os.stat(path).st_ino:
                return handle
        except FileNotFoundError:
            pass  # its last owner removed it between our open and our lock: take the new one
        os.close(handle)


@contextmanager
def writer_lock(target: Path) -> Iterator[None]:
    """Hold `target`'s lock (`<target>.lock`) or raise OutputError that names the process and host that hold it."""
    path = target.with_name(target.name + ".lock")
    key = os.path.realpath(path)
    if key in _HELD:
        raise OutputError("this process is writing it already", path=target, mend="close the first writer")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _take(path)
    except OSError as error:
        raise explain_os_error(error, target) from error
    _HELD.add(key)
    try:
        with suppress(OSError):  # who holds it is only for others to tell: what a full disk has no room for
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
        _HELD.discard(key)
