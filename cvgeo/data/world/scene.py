"""What a scene is made of, and the sketch in which it is laid out before the whole plan is bent.

The sketch is drawn in plan coordinates, where streets are straight; a smooth displacement then bends everything, so
that streets curve while crossings, lots and markings stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from cvgeo.data.world.noise import Waves


class Surface(IntEnum):
    """What the ground is made of."""

    GRASS = 0
    ROAD = 1
    PAVEMENT = 2
    YARD = 3
    GARDEN = 4
    FIELD = 5
    WATER = 6
    PATH = 7
    PLAZA = 8
    CAR_PARK = 9
    PITCH = 10
    SOIL = 11
    MEADOW = 12


class Order(IntEnum):
    """What is painted over what."""

    BLOCK = 0
    DETAIL = 1
    RIVER = 2
    PAVEMENT = 3
    ROAD = 4
    CIRCLE = 5
    ISLAND = 6


class Roof(IntEnum):
    """Shapes of roofs; the ridge runs along the building's x axis."""

    FLAT = 0
    GABLE = 1
    HIP = 2


class Facade(IntEnum):
    """How walls look."""

    WINDOWS = 0
    BANDS = 1
    METAL = 2
    LEAVES = 3
    PLAIN = 4


@dataclass
class Feature:
    """A patch of ground: the polygon of an area, or the middle line of a band of some half width."""

    points: np.ndarray
    half_width: float  # 0 for an area
    surface: int
    tone: int  # 0..255: which of the surface's many shades
    order: int


BUILDING = np.dtype(
    [
        ("x", "f8"),
        ("y", "f8"),
        ("angle", "f8"),  # radians from east, counter-clockwise, of the building's x axis
        ("half_x", "f4"),
        ("half_y", "f4"),
        ("eave", "f4"),
        ("rise", "f4"),  # ridge above the eave
        ("roof", "i1"),
        ("facade", "i1"),
        ("wall_rgb", "f4", 3),
        ("roof_rgb", "f4", 3),
        ("window", "f4", 4),  # spacing along the wall, storey height, share of the spacing, share of the storey
        ("seed", "i4"),
        ("foot", "f4"),  # height of the ground it stands on
    ]
)
TREE = np.dtype(
    [(name, "f8") for name in "xy"]
    + [(name, "f4") for name in ("radius", "top", "base", "shade", "foot")]
    + [("kind", "i1")]
)
CAR = np.dtype(
    [(name, "f8") for name in ("x", "y", "angle")]
    + [("size", "f4", 3), ("rgb", "f4", 3), ("seen", "i1"), ("foot", "f4")]
)
POLE = np.dtype([(name, "f8") for name in "xy"] + [(name, "f4") for name in ("top", "radius", "foot")])
_PAINTS = np.array([(0.5, 0.08, 0.08), (0.1, 0.18, 0.42), (0.12, 0.3, 0.2), (0.62, 0.56, 0.42), (0.6, 0.36, 0.1)])
SEEN_BY_BOTH, SEEN_FROM_ABOVE, SEEN_FROM_GROUND = 0, 1, 2


class Bend:
    """The displacement that turns the plan into the world."""

    def __init__(self, rng: np.random.Generator, strength: float = 1.0):
        self._waves = [
            (Waves(rng, length, 6), strength * size) for length, size in ((330.0, 7.0), (900.0, 32.0)) for _ in "xy"
        ]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """World positions of plan positions (..., 2)."""
        points = np.asarray(points, dtype=np.float64)
        shift = [size * waves.at(points[..., 0], points[..., 1]) for waves, size in self._waves]
        return points + np.stack((shift[0] + shift[2], shift[1] + shift[3]), axis=-1)

    def turn(self, points: np.ndarray) -> np.ndarray:
        """By how much the plan is turned at plan positions (..., 2), in radians counter-clockwise."""
        step = 0.5
        east = self(points + (step, 0.0)) - self(points - (step, 0.0))
        north = self(points + (0.0, step)) - self(points - (0.0, step))
        return np.arctan2(east[..., 1] - north[..., 0], east[..., 0] + north[..., 1])


