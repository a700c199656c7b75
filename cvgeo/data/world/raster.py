"""A window of a scene as layers on a grid: heights, ground, paint, buildings. Both views are made from these."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from cvgeo.data.world.noise import spread
from cvgeo.data.world.scene import Roof, Scene, Surface, building_frame
from cvgeo.data.world.window import Window
from cvgeo.geometry.opencv import import_cv2

cv2 = import_cv2()
DIGITS = 6  # binary digits of a pixel in drawing


@dataclass
class Layers:
    """The layers of a window, each (rows, cols)."""

    window: Window
    surface: np.ndarray  # uint8, a `Surface`
    tone: np.ndarray  # uint8
    paint: np.ndarray  # uint8, how much of the pixel is white paint
    ground: np.ndarray  # float32, metres
    height: np.ndarray  # float32, ground or roof
    building: np.ndarray  # int32, 1 + row in the scene's table, 0 for none
    canopy: np.ndarray  # float32, ground, roof or tree
    crown: np.ndarray  # int32, 1 + row of the tree that is on top, 0 for none


def crop(layers: Layers, row: int, col: int, rows: int, cols: int) -> Layers:
    """A part of the layers, without a copy."""
    window = layers.window
    part = Window(window.x0 + col * window.gsd, window.y_top - row * window.gsd, rows, cols, window.gsd)
    pieces = (getattr(layers, one.name)[row : row + rows, col : col + cols] for one in fields(layers)[1:])
    return Layers(part, *(np.ascontiguousarray(piece) for piece in pieces))


def rasterise(scene: Scene, window: Window) -> Layers:
    """Draw a window of a scene."""
    surface, tone = _draw_features(scene, window)
    paint = _draw_marks(scene, window)
    ground = _ground(scene, window)
    none = np.zeros(window.shape, np.int32)
    layers = Layers(window, surface, tone, paint, ground, ground.copy(), none, ground, none.copy())
    _draw_buildings(scene, layers)
    layers.canopy = layers.height.copy()
    _draw_trees(scene, layers)
    return layers


def _fixed(window: Window, points: np.ndarray) -> np.ndarray:
    return np.round(window.pixels(points) * (1 << DIGITS)).astype(np.int32)


def _draw_features(scene: Scene, window: Window) -> tuple[np.ndarray, np.ndarray]:
    surface = np.full(window.shape, int(Surface.MEADOW), np.uint8)
    tone = np.zeros(window.shape, np.uint8)
    for one in scene.features:
        middle = (one.points.min(axis=0) + one.points.max(axis=0)) / 2
        reach = np.ptp(one.points, axis=0).max() / 2 + one.half_width
        if not window.sees(*middle, reach):
            continue
        points = _fixed(window, one.points)
        for layer, value in ((surface, one.surface), (tone, one.tone)):
            if one.half_width:
                width = max(1, round(2 * one.half_width / window.gsd))
                cv2.polylines(layer, [points], False, int(value), width, cv2.LINE_8, DIGITS)
            else:
                cv2.fillPoly(layer, [points], int(value), cv2.LINE_8, DIGITS)
    return surface, tone


def _draw_marks(scene: Scene, window: Window) -> np.ndarray:
    paint = np.zeros(window.shape, np.uint8)
    if len(scene.marks):
        centres = scene.marks.mean(axis=1)
        for quad in _fixed(window, scene.marks[window.sees(*centres.T, 6.0)]):
            cv2.fillConvexPoly(paint, quad, 255, cv2.LINE_AA, DIGITS)
    return paint


def _ground(scene: Scene, window: Window, coarse: int = 8) -> np.ndarray:
    rows, cols = (-(-size // coarse) + 2 for size in window.shape)
    x = window.x0 + window.gsd * coarse * (np.arange(cols) - 0.5)
    y = window.y_top - window.gsd * coarse * (np.arange(rows) - 0.5)
    nodes = np.asarray(scene.terrain(x[None, :], y[:, None]), dtype=np.float32)
    return np.ascontiguousarray(spread(nodes, window.shape, coarse))


def roof_height(building: np.void, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Height of the roof above the building's foot at positions in its own axes."""
    if building["roof"] == Roof.FLAT or building["rise"] <= 0:
        return np.full(np.broadcast_shapes(p.shape, q.shape), building["eave"])
    share = 1 - np.abs(q) / building["half_y"]
    if building["roof"] == Roof.HIP:
        share = np.minimum(share, (building["half_x"] - np.abs(p)) / building["half_y"])
    return building["eave"] + building["rise"] * np.clip(share, 0, 1)


def _draw_buildings(scene: Scene, layers: Layers) -> None:
    table, window = scene.buildings, layers.window
    if not len(table):
        return
    reach = np.hypot(table["half_x"], table["half_y"])
    for row in np.flatnonzero(window.sees(table["x"], table["y"], reach)):
        building = table[row]
        patch = window.patch(building["x"], building["y"], reach[row])
        if patch is None:
            continue
        p, q = building_frame(building, *window.centres(*patch))
        inside = (np.abs(p) <= building["half_x"]) & (np.abs(q) <= building["half_y"])
        top = (building["foot"] + roof_height(building, p, q)).astype(np.float32)
        inside &= top > layers.height[patch]
        layers.height[patch][inside] = top[inside]
        layers.building[patch][inside] = row + 1


def _draw_trees(scene: Scene, layers: Layers) -> None:
    table, window = scene.trees, layers.window
    for row in np.flatnonzero(window.sees(table["x"], table["y"], table["radius"])):
        tree = table[row]
        patch = window.patch(tree["x"], tree["y"], float(tree["radius"]))
        if patch is None:
            continue
        x, y = window.centres(*patch)
        share = 1 - ((x - tree["x"]) ** 2 + (y - tree["y"]) ** 2) / tree["radius"] ** 2
        half = (tree["top"] - tree["base"]) / 2
        top = (tree["foot"] + tree["base"] + half * (1 + np.sqrt(np.maximum(share, 0)))).astype(np.float32)
        covers = (share > 0) & (top > layers.canopy[patch])
        layers.canopy[patch][covers] = top[covers]
        layers.crown[patch][covers] = row + 1


def car_outlines(
    window: Window, cars: np.ndarray, shift: float = 0.0, long: float = 1.0, wide: float = 1.0
) -> np.ndarray:
    """Corners of cars, or of a part given as shares of their length and width, ready for OpenCV: int32 (N, 4, 2)."""
    along = np.stack((np.cos(cars["angle"]), np.sin(cars["angle"])), axis=-1)
    ends = along * cars["size"][:, :1] / 2
    side = along[:, ::-1] * (-1, 1) * cars["size"][:, 1:2] / 2 * wide
    middle = np.stack((cars["x"], cars["y"]), axis=-1) + 2 * shift * ends
    back, front = middle - long * ends, middle + long * ends
    return _fixed(window, np.stack((back - side, front - side, front + side, back + side), axis=1))


def cover_of(scene: Scene, layers: Layers, unseen: int) -> np.ndarray:
    """Heights that cast shadows in one view: buildings, trees, and all cars but those that the view does not see."""
    cover, window = layers.canopy.copy(), layers.window
    cars = scene.cars[(scene.cars["seen"] != unseen) & window.sees(scene.cars["x"], scene.cars["y"], 6.0)]
    heights = cars["foot"] + 0.8 * cars["size"][:, 2]
    for outline, height in zip(car_outlines(window, cars), heights.tolist(), strict=True):
        cv2.fillConvexPoly(cover, outline, height, cv2.LINE_8, DIGITS)
    np.maximum(cover, layers.canopy, out=cover)
    return cover
