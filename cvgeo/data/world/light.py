"""Sun, shadows and the colours of surfaces: what a look of one view consists of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvgeo.data.world.knobs import WorldKnobs
from cvgeo.data.world.noise import Texture, Waves, spread, texture
from cvgeo.data.world.raster import Layers
from cvgeo.data.world.scene import Scene, Surface
from cvgeo.data.world.window import Window
from cvgeo.geometry.opencv import import_cv2

cv2 = import_cv2()
SHADES = 32  # tones that a surface has within one look

# Mean reflectance of each surface in linear 0..255 RGB, and how much it varies: (between tones, from grain to grain).
_SURFACES: dict[Surface, tuple[tuple[float, float, float], float, float]] = {
    Surface.GRASS: ((92, 108, 62), 0.12, 0.10),
    Surface.ROAD: ((98, 97, 99), 0.16, 0.05),
    Surface.PAVEMENT: ((142, 136, 130), 0.12, 0.06),
    Surface.YARD: ((128, 122, 114), 0.16, 0.08),
    Surface.GARDEN: ((96, 108, 68), 0.16, 0.13),
    Surface.FIELD: ((134, 128, 74), 0.28, 0.08),
    Surface.WATER: ((52, 70, 76), 0.12, 0.03),
    Surface.PATH: ((158, 142, 116), 0.14, 0.06),
    Surface.PLAZA: ((150, 140, 130), 0.18, 0.07),
    Surface.CAR_PARK: ((104, 102, 102), 0.16, 0.06),
    Surface.PITCH: ((84, 116, 66), 0.12, 0.05),
    Surface.SOIL: ((138, 112, 84), 0.18, 0.09),
    Surface.MEADOW: ((112, 114, 72), 0.14, 0.13),
}
_SUMMER = np.array([(42, 62, 30), (62, 86, 40), (92, 112, 56)], dtype=np.float32)
_AUTUMN = np.array([(78, 52, 28), (128, 84, 36), (152, 120, 58)], dtype=np.float32)
_LUSH, _DRY = np.array([0.72, 0.98, 0.68]), np.array([1.36, 1.04, 1.32])
ONE = 100  # what stands for 1 where factors are bytes
GREEN = (Surface.GRASS, Surface.GARDEN, Surface.FIELD, Surface.PITCH, Surface.MEADOW)
STRIPED = np.isin(np.arange(256), (Surface.FIELD, Surface.PITCH, Surface.SOIL))


@dataclass
class Sun:
    """Where the sun stands (radians; azimuth from east, counter-clockwise) and how much of the light is direct."""

    azimuth: float
    elevation: float
    direct: float

    @property
    def direction(self) -> np.ndarray:
        """Unit vector towards the sun: east, north, up."""
        flat = np.cos(self.elevation)
        return np.array([flat * np.cos(self.azimuth), flat * np.sin(self.azimuth), np.sin(self.elevation)])


@dataclass
class Look:
    """How one view sees the scene: sun, colours of surfaces, leaves, and the fields by which they vary."""

    sun: Sun
    palette: np.ndarray  # (surfaces * SHADES, 4) uint8
    grain: np.ndarray  # (surfaces,) float32
    leaves: np.ndarray  # (3, 3) float32: colours from dark to bright trees
    bare: float  # share of leaves that are gone
    patterns: list[Texture]  # for ground, leaves and walls: mixed, fine, blotches
    drift: list[Waves]  # slow changes of brightness, of red against green, of blue
    drift_size: float
    sky: np.ndarray  # (3,) light of the sky
    detail: Texture | None = None  # factors from a real orthophoto (S, S, 4), see `details`


def make_look(
    rng: np.random.Generator, knobs: WorldKnobs, season: float, patterns: list[Texture], lowest_sun: float = 28.0
) -> Look:
    """Draw a look: `season` is 0 in summer, towards 1 the leaves turn brown and fall; the sun is no lower than said."""
    turned = np.clip(season * rng.uniform(0.6, 1.4), 0, 1)
    leaves = (_SUMMER * (1 - turned) + _AUTUMN * turned) * np.exp(knobs.palette * rng.normal(0.1, 0.3))
    overcast = rng.random() < 0.3
    direct = 0.12 if overcast else rng.uniform(0.5, 0.66)
    sun = Sun(rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(lowest_sun, 58)), direct)
    return Look(
        sun=sun,
        palette=_palette(rng, knobs.palette, season),
        grain=np.array([one[2] for one in _SURFACES.values()] + [0.06] * (256 - len(_SURFACES)), dtype=np.float32),
        leaves=leaves.astype(np.float32),
        bare=float(turned > 0.85) * 0.5,
        patterns=patterns,
        drift=[Waves(rng, length) for length in (170.0, 120.0, 120.0)],
        drift_size=0.16 * knobs.palette,
        sky=np.array([0.92, 1.0, 1.1], dtype=np.float32),
    )


def _palette(rng: np.random.Generator, strength: float, season: float) -> np.ndarray:
    palette = np.zeros((len(_SURFACES), SHADES, 4))
    for surface, (rgb, between, _) in _SURFACES.items():
        whole = rng.normal(0, 0.26) + rng.normal(0, 0.045, 3)
        shades = between * (rng.standard_normal((SHADES, 1)) + 0.12 * rng.standard_normal((SHADES, 3)))
        colour = np.array(rgb)
        if surface in GREEN:
            # Each lawn and field is as lush or as dry as it likes.
            dry = np.clip(0.5 + strength * rng.uniform(-0.6, 0.6, (SHADES, 1)) + 0.3 * season, 0, 1.1)
            colour = colour * (_LUSH + dry * (_DRY - _LUSH))
        palette[surface, :, :3] = colour * np.exp(strength * (whole + shades))
    return np.clip(palette, 8, 235).astype(np.uint8).reshape(-1, 4)


def make_patterns(rng: np.random.Generator) -> list[Texture]:
    """The textures that all looks share: a mixture for the ground, fine grain, blotches."""
    fine = texture(rng, ((1, 1.0), (2, 0.8), (4, 0.5)))
    medium = texture(rng, ((8, 1.0), (16, 1.0), (4, 0.4)))
    blotches = texture(rng, ((64, 1.0), (32, 0.7)))
    return [Texture(0.6 * fine + 0.7 * medium + 0.5 * blotches), Texture(fine), Texture(blotches)]


def cast_shadows(full: np.ndarray, sun: Sun, gsd: float, reach_m: float = 75.0) -> np.ndarray:
    """Share of direct light that reaches each pixel, float32 (rows, cols) in 0..1.

    A pixel is dark if some height towards the sun stands above the ray to it; the furthest of 2 n steps is the
    furthest of n steps, seen n steps on: log2 passes instead of one for every step. Worked out at half the resolution.
    """
    height, gsd = np.ascontiguousarray(full[::2, ::2]), 2 * gsd
    step = np.array([-np.sin(sun.azimuth), np.cos(sun.azimuth)])  # rows, columns towards the sun
    drop = gsd * np.tan(sun.elevation)
    above = _shifted(height, step) - drop
    count = 1
    while count * gsd < reach_m:
        np.maximum(above, _shifted(above, step * count) - drop * count, out=above)
        count *= 2
    lit = np.clip(1 - 2.5 * (above - height - 0.1), 0, 1)
    return cv2.resize(lit, full.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _shifted(layer: np.ndarray, by: np.ndarray) -> np.ndarray:
    # Value of the pixel `by` away; beyond the window nothing stands.
    row, col = (int(v) for v in np.round(by))
    rows, cols = layer.shape
    out = np.full_like(layer, -1e4)
    source = layer[max(0, row) : rows + min(0, row), max(0, col) : cols + min(0, col)]
    out[max(0, -row) : max(0, -row) + source.shape[0], max(0, -col) : max(0, -col) + source.shape[1]] = source
    return out


def surface_colours(scene: Scene, layers: Layers, look: Look) -> np.ndarray:
    """Reflectance of ground and roofs, uint8 (rows, cols, 4): RGB and a channel without meaning."""
    window = layers.window
    index = layers.surface.astype(np.uint16) * SHADES + layers.tone % SHADES  # mode "clip" spares numpy a checked copy
    colours = look.palette.view(np.uint32)[:, 0].take(index, mode="clip")
    on_roof = np.flatnonzero(layers.building)
    which = layers.building.ravel()[on_roof] - 1
    colours.ravel()[on_roof] = _packed(255 * scene.buildings["roof_rgb"])[which]
    colours = colours.view(np.uint8).reshape(*window.shape, 4)
    grain = cv2.LUT(layers.surface, look.grain) * look.patterns[0].window(window)
    _crops(layers, grain)
    _scale(colours, cv2.convertScaleAbs(grain, alpha=ONE, beta=ONE))
    if look.detail is not None:
        cv2.multiply(colours, np.ascontiguousarray(look.detail.window(window)), dst=colours, scale=1 / ONE)
    _drift(colours, window, look)
    painted = np.flatnonzero(layers.paint)
    share = layers.paint.ravel()[painted, None] * np.float32(0.85 / 255)
    flat = colours.reshape(-1, 4)
    flat[painted] = (flat[painted] * (1 - share) + 215 * share).astype(np.uint8)
    return colours


def _packed(rgb: np.ndarray) -> np.ndarray:
    """Colours (N, 3) in 0..255 as one uint32 each."""
    four = np.zeros((len(rgb), 4), np.uint8)
    four[:, :3] = np.clip(rgb, 0, 255)
    return four.view(np.uint32)[:, 0]


def _scale(colours: np.ndarray, factor: np.ndarray) -> None:
    """Multiply all channels of (rows, cols, 4) by factor / ONE, in place."""
    cv2.multiply(colours, cv2.merge([factor] * 4), dst=colours, scale=1 / ONE)


def _drift(colours: np.ndarray, window: Window, look: Look) -> None:
    """The slow changes of brightness and hue over the ground, in place."""
    light, red, blue = (one.nodes(window) for one in look.drift)
    size = look.drift_size
    planes = [light + 0.3 * red, light, light + 0.35 * blue, light]
    nodes = np.clip(ONE * (1 + size * np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)
    cv2.multiply(colours, np.ascontiguousarray(spread(nodes, window.shape)), dst=colours, scale=1 / ONE)


def _crops(layers: Layers, grain: np.ndarray) -> None:
    """Rows of crops and the stripes of a mown pitch, in place."""
    at = np.flatnonzero(STRIPED.take(layers.surface))
    rows, cols = np.divmod(at, layers.window.cols)
    tone = layers.tone.ravel()[at].astype(np.float32)
    x = np.float32(layers.window.x0) + np.float32(layers.window.gsd) * cols.astype(np.float32)
    y = np.float32(layers.window.y_top) - np.float32(layers.window.gsd) * rows.astype(np.float32)
    across = x * np.cos(0.4 * tone) + y * np.sin(0.4 * tone)
    grain.ravel()[at] += np.float32(0.08) * np.sin(across * (np.float32(2 * np.pi) / (2.2 + 0.02 * tone)))


def slope_light(height: np.ndarray, sun: Sun, gsd: float) -> np.ndarray:
    """Cosine between surface and sun over that of level ground, float32 (rows, cols); walls count as gentle slopes."""
    east = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=1, scale=0.5 / gsd)
    south = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=1, scale=0.5 / gsd)
    np.clip(east, -1.1, 1.1, out=east)
    np.clip(south, -1.1, 1.1, out=south)
    sx, sy, sz = (np.float32(one) for one in sun.direction)
    cosine = (sz - sx * east + sy * south) / cv2.sqrt(1 + east * east + south * south)
    return np.clip(cosine / sz, 0.0, 1.8)


def illuminate(
    colours: np.ndarray, height: np.ndarray, cover: np.ndarray, look: Look, gsd: float, depth: float, step: int = 1
) -> None:
    """Multiply reflectance (rows, cols, 4) by light, in place: the sky's everywhere, the sun's where it reaches.

    `height` is the surface that is seen, `cover` the one that casts shadows; slopes are taken at every `step`-th pixel.
    """
    sun = look.sun
    slope = slope_light(np.ascontiguousarray(height[::step, ::step]), sun, step * gsd)
    if step > 1:
        slope = cv2.resize(slope, height.shape[::-1], interpolation=cv2.INTER_LINEAR)
    direct = slope * (1 - depth * (1 - cast_shadows(cover, sun, gsd)))
    planes = [
        cv2.convertScaleAbs(direct, alpha=ONE * sun.direct * (2 - sky), beta=ONE * (1 - sun.direct) * sky)
        for sky in look.sky
    ]
    cv2.multiply(colours, cv2.merge([*planes, planes[0]]), dst=colours, scale=1 / ONE)
