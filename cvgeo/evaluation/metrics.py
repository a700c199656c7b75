"""Retrieval metrics over ranks (1 is best, ties counted against the method) and positions.

Three hit rates are told apart by name (methods differ in which they print):
`r@1` only the exact positive counts; `hit_masked` is VIGOR's: no tile but positives and semi-positives may outrank
the positive; `hit_covers`: the top tile shows the camera's place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cvgeo.evaluation.intervals import bootstrap, wilson

RECALLS = (1, 5, 10)
WITHIN_METRES = (10, 25, 50, 100)
WITHIN_DEGREES = (5, 10)


def one_percent(gallery: int) -> int:
    """K of r@1%: floor(0.01 N), at least 1 (SAFA's and DSM's definition; others take one more)."""
    return max(1, gallery // 100)


def recall_at(ranks: np.ndarray, k: int) -> float:
    """Share of queries whose best positive is among the first k; ranks (Q,), 0 stands for no positive."""
    return _share((ranks >= 1) & (ranks <= k))


def mean_reciprocal_rank(ranks: np.ndarray) -> float:
    """Mean of 1/rank, (Q,) ranks; 0 stands for no positive and gives 0."""
    return float(reciprocal(ranks).mean()) if len(ranks) else math.nan


def reciprocal(ranks: np.ndarray) -> np.ndarray:
    """1/rank (Q,), 0 where there is no positive."""
    return np.divide(1.0, ranks, out=np.zeros(len(ranks)), where=ranks > 0)


def median_error(errors_m: np.ndarray) -> float:
    """Median of the known errors in metres, (Q,) with NaN where unknown."""
    known = errors_m[~np.isnan(errors_m)]
    return float(np.median(known)) if len(known) else math.nan


def chance(positives: np.ndarray, gallery: int) -> float:
    """Expected r@1 of a guess: mean share of the gallery that is positive, from counts (Q,)."""
    return float(np.mean(positives / gallery)) if len(positives) and gallery else math.nan


def _share(hits: np.ndarray) -> float:
    return float(np.mean(hits)) if len(hits) else math.nan


def _with_interval(name: str, hits: np.ndarray) -> dict[str, float]:
    low, high = wilson(int(hits.sum()), len(hits))
    return {name: _share(hits), f"{name}_low": low, f"{name}_high": high}


def summarise(
    ranks: np.ndarray,
    gallery: int | Sequence[int],
    *,
    masked: np.ndarray | None = None,
    covers: np.ndarray | None = None,
    errors_m: np.ndarray | None = None,
    offset_errors_m: np.ndarray | None = None,
) -> dict[str, float]:
    """All metrics by name, each with `_low` and `_high` of its 95 % interval.

    Args:
        ranks: (Q,) of the best positive.
        gallery: rows that were searched; a sequence (Q,) where it differs by query.
        masked: (Q,) ranks with the semi-positives left out.
        covers: (Q,) bool, the top tile shows the camera's place; None where unknown.
        errors_m: (Q,) metres between the top tile's centre and the true place, NaN where unknown.
        offset_errors_m: the same from the place within the tile that an offset head predicts, if there is one.
    """
    result: dict[str, float] = {}
    for k in RECALLS:
        result |= _with_interval(f"r@{k}", (ranks >= 1) & (ranks <= k))
    percent = np.maximum(1, np.broadcast_to(np.asarray(gallery), ranks.shape) // 100)
    result |= _with_interval("r@1%", (ranks >= 1) & (ranks <= percent))
    result |= _with_interval("hit_masked", (ranks if masked is None else masked) == 1)
    if covers is not None:
        result |= _with_interval("hit_covers", covers)
    errors = np.full(len(ranks), np.nan) if errors_m is None else errors_m
    known = errors[~np.isnan(errors)]
    for metres in WITHIN_METRES:
        result |= _with_interval(f"within_{metres}m", known <= metres)
    result["median_error_m"] = median_error(errors)
    result["median_error_m_low"], result["median_error_m_high"] = bootstrap(known, np.median)
    if offset_errors_m is not None:
        result["median_error_offset_m"] = median_error(offset_errors_m)
        low, high = bootstrap(offset_errors_m[~np.isnan(offset_errors_m)], np.median)
        result |= {"median_error_offset_m_low": low, "median_error_offset_m_high": high}
    result["mrr"] = mean_reciprocal_rank(ranks)
    result["mrr_low"], result["mrr_high"] = bootstrap(reciprocal(ranks), np.mean)
    return result


def heading_metrics(errors_deg: np.ndarray, tolerance_deg: float, top_errors_deg: np.ndarray) -> dict[str, float]:
    """How well headings were found, with 95 % intervals: by the right tile, and (`top_`) by whatever tile came first.

    Args:
        errors_deg: (Q,) degrees by which the heading that the right tile gives is off, NaN where unknown.
        tolerance_deg: of the share `heading_right`.
        top_errors_deg: (Q,) the same of the top tile.
    """
    known = np.abs(errors_deg[~np.isnan(errors_deg)])
    result = _with_interval("heading_right", known <= tolerance_deg)
    result["heading_tolerance_deg"] = tolerance_deg
    for prefix, errors in (("", errors_deg), ("top_", top_errors_deg)):
        known = np.abs(errors[~np.isnan(errors)])
        median = f"{prefix}median_heading_error_deg"
        result[median] = float(np.median(known)) if len(known) else math.nan
        result[f"{median}_low"], result[f"{median}_high"] = bootstrap(known, np.median)
        for degrees in WITHIN_DEGREES:
            result |= _with_interval(f"{prefix}heading_within_{degrees}", known <= degrees)
    return result


def collapsed(embeddings: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Whether embeddings (N, D) of several pictures are all (nearly) equal: the model tells no place from another."""
    return len(embeddings) > 1 and float(np.abs(embeddings - embeddings[:1]).max()) < tolerance
