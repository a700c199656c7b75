"""A procedural world: its scene, its panoramas, its orthophoto, and the truth about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cvgeo.data.world.aerial import render_ortho
from cvgeo.data.world.details import read_detail
from cvgeo.data.world.ground import Camera, Ground, prepare_ground, see
from cvgeo.data.world.knobs import WorldKnobs
from cvgeo.data.world.layout import lay_out, stream
from cvgeo.data.world.light import Look, make_look, make_patterns
from cvgeo.data.world.noise import Texture
from cvgeo.data.world.places import Places, choose_places
from cvgeo.data.world.raster import Layers, crop, rasterise
from cvgeo.data.world.response import finish
from cvgeo.data.world.scene import Scene
from cvgeo.data.world.sprites import draw_cars, draw_poles, draw_trees
from cvgeo.data.world.window import Window
from cvgeo.geometry.geodesy import map_to_latlon

CRS = "EPSG:32630"  # UTM zone 30 north; the world lies in the Bay of Biscay, on the zone's central meridian
CENTRAL_MERIDIAN = -3.0
NORTHING_M = 5_050_000.0
BLOCK_PIXELS = 1024
LOWEST_SUN = 42.0  # of the aerial view, which is taken around noon
SHADOW_M = 48.0  # how far beyond its edge a window is drawn, so that shadows fall into it


@dataclass
class Truth:
    """What is known of each panorama: position, heading of column 0's left edge from true north, fields of view."""

    id: list[str]
    file: list[str]
    lat: np.ndarray
    lon: np.ndarray
    column0_heading: np.ndarray
    hfov: np.ndarray
    vfov_top: np.ndarray
    vfov_bottom: np.ndarray
    easting: np.ndarray
    northing: np.ndarray
    altitude_m: np.ndarray

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True)
class Tile:
    """One block of the world: what is drawn together. Pixel offsets in the orthophoto."""

    row: int
    col: int
    rows: int
    cols: int


