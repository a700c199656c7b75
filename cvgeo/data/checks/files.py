"""Are the pictures there, whole, and each there once?"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from cvgeo.data.checks import FAULT, REMARK, Evidence, Finding, Findings, by_split, check
from cvgeo.data.checks.evidence import Pictures, named
from cvgeo.data.schema import Panoramas, Tiles


@check("missing")
def missing(evidence: Evidence) -> Findings:
    """Pictures that the tables name and the disk does not hold."""
    for kind, table, seen in evidence.tables:
        mend = f"fetch them again, or take their lines out of the list of {kind}s"
        rows = np.flatnonzero(~seen.there)
        yield from by_split(table.split, rows, named(table.path), FAULT, f"no such file: {kind}", mend)


@check("damaged")
def damaged(evidence: Evidence) -> Findings:
    """Pictures that cannot be decoded to their last row, by reason."""
    for kind, table, seen in evidence.tables:
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row, reason in seen.broken.items():
            rows_of[reason.partition(" (")[0].replace("the picture is ", "is ")].append(row)
        for reason, rows in sorted(rows_of.items()):
            yield from by_split(table.split, rows, named(table.path), FAULT, f"{kind}: {reason}", "fetch them again")


def _twins(digests: np.ndarray, distinct: np.ndarray) -> np.ndarray:
    """Rows of several files with one digest, sorted by it, (R,); `distinct` numbers the files."""
    known = np.flatnonzero(digests != b"")
    known = known[np.unique(distinct[known], return_index=True)[1]]
    _, inverse, counts = np.unique(digests[known], return_inverse=True, return_counts=True)
    twins = known[counts[inverse] > 1]
    return twins[np.argsort(digests[twins], kind="stable")]


def _groups(table: Panoramas | Tiles, seen: Pictures) -> list[np.ndarray]:
    """Rows of each set of equal pictures: equal pixels where the pictures were decoded, else equal bytes."""
    digests = np.where(seen.pixels != b"", seen.pixels, seen.content)
    distinct = np.unique(np.array([str(path) for path in table.path]), return_inverse=True)[1]
    twins = _twins(digests, distinct) if len(table) else np.empty(0, np.int64)
    return np.split(twins, np.flatnonzero(np.diff(np.unique(digests[twins], return_inverse=True)[1])) + 1)


@check("duplicate")
def duplicates(evidence: Evidence) -> Findings:
    """Different files of equal pixels (equal bytes are among them): a fault across splits, a remark within one."""
    for kind, table, seen in evidence.tables:
        found: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for rows in _groups(table, seen):
            ids = " = ".join(table.id[row] for row in rows.tolist())
            if ids:
                found[tuple(sorted({table.split[row] for row in rows.tolist()}))].append(ids)
        for splits, items in sorted(found.items()):
            if len(splits) > 1:
                fault, mend = f"one {kind} in several splits", "keep it in one split: the figures of the other flatter"
                yield Finding(FAULT, len(items), items, fault, mend, ", ".join(splits))
            else:
                fault, mend = f"one {kind} under several names", "drop all but one, or leave them if they are meant"
                yield Finding(REMARK, len(items), items, fault, mend, splits[0])
