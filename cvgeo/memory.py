"""How much memory the process takes for blocks, batches and queues, and how it deals with what was freed."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD = -1  # of glibc's mallopt
MMAP_THRESHOLD = -3
KEPT_BYTES = 256 * 2**20
LARGEST_BYTES = 32 * 2**20

_limit: int | None = None


def limit_memory(size: int | None) -> None:
    """Keep blocks, batches and queues, all together, within so many bytes; None leaves them as large as is fastest.

    The program itself, a model's weights, and one picture a worker come on top: nothing can be done without these.
    """
    global _limit
    _limit = size


def at_most(usual: int, bytes_each: int, share: float) -> int:
    """How many things of so many bytes are held at once: as usual, or as a share of the limit has room for."""
    if _limit is None:
        return usual
    return max(1, min(usual, int(share * _limit) // max(1, bytes_each)))


def is_limited() -> bool:
    """Whether there is a limit."""
    return _limit is not None


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks for the next ones, as far as it can be told to.

    Pictures are arrays of some hundred kilobytes to megabytes, made and freed thousands of times: by default each goes
    back to the system and comes again page by page, and threads wait for each other at that.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_BYTES)
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Leave out the collection of reference cycles while many objects are made that all stay.

    Each collection visits all of them again: of a table of 100,000 rows that is a quarter of the time it takes to read.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
