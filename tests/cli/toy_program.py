"""A program of toy commands in cvgeo's frame, for what no real command does on demand."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from cvgeo.cli import app, options
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records
from cvgeo.errors import InputError, MismatchError, OutputError
from cvgeo.paths import atomic_file

EXAMPLES = [("cvgeo show a.png --count 3", "an example of a toy")]


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


def show(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Names to show.")] = None,
    count: Annotated[int, typer.Option("--count", "-c", min=0, max=9, rich_help_panel="Numbers", help="How many.")] = 1,
    scale: Annotated[float, typer.Option(rich_help_panel="Numbers", help="How much.")] = 0.5,
    colour: Annotated[Colour, typer.Option(help="Which.")] = Colour.RED,
    kind: Annotated[Literal["plain", "fancy"], typer.Option(help="What kind.")] = "plain",
    tag: Annotated[list[str] | None, typer.Option(help="Words.")] = None,
    folder: Annotated[Path | None, typer.Option(file_okay=False, help="Where.")] = None,
    turn: Annotated[bool, typer.Option(help="Whether to turn.")] = True,
    jobs: options.Jobs = 0,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Show the options as they arrive."""
    record = {
        "name": (names or [""])[0],
        "count": count,
        "scale": scale,
        "colour": str(colour),
        "kind": kind,
        "jobs": jobs,
    }
    record |= {"tag": tag or [], "folder": None if folder is None else str(folder), "turn": turn}
    reporter.note("showing")
    return write_records([record], chosen_format(format, json), ["name", "count", "scale"])


def fail(
    how: Annotated[str, typer.Argument(metavar="HOW", help="How.")],
    done: Annotated[int, typer.Option(help="How many items were done.")] = 0,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Fail in a given way."""
    if how == "items":
        for name in ("a.png", "b\nc.png"):
            reporter.fail(name, "is broken")
        return done
    errors = {
        "input": InputError("is no picture", path="x  y.png", mend="give\na picture"),
        "mismatch": MismatchError("does not fit"),
        "output": OutputError("cannot be written"),
        "memory": MemoryError(),
        "permission": PermissionError(13, "Permission denied", "secret.tif"),
        "space": OSError(28, "No space left on device"),
        "defect": ValueError("a defect"),
    }
    raise errors[how]


def lines(count: int = 100_000, *, reporter: ConsoleReporter) -> int:
    """Write many records."""
    return write_records(({"line": number} for number in range(count)), options.OutputFormat.JSONL)


def work(
    seconds: float,
    workers: int = 2,
    stubborn: bool = False,
    output: Path | None = None,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Keep worker processes busy; leave a file only when whole."""
    from concurrent.futures import ProcessPoolExecutor

    with atomic_file(output or Path("out.txt")) as temporary:
        temporary.write_text("half")
        with ProcessPoolExecutor(workers) as pool:
            jobs = [pool.submit(busy, seconds) for _ in range(4 * workers)]
            print("started", flush=True)
            for job in reporter.track(jobs, "working"):
                try:
                    job.result()
                except KeyboardInterrupt:
                    if not stubborn:
                        raise
                    time.sleep(60)
    return 1


def ponder(seconds: float = 2.0, *, reporter: ConsoleReporter) -> int:
    """Say nothing for a while."""
    reporter.now("pondering a\nfile")
    time.sleep(seconds)
    reporter.note("pondered")
    return write_records([{"seconds": seconds}], options.OutputFormat.JSONL)


def climb(name: str = "climbing", steps: int = 20, *, reporter: ConsoleReporter) -> int:
    """Show bars, one within the other."""

    def climbed() -> Iterator[dict[str, object]]:
        for floor in reporter.track(range(2), "floors"):
            for _ in reporter.track(range(steps), name):
                time.sleep(0.05)
            reporter.note("a floor higher")
            yield {"floor": floor, "name": "東 " * 100}
        yield {"floors": 2}

    return write_records(climbed(), options.OutputFormat.JSONL)


def busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


for command in (show, fail, lines, ponder, climb, work):
    app.add(command.__name__, command, sys.modules[__name__])
app.GROUPS["group"] = "A group."
app.add("group show", show, sys.modules[__name__])

if __name__ == "__main__":
    app.run()
