"""Who is near whom among many points, in memory that grows with their number and not with its square.

Within a distance by cells of space, the nearest of all by a tree of boxes. Positions become points by
`cvgeo.geometry.geodesy.earth_centred`, so that both work across zone edges and the date line.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

LEAF = 512  # points in a box of the tree


def _keys(cells: np.ndarray) -> np.ndarray:
    # 21 bits an axis: enough for cells of 7 metres; finer ones may share a key, which costs time but no correctness.
    return (cells[:, 0] << 42) ^ ((cells[:, 1] & 0x1FFFFF) << 21) ^ (cells[:, 2] & 0x1FFFFF)


def near_pairs(
    points: np.ndarray, others: np.ndarray, distance_m: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs of points (N, 3) and others (M, 3) nearer than a distance, in portions: row, other row, metres."""
    if not len(points) or not len(others) or not distance_m > 0:
        return
    own = np.floor(points / distance_m).astype(np.int64)
    keys = _keys(np.floor(others / distance_m).astype(np.int64))
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    for step in np.ndindex(3, 3, 3):
        wanted = _keys(own + np.array(step) - 1)
        first, last = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
        counts = last - first
        row = np.repeat(np.arange(len(points)), counts)
        at = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
        metres = np.linalg.norm(points[row] - others[order[at]], axis=1)
        near = metres < distance_m
        yield row[near], order[at[near]], metres[near]


def has_neighbour(points: np.ndarray, others: np.ndarray, distance_m: float) -> np.ndarray:
    """For each point (N, 3), in metres, whether one of `others` (M, 3) lies nearer than a distance: (N,) bool."""
    found = np.zeros(len(points), dtype=bool)
    for row, _, _ in near_pairs(points, others, distance_m):
        found[row] = True
    return found


def nearest(points: np.ndarray, others: np.ndarray, within_m: float) -> tuple[np.ndarray, np.ndarray]:
    """For each point (N, 3) the nearest of `others` (M, 3) within a distance: its row (-1: none) and metres (inf)."""
    best, metres = np.full(len(points), -1, dtype=np.int64), np.full(len(points), np.inf)
    for row, other, gap in near_pairs(points, others, within_m):
        order = np.lexsort((gap, row))
        row, other, gap = row[order], other[order], gap[order]
        first = np.flatnonzero(np.diff(row, prepend=-1))
        nearer = first[gap[first] < metres[row[first]]]
        best[row[nearer]], metres[row[nearer]] = other[nearer], gap[nearer]
    return best, metres


def nearest_rows(points: np.ndarray, count: int) -> np.ndarray:
    """The `count` nearest other points of each point, nearest first.

    Args:
        points: (N, d) finite coordinates in any unit; distances are straight lines.
        count: how many; at most N - 1 are given.

    Returns:
        Rows (N, min(count, N - 1)) int64.
    """
    points = np.asarray(points, dtype=np.float64)
    count = max(0, min(count, len(points) - 1))
    result = np.empty((len(points), count), dtype=np.int64)
    if not count:
        return result
    leaves = _leaves(points)
    low, high = (np.array([end(points[rows], axis=0) for rows in leaves]) for end in (np.min, np.max))
    for leaf, rows in enumerate(leaves):
        gaps = np.maximum(np.maximum(low - high[leaf], low[leaf] - high), 0)
        result[rows] = _nearest_of(points, rows, leaves, np.square(gaps).sum(axis=1), count)
    return result


def _leaves(points: np.ndarray) -> list[np.ndarray]:
    """Rows in groups of at most LEAF: halves of halves across the widest axis."""
    waiting, leaves = [np.arange(len(points))], []
    while waiting:
        rows = waiting.pop()
        if len(rows) <= LEAF:
            leaves.append(rows)
            continue
        axis = np.ptp(points[rows], axis=0).argmax()
        order = rows[np.argsort(points[rows, axis], kind="stable")]
        waiting += [order[: len(rows) // 2], order[len(rows) // 2 :]]
    return leaves


def _nearest_of(
    points: np.ndarray, rows: np.ndarray, leaves: list[np.ndarray], gaps: np.ndarray, count: int
) -> np.ndarray:
    """The same for the rows of one leaf; `gaps` are squared distances from its box to those of all leaves."""
    by_gap = np.argsort(gaps, kind="stable")
    enough = np.searchsorted(np.cumsum([len(leaves[leaf]) for leaf in by_gap]), count + 1) + 1
    some = np.concatenate([leaves[leaf] for leaf in by_gap[:enough]])
    # Some leaves hold enough points: none farther than those is wanted, nor a leaf whose box is.
    reach = np.partition(_squared(points[rows], points[some]), count, axis=1)[:, count].max()
    candidates = np.sort(np.concatenate([leaves[leaf] for leaf in np.flatnonzero(gaps <= reach)]))
    squared = _squared(points[rows], points[candidates])
    squared[np.arange(len(rows)), np.searchsorted(candidates, rows)] = np.inf
    best = np.sort(np.argpartition(squared, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(np.take_along_axis(squared, best, axis=1), axis=1, kind="stable")
    return candidates[np.take_along_axis(best, order, axis=1)]


def _squared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    # Axis by axis: differences first, since those of near places are far smaller than their coordinates.
    total = np.zeros((len(one), len(other)))
    for axis in range(one.shape[1]):
        total += np.square(one[:, axis, None] - other[None, :, axis])
    return total
