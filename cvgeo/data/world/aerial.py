"""The view from above: a true orthophoto of a window."""

from __future__ import annotations

import numpy as np

from cvgeo.data.world.knobs import WorldKnobs
from cvgeo.data.world.light import Look, illuminate, surface_colours
from cvgeo.data.world.raster import DIGITS, Layers, car_outlines, cover_of, cv2
from cvgeo.data.world.scene import SEEN_FROM_GROUND, Scene


def render_ortho(scene: Scene, layers: Layers, look: Look, knobs: WorldKnobs) -> np.ndarray:
    """The window as an aerial camera sees it from straight above, uint8 (rows, cols, 3) RGB."""
    gsd = layers.window.gsd
    colours = surface_colours(scene, layers, look)
    _crown_colours(scene, layers, look, colours)
    _cars(scene, layers, colours)
    illuminate(colours, layers.canopy, cover_of(scene, layers, SEEN_FROM_GROUND), look, gsd, knobs.shadows)
    return _camera(colours, layers, look, knobs)


def _crown_colours(scene: Scene, layers: Layers, look: Look, colours: np.ndarray) -> None:
    at = np.flatnonzero(layers.crown)
    noise = look.patterns[1].window(layers.window, 311)[np.divmod(at, layers.window.cols)]
    rgb = leaf_colours(scene.trees["shade"], look)[layers.crown.ravel()[at] - 1]
    colours.reshape(-1, 4)[at, :3] = np.clip(rgb * (1 + 0.22 * noise[:, None]), 0, 255).astype(np.uint8)


def leaf_colours(shade: np.ndarray, look: Look) -> np.ndarray:
    """Colours of trees of these shades (N,) in 0..1, float32 (N, 3)."""
    position = np.clip(shade, 0, 1) * 1.999
    low = position.astype(np.int64)
    part = (position - low)[:, None].astype(np.float32)
    return look.leaves[low] * (1 - part) + look.leaves[low + 1] * part


def _cars(scene: Scene, layers: Layers, colours: np.ndarray) -> None:
    window, cars = layers.window, scene.cars
    cars = cars[(cars["seen"] != SEEN_FROM_GROUND) & window.sees(cars["x"], cars["y"], 0.0)]
    col, row = np.round(window.pixels(np.stack((cars["x"], cars["y"]), axis=-1))).astype(int).T
    row, col = np.clip(row, 0, window.rows - 1), np.clip(col, 0, window.cols - 1)
    cars = cars[(layers.crown[row, col] == 0) & (layers.building[row, col] == 0)]
    low = cars[cars["size"][:, 2] < 3]
    glass = np.tile(np.array([40.0, 46.0, 52.0]), (len(low), 1))
    parts = ((cars, 235 * cars["rgb"], (0.0, 1.0, 1.0)), (low, glass, (-0.06, 0.6, 0.84)))
    for table, rgb, shape in (*parts, (low, 216 * low["rgb"], (-0.08, 0.36, 0.84))):
        for outline, colour in zip(car_outlines(window, table, *shape), rgb.tolist(), strict=True):
            cv2.fillConvexPoly(colours, outline, (*colour, 0.0), cv2.LINE_AA, DIGITS)


def _camera(colours: np.ndarray, layers: Layers, look: Look, knobs: WorldKnobs) -> np.ndarray:
    if knobs.blur > 0:
        colours = cv2.GaussianBlur(colours, (0, 0), 0.45 + 0.2 * knobs.blur)
    gain = 1.12 * (1 - 0.1 * knobs.haze)
    haze = np.array([14, 17, 21]) * knobs.haze
    mix = np.zeros((3, 5), np.float32)
    mix[:, :3], mix[:, 4] = gain * np.eye(3), haze
    image = cv2.transform(colours, mix)
    noise = 2.0 * knobs.noise * look.patterns[1].window(layers.window, 501) + 16
    noise = cv2.convertScaleAbs(np.clip(noise, 0, 32))
    return cv2.subtract(cv2.add(image, cv2.merge([noise] * 3)), (16, 16, 16, 0))
