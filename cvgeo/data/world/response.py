"""What lies between scene and file in the ground view: sky, haze, and the camera's own idea of colour."""

from __future__ import annotations

import numpy as np

from cvgeo.data.world.ground import View
from cvgeo.data.world.knobs import WorldKnobs
from cvgeo.data.world.light import Look
from cvgeo.data.world.raster import cv2


def finish(view: View, look: Look, knobs: WorldKnobs, rng: np.random.Generator) -> np.ndarray:
    """The picture of a view, uint8 (height, width, 3) RGB: distance in haze, sky behind, then the camera."""
    horizon = np.array([186.0, 192.0, 198.0]) * rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, 3)
    horizon = horizon.astype(np.float32)
    distance, colours = cv2.transpose(view.distance), cv2.transpose(view.colours)
    clear = np.exp(np.minimum(distance, 4000.0) * np.float32(-knobs.haze / rng.uniform(220, 900)))[..., None]
    colours -= horizon
    colours *= clear
    colours += horizon
    sky = _sky(view, look, horizon, rng)
    np.copyto(colours[: len(sky)], sky, where=np.isinf(distance[: len(sky)])[..., None])
    return _develop(colours, look, knobs, rng)


def _sky(view: View, look: Look, horizon: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sky of the rows down to 3 degrees below the horizon, float32 (rows, width, 3)."""
    rows = max(1, int(np.sum(view.tangent > -0.05)))
    # Worked out for every second pixel: nothing up there is sharp.
    tangent = np.maximum(view.tangent[:rows:2, None], 0)
    east, north = view.sine[None, ::2], view.cosine[None, ::2]
    rise = tangent / (1 + tangent)
    overcast = look.sun.direct < 0.3
    zenith = np.array([150, 160, 172]) if overcast else np.array([74, 118, 182]) * rng.uniform(0.8, 1.2, 3)
    blue = horizon + rise[..., None] ** 0.7 * (zenith.astype(np.float32) - horizon)
    # Clouds lie on a plane overhead: they shrink towards the horizon.
    height = 180 / np.maximum(tangent, 0.06)
    blotches, mixture, size = look.patterns[2].values, look.patterns[0].values, look.patterns[2].size
    row = (rng.integers(size) + north * height).astype(np.int32) % size
    col = (rng.integers(size) + east * height).astype(np.int32) % size
    cover = np.float32(rng.uniform(-0.9, 0.9) + (0.6 if overcast else 0.0))
    clouds = np.clip(0.5 * (blotches[row, col] + 0.35 * mixture[row, col] + cover), 0, 1) * np.clip(rise * 4, 0, 1)
    white = np.array([226, 228, 232], np.float32) * np.float32(0.78 if overcast else 1.0)
    sky = blue + np.float32(0.85) * clouds[..., None] * (white - blue)
    sky = cv2.resize(sky, (view.camera.width, rows), interpolation=cv2.INTER_LINEAR)
    ridge = _ridge(view.camera.width, rng)
    below = int(np.sum(view.tangent[:rows] > ridge.max()))
    sky[below:][view.tangent[below:rows, None] < ridge] = horizon * np.array([0.72, 0.76, 0.8], np.float32)
    return sky


def _ridge(width: int, rng: np.random.Generator) -> np.ndarray:
    """Tangent of the elevation of a far skyline, (width,)."""
    angle = np.linspace(0, 2 * np.pi, width, endpoint=False)
    line = sum(np.cos(k * angle + rng.uniform(0, 6.3)) / k**0.7 for k in (2, 3, 5, 8, 13, 21, 34))
    return 0.014 + 0.006 * line


def _develop(image: np.ndarray, look: Look, knobs: WorldKnobs, rng: np.random.Generator) -> np.ndarray:
    strength = knobs.response
    gain = np.exp(strength * (rng.normal(0, 0.15) + rng.normal(0, 0.065, 3)))
    saturation = np.exp(strength * rng.normal(-0.12, 0.34))
    mix = saturation * np.eye(3) + (1 - saturation) * np.array([0.3, 0.59, 0.11])
    if knobs.blur > 0:
        image = cv2.GaussianBlur(image, (0, 0), 0.35 + 0.25 * knobs.blur * rng.random())
    image = cv2.transform(image, (gain[:, None] * mix).astype(np.float32))
    pattern = look.patterns[1]
    row, col = rng.integers(pattern.size, size=2)
    rows, cols = (row + np.arange(image.shape[0])) % pattern.size, (col + np.arange(image.shape[1])) % pattern.size
    image += (knobs.noise * np.float32(rng.uniform(0.8, 3.5))) * pattern.values[rows[:, None], cols][..., None]
    gamma, contrast = np.exp(strength * rng.normal(0, 0.2)), np.exp(strength * rng.normal(0, 0.22))
    curve = 255 * (np.arange(256) / 255) ** gamma
    curve = np.clip(128 + contrast * (curve - 128), 0, 255)
    return cv2.LUT(np.clip(image, 0, 255).astype(np.uint8), np.round(curve).astype(np.uint8))
