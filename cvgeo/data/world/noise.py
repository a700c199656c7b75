"""Random fields that do not depend on the window cut from them: sums of waves, and wrapping textures for the fine."""

from __future__ import annotations

import numpy as np

from cvgeo.data.world.window import Window
from cvgeo.geometry.opencv import import_cv2

cv2 = import_cv2()
TEXTURE_SIZE = 1024
COARSE = 16


class Waves:
    """A smooth random field over the plane with mean 0 and variance about 1: a sum of `count` cosine waves."""

    def __init__(self, rng: np.random.Generator, wavelength: float, count: int = 10):
        angle = rng.uniform(0, 2 * np.pi, count)
        number = 2 * np.pi / (wavelength * rng.uniform(0.7, 1.4, count))
        self.kx, self.ky = number * np.cos(angle), number * np.sin(angle)
        self.phase = rng.uniform(0, 2 * np.pi, count)
        self.scale = np.sqrt(2.0 / count)

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Values at positions in metres; any shape."""
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        total = np.zeros(np.broadcast_shapes(x.shape, y.shape))
        for kx, ky, phase in zip(self.kx, self.ky, self.phase, strict=True):
            total += np.cos(kx * x + ky * y + phase)
        return total * self.scale

    def nodes(self, window: Window, coarse: int = COARSE) -> np.ndarray:
        """Values for `spread`, float32: at the centres of squares of `coarse` pixels, one square beyond each edge."""
        rows, cols = (-(-size // coarse) + 2 for size in window.shape)
        x = window.x0 + window.gsd * coarse * (np.arange(cols) - 0.5)
        y = window.y_top - window.gsd * coarse * (np.arange(rows) - 0.5)
        return self.at(x[None, :], y[:, None]).astype(np.float32)


def spread(nodes: np.ndarray, shape: tuple[int, int], coarse: int = COARSE) -> np.ndarray:
    """Nodes (see `Waves.nodes`) interpolated linearly to every pixel; channels and type as they are."""
    full = cv2.resize(nodes, None, fx=coarse, fy=coarse, interpolation=cv2.INTER_LINEAR)
    return full[coarse : coarse + shape[0], coarse : coarse + shape[1]]


def texture(rng: np.random.Generator, octaves: tuple[tuple[int, float], ...], size: int = TEXTURE_SIZE) -> np.ndarray:
    """A texture that wraps, float32 (size, size), mean 0 and deviation 1; octaves are (grain in pixels, weight)."""
    total = np.zeros((size, size), dtype=np.float32)
    for grain, weight in octaves:
        count = size // grain
        nodes = rng.standard_normal((count, count)).astype(np.float32)
        if grain > 1:
            nodes = np.pad(nodes, 2, mode="wrap")
            nodes = cv2.resize(nodes, None, fx=grain, fy=grain, interpolation=cv2.INTER_CUBIC)
            nodes = nodes[2 * grain : 2 * grain + size, 2 * grain : 2 * grain + size]
        total += weight * nodes
    return (total - total.mean()) / total.std()


class Texture:
    """A wrapping texture from which any window is cut without a copy where it can be."""

    def __init__(self, values: np.ndarray):
        self.values = values
        self.size = values.shape[0]
        self._repeated = values

    def window(self, window: Window, shift: int = 0) -> np.ndarray:
        """The texture over a window of the world; `shift` pixels on for one that shares nothing with it."""
        row, col = (window.row0 + shift) % self.size, (window.col0 + 3 * shift) % self.size
        need = max(row + window.rows, col + window.cols)
        if need > self._repeated.shape[0]:
            repeats = -(-need // self.size)
            self._repeated = np.tile(self.values, (repeats, repeats) + (1,) * (self.values.ndim - 2))
        return self._repeated[row : row + window.rows, col : col + window.cols]
