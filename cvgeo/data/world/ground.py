"""The view from the street: an equirectangular panorama, by rays marched over the height layer column by column.

For each column of the panorama the heights along its heading are read outwards; the furthest row that each step
reaches follows from the running maximum of elevations, and counting steps a row gives the first step that a row's ray
meets. Walls are then met exactly (the buildings are rectangles in their own axes), ground and roofs by interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvgeo.data.world.facades import Walls, wall_colours
from cvgeo.data.world.knobs import WorldKnobs
from cvgeo.data.world.light import Look, illuminate, surface_colours
from cvgeo.data.world.raster import Layers, cover_of, cv2
from cvgeo.data.world.scene import SEEN_FROM_ABOVE, Roof, Scene

NEAREST_M = 0.7  # the first step: 74 degrees below the horizon for a camera 2.5 m up


@dataclass
class Camera:
    """Where a panorama is taken: the lens in metres, grid heading of column 0's left edge and fields in degrees."""

    x: float
    y: float
    z: float
    column0: float
    width: int
    height: int
    hfov: float
    vfov_top: float
    vfov_bottom: float

    @property
    def azimuths(self) -> np.ndarray:
        """Heading of each column's centre in radians clockwise from grid north (width,)."""
        return np.radians(self.column0 + self.hfov * (np.arange(self.width) + 0.5) / self.width)

    @property
    def elevations(self) -> np.ndarray:
        """Elevation of each row's centre in radians (height,)."""
        return np.radians(
            self.vfov_top - (self.vfov_top - self.vfov_bottom) * (np.arange(self.height) + 0.5) / self.height
        )


@dataclass
class View:
    """A panorama in the making, columns first: colours (W, H, 3), horizontal distance (W, H; infinite for sky)."""

    camera: Camera
    sine: np.ndarray  # (W,) eastward part of each column's heading
    cosine: np.ndarray  # (W,) northward part
    tangent: np.ndarray  # (H,) of each row's elevation
    colours: np.ndarray
    distance: np.ndarray


@dataclass
class Ground:
    """What all panoramas of a window share: its layers and the light on its ground and roofs."""

    layers: Layers
    look: Look
    colours: np.ndarray  # (rows, cols, 3) uint8, lit
    coarse: np.ndarray  # the same at a quarter of the resolution, for what is far


def prepare_ground(scene: Scene, layers: Layers, look: Look, knobs: WorldKnobs) -> Ground:
    """Light the ground and the roofs of a window for the ground view."""
    colours = surface_colours(scene, layers, look)
    cover = cover_of(scene, layers, SEEN_FROM_ABOVE)
    illuminate(colours, layers.height, cover, look, layers.window.gsd, knobs.shadows, step=2)
    fine = cv2.cvtColor(colours, cv2.COLOR_RGBA2RGB)
    return Ground(layers, look, fine, cv2.resize(fine, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA))


def see(scene: Scene, ground: Ground, camera: Camera, sight_m: float) -> View:
    """Ground, roofs and walls as the camera sees them; the sky is left black at infinite distance."""
    azimuths = camera.azimuths
    shape = (camera.width, camera.height)
    view = View(
        camera,
        np.sin(azimuths).astype(np.float32),
        np.cos(azimuths).astype(np.float32),
        np.tan(camera.elevations).astype(np.float32),
        np.zeros((*shape, 3), np.float32),
        np.full(shape, np.inf, np.float32),
    )
    profiles = _profiles(ground.layers, view, _distances(sight_m))
    walls = _walls(scene, view, profiles)
    first = _first_steps(profiles, walls, view).ravel()
    pixel = np.flatnonzero(first < len(profiles.steps)).astype(np.int32)
    _hits(scene, ground, view, profiles, walls, pixel, first[pixel])
    return view


@dataclass
class Profiles:
    """Distances (K,), and the heights and buildings (W, K) read there along each column's heading."""

    steps: np.ndarray
    height: np.ndarray
    building: np.ndarray


def _distances(sight_m: float, ratio: float = 1.022) -> np.ndarray:
    count = int(np.ceil(np.log(sight_m / NEAREST_M) / np.log(ratio))) + 1
    return (NEAREST_M * ratio ** np.arange(count)).astype(np.float32)


def _profiles(layers: Layers, view: View, steps: np.ndarray) -> Profiles:
    window, camera = layers.window, view.camera
    paces = steps / np.float32(window.gsd)
    col = ((camera.x - window.x0) / window.gsd + view.sine[:, None] * paces).astype(np.int32)
    row = ((window.y_top - camera.y) / window.gsd - view.cosine[:, None] * paces).astype(np.int32)
    np.clip(col, 0, window.cols - 1, out=col)
    np.clip(row, 0, window.rows - 1, out=row)
    flat = row * window.cols + col
    return Profiles(
        steps, layers.height.ravel().take(flat, mode="clip"), layers.building.ravel().take(flat, mode="clip")
    )


def _first_steps(profiles: Profiles, walls: Walls, view: View) -> np.ndarray:
    """The first step whose surface each ray meets, int32 (W, H); the number of steps where none does."""
    camera, count = view.camera, len(profiles.steps)
    reached = (profiles.height - np.float32(camera.z)) / profiles.steps
    # A step lies somewhat behind the wall that it has passed: the wall's own top counts.
    tops = (walls.foot + walls.top - np.float32(camera.z)) / walls.distance
    reached.ravel()[walls.at] = np.maximum(reached.ravel()[walls.at], tops)
    np.maximum.accumulate(reached, axis=1, out=reached)
    pixel = (camera.vfov_top - camera.vfov_bottom) / camera.height
    # Rows from `lowest` down lie at or below the elevation reached.
    lowest = np.ceil((camera.vfov_top - np.degrees(np.arctan(reached))) / pixel - 0.5)
    lowest = np.clip(lowest, 0, camera.height).astype(np.int32)
    flat = lowest + np.arange(camera.width, dtype=np.int32)[:, None] * (camera.height + 1)
    counts = np.bincount(flat.ravel(), minlength=camera.width * (camera.height + 1))
    counts = counts.reshape(camera.width, camera.height + 1)[:, : camera.height]
    return (count - np.cumsum(counts, axis=1)).astype(np.int32)


