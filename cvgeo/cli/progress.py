"""The bars on a terminal: what is done, how much of it, its rate and the time left, one line each at any width."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import IO, Any, cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import Progress, Task
from rich.text import Text

from cvgeo.cli.waiting import in_front

BAR = range(8, 31)  # cells of a bar; where there is room for fewer there is none
LEAST_NAME = 8  # cells that stay of what is done


class _Screen(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """Write lines as they are: a record that is folded is none any more."""
        super().print(*objects, **{"soft_wrap": True, **options})

    def show_cursor(self, show: bool = True) -> bool:
        """Leave the cursor as it is: a program that is killed could not show it again."""
        return False


class _Stderr:
    """What the display writes to: in the background only what is said, since the terminal is another program's then."""

    def __init__(self) -> None:
        self._stream = sys.stderr

    def write(self, text: str) -> int:
        if not in_front(2):
            said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).strip()
            text = f"{said}\n" if said else ""
        return self._stream.write(text) if text else 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Bars(Progress):
    """The display of all bars."""

    def __init__(self) -> None:
        screen = _Screen(file=cast(IO[str], _Stderr()))
        # Records that go to a file or a pipe must not be drawn into the display.
        super().__init__(console=screen, transient=True, redirect_stdout=sys.stdout.isatty())

    def get_renderables(self) -> Iterator[Text]:
        """A line for each bar; the last column stays free, since a line that is full would wrap."""
        tasks = self.tasks
        if not tasks or not in_front(2):
            return
        room = self.console.width - 1
        names = [_printable(task.description) for task in tasks]
        figures = _figures(tasks)
        for name, figure, task in zip(_names(names, figures, room), figures, tasks, strict=True):
            text = Text(name, no_wrap=True, overflow="crop")
            self._draw(text, task, min(room - cell_len(name) - len(figure) - 2, BAR[-1]))
            yield text.append(f" {figure}"[: max(0, room - text.cell_len)])

    def _draw(self, text: Text, task: Task, width: int) -> None:
        if width not in BAR or not task.total:
            return
        plain = self.console.options.ascii_only
        done = round(width * min(1.0, task.completed / task.total))
        text.append(" ").append(("-" if plain else "━") * done, style="bar.complete")
        rest = " " if self.console.no_color or plain else "━"
        text.append(rest * (width - done), style="bar.back")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _names(names: list[str], figures: list[str], room: int) -> list[str]:
    """What is done, alike in width; cut where it would leave no room for the figures."""
    taken = max(map(len, figures)) + 1
    width = max(LEAST_NAME, min(max(map(cell_len, names)), room - taken))
    return [set_cell_size(name, width) for name in names]


def _figures(tasks: list[Task]) -> list[str]:
    """Amount, rate and time left of each, in columns."""
    rows = [(_amount(task), _rate(task.finished_speed or task.speed), _left(task)) for task in tasks]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{part:>{width}}" for part, width in zip(row, widths, strict=True)) for row in rows]


def _amount(task: Task) -> str:
    return f"{task.completed:.0f}/{'?' if task.total is None else f'{task.total:.0f}'}"


def _rate(speed: float | None) -> str:
    if not speed:
        return ""
    return f"{speed:.0f}/s" if speed >= 10 else f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min"


def _left(task: Task) -> str:
    seconds = task.time_remaining
    return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
