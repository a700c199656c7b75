"""Pseudo-panoramas from aerial imagery alone: what a camera might see that stands in the middle of an aerial picture.

The ground is the picture itself, by the geometry of a level camera over a plane. Regions of one colour become things
that stand on it, of heights drawn at random: trees where it is green and rough, buildings where a region is compact,
cars where it is small. Their walls take the colours that they show from above, in a style of their own. Sky, passers-by
that the picture from above does not show, haze, and the camera's idea of colour are drawn as well. Nothing of it is how
the place looks; what both views share is which colours and things lie in which direction, and how far.

The method is this program's own. That heights make a panorama of an aerial picture is from Lu et al. 2020
("Geometry-aware satellite-to-ground image synthesis for urban areas"), to draw at random what is unknown from Tobin et
al. 2017 ("Domain randomization").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvgeo.geometry.opencv import import_cv2

GROUND, TREE, BUILDING, CAR, PASSER = range(5)
STEP_M = 0.5  # along a ray
GRID_M = 0.75  # of the map of things
TOP_DEG, BOTTOM_DEG = 45.0, -45.0


@dataclass(frozen=True)
class AreaStyle:
    """How much is drawn at random. Lengths in metres.

    `height_m` is the range of the camera's height. `things` is the share of regions that may stand up which do;
    `passers` how many passers-by stand around at most. `style` scales all changes of colour: 0 leaves the picture's.
    """

    height_m: tuple[float, float] = (1.6, 2.6)
    things: float = 0.85
    passers: int = 10
    style: float = 1.0


@dataclass(frozen=True)
class Things:
    """What stands on the ground of an aerial picture, on a square grid of `GRID_M` a cell with the camera amidst.

    `kind` (N, N) uint8 of GROUND, TREE, BUILDING, CAR; `height_m` (N, N) float32; `number` (N, N) int32 of the thing.
    """

    kind: np.ndarray
    height_m: np.ndarray
    number: np.ndarray


def standing_place(
    picture: np.ndarray, gsd_m: float, reach_m: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Metres north and east of the middle of an aerial picture (S, S, 3) where one could stand, at most `reach_m` each.

    Panoramas are taken on streets and paths: of a few spots drawn at random it is the smoothest, greyest, least dark.
    """
    cv2 = import_cv2()
    cells = max(9, round(picture.shape[0] * gsd_m / GRID_M))
    small = cv2.resize(picture, (cells, cells), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32) - (0, 128, 128)
    dark = np.maximum(0, 80 - lab[..., 0])
    score = np.hypot(lab[..., 1], lab[..., 2]) + 2 * _roughness(lab[..., 0]) + dark
    score = cv2.blur(score, (5, 5))
    spots = generator.uniform(-reach_m, reach_m, (12, 2))
    row, column = np.clip(np.rint((cells - 1) / 2 + spots.T * ((-1,), (1,)) / GRID_M), 0, cells - 1).astype(int)
    north, east = spots[score[row, column].argmin()].tolist()
    return north, east