class World:
    """The world of a seed: `size_km` is the length of its sides.

    `panoramas` says how many there are (None: as many as have room), `textures` names rasters from which the texture
    of ground and roofs is taken.
    Everything follows from the arguments: the same ones give the same pixels, in whatever order they are asked for.
    """

    def __init__(
        self,
        seed: int,
        size_km: float,
        knobs: WorldKnobs | None = None,
        panoramas: int | None = None,
        textures: Sequence[Path] = (),
    ):
        self.textures = list(textures)
        self.seed, self.knobs = seed, knobs or WorldKnobs()
        self.pixels = round(1000 * size_km / self.knobs.gsd_m)
        self.size_m = self.pixels * self.knobs.gsd_m
        self._count = panoramas
        self._held_layers: tuple[Tile, Layers] | None = None
        self._held_ground: tuple[Tile, Ground] | None = None

    @cached_property
    def scene(self) -> Scene:
        """Streets, buildings, trees and cars."""
        return lay_out(self.seed, self.size_m, self.knobs)

    @cached_property
    def places(self) -> Places:
        """Where the panoramas stand, in metres of the world."""
        return choose_places(self.scene, self.knobs, self._count, stream(self.seed, 4))

    @property
    def origin(self) -> tuple[float, float]:
        """Easting and northing of the world's north-west corner in `CRS`."""
        return 500_000.0 - round(self.size_m / 2), NORTHING_M + self.size_m

    @cached_property
    def truth(self) -> Truth:
        """Positions and headings of all panoramas."""
        places, knobs, count = self.places, self.knobs, len(self.places)
        easting, northing = self.origin[0] + places.x, NORTHING_M + places.y
        lat, lon = map_to_latlon(easting, northing, CRS)
        # Grid north and true north differ by the meridian's convergence.
        turned = np.degrees(np.arctan(np.tan(np.radians(lon - CENTRAL_MERIDIAN)) * np.sin(np.radians(lat))))
        names = [f"{index:05d}" for index in range(count)]
        angles = (np.full(count, angle) for angle in (knobs.hfov, knobs.vfov_top, knobs.vfov_bottom))
        altitude = self.scene.terrain(places.x, places.y) + knobs.camera_height_m
        files = [f"panoramas/{name}.jpg" for name in names]
        return Truth(names, files, lat, lon, (places.column0 + turned) % 360, *angles, easting, northing, altitude)

    def tiles(self) -> Iterator[Tile]:
        """The blocks of the orthophoto, row by row."""
        for row in range(0, self.pixels, BLOCK_PIXELS):
            for col in range(0, self.pixels, BLOCK_PIXELS):
                yield Tile(row, col, min(BLOCK_PIXELS, self.pixels - row), min(BLOCK_PIXELS, self.pixels - col))

    def panoramas_in(self, tile: Tile) -> np.ndarray:
        """Numbers of the panoramas that stand in a block."""
        gsd = self.knobs.gsd_m
        col, row = self.places.x // gsd, (self.size_m - self.places.y) // gsd
        return np.flatnonzero(
            (row >= tile.row) & (row < tile.row + tile.rows) & (col >= tile.col) & (col < tile.col + tile.cols)
        )

    def render_ortho_window(self, row: int, col: int, rows: int, cols: int) -> np.ndarray:
        """A window of the orthophoto, uint8 (rows, cols, 3) RGB, by pixel offsets from its upper left corner."""
        margin = round(SHADOW_M / self.knobs.gsd_m)
        return self._ortho(rasterise(self.scene, self._window(row, col, rows, cols, margin)), margin)

    def render_tile(self, tile: Tile) -> np.ndarray:
        """A block of the orthophoto, uint8 (rows, cols, 3) RGB, from the layers that its panoramas are made from."""
        layers, margin = self._layers(tile), round(SHADOW_M / self.knobs.gsd_m)
        off = self._margin - margin
        return self._ortho(crop(layers, off, off, tile.rows + 2 * margin, tile.cols + 2 * margin), margin)

    def _ortho(self, layers: Layers, margin: int) -> np.ndarray:
        rows, cols = (size - 2 * margin for size in layers.window.shape)
        image = render_ortho(self.scene, layers, self._aerial_look, self.knobs)
        return image[margin : margin + rows, margin : margin + cols]

    def render_panorama(self, index: int) -> np.ndarray:
        """Panorama number `index`, uint8 (height, width, 3) RGB."""
        places = self.places
        tile = self._tile_of(float(places.x[index]), float(places.y[index]))
        return self._render(tile, float(places.x[index]), float(places.y[index]), float(places.column0[index]), index)

    def render_panorama_at(self, x: float, y: float, column0: float) -> np.ndarray:
        """A panorama at any place (metres of the world) and grid heading of column 0."""
        return self._render(self._tile_of(x, y), x, y, column0, 0)

    def _render(self, tile: Tile, x: float, y: float, column0: float, index: int) -> np.ndarray:
        knobs, scene = self.knobs, self.scene
        ground = self._ground(tile)
        z = float(scene.terrain(np.array(x), np.array(y))) + knobs.camera_height_m
        fields = (knobs.panorama_width, knobs.panorama_height, knobs.hfov, knobs.vfov_top, knobs.vfov_bottom)
        view = see(scene, ground, Camera(x, y, z, column0, *fields), knobs.sight_m)
        draw_cars(scene, view, ground.look, knobs.sight_m)
        draw_poles(scene, view, knobs.sight_m)
        draw_trees(scene, view, ground.look, knobs.sight_m)
        return finish(view, ground.look, knobs, stream(self.seed, 8, index))

    def _tile_of(self, x: float, y: float) -> Tile:
        row = int((self.size_m - y) / self.knobs.gsd_m) // BLOCK_PIXELS * BLOCK_PIXELS
        col = int(x / self.knobs.gsd_m) // BLOCK_PIXELS * BLOCK_PIXELS
        return Tile(row, col, min(BLOCK_PIXELS, self.pixels - row), min(BLOCK_PIXELS, self.pixels - col))

    def _window(self, row: int, col: int, rows: int, cols: int, margin: int) -> Window:
        gsd = self.knobs.gsd_m
        x0, y_top = (col - margin) * gsd, self.size_m - (row - margin) * gsd
        return Window(x0, y_top, rows + 2 * margin, cols + 2 * margin, gsd)

    @property
    def _margin(self) -> int:
        """Pixels that are drawn around a block: what its panoramas see, and at least what shadows need."""
        return round((max(self.knobs.sight_m, SHADOW_M) + 2) / self.knobs.gsd_m)

    def _layers(self, tile: Tile) -> Layers:
        if self._held_layers is None or self._held_layers[0] != tile:
            window = self._window(tile.row, tile.col, tile.rows, tile.cols, self._margin)
            self._held_layers = (tile, rasterise(self.scene, window))
        return self._held_layers[1]

    def _ground(self, tile: Tile) -> Ground:
        if self._held_ground is None or self._held_ground[0] != tile:
            ground = prepare_ground(self.scene, self._layers(tile), self._ground_look(tile), self.knobs)
            self._held_ground = (tile, ground)
        return self._held_ground[1]

    @cached_property
    def _patterns(self) -> list[Texture]:
        return make_patterns(stream(self.seed, 5))

    @cached_property
    def _aerial_look(self) -> Look:
        look = make_look(stream(self.seed, 6), self.knobs, 0.0, self._patterns, LOWEST_SUN)
        look.detail = self._details[0]
        return look

    @cached_property
    def _details(self) -> list[Texture | None]:
        """Textures from the user's orthophotos for the aerial and for the ground view."""
        if not self.textures:
            return [None, None]
        return [read_detail(self.textures, self.knobs.gsd_m, stream(self.seed, 9, view)) for view in (0, 1)]

    def _ground_look(self, tile: Tile) -> Look:
        rng = stream(self.seed, 7, tile.row, tile.col)
        season = self.knobs.season * float(rng.choice([0.0, 0.3, 0.8]))
        look = make_look(rng, self.knobs, season, self._patterns)
        look.detail = self._details[1]
        return look
