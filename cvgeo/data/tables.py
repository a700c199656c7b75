"""CSV files as columns, with errors that name the file and the line."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cvgeo.errors import InputError, explain_os_error


class CsvTable:
    """The columns of one CSV file.

    With `columns` None the first line names the columns; otherwise the file has no such line and these are the names
    (more fields in a line than names are passed over). Raises InputError for a file that is no CSV, for a line with too
    few fields, and for a column named twice.
    """

    def __init__(self, path: str | os.PathLike[str], columns: Sequence[str] | None = None):
        self.path = Path(path)
        rows, self.lines = _read_rows(self.path)
        if columns is None:
            if not rows:
                fault = "is empty: the line that names the columns is missing"
                raise InputError(fault, path=self.path, mend="write it again")
            columns, rows, self.lines = [name.strip() for name in rows[0]], rows[1:], self.lines[1:]
            if any("\0" in name for name in columns):
                raise InputError("is no CSV text", path=self.path, mend="name a table, or save it as UTF-8 CSV")
        if len(set(columns)) != len(columns):
            raise InputError("names a column twice", path=self.path, mend="give each column its own name")
        for row, line in zip(rows, self.lines, strict=True):
            if len(row) < len(columns):
                raise InputError(f"line {line}: {len(row)} fields where {len(columns)} are due", path=self.path)
        values = list(zip(*rows, strict=False)) if rows else [()] * len(columns)
        self._columns = dict(zip(columns, values, strict=False))

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, column: str) -> bool:
        return column in self._columns

    @property
    def columns(self) -> list[str]:
        """The columns' names, in order."""
        return list(self._columns)

    def require(self, *columns: str) -> None:
        """Raise InputError unless all these columns are there."""
        missing = [name for name in columns if name not in self._columns]
        if missing:
            mend = "it has " + ", ".join(self._columns)
            raise InputError(f"column {missing[0]} is missing", path=self.path, mend=mend)

    def fault(self, row: int, fault: str, mend: str | None = None) -> InputError:
        """The error for a row (counted from 0, without the line of names): names its line in the file."""
        return InputError(f"line {self.lines[row]}: {fault}", path=self.path, mend=mend)

    def text(self, column: str, default: str | None = None, required: bool = False, raw: bool = False) -> list[str]:
        """A column as text without surrounding blanks; `default` fills a column that is not there.

        Raises InputError for what is not UTF-8, unless it is to be `raw` since it may tell of file names.
        """
        if column not in self._columns and default is not None:
            return [default] * len(self)
        self.require(column)
        values = [value.strip() for value in self._columns[column]]
        if required and "" in values:
            raise self.fault(values.index(""), f"{column} is empty")
        if not raw and not _is_utf8("".join(values)):
            raise self._not_utf8(next(row for row, value in enumerate(values) if not _is_utf8(value)))
        return values

    def files(self, column: str, folder: Path) -> list[Path]:
        """A column of names of files, none empty, relative to a folder.

        A file name is bytes, and may begin or end with a blank: what is not UTF-8, or has blanks around it, is such a
        name where there is such a file. Raises InputError for what else is not UTF-8.
        """
        paths = []
        for row, value in enumerate(self.text(column, required=True, raw=True)):
            whole = self._columns[column][row]
            if whole != value and (folder / whole).exists():
                value = whole
            elif not _is_utf8(value) and not (folder / value).exists():
                raise self._not_utf8(row)
            paths.append(folder / value)
        return paths

    def _not_utf8(self, row: int) -> InputError:
        return InputError(f"is not UTF-8 text (line {self.lines[row]})", path=self.path, mend="save it as UTF-8 CSV")

    def ids(self, column: str = "id") -> list[str]:
        """A column of ids: none empty, none twice."""
        values = self.text(column, required=True)
        if len(set(values)) < len(values):
            first: dict[str, int] = {}
            for row, value in enumerate(values):
                if first.setdefault(value, row) != row:
                    raise self.fault(row, f"{column} {value!r} is also in line {self.lines[first[value]]}")
        return values

    def numbers(
        self,
        column: str,
        low: float = -np.inf,
        high: float = np.inf,
        *,
        required: bool = False,
        faults: dict[int, InputError] | None = None,
    ) -> np.ndarray:
        """A column as float64 (N,); empty fields, and a column that is not there, are NaN unless `required`.

        Raises InputError for what is not a number, infinite, or outside `low`..`high`; with `faults` such rows become
        NaN and their errors are put there.
        """
        if column not in self._columns and not required:
            return np.full(len(self), np.nan)
        self.require(column)
        texts = self._columns[column]
        try:
            values = np.array([text or "nan" for text in texts], dtype=np.float64)
        except ValueError:
            numbers = [self._number(row, column, text, faults) for row, text in enumerate(texts)]
            values = np.array(numbers, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            wrong = np.isinf(values) | (values < low) | (values > high) | (required & np.isnan(values))
        for row in np.flatnonzero(wrong).tolist():
            fault = f"{column} {texts[row].strip() or 'is empty'}: {_range(low, high)} is due"
            values[row] = self._refuse(self.fault(row, fault), row, faults)
        return values

    def _number(self, row: int, column: str, text: str, faults: dict[int, InputError] | None) -> float:
        try:
            return float(text.strip() or "nan")
        except ValueError:
            return self._refuse(self.fault(row, f"{column} {text.strip()!r} is not a number"), row, faults)

    @staticmethod
    def _refuse(error: InputError, row: int, faults: dict[int, InputError] | None) -> float:
        if faults is None:
            raise error
        faults.setdefault(row, error)
        return np.nan


def _range(low: float, high: float) -> str:
    if np.isfinite(low) and np.isfinite(high):
        return f"{low:g} to {high:g}"
    return f"{low:g} or more" if np.isfinite(low) else "a finite number"


def _is_utf8(text: str) -> bool:
    return text.isascii() or text == text.encode("utf-8", "ignore").decode()


def _read_rows(path: Path) -> tuple[list[list[str]], list[int]]:
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as handle:
            reader = csv.reader(handle, strict=True)
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    except csv.Error as error:
        raise InputError(f"is not a well-formed CSV file: {error}", path=path, mend="write it again") from error
    return rows, lines


def write_csv(path: str | os.PathLike[str], columns: dict[str, Sequence]) -> None:
    """Write columns as CSV, not atomically. NaN and None become empty fields, floats keep all their digits.

    File names that are not UTF-8 keep their bytes.
    """

    def plain(values: Sequence) -> list:
        if isinstance(values, np.ndarray):
            values = values.tolist()
        return ["" if value is None or value != value else value for value in values]

    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(plain(values) for values in columns.values()), strict=True))
