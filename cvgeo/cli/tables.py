"""Records as a table that fits a terminal: numbers are never broken, and what there is no room for gives way in order.

Headers wrap first; then a column that says the same over many rows becomes a line above them, columns in which nothing
is known leave, texts fold, and columns named as least needed leave. Where that is not enough there is no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from textwrap import wrap
from typing import Any

from rich.cells import cell_len, chop_cells

GAP = 2
FOLDED = 12  # cells of a text column that is folded, at the least
LETTERS = 10  # of a word of a header; longer ones are broken
UNKNOWN = "-"


@dataclass
class Column:
    """One column: its header, its cells as text, and whether they are numbers."""

    name: str
    cells: list[str]
    numeric: bool
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.width = max(cell_len(self.name), *map(cell_len, self.cells))

    @property
    def empty(self) -> bool:
        """Whether nothing is known in it."""
        return all(cell == UNKNOWN for cell in self.cells)

    @property
    def least(self) -> int:
        """The narrowest that it can be: numbers whole, texts folded."""
        header = max(map(len, _words(self.name)))
        widest = max(map(cell_len, self.cells))
        return max(header, widest if self.numeric else min(widest, FOLDED))

    @property
    def header_wrapped(self) -> int:
        """The width that its cells need under a header of several lines."""
        return max(*map(len, _words(self.name)), *map(cell_len, self.cells))


def _words(name: str) -> list[str]:
    """The lines that a header can be broken into."""
    words = []
    for word in name.replace(" ", "_").replace("-", "-_").split("_"):
        half = len(word) - len(word) // 2
        words += [f"{word[:half]}-", word[half:]] if len(word) > LETTERS else [word]
    return words


def _header(column: Column) -> list[str]:
    if cell_len(column.name) <= column.width:
        return [column.name]
    lines = [""]
    for word in _words(column.name):
        joined = f"{lines[-1]} {word}".strip()
        if len(joined) <= column.width and not lines[-1].endswith("-"):
            lines[-1] = joined
        else:
            lines.append(word)
    return [line for line in lines if line]


def _folded(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells, broken after separators of names where there are some."""
    lines = [""]
    for piece in _pieces(text):
        if cell_len(lines[-1] + piece.rstrip()) <= width:
            lines[-1] += piece
            continue
        parts = chop_cells(piece, width) if cell_len(piece) > width else [piece]
        lines += parts
    return [line.rstrip() for line in lines if line.strip()] or [""]


def _pieces(text: str) -> list[str]:
    pieces, start = [], 0
    separators = " ,;/" if " " in text else "/_,;"
    for at, letter in enumerate(text, start=1):
        if letter in separators or at == len(text):
            pieces.append(text[start:at])
            start = at
    return pieces


def _total(columns: Sequence[Column]) -> int:
    return sum(one.width for one in columns) + GAP * (len(columns) - 1)


def _wrapped(columns: list[Column]) -> list[Column]:
    """The columns, as narrow as they are under headers of several lines."""
    for one in columns:
        one.width = one.header_wrapped
    return columns


def _fit(columns: list[Column], room: int, spare: Sequence[str]) -> list[Column] | None:
    """The columns that are shown, their widths set; None where they cannot be."""
    if _total(columns) > room:
        columns = [one for one in columns if not one.empty]
    dropped = [name for name in spare if any(one.name == name for one in columns)]
    while sum(one.least for one in columns) + GAP * (len(columns) - 1) > room and dropped:
        gone = dropped.pop(0)
        columns = [one for one in columns if one.name != gone]
    while _total(columns) > room:
        foldable = [one for one in columns if one.width > one.least]
        if not foldable:
            return None
        widest = max(foldable, key=lambda one: one.width)
        widest.width = max(widest.least, widest.width - (_total(columns) - room))
    return columns


def _row(cells: Sequence[Sequence[str]], columns: Sequence[Column]) -> list[str]:
    lines = []
    for number in range(max(map(len, cells))):
        parts = []
        for cell, column in zip(cells, columns, strict=True):
            text = cell[number] if number < len(cell) else ""
            space = " " * (column.width - cell_len(text))
            parts.append(space + text if column.numeric else text + space)
        lines.append((" " * GAP).join(parts).rstrip())
    return lines


def _drawn(columns: list[Column], bold: bool) -> tuple[list[str], list[list[str]]]:
    """The lines of the header, and those of each row."""
    headers = [_header(one) for one in columns]
    deepest = max(map(len, headers))
    headers = [[""] * (deepest - len(one)) + one for one in headers]
    top = _row(headers, columns)
    top = [f"\x1b[1m{line}\x1b[0m" for line in top] if bold else top
    rule = (" " * GAP).join("─" * one.width for one in columns)
    count = len(columns[0].cells)
    rows = [_row([_folded(one.cells[n], one.width) for one in columns], columns) for n in range(count)]
    return [*top, rule], rows


def table_lines(
    columns: list[Column], room: int | None, grouped: str | None = None, spare: Sequence[str] = (), bold: bool = False
) -> list[str] | None:
    """The lines of a table of at most `room` cells (None: as wide as it is); None where there is no way to fit it.

    `grouped` names the column that may become a line above its rows, `spare` those that leave first.
    """
    if room is None or _total(columns) <= room:
        return _joined(*_drawn(columns, bold))
    if sum(one.header_wrapped for one in columns) + GAP * (len(columns) - 1) <= room:
        return _joined(*_drawn(_wrapped(columns), bold))
    fitted = _fit(_wrapped([one for one in columns if one.name != grouped]), room, spare)
    if not fitted:
        return None
    top, rows = _drawn(fitted, bold)
    lines = list(top)
    above = next((one.cells for one in columns if one.name == grouped), [""] * len(rows))
    for name, numbers in groupby(range(len(rows)), key=lambda number: above[number]):
        lines += [*(chop_cells(name, room) if name else []), *_joined([], [rows[number] for number in numbers])]
    gone = [one.name for one in columns if one.name in spare and not one.empty and one not in fitted]
    return lines + wrap(f"(no room for {', '.join(gone)}; --json has all)", room) if gone else lines


def _joined(top: list[str], rows: list[list[str]]) -> list[str]:
    return [*top, *(line for row in rows for line in row)]


def columns_of(records: Sequence[dict[str, Any]], names: Sequence[str], cell: Any) -> list[Column]:
    """The columns of records; `cell` (name, value) gives the text of a cell."""
    columns = []
    for name in names:
        values = [record.get(name) for record in records]
        numeric = all(value is None or isinstance(value, int | float) for value in values)
        columns.append(Column(name, [cell(name, value) for value in values], numeric))
    return columns