@dataclass
class Scene:
    """One world, ready to be seen: metres east and north of the world's south-west corner."""

    size_m: float
    features: list[Feature]
    marks: np.ndarray  # (N, 4, 2) corners of painted quadrilaterals
    buildings: np.ndarray
    trees: np.ndarray
    cars: np.ndarray
    poles: np.ndarray
    terrain: Callable[[np.ndarray, np.ndarray], np.ndarray]
    stands: np.ndarray  # (N, 4) where a camera may stand: x, y, direction of the way in radians, 1 on a street else 0

    @staticmethod
    def empty(size_m: float) -> Scene:
        """A bare flat plane, to place things on by hand."""

        def none(kind: np.dtype) -> np.ndarray:
            return np.zeros(0, kind)

        flat = np.zeros((0, 4, 2))
        return Scene(size_m, [], flat, none(BUILDING), none(TREE), none(CAR), none(POLE), _flat, np.zeros((0, 4)))


def _flat(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)))


class Sketch:
    """Collects the parts of a scene in plan coordinates."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.features: list[Feature] = []
        self.marks: list[np.ndarray] = []
        self.stands: list[tuple[float, float, float, float]] = []
        self._rows: dict[str, list[tuple]] = {"building": [], "tree": [], "car": [], "pole": []}
        self._keep_off = np.zeros((0, 3))  # x, y, distance

    def keep_off(self, points: np.ndarray, distance: float) -> None:
        """Let nothing stand within a distance of these points."""
        points = np.atleast_2d(points)
        rows = np.column_stack((points, np.full(len(points), distance)))
        self._keep_off = np.concatenate((self._keep_off, rows))

    def is_free(self, x: float, y: float, radius: float) -> bool:
        """Whether something of this radius may stand here."""
        dx, dy, reach = self._keep_off.T
        return not bool(((dx - x) ** 2 + (dy - y) ** 2 < (reach + radius) ** 2).any())

    def area(self, points: np.ndarray, surface: Surface, order: Order, tone: int | None = None) -> None:
        """A polygon of ground."""
        self._feature(_dense(np.asarray(points, dtype=float), closed=True), 0.0, surface, order, tone)

    def band(
        self, points: Sequence | np.ndarray, half_width: float, surface: Surface, order: Order, tone: int | None = None
    ) -> None:
        """A strip of ground along a line."""
        self._feature(_dense(np.asarray(points, dtype=float), closed=False), half_width, surface, order, tone)

    def _feature(self, points: np.ndarray, half_width: float, surface: int, order: int, tone: int | None) -> None:
        tone = int(self.rng.integers(256)) if tone is None else tone
        self.features.append(Feature(points, half_width, int(surface), tone, int(order)))

    def bar(self, start: np.ndarray, end: np.ndarray, width: float) -> None:
        """A painted bar between two points."""
        along = np.asarray(end, dtype=float) - start
        side = np.array([-along[1], along[0]]) * (0.5 * width / np.hypot(*along))
        self.marks.append(np.array([start + side, end + side, end - side, start - side]))

    def building(self, x: float, y: float, angle: float, half: tuple[float, float], **looks) -> bool:
        """A building, unless something else keeps the place free."""
        if not self.is_free(x, y, float(np.hypot(*half))):
            return False
        row = (x, y, angle, *half, looks["eave"], looks["rise"], looks["roof"], looks["facade"], looks["wall_rgb"])
        self._rows["building"].append((*row, looks["roof_rgb"], looks["window"], int(self.rng.integers(1 << 30)), 0.0))
        return True

    def tree(self, x: float, y: float, radius: float, top: float, base: float, kind: int = 0) -> None:
        """A tree: radius of the crown, heights of its top and of its lower end; kind 1 is a conifer."""
        if self.is_free(x, y, 0.5):
            self._rows["tree"].append((x, y, radius, top, base, self.rng.random(), 0.0, kind))

    def car(self, x: float, y: float, angle: float, seen: int = SEEN_BY_BOTH) -> None:
        """A vehicle; mostly cars, some vans, few lorries (only moving)."""
        if not self.is_free(x, y, 0.5):
            return
        rng = self.rng
        draw = rng.random()
        size = (4.4, 1.8, 1.5) if draw < 0.82 else (5.4, 2.0, 2.3) if draw < 0.96 or not seen else (10.5, 2.5, 3.4)
        scale = rng.uniform(0.93, 1.07)
        grey = rng.uniform(0.08, 0.92)
        rgb = (grey, grey, grey) if rng.random() < 0.7 else tuple(rng.choice(_PAINTS) * rng.uniform(0.7, 1.15))
        self._rows["car"].append((x, y, angle, tuple(scale * one for one in size), rgb, seen, 0.0))

    def pole(self, x: float, y: float, top: float, radius: float) -> None:
        """A lamp post or mast."""
        if self.is_free(x, y, 0.3):
            self._rows["pole"].append((x, y, top, radius, 0.0))

    def bend(self, size_m: float, bend: Bend, terrain: Callable) -> Scene:
        """The scene that this sketch is of."""
        features = [
            Feature(bend(one.points), one.half_width, one.surface, one.tone, one.order)
            for one in sorted(self.features, key=lambda one: one.order)
        ]
        marks = bend(np.array(self.marks)) if self.marks else np.zeros((0, 4, 2))
        tables = {}
        for name, kind in (("building", BUILDING), ("tree", TREE), ("car", CAR), ("pole", POLE)):
            table = np.array(self._rows[name], dtype=kind)
            points = np.stack((table["x"], table["y"]), axis=-1)
            if "angle" in table.dtype.names:
                table["angle"] += bend.turn(points)
            table["x"], table["y"] = bend(points).T
            table["foot"] = terrain(table["x"], table["y"])
            tables[name] = table
        inside = in_buildings(tables["building"], tables["tree"]["x"], tables["tree"]["y"], 0.4)
        tables["tree"] = tables["tree"][~inside]
        stands = np.array(self.stands, dtype=np.float64).reshape(-1, 4)
        turns = bend.turn(stands[:, :2])
        stands[:, :2], stands[:, 2] = bend(stands[:, :2]), stands[:, 2] + turns
        return Scene(
            size_m, features, marks, tables["building"], tables["tree"], tables["car"], tables["pole"], terrain, stands
        )


def in_buildings(buildings: np.ndarray, x: np.ndarray, y: np.ndarray, gap: float) -> np.ndarray:
    """Which points (N,) lie in a building or within `gap` metres of one."""
    inside = np.zeros(len(x), dtype=bool)
    order = np.argsort(x, kind="stable")
    sorted_x = x[order]
    reach = np.hypot(buildings["half_x"], buildings["half_y"]) + gap
    low = np.searchsorted(sorted_x, buildings["x"] - reach)
    high = np.searchsorted(sorted_x, buildings["x"] + reach)
    for building, first, last in zip(buildings, low, high, strict=True):
        rows = order[first:last]
        p, q = building_frame(building, x[rows], y[rows])
        near = (np.abs(p) < building["half_x"] + gap) & (np.abs(q) < building["half_y"] + gap)
        inside[rows[near]] = True
    return inside


def building_frame(building: np.void, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World positions in the building's own axes, metres from its centre."""
    c, s = np.cos(building["angle"]), np.sin(building["angle"])
    dx, dy = x - building["x"], y - building["y"]
    return c * dx + s * dy, c * dy - s * dx


def _dense(points: np.ndarray, closed: bool, step: float = 5.0) -> np.ndarray:
    """The line with a point at least every `step` metres, so that it can be bent."""
    following = np.roll(points, -1, axis=0) if closed else points[1:]
    pieces = []
    for start, end in zip(points, following, strict=False):
        count = max(1, int(np.ceil(np.hypot(*(end - start)) / step)))
        pieces.append(start + np.arange(count)[:, None] / count * (end - start))
    if not closed:
        pieces.append(points[-1:])
    return np.concatenate(pieces)
