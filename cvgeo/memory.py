"""How the process deals with memory that was freed."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD = -1  # of glibc's mallopt
MMAP_THRESHOLD = -3
KEPT_BYTES = 256 * 2**20
LARGEST_BYTES = 32 * 2**20


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks for the next ones, as far as it can be told to.

    Pictures are arrays of some hundred kilobytes to megabytes, made and freed thousands of times: by default each goes
    back to the system and comes again page by page, and threads wait for each other at that.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_BYTES)
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
