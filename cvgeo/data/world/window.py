"""A window of the world: which pixels, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Window:
    """A north-up window of the world: pixel (row, col) is centred on x0 + (col + 1/2) gsd, y_top - (row + 1/2) gsd."""

    x0: float
    y_top: float
    rows: int
    cols: int
    gsd: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.cols

    @property
    def row0(self) -> int:
        """Number of the first row on the grid that starts at the world's origin (negative northwards)."""
        return round(-self.y_top / self.gsd)

    @property
    def col0(self) -> int:
        """Number of the first column on that grid."""
        return round(self.x0 / self.gsd)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """World positions (..., 2) as (column, row), a pixel's centre at whole numbers."""
        points = np.asarray(points, dtype=np.float64)
        return np.stack(((points[..., 0] - self.x0) / self.gsd, (self.y_top - points[..., 1]) / self.gsd), -1) - 0.5

    def centres(self, row: slice, col: slice) -> tuple[np.ndarray, np.ndarray]:
        """World x of columns and y of rows, as (1, n) and (m, 1)."""
        x = self.x0 + self.gsd * (np.arange(col.start, col.stop) + 0.5)
        y = self.y_top - self.gsd * (np.arange(row.start, row.stop) + 0.5)
        return x[None, :], y[:, None]

    def sees(self, x: np.ndarray, y: np.ndarray, reach: np.ndarray | float) -> np.ndarray:
        """Which discs touch the window."""
        right, bottom = self.x0 + self.cols * self.gsd, self.y_top - self.rows * self.gsd
        return (x + reach > self.x0) & (x - reach < right) & (y - reach < self.y_top) & (y + reach > bottom)

    def patch(self, x: float, y: float, reach: float) -> tuple[slice, slice] | None:
        """Rows and columns around a position, cut at the window; None where nothing is left."""
        col, row = self.pixels(np.array([x, y]))
        reach = reach / self.gsd + 1
        top, bottom = max(0, int(row - reach)), min(self.rows, int(row + reach) + 2)
        left, right = max(0, int(col - reach)), min(self.cols, int(col + reach) + 2)
        return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None