def _hits(
    scene: Scene, ground: Ground, view: View, profiles: Profiles, walls: Walls, pixel: np.ndarray, step: np.ndarray
) -> None:
    """Find where the rays of these pixels (flat numbers) end between a step and the one before it, and colour them."""
    camera, steps = view.camera, profiles.steps
    column, row = np.divmod(pixel, np.int32(camera.height))
    at = column * np.int32(len(steps)) + step
    slope = view.tangent[row]
    far = steps[step]
    near = np.where(step > 0, steps[step - 1], np.float32(0))
    height = profiles.height.ravel()
    foot = ground.layers.ground[_cell(ground.layers, camera.x, camera.y)]
    over = np.float32(camera.z) + near * slope - np.where(step > 0, height[at - (step > 0)], foot)
    under = height[at] - np.float32(camera.z) - far * slope
    distance = near + np.clip(over / np.maximum(over + under, np.float32(1e-6)), 0, 1) * (far - near)

    number = np.full(height.size, -1, np.int32)
    number[walls.at] = np.arange(len(walls.at), dtype=np.int32)
    wall = np.flatnonzero(number[at] >= 0)
    spots = walls.take(number[at[wall]])
    z = np.float32(camera.z) + spots.distance * slope[wall] - spots.foot
    real = z <= spots.top + 0.02
    distance[wall] = np.where(real, spots.distance, far[wall])
    colours = _read_ground(ground, view, column, distance)
    wall = wall[real]
    if len(wall):
        colours[wall] = wall_colours(scene, ground.look, spots.take(real), z[real])
    view.colours.reshape(-1, 3)[pixel] = colours
    view.distance.ravel()[pixel] = distance


def _cell(layers: Layers, x: float, y: float) -> tuple[int, int]:
    col, row = np.round(layers.window.pixels(np.array([x, y]))).astype(int)
    return int(np.clip(row, 0, layers.window.rows - 1)), int(np.clip(col, 0, layers.window.cols - 1))


def _walls(scene: Scene, view: View, profiles: Profiles) -> Walls:
    """Meet the walls exactly: each building is a rectangle in its own axes."""
    building = profiles.building
    enters = building > 0
    enters[:, 1:] &= building[:, 1:] != building[:, :-1]
    at = np.flatnonzero(enters)
    column, which = at // len(profiles.steps), building.ravel()[at] - 1
    table, camera = scene.buildings[which], view.camera
    c, s = np.cos(table["angle"]), np.sin(table["angle"])
    dx, dy = camera.x - table["x"], camera.y - table["y"]
    east, north = view.sine[column], view.cosine[column]
    start = np.stack((c * dx + s * dy, c * dy - s * dx), axis=-1)
    way = np.stack((c * east + s * north, c * north - s * east), axis=-1)
    way = np.where(np.abs(way) < 1e-6, 1e-6, way)
    half = np.stack((table["half_x"], table["half_y"]), axis=-1)
    entry = (-np.sign(way) * half - start) / way
    axis = (entry[:, 1] > entry[:, 0]).astype(np.int64)  # 0: met a wall across the building's x axis
    distance = np.maximum(entry.max(axis=1), 0.3)
    other = np.arange(len(at)), 1 - axis
    across = start[other] + distance * way[other]
    outward = -np.sign(way[np.arange(len(at)), axis])
    share = np.clip(1 - np.abs(across) / half[other], 0, 1)
    top = table["eave"] + ((table["roof"] == Roof.GABLE) & (axis == 0)) * table["rise"] * share
    normal_x = np.where(axis == 0, c, -s) * outward
    normal_y = np.where(axis == 0, s, c) * outward
    small = (one.astype(np.float32) for one in (distance, table["foot"], top, across + half[other], normal_x, normal_y))
    return Walls(at, which, *small, 2 * axis + (outward > 0))


def _read_ground(ground: Ground, view: View, columns: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Lit colours of ground and roofs where rays meet them, float32 (N, 3); from the coarser picture where far."""
    window, camera = ground.layers.window, view.camera
    x = (camera.x - window.x0 + distance * view.sine[columns]) / window.gsd - 0.5
    y = (window.y_top - camera.y - distance * view.cosine[columns]) / window.gsd - 0.5
    fine = _sample(ground.colours, x, y)
    coarse = _sample(ground.coarse, (x + 0.5) / 4 - 0.5, (y + 0.5) / 4 - 0.5)
    share = np.clip((distance - 14) / 20, 0, 1)[:, None]
    return fine + share * (coarse - fine)


def _sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # remap takes no side longer than 32767: fold the list of points into a rectangle.
    width = 1024
    rows = -(-len(x) // width)
    folded = np.zeros((2, rows * width), np.float32)
    folded[0, : len(x)], folded[1, : len(x)] = x, y
    folded = folded.reshape(2, rows, width)
    found = cv2.remap(image, folded[0], folded[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(-1, 3)[: len(x)].astype(np.float32)
