"""Shorter descriptors: principal axes learned on a gallery, applied to rows and queries alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvgeo.retrieval.exact import Gallery

LEAST_SPREAD = 1e-6  # of the largest axis, below which an axis is not blown up


@dataclass(frozen=True)
class Reduction:
    """x (n, D) becomes (x - mean) @ matrix.T (n, d); `mean` (D,), `matrix` (d, D) float32."""

    mean: np.ndarray
    matrix: np.ndarray

    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        """Shortened descriptors (n, d) float32, not normalised."""
        return (descriptors.astype(np.float32) - self.mean) @ self.matrix.T


def learn_reduction(gallery: Gallery, size: int, centre: bool = True, whiten: bool = False) -> Reduction:
    """The `size` principal axes of a gallery, in one pass over it and memory of D x D.

    Args:
        gallery: N rows of length D.
        size: d, at most D.
        centre: about the mean; not so, inner products are kept as well as d numbers can.
        whiten: every axis with the same variance (Jegou and Chum, ECCV 2012).
    """
    moment: np.ndarray | None = None
    total: np.ndarray | None = None
    for _, block in gallery.blocks():
        rows = block.astype(np.float32)
        product = (rows.T @ rows).astype(np.float64)
        moment = product if moment is None else moment + product
        summed = rows.sum(axis=0, dtype=np.float64)
        total = summed if total is None else total + summed
    if moment is None or total is None:
        raise ValueError("an empty gallery has no axes")
    if not 0 < size <= len(total):
        raise ValueError(f"{size} axes of {len(total)}")
    mean = total / len(gallery) if centre else np.zeros_like(total)
    spread, axes = np.linalg.eigh(moment / len(gallery) - np.outer(mean, mean))
    spread, axes = spread[::-1][:size], axes[:, ::-1][:, :size]
    if whiten:
        axes = axes / np.sqrt(np.maximum(spread, LEAST_SPREAD * spread[0]))
    return Reduction(mean.astype(np.float32), np.ascontiguousarray(axes.T, dtype=np.float32))
