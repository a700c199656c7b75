"""Walls: windows, doors and materials, from where on which wall a ray ends."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from cvgeo.data.world.light import Look
from cvgeo.data.world.scene import Facade, Scene


@dataclass
class Walls:
    """Where columns' rays enter buildings, one an entry (N,)."""

    at: np.ndarray  # flat number of the step (W, K) that is the first in the building
    building: np.ndarray  # row in the scene's table
    distance: np.ndarray
    foot: np.ndarray
    top: np.ndarray  # of the wall here, above its foot
    along: np.ndarray  # metres along the wall
    normal_x: np.ndarray
    normal_y: np.ndarray
    side: np.ndarray  # 0..3: which of the building's walls

    def take(self, keep: np.ndarray) -> Walls:
        """Those of the entries."""
        return Walls(*(getattr(self, one.name)[keep] for one in fields(self)))


def wall_colours(scene: Scene, look: Look, spots: Walls, z: np.ndarray) -> np.ndarray:
    """Lit colours of points on walls, `z` metres above their feet, float32 (N, 3) in 0..255."""
    table = scene.buildings[spots.building]
    colours = 255 * table["wall_rgb"].copy()
    grain = _grain(look, table["seed"], spots, z)
    colours *= (1 + grain)[:, None]
    leaves = table["facade"] == Facade.LEAVES
    glazed = ~leaves & (table["facade"] != Facade.PLAIN)
    if glazed.any():
        _windows(colours, table, spots, z, np.flatnonzero(glazed))
    # Dirt and occlusion towards the ground, a shadow under the eaves.
    shade = 0.75 + 0.25 * np.clip(z / 2.5, 0, 1) - 0.18 * np.clip(1 - (spots.top - z) / 0.5, 0, 1)
    sun = look.sun.direction
    facing = np.clip(sun[0] * spots.normal_x + sun[1] * spots.normal_y, 0, 1) / sun[2]
    light = (1 - look.sun.direct) + look.sun.direct * np.minimum(facing, 1.5)
    return colours * (shade * (0.25 + 0.75 * light)).astype(np.float32)[:, None]


def _grain(look: Look, seed: np.ndarray, spots: Walls, z: np.ndarray) -> np.ndarray:
    texture, size = look.patterns[1].values, look.patterns[1].size
    row = (z * 8 + seed % 997).astype(np.int32) % size
    col = (spots.along * 8 + seed % 1009).astype(np.int32) % size
    fine = np.clip(12 / np.maximum(spots.distance, 1), 0, 1)
    return 0.07 * fine * texture[row, col] + 0.03 * look.patterns[0].values[row, col]


def _windows(colours: np.ndarray, table: np.ndarray, spots: Walls, z: np.ndarray, rows: np.ndarray) -> None:
    table = table[rows]
    spacing, storey, width, tall = table["window"].T
    z, along, distance = z[rows], spots.along[rows], spots.distance[rows]
    bands = table["facade"] == Facade.BANDS
    ground_floor = z < storey
    seed = table["seed"].astype(np.int64) + 977 * spots.side[rows].astype(np.int64)
    shop = ground_floor & (seed % 5 < 2) & (table["facade"] == Facade.WINDOWS) & (table["eave"] > 7)
    width = np.where(bands, 0.94, np.where(shop, 0.86, width))
    tall = np.where(shop, 0.74, np.where(bands, 0.5, tall))
    soft = np.clip(distance * 0.012, 0.02, 0.6)  # metres that a pixel spans
    column = along / spacing
    level = z / storey
    u = np.abs(column - np.floor(column) - 0.5)
    v = np.abs(level - np.floor(level) - np.where(shop, 0.42, 0.52))
    inside = _step((width / 2 - u) * spacing, soft) * _step((tall / 2 - v) * storey, soft)
    inside *= (spots.top[rows] - z > 0.35) & (table["eave"] > 2.2)
    frame = _step((width / 2 + 0.05 - u) * spacing, soft) * _step((tall / 2 + 0.04 - v) * storey, soft)
    number = np.floor(column).astype(np.int64) * 7919 + np.floor(level).astype(np.int64) * 104729 + seed
    random = (number * 2654435761 % 4294967296) / 4294967296.0
    glass = np.stack((44 + 40 * random, 52 + 44 * random, 62 + 50 * random), axis=-1)
    glass[random > 0.86] = (168, 160, 140)  # drawn curtains
    trim = np.where((seed % 3 == 0)[:, None], 0.55 * colours[rows], np.minimum(colours[rows] * 1.35 + 18, 245))
    mixed = colours[rows] + (frame * (1 - inside) * 0.8)[:, None] * (trim - colours[rows])
    mixed += inside[:, None] * (glass - mixed)
    door = ground_floor & ~bands & (np.abs(along - (2.0 + seed % 4)) < 0.55) & (z < 2.1)
    mixed[door] = 255 * table["roof_rgb"][door][:, ::-1] * 0.6
    colours[rows] = mixed


def _step(gap: np.ndarray, soft: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + gap / soft, 0, 1)
