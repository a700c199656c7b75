"""Trees, cars and poles in the ground view: each is met by the rays of the few pixels that it can cover."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cvgeo.data.world.aerial import leaf_colours
from cvgeo.data.world.ground import View
from cvgeo.data.world.light import Look
from cvgeo.data.world.scene import SEEN_FROM_ABOVE, Scene

CLOSE_M = 3.5  # no moving or parked car stands nearer to the camera than this


class Patch:
    """The pixels of a view within some angles, with their rays."""

    def __init__(self, view: View, cols: np.ndarray, rows: slice):
        self.view, self.cols, self.rows = view, cols, rows
        self.index = (cols[:, None], np.arange(rows.start, rows.stop)[None, :])
        self.east = view.sine[cols][:, None]
        self.north = view.cosine[cols][:, None]
        self.tangent = view.tangent[rows][None, :]
        self.depth = view.distance[self.index]

    def put(self, shown: np.ndarray, colours: np.ndarray, distance: np.ndarray) -> None:
        """Colour the pixels where `shown` (n, m) and nearer than what is there; colours (n, m, 3) or (3,)."""
        shown = shown & (distance < self.depth)
        if not shown.any():
            return
        at, row = np.nonzero(shown)
        index = (self.cols[at], row + self.rows.start)
        full = np.broadcast_to(colours, (*shown.shape, 3))
        self.view.colours[index] = full[at, row]
        self.view.distance[index] = np.broadcast_to(distance, shown.shape)[at, row]


def patch_of(view: View, x: float, y: float, radius: float, bottom: float, top: float) -> Patch | None:
    """The patch that holds an upright cylinder (heights above the lens); None where nothing of it can be seen."""
    camera = view.camera
    dx, dy = x - camera.x, y - camera.y
    distance = math.hypot(dx, dy)
    if distance <= radius + 0.2:
        return None
    pixel = math.radians(camera.hfov) / camera.width
    half = math.asin(radius / distance) / pixel
    turn = round(2 * math.pi / pixel)
    middle = ((math.atan2(dx, dy) - math.radians(camera.column0)) / pixel - 0.5) % turn
    cols = np.arange(math.floor(middle - half), math.ceil(middle + half) + 1)[:turn] % turn
    cols = cols[cols < camera.width]
    high = math.degrees(math.atan(top / (distance - radius if top > 0 else distance + radius)))
    low = math.degrees(math.atan(bottom / (distance - radius if bottom < 0 else distance + radius)))
    scale = camera.height / (camera.vfov_top - camera.vfov_bottom)
    first = max(0, math.floor((camera.vfov_top - high) * scale - 0.5))
    last = min(camera.height, math.ceil((camera.vfov_top - low) * scale + 0.5))
    if not len(cols) or first >= last:
        return None
    if view.distance[cols[:: max(1, len(cols) // 8)], first:last].max() <= distance - radius:
        return None
    return Patch(view, cols, slice(first, last))


def _near(table: np.ndarray, view: View, sight_m: float) -> np.ndarray:
    away = np.hypot(table["x"] - view.camera.x, table["y"] - view.camera.y)
    rows = np.flatnonzero(away < sight_m)
    return rows[np.argsort(away[rows], kind="stable")]


def draw_trees(scene: Scene, view: View, look: Look, sight_m: float) -> None:
    """Crowns as noisy ellipsoids, trunks as posts."""
    table = scene.trees
    rows = _near(table, view, 0.75 * sight_m)
    colours = leaf_colours(table["shade"][rows], look)
    for row, colour in zip(rows, colours, strict=True):
        tree = table[row]
        foot = float(tree["foot"]) - view.camera.z
        _crown(view, tree, foot, colour, look)
        if tree["base"] > 0.8:
            _post(
                view,
                tree["x"],
                tree["y"],
                0.07 * tree["radius"],
                foot,
                foot + float(tree["base"]) + 0.4,
                np.array([66, 54, 44]),
            )


def _crown(view: View, tree: np.void, foot: float, colour: np.ndarray, look: Look) -> None:
    radius, half = float(tree["radius"]), float(tree["top"] - tree["base"]) / 2
    centre = foot + float(tree["base"]) + half
    patch = patch_of(view, float(tree["x"]), float(tree["y"]), radius, centre - half, centre + half)
    if patch is None:
        return
    dx, dy = np.float32(tree["x"] - view.camera.x), np.float32(tree["y"] - view.camera.y)
    squash = np.float32(radius / half)
    rise, lift = patch.tangent * squash, np.float32(centre) * squash
    a = 1 + rise * rise
    b = patch.east * dx + patch.north * dy + rise * lift
    miss = np.float32(dx * dx + dy * dy + lift * lift) - b * b / a  # squared distance of the ray from the centre
    noise = _leaf_noise(patch, float(np.hypot(dx, dy)), int(tree["shade"] * 1e6), look)
    limit = radius * radius * (0.86 + 0.16 * noise)
    distance = (b - np.sqrt(np.maximum(radius * radius - miss, 0) * a)) / a
    up = (distance * rise - lift) / radius
    lit = look.sun.direction
    facing = ((distance * patch.east - dx) * lit[0] + (distance * patch.north - dy) * lit[1]) / radius + up * lit[2]
    light = 0.62 + 0.2 * up + look.sun.direct * 0.55 * np.clip(facing, -0.3, 1) + 0.2 * noise
    shown = (miss < limit) & (noise > -1.7 + 1.6 * look.bare)
    patch.put(shown, np.clip(light, 0.2, 2.0)[..., None] * colour, distance)


def _leaf_noise(patch: Patch, distance: float, seed: int, look: Look) -> np.ndarray:
    texture, size = look.patterns[1].values, look.patterns[1].size
    scale = distance * np.radians(patch.view.camera.hfov) / patch.view.camera.width * 11.0
    cols = (np.arange(len(patch.cols)) * scale + seed).astype(np.int64) % size
    rows = (np.arange(patch.rows.start, patch.rows.stop) * scale + seed // 7).astype(np.int64) % size
    return texture[np.ix_(cols, rows)]


def _post(view: View, x: float, y: float, radius: float, bottom: float, top: float, colour: np.ndarray) -> None:
    patch = patch_of(view, float(x), float(y), radius, bottom, top)
    if patch is None:
        return
    distance = np.float32(np.hypot(x - view.camera.x, y - view.camera.y))
    z = distance * patch.tangent
    dx, dy = x - view.camera.x, y - view.camera.y
    across = np.abs(patch.east * dy - patch.north * dx)
    pixel = distance * np.radians(view.camera.hfov) / view.camera.width
    shown = (across <= max(radius, 0.5 * pixel)) & (z >= bottom) & (z <= top)
    patch.put(shown, colour, np.full(shown.shape, distance))


def draw_poles(scene: Scene, view: View, sight_m: float) -> None:
    """Lamp posts and masts."""
    table = scene.poles
    for row in _near(table, view, 0.6 * sight_m):
        pole = table[row]
        foot = float(pole["foot"]) - view.camera.z
        _post(
            view, pole["x"], pole["y"], float(pole["radius"]), foot, foot + float(pole["top"]), np.array([88, 90, 92])
        )


def draw_cars(scene: Scene, view: View, look: Look, sight_m: float) -> None:
    """Parked cars, and the moving ones of the ground view: a body and a cabin each."""
    table = scene.cars[scene.cars["seen"] != SEEN_FROM_ABOVE]
    for row in _near(table, view, 0.5 * sight_m):
        car = table[row]
        if np.hypot(car["x"] - view.camera.x, car["y"] - view.camera.y) > CLOSE_M + car["size"][0] / 2:
            foot = float(car["foot"]) - view.camera.z
            _car(view, car, foot, look)


def _car(view: View, car: np.void, foot: float, look: Look) -> None:
    long, wide, tall = (float(one) for one in car["size"])
    patch = patch_of(view, float(car["x"]), float(car["y"]), float(np.hypot(long, wide)) / 2, foot, foot + tall)
    if patch is None:
        return
    rgb = 235 * car["rgb"]
    # Far cars are a few pixels: one box serves.
    boxy = tall > 2 or math.hypot(car["x"] - view.camera.x, car["y"] - view.camera.y) > 28
    body = 0.92 * tall if boxy else 0.62 * tall
    _draw_box(patch, car, Box(0.0, long / 2, wide / 2, foot + 0.18, foot + body, rgb, rgb, wheels=True), look)
    if not boxy:
        glass = np.array([40.0, 46.0, 54.0])
        cabin = Box(-0.06 * long, 0.27 * long, 0.43 * wide, foot + body, foot + tall, glass, rgb, wheels=False)
        _draw_box(patch, car, cabin, look)


@dataclass
class Box:
    """A part of a car: metres forward of its middle, half sizes, heights above the lens, colours of sides and roof."""

    shift: float
    half_long: float
    half_wide: float
    bottom: float
    top: float
    sides: np.ndarray
    roof: np.ndarray
    wheels: bool


def _draw_box(patch: Patch, car: np.void, box: Box, look: Look) -> None:
    """A box where rays enter it, with its sides, roof and wheels."""
    view = patch.view
    c, s = np.float32(np.cos(car["angle"])), np.float32(np.sin(car["angle"]))
    dx = np.float32(view.camera.x - car["x"]) - c * np.float32(box.shift)
    dy = np.float32(view.camera.y - car["y"]) - s * np.float32(box.shift)
    start = (c * dx + s * dy, c * dy - s * dx)
    way = (c * patch.east + s * patch.north, c * patch.north - s * patch.east)
    enter = np.full(patch.depth.shape, -np.inf, np.float32)
    leave = np.full(patch.depth.shape, np.inf, np.float32)
    face = np.zeros(patch.depth.shape, np.int8)
    slabs = (
        (start[0], way[0], -box.half_long, box.half_long),
        (start[1], way[1], -box.half_wide, box.half_wide),
        (np.float32(0), patch.tangent, box.bottom, box.top),
    )
    for axis, (origin, speed, low, high) in enumerate(slabs):
        speed = np.where(np.abs(speed) < 1e-6, np.float32(1e-6), speed)
        one, two = (low - origin) / speed, (high - origin) / speed
        first = np.broadcast_to(np.minimum(one, two), enter.shape)
        face = np.where(first > enter, axis, face)
        enter = np.maximum(enter, first)
        leave = np.minimum(leave, np.maximum(one, two))
    shown = (enter < leave) & (enter > 0)
    shade = np.array([0.78, 0.9, 1.15])[face]
    colours = shade[..., None] * np.where((face == 2)[..., None], box.roof, box.sides)
    if box.wheels:
        along = start[0] + enter * way[0]
        z = enter * patch.tangent - box.bottom
        dark = (face == 1) & (z < 0.42) & (np.abs(np.abs(along) - 0.62 * box.half_long) < 0.34)
        colours[dark | ((face == 0) & (z < 0.15))] = (24, 24, 26)
    patch.put(shown, colours * (0.62 + 0.5 * look.sun.direct), enter)
