"""What the benchmarks have in common: their words, a folder for the while, the clock, and the record as JSON."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Clock = Callable[[], float]


def parser_of(doc: str, quick: str, written: str = "", cpu: bool = False) -> argparse.ArgumentParser:
    """The words of a benchmark: `--quick`, `--folder` for what is `written` for the while, and with `cpu` `--cpu`.

    `doc` is that of its module, whose first line describes it.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=quick)
    if cpu:
        parser.add_argument("--cpu", action="store_true", help="count CPU seconds: on a machine shared with others")
    if written:
        parser.add_argument("--folder", type=Path, help=f"where {written} for the while")
    return parser


@contextmanager
def scratch(words: argparse.Namespace) -> Iterator[Path]:
    """A folder for the while, in `--folder`."""
    with tempfile.TemporaryDirectory(dir=words.folder) as folder:
        yield Path(folder)


def clock_of(words: argparse.Namespace) -> Clock:
    """Seconds as they are counted."""
    return time.process_time if words.cpu else time.perf_counter


def counted(words: argparse.Namespace) -> dict[str, Any]:
    """How seconds are counted, and in how many threads, for the record."""
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    return {"clock": "cpu" if words.cpu else "wall", "threads": threads}


def tell(record: dict[str, Any]) -> dict[str, Any]:
    """Print a record as one JSON line, and return it."""
    print(json.dumps(record))
    return record