def find_things(picture: np.ndarray, gsd_m: float, style: AreaStyle, generator: np.random.Generator) -> Things:
    """Regions of one colour of an aerial picture (S, S, 3) uint8 RGB, north up, and how high they stand by chance.

    What lies within 3 m of the middle, where the camera stands, is ground, and so is the region that it belongs to.
    """
    cv2 = import_cv2()
    cells = max(16, round(picture.shape[0] * gsd_m / GRID_M))
    small = cv2.medianBlur(cv2.resize(picture, (cells, cells), interpolation=cv2.INTER_AREA), 3)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32) - np.float32((0, 128, 128))
    number, edge_m, regions = _regions(_clusters(lab, int(generator.integers(6, 11)), generator))
    kinds = _kinds(number, [*cv2.split(lab), _roughness(lab[..., 0])], regions, generator)
    kinds[number[cells // 2, cells // 2]] = GROUND
    kinds[generator.random(len(kinds)) > style.things] = GROUND
    kind = kinds[number]
    kind[np.hypot(*(np.indices(kind.shape) - (cells - 1) / 2)) * GRID_M < 3.0] = GROUND
    return Things(kind, _heights(kind, number, edge_m, len(kinds), generator), np.where(kind == GROUND, 0, number))


def _clusters(lab: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """The nearest of at most `count` colours (N, N) uint8 of each pixel: means around colours that lie far apart."""
    pixels = np.ascontiguousarray(lab.reshape(-1, 3).T)
    some = pixels[:, generator.integers(pixels.shape[1], size=600)]
    # The seeding of k-means++ (Arthur and Vassilvitskii 2007): what is rare and unlike the rest has a colour, too.
    centres, apart = some[:, :1].T, np.full(600, np.inf)
    for _ in range(count - 1):
        apart = np.minimum(apart, ((some - centres[-1][:, None]) ** 2).sum(0))
        if not apart.any():
            break
        drawn = np.searchsorted(np.cumsum(apart), generator.random() * apart.sum(), side="right")
        centres = np.vstack([centres, some[:, min(drawn, 599)]])
    nearest = _nearest(centres, some)
    held = np.maximum(np.bincount(nearest, minlength=len(centres)), 1)
    means = np.stack([np.bincount(nearest, one, len(centres)) / held for one in some], axis=1)
    return _nearest(means.astype(np.float32), pixels).astype(np.uint8).reshape(lab.shape[:2])


def _nearest(centres: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Which of the centres (K, 3) is nearest to each of the pixels (3, N)."""
    return ((centres**2).sum(1)[:, None] - 2 * centres @ pixels).argmin(0)


def _regions(label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Regions of equal label (N, N): number (N, N) from 1 on, 0 at their edges; metres to the edge (N, N) float32; and
    of each number its ground in square metres and the share that it fills of its box, (M, 2).
    """
    cv2 = import_cv2()
    number, edge_m = np.zeros(label.shape, np.int32), np.zeros(label.shape, np.float32)
    found = [np.zeros((1, 2))]
    count = 0
    for one in range(int(label.max()) + 1):
        mask = cv2.morphologyEx((label == one).astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
        regions, marks, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        inside = marks > 0
        number[inside] = marks[inside] + count
        edge_m[inside] = cv2.distanceTransform(mask, cv2.DIST_L2, 3)[inside] * GRID_M
        area = boxes[1:, cv2.CC_STAT_AREA]
        filled = area / (boxes[1:, cv2.CC_STAT_WIDTH] * boxes[1:, cv2.CC_STAT_HEIGHT])
        found.append(np.stack([area * GRID_M**2, filled], axis=1))
        count += regions - 1
    return number, edge_m, np.concatenate(found)


def _roughness(lightness: np.ndarray) -> np.ndarray:
    """Standard deviation of the lightness around each cell, in five by five, (N, N)."""
    cv2 = import_cv2()
    mean, square = cv2.blur(lightness, (5, 5)), cv2.blur(lightness * lightness, (5, 5))
    return np.sqrt(np.maximum(square - mean * mean, 0))


def _kinds(number: np.ndarray, shown: np.ndarray, regions: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """What each region (M,) may be, by its mean lightness, a, b and roughness, `shown` (N, N, 4), and its shape.

    Thresholds and chances are drawn anew for each picture: which regions stand up cannot be seen from above for sure.
    """
    count = len(regions)
    flat, held = number.ravel(), np.maximum(np.bincount(number.ravel(), minlength=count), 1)
    light, green, yellow, rough = (np.bincount(flat, one.ravel(), count) / held for one in shown)
    area, filled = regions.T
    leafy = (green < -2 - 4 * generator.random()) & (light < generator.uniform(90, 160))
    tree = leafy & (area > 6) & (rough > generator.uniform(2, 9))
    car = ~leafy & (area >= 3) & (area <= 14) & (filled > 0.6) & (generator.random(count) < 0.5)
    compact = (area >= 30) & (area <= 2500) & (filled > generator.uniform(0.45, 0.65))
    grey = (np.hypot(green, yellow) < 6) & (light < 150)
    building = ~leafy & compact & (generator.random(count) < np.where(grey, 0.35, 0.75))
    kinds = np.select([tree, car, building], [TREE, CAR, BUILDING], GROUND).astype(np.uint8)
    kinds[0] = GROUND
    return kinds


def _heights(
    kind: np.ndarray, number: np.ndarray, edge_m: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Metres of height (N, N) float32: of cars and buildings alike all over, of trees' crowns less at their edges."""
    cars = generator.uniform(1.3, 2.0, count)
    storeys = generator.choice([3.2, 6.2, 9.5, 14.0], count, p=[0.4, 0.35, 0.15, 0.1])
    buildings, trees = storeys * generator.uniform(0.85, 1.2, count), generator.uniform(3.0, 14.0, count)
    crowns = np.minimum(1, 0.35 + edge_m / generator.uniform(2.0, 4.0)) * generator.uniform(0.85, 1.1, kind.shape)
    heights = [cars[number], buildings[number], trees[number] * crowns]
    return np.select([kind == CAR, kind == BUILDING, kind == TREE], heights, 0).astype(np.float32)


def render_panorama(
    picture: np.ndarray,
    gsd_m: float,
    height: int,
    width: int,
    generator: np.random.Generator,
    style: AreaStyle = AreaStyle(),
    column0_heading: float = 180.0,
    things: Things | None = None,
) -> np.ndarray:
    """A panorama (height, width, 3) uint8 RGB, 360 degrees by +45 to -45, from the middle of an aerial picture.

    picture: (S, S, 3) uint8 RGB, north up, of `gsd_m` metres a pixel. Column j's centre looks along column0_heading +
    360 (j + 1/2) / width, in degrees clockwise from north. `things` are guessed unless given. The same generator's
    state gives the same panorama.
    """
    things = find_things(picture, gsd_m, style, generator) if things is None else things
    scene = _Rays(picture, gsd_m, things, height, width, column0_heading, generator)
    scene.add_passers(int(generator.integers(style.passers + 1)))
    return _developed(scene.colours(generator.uniform(*style.height_m), style.style), style.style, generator)


class _Rays:
    """The scene along rays of equal azimuth: (W, R) samples `STEP_M` apart, from 1 m to the picture's edge."""

    def __init__(
        self,
        picture: np.ndarray,
        gsd_m: float,
        things: Things,
        height: int,
        width: int,
        column0_heading: float,
        generator: np.random.Generator,
    ) -> None:
        self.picture, self.gsd_m, self.generator = picture, gsd_m, generator
        self.reach_m = picture.shape[0] * gsd_m / 2 - GRID_M
        self.distance = np.arange(1.0, self.reach_m, STEP_M, dtype=np.float32)
        azimuth = np.radians(column0_heading + 360 * (np.arange(width) + 0.5) / width)
        self.sine, self.cosine = np.sin(azimuth).astype(np.float32), np.cos(azimuth).astype(np.float32)
        row = np.arange(height, dtype=np.float32)
        self.tangent = np.tan(np.radians(TOP_DEG - (TOP_DEG - BOTTOM_DEG) * (row + 0.5) / height)).astype(np.float32)
        cells = len(things.kind)
        east = (self.sine[:, None] * self.distance / GRID_M + cells / 2).astype(np.int32)
        north = (cells / 2 - self.cosine[:, None] * self.distance / GRID_M).astype(np.int32)
        self.kind, self.height_m = things.kind[north, east], things.height_m[north, east]
        self.number = things.number[north, east]

    def add_passers(self, count: int) -> None:
        """People, poles, cars and bushes that the aerial picture does not show: boxes at 2 to 20 m."""
        widths, heights = (0.3, 0.6, 1.8, 4.5), (4.0, 1.75, 1.6, 1.6)
        for one in range(count):
            shape = self.generator.integers(4)
            far = float(self.generator.uniform(2.5, 20.0))
            half = max(1, round(widths[shape] / far / 2 / (2 * np.pi) * len(self.sine)))
            columns = np.arange(-half, half + 1) + self.generator.integers(len(self.sine))
            sample = min(int((far - 1) / STEP_M), len(self.distance) - 1)
            columns %= len(self.sine)
            self.kind[columns, sample] = PASSER
            self.height_m[columns, sample] = heights[shape] * self.generator.uniform(0.7, 1.2)
            self.number[columns, sample] = -1 - one

    def colours(self, camera_m: float, strength: float) -> np.ndarray:
        """The picture (H, W, 3) float32 as a camera of this height sees it, before its own changes of colour."""
        first, seen = self._first_seen(camera_m)
        ground = self._ground(camera_m)
        sample = np.minimum(first, len(self.distance) - 1)
        column = np.arange(len(self.sine))[:, None]
        kind = np.where(seen, self.kind[column, sample], GROUND)
        far = np.where(seen, self.distance[sample], self.reach_m)
        walls = self._walls(column, sample, kind, far, camera_m, strength)
        image = np.where((kind == GROUND)[..., None], ground.transpose(1, 0, 2), walls)
        image = self._hazy(image, far, strength)
        sky = ~seen & (self.tangent > self._skyline(camera_m)[:, None])
        return np.where(sky[..., None], self._sky(), image).transpose(1, 0, 2)

    def _first_seen(self, camera_m: float) -> tuple[np.ndarray, np.ndarray]:
        """Which sample (W, H) a ray of each row meets first, and whether it meets any."""
        rise = np.maximum.accumulate((self.height_m - camera_m) / self.distance, axis=1)
        # Rows fall from the top; a sample that rises to a row's tangent is met by it and by all below.
        row = len(self.tangent) - np.searchsorted(self.tangent[::-1], rise, side="right")
        width, height = len(self.sine), len(self.tangent)
        flat = np.arange(width)[:, None] * (height + 1) + row
        hidden = np.bincount(flat.ravel(), minlength=width * (height + 1)).reshape(width, height + 1)
        met = np.cumsum(hidden, axis=1)[:, :height]
        return rise.shape[1] - met, met > 0

    def _ground(self, camera_m: float) -> np.ndarray:
        """Colours (H, W, 3) of the plane under the camera; beyond the picture's edge its last ones go on."""
        cv2 = import_cv2()
        down = np.minimum(self.tangent, -camera_m / self.reach_m)
        far = (camera_m / -down)[:, None] / self.gsd_m
        middle = (self.picture.shape[0] - 1) / 2
        east, north = middle + far * self.sine, middle - far * self.cosine
        found = cv2.remap(self.picture, east, north, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return found.astype(np.float32)

    def _walls(
        self,
        column: np.ndarray,
        sample: np.ndarray,
        kind: np.ndarray,
        far: np.ndarray,
        camera_m: float,
        strength: float,
    ) -> np.ndarray:
        """Colours (W, H, 3) of what stands up: those from above, each thing in a tone and a pattern of its own."""
        number = self.number[column, sample]
        tones = self._tones(strength)
        base = self._from_above(column, sample)
        base = base * tones[number % len(tones)]
        own = self.generator.uniform(20, 225, (len(tones), 1)) + self.generator.normal(0, 25, (len(tones), 3))
        recoloured = (kind == PASSER) | ((kind == BUILDING) & (number % 3 == 0))
        base = np.where(recoloured[..., None], own[number % len(own)], base)
        up = camera_m + far * self.tangent
        along = (self.sine[:, None] + 0.7 * self.cosine[:, None]) * far
        window = (np.mod(up, 3.0) > 1.1) & (np.mod(up, 3.0) < 2.4) & (np.mod(along, 2.7) > 1.2)
        glass = (kind == BUILDING) & window & (number % 4 != 1)
        leaf = 1 + self._leaves(kind.shape)
        shade = np.where(kind == TREE, leaf, 1.0) * np.where(glass, self.generator.uniform(0.35, 0.8), 1.0)
        return base * shade[..., None].astype(np.float32)

    def _leaves(self, shape: tuple[int, int]) -> np.ndarray:
        """Light and shade (W, H) float32 of foliage, coarse and fine, about 0."""
        cv2 = import_cv2()
        fine, coarse = (
            cv2.resize(
                self.generator.standard_normal((shape[0] // step + 1, shape[1] // step + 1), np.float32), shape[::-1]
            )
            for step in (2, 7)
        )
        return 0.16 * fine + 0.22 * coarse

    def _tones(self, strength: float) -> np.ndarray:
        """Factors (64, 3) of things' colours, seen from the side."""
        light = np.exp(strength * self.generator.normal(-0.15, 0.3, (64, 1)))
        return (light * np.exp(strength * self.generator.normal(0, 0.08, (64, 3)))).astype(np.float32)

    def _from_above(self, column: np.ndarray, sample: np.ndarray) -> np.ndarray:
        """The aerial picture's colours (W, H, 3) a little behind the samples, where a thing's edge is passed."""
        far = (self.distance[sample] + 1.0) / self.gsd_m
        middle, last = self.picture.shape[0] / 2, self.picture.shape[0] - 1
        east = np.clip(middle + far * self.sine[column], 0, last).astype(np.int32)
        north = np.clip(middle - far * self.cosine[column], 0, last).astype(np.int32)
        return self.picture[north, east].astype(np.float32)

    def _hazy(self, image: np.ndarray, far: np.ndarray, strength: float) -> np.ndarray:
        clear = np.exp(-far * np.float32(strength / self.generator.uniform(150, 1500)))[..., None]
        return image * clear + self.generator.uniform(150, 225) * (1 - clear)

    def _skyline(self, camera_m: float) -> np.ndarray:
        """Tangent (W,) of the elevation of what stands beyond the picture's edge."""
        turn = np.linspace(0, 2 * np.pi, len(self.sine), endpoint=False)
        waves = sum(np.cos(k * turn + self.generator.uniform(0, 6.3)) / k**0.6 for k in (1, 2, 3, 5, 8, 13, 21))
        blocks = np.repeat(self.generator.normal(0, 1, 24), -(-len(turn) // 24))[: len(turn)]
        return np.maximum(0, self.generator.uniform(0, 0.08) + 0.03 * waves + 0.03 * blocks).astype(np.float32)

    def _sky(self) -> np.ndarray:
        """Colours (W, H, 3) of a sky: clear, clouded or overcast."""
        cv2 = import_cv2()
        generator, height = self.generator, len(self.tangent)
        horizon = generator.uniform(150, 245) * generator.uniform(0.93, 1.05, 3)
        zenith = np.array([95, 140, 205]) * generator.uniform(0.6, 1.2)
        zenith += generator.random() * (horizon - zenith)
        rise = np.clip(self.tangent, 0, 1)[None, :, None] ** 0.7
        sky = horizon + rise * (zenith - horizon)
        noise = generator.normal(0, 1, (12, 5)).astype(np.float32)
        clouds = cv2.resize(noise, (height, len(self.sine)), interpolation=cv2.INTER_CUBIC)
        cover = np.clip(clouds + generator.uniform(-2.0, 1.0), 0, 1)[..., None] * generator.uniform(0.3, 1.0)
        return (sky + cover * (generator.uniform(200, 250) - sky)).astype(np.float32)


def _developed(image: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """The picture (H, W, 3) uint8 of a camera with its own exposure, balance, contrast, saturation, blur and noise."""
    cv2 = import_cv2()
    gain = np.exp(strength * (generator.normal(0, 0.2) + generator.normal(0, 0.07, 3)))
    saturation = np.exp(strength * generator.normal(0, 0.35))
    mix = saturation * np.eye(3) + (1 - saturation) * np.array([0.3, 0.59, 0.11])
    image = cv2.transform(image.astype(np.float32), (gain[:, None] * mix).astype(np.float32))
    image = cv2.GaussianBlur(image, (0, 0), 0.3 + 0.6 * strength * generator.random())
    image += strength * generator.uniform(0, 5) * generator.standard_normal(image.shape[:2], np.float32)[..., None]
    contrast, gamma = np.exp(strength * generator.normal(0, 0.2, 2))
    curve = np.clip(128 + contrast * (255 * (np.arange(256) / 255) ** gamma - 128), 0, 255)
    return cv2.LUT(np.clip(image, 0, 255).astype(np.uint8), np.round(curve).astype(np.uint8))
