"""Two models' answers to the same queries, compared query by query."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo.data.tables import CsvTable
from cvgeo.errors import InputError, MismatchError
from cvgeo.evaluation.intervals import bootstrap
from cvgeo.evaluation.metrics import reciprocal

COLUMNS = ("scope", "query", "gallery", "rank")
RESAMPLES = 10_000
Key = tuple[str, str]


class OtherAnswers:
    """Ranks of another model, from a file that `evaluate` wrote: CSV, or JSON Lines where it ends in .jsonl or .json.

    Raises InputError where it is missing, or is no such file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        as_json = self.path.suffix.lower() in (".jsonl", ".json")
        rows = self._from_json() if as_json else self._from_csv()
        self._found = {(scope, query): (gallery, rank) for scope, query, gallery, rank in rows}

    def _from_csv(self) -> list[tuple[str, str, int, int]]:
        table = CsvTable(self.path)
        table.require(*COLUMNS)
        numbers = (table.numbers(column, required=True).astype(int).tolist() for column in COLUMNS[2:])
        return list(zip(table.text("scope"), table.text("query", raw=True), *numbers, strict=True))

    def _from_json(self) -> list[tuple[str, str, int, int]]:
        mend = "give a file that cvgeo evaluate --per-query wrote"
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot be read: {error}", path=self.path, mend=mend) from error
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                scope, query, gallery, rank = (json.loads(line)[column] for column in COLUMNS)
                rows.append((str(scope), str(query), int(gallery), int(rank)))
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"line {number} is no outcome of a query", path=self.path, mend=mend) from error
        return rows

    def differences(self, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Mean differences, ours minus theirs, of r@1 and of 1/rank, with 95 % intervals.

        Queries are drawn with replacement, both answers to each together: the percentile bootstrap of the paired
        differences. `rows` are the outcomes of one scope's queries. Raises MismatchError unless the other model was
        asked each of them, among as many.
        """
        theirs = np.array([self._rank(row) for row in rows])
        ours = np.array([row["rank"] for row in rows])
        apart = {"r@1": (ours == 1).astype(float) - (theirs == 1), "mrr": reciprocal(ours) - reciprocal(theirs)}
        record = {}
        for name, values in apart.items():
            low, high = bootstrap(values, np.mean, RESAMPLES)
            found = {"": float(values.mean()), "_low": low, "_high": high}
            record |= {f"difference_{name}{end}": value for end, value in found.items()}
        return record

    def _rank(self, row: dict[str, Any]) -> int:
        gallery, rank = self._found.get((row["scope"], row["query"]), (None, 0))
        if gallery != row["gallery"]:
            one = f"{row['query']} ({row['scope']})"
            fault = f"has no answer to {one}" if gallery is None else f"searched {one} among {gallery}"
            mend = "evaluate both models on the same data with the same options"
            raise MismatchError(f"{fault}, not among {row['gallery']}" if gallery else fault, path=self.path, mend=mend)
        return rank
