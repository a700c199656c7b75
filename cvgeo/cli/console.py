"""What the user sees: records on stdout, all else on stderr.

Only this package prints. Records are a table on a terminal and JSON Lines elsewhere; progress shows only on a terminal.
"""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TypeVar

from cvgeo.cli import log
from cvgeo.cli.options import OutputFormat
from cvgeo.cli.stopping import stop_writing_stdout
from cvgeo.cli.waiting import dressed, waiting
from cvgeo.errors import explain_os_error
from cvgeo.report import Reporter, json_line

if TYPE_CHECKING:
    from cvgeo.cli.progress import Bars

T = TypeVar("T")


def printable(text: str) -> str:
    """A text on one line: control characters of file names must not break lines or reach the terminal."""
    return "".join(c if c.isprintable() or c == " " or "\ud800" <= c <= "\udfff" else repr(c)[1:-1] for c in text)


def say(text: str) -> None:
    """One line on stderr; a stderr that is gone or full is no reason to fail."""
    waiting.hush()
    try:
        print(printable(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


class ConsoleReporter(Reporter):
    """Shows progress bars on a terminal, remarks and failures as lines on stderr."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__()
        self.quiet = quiet
        self._bars: Bars | None = None

    def track(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Show a bar with rate and time left while `items` pass (terminal only); bars may be nested."""
        if self.quiet or not dressed(2):
            yield from items
            return
        if total is None and isinstance(items, Sized):
            total = len(items)
        with self._shown() as bars:
            task = bars.add_task(what, total=total)
            try:
                for item in items:
                    yield item
                    bars.advance(task)
            finally:
                bars.remove_task(task)

    @contextmanager
    def _shown(self) -> Iterator[Bars]:
        """The one display of all bars; it lives as long as its outermost bar."""
        if self._bars is not None:
            yield self._bars
            return
        from cvgeo.cli.progress import Bars

        with waiting.held(), Bars() as self._bars:
            try:
                yield self._bars
            finally:
                self._bars = None

    def now(self, what: str | None) -> None:
        """Name what is done from here on: a terminal shows it after a second of silence."""
        waiting.now(what)

    def note(self, text: str) -> None:
        """A line on stderr unless `--quiet`."""
        log.write("info", text)
        if not self.quiet:
            say(f"cvgeo: {text}")

    def warn(self, text: str) -> None:
        """A warning on stderr, also with `--quiet`."""
        log.write("warning", text)
        say(f"cvgeo: warning: {text}")

    def fail(self, item: str, reason: str) -> None:
        """One failed item on stderr."""
        super().fail(item, reason)
        log.write("error", reason, item=item)
        say(f"cvgeo: {reason if reason.startswith(item) else f'{item}: {reason}'}")


def chosen_format(format: OutputFormat | None, as_json: bool = False) -> OutputFormat:
    """The format asked for, else a table on a terminal and JSON Lines elsewhere."""
    if as_json:
        return OutputFormat.JSONL
    if format is not None:
        return OutputFormat(format)
    return OutputFormat.TABLE if sys.stdout.isatty() else OutputFormat.JSONL


def clean(value: Any) -> Any:
    """A value as JSON takes it: NaN and infinities become null, numpy scalars and paths plain."""
    if isinstance(value, dict):
        return {str(key): clean(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [clean(one) for one in value]
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def print_line(text: str) -> None:
    """One line on stdout, at once. Raises OutputError where it cannot be written."""
    waiting.hush()
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        stop_writing_stdout()
        raise explain_os_error(error, "standard output") from error


def _json(value: Any) -> str:
    # While there are bars, stdout is their display's, which has none.
    return json_line(value, sys.stdout.encoding or "ascii")


def _cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))


def _place_cell(column: str, value: Any) -> str:
    """A cell of a table; six digits of a degree are a tenth of a metre, and metres have no exponent."""
    digits = {"lat": 6, "lon": 6, "score": 4}.get(column)
    if column.endswith("_m") and isinstance(value, float) and abs(value) >= 1e6:
        digits = 0
    return f"{value:.{digits}f}" if digits is not None and isinstance(value, float) else _cell(value)


def write_records(
    records: Iterable[dict[str, Any]],
    format: OutputFormat,
    columns: list[str] | None = None,
    *,
    grouped: str | None = None,
    spare: Sequence[str] = (),
) -> int:
    """Write records to stdout as they come (a table and GeoJSON when they are all there); returns how many.

    `columns` selects and orders what a table shows; the other formats hold every key. In a narrow terminal the column
    `grouped` becomes a line above its rows, and those of `spare` leave, the first of them first.
    """
    count = 0
    held: list[dict[str, Any]] = []
    writer: csv.DictWriter | None = None
    for record in records:
        record = clean(record)
        count += 1
        if format is OutputFormat.JSONL:
            print_line(_json(record))
        elif format is OutputFormat.CSV:
            line = io.StringIO()
            names = list(record) if writer is None else writer.fieldnames
            writer = csv.DictWriter(line, names, extrasaction="ignore", lineterminator="\n")
            if count == 1:
                writer.writeheader()
            writer.writerow({key: _json(one) if isinstance(one, list) else one for key, one in record.items()})
            print_line(line.getvalue().removesuffix("\n"))
        else:
            held.append(record)
    if format is OutputFormat.GEOJSON:
        from cvgeo.cli.geojson import collection

        print_line(_json(collection(held)))
    elif format is OutputFormat.TABLE and held:
        _print_table(held, columns or list(held[0]), grouped, spare)
    return count


def _print_table(records: list[dict[str, Any]], columns: list[str], grouped: str | None, spare: Sequence[str]) -> None:
    from cvgeo.cli.tables import columns_of, table_lines

    # In a pipe nothing is folded, whatever the width.
    room = shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else None
    bold = dressed(1) and not os.environ.get("NO_COLOR")
    table = columns_of(records, columns, _place_cell)
    lines = table_lines(table, room, grouped, spare, bold)
    if lines is not None:
        print_line("\n".join(lines))
        return
    for number in range(len(records)):
        print_listing({one.name: one.cells[number] for one in table}, first=number == 0)


def print_listing(record: dict[str, Any], first: bool = True) -> None:
    """A record on stdout as lines of name and value, an empty line before all but the first."""
    if not first:
        print_line("")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    widest = min(24, max(16, *map(len, record)))
    for name, value in clean(record).items():
        line = f"{name:>{widest}}  {_listed(value)}"
        hanging = " " * (widest + 2 if width >= 50 else 4)
        for part in wrap(line, width, subsequent_indent=hanging, break_on_hyphens=False) if width else [line]:
            print_line(part)


def _listed(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_listed(one)}" for key, one in value.items()) or "-"
    if isinstance(value, list):
        return "; ".join(map(_listed, value)) or "-"
    return f"{value:.9g}" if isinstance(value, float) else printable(str(value))
