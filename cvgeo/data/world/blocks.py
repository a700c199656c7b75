"""What stands in a block: one function for each kind of block, chosen by the block's district."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator

import numpy as np

from cvgeo.data.world.scene import Facade, Order, Roof, Sketch, Surface
from cvgeo.data.world.streets import Block

_BUILDERS: dict[str, Callable[[Block, Sketch], None]] = {}

# How often each kind of block comes in a district.
MIX: dict[str, dict[str, float]] = {
    "old_town": {"perimeter": 0.74, "square": 0.1, "garden_square": 0.08, "car_park": 0.08},
    "suburb": {"houses": 0.8, "terraces": 0.1, "garden_square": 0.05, "sports": 0.05},
    "estate": {"slabs": 0.66, "car_park": 0.12, "houses": 0.12, "sports": 0.1},
    "centre": {"towers": 0.56, "car_park": 0.16, "square": 0.12, "perimeter": 0.16},
    "industry": {"halls": 0.8, "car_park": 0.2},
    "park": {"park": 0.85, "sports": 0.15},
    "country": {"fields": 0.75, "wood": 0.25},
}


def _builder(function: Callable[[Block, Sketch], None]) -> Callable[[Block, Sketch], None]:
    _BUILDERS[function.__name__] = function
    return function


def fill(block: Block, sketch: Sketch) -> None:
    """Fill a block with one of the kinds that its district has."""
    mix = MIX[block.district]
    kind = str(sketch.rng.choice(list(mix), p=list(mix.values())))
    _BUILDERS[kind](block, sketch)


def inset(block: Block, extra: float = 0.0) -> np.ndarray:
    """The block's corners after its streets (and `extra` metres) are taken off; (0, 2) where nothing is left."""
    polygon = block.corners
    for start, end, kind in zip(block.corners, np.roll(block.corners, -1, axis=0), block.kinds, strict=True):
        along = (end - start) / np.hypot(*(end - start))
        inward = np.array([-along[1], along[0]])
        polygon = _clip(polygon, start + inward * (kind.margin + extra), inward)
        if len(polygon) < 3:
            return np.zeros((0, 2))
    return polygon


def _clip(polygon: np.ndarray, point: np.ndarray, inward: np.ndarray) -> np.ndarray:
    side = (polygon - point) @ inward
    kept = []
    for i in range(len(polygon)):
        j = (i + 1) % len(polygon)
        if side[i] >= 0:
            kept.append(polygon[i])
        if (side[i] >= 0) != (side[j] >= 0):
            kept.append(polygon[i] + side[i] / (side[i] - side[j]) * (polygon[j] - polygon[i]))
    return np.array(kept).reshape(-1, 2)


def contains(polygon: np.ndarray, points: np.ndarray, tolerance: float = 0.4) -> bool:
    """Whether all points lie in a convex counter-clockwise polygon."""
    if len(polygon) < 3:
        return False
    edges = np.roll(polygon, -1, axis=0) - polygon
    edges /= np.hypot(*edges.T)[:, None]
    gaps = points[:, None] - polygon
    return bool((edges[:, 0] * gaps[..., 1] - edges[:, 1] * gaps[..., 0]).min() > -tolerance)


def rectangle(x: float, y: float, angle: float, half_x: float, half_y: float) -> np.ndarray:
    """Corners (4, 2) of a turned rectangle."""
    c, s = np.cos(angle), np.sin(angle)
    local = np.array([(-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)])
    return local @ np.array([(c, s), (-s, c)]) + (x, y)


def edges_of(polygon: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
    """Start, direction, inward normal and length of each edge."""
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        length = float(np.hypot(*(end - start)))
        if length > 1.0:
            along = (end - start) / length
            yield start, along, np.array([-along[1], along[0]]), length


def scatter(polygon: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """About `count` random points in a polygon (fewer where it is a small part of its bounding box)."""
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    points = rng.uniform(low, high, (count, 2))
    return np.array([one for one in points if contains(polygon, one[None], 0.0)]).reshape(-1, 2)


def _wall_rgb(rng: np.random.Generator) -> tuple[float, float, float]:
    """Plaster, brick or stone; now and then any colour."""
    hue = rng.random() if rng.random() < 0.15 else rng.normal(0.085, 0.045) % 1
    return colorsys.hsv_to_rgb(hue, rng.uniform(0.03, 0.42), rng.uniform(0.32, 0.9))


def _roof_rgb(rng: np.random.Generator) -> tuple[float, float, float]:
    """Tiles, slate, gravel or tar; now and then any colour."""
    draw = rng.random()
    if draw < 0.45:
        return colorsys.hsv_to_rgb(rng.normal(0.04, 0.025) % 1, rng.uniform(0.2, 0.5), rng.uniform(0.26, 0.62))
    if draw < 0.9:
        return colorsys.hsv_to_rgb(rng.normal(0.6, 0.08) % 1, rng.uniform(0.02, 0.14), rng.uniform(0.2, 0.78))
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.1, 0.4), rng.uniform(0.25, 0.7))


def looks(
    rng: np.random.Generator, eave: float, roof: Roof, facade: Facade = Facade.WINDOWS, rise: float = 0.0
) -> dict:
    """How a building looks: walls and roof of unrelated colours."""
    window = (rng.uniform(2.0, 4.2), rng.uniform(2.7, 3.4), rng.uniform(0.3, 0.62), rng.uniform(0.4, 0.62))
    if facade is Facade.METAL:
        window = (rng.uniform(5, 9), rng.uniform(5, 7), rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.4))
    return {
        "eave": eave,
        "rise": rise,
        "roof": int(roof),
        "facade": int(facade),
        "wall_rgb": _wall_rgb(rng),
        "roof_rgb": _roof_rgb(rng),
        "window": window,
    }


def base(block: Block, sketch: Sketch, surface: Surface) -> np.ndarray:
    """Cover the block with a surface; returns what its streets leave of it."""
    sketch.area(block.corners, surface, Order.BLOCK)
    return inset(block)


def hedge(sketch: Sketch, start: np.ndarray, end: np.ndarray, height: float, leaves: bool = True) -> None:
    """A hedge or a wall between two points."""
    length = float(np.hypot(*(end - start)))
    if length < 1.5:
        return
    middle, angle = (start + end) / 2, float(np.arctan2(*(end - start)[::-1]))
    facade = Facade.LEAVES if leaves else Facade.PLAIN
    look = looks(sketch.rng, height, Roof.FLAT, facade)
    if leaves:
        shade = sketch.rng.uniform(0.6, 1.2)
        look["wall_rgb"] = look["roof_rgb"] = (0.16 * shade, 0.26 * shade, 0.1 * shade)
    for part in np.arange(0, length, 8.0):
        piece = min(8.0, length - part)
        x, y = start + (end - start) * ((part + piece / 2) / length) if length > 8 else middle
        sketch.building(x, y, angle, (piece / 2, 0.4), **look)


def grow(sketch: Sketch, x: float, y: float, size: float = 1.0, kind: int | None = None) -> None:
    """A tree of about some size (1: a grown street tree)."""
    rng = sketch.rng
    kind = int(rng.random() < 0.15) if kind is None else kind
    radius = size * rng.uniform(1.9, 4.0) * (0.65 if kind else 1.0)
    base_height = 0.5 if kind else size * rng.uniform(1.8, 3.4)
    sketch.tree(
        x,
        y,
        radius,
        base_height + radius * rng.uniform(3.0, 4.2) if kind else base_height + radius * rng.uniform(1.6, 2.2),
        base_height,
        kind,
    )


def trees_in(sketch: Sketch, polygon: np.ndarray, per_hectare: float, size: float = 1.0) -> None:
    """Trees scattered over a polygon, in clumps."""
    if len(polygon) < 3:
        return
    extent = float(np.prod(np.ptp(polygon, axis=0)))
    for x, y in scatter(polygon, int(sketch.rng.poisson(per_hectare * extent / 1e4)), sketch.rng):
        grow(sketch, x, y, size * sketch.rng.uniform(0.7, 1.3))


def frontage(
    polygon: np.ndarray,
    sketch: Sketch,
    width: tuple[float, float],
    gap: tuple[float, float],
    depth: tuple[float, float],
    setback: float,
) -> Iterator[tuple[float, float, float, float, float]]:
    """Lots along every edge of a polygon: centre, angle and half sizes of what fits on each."""
    rng = sketch.rng
    taken: list[np.ndarray] = []
    for start, along, inward, length in edges_of(polygon):
        position = rng.uniform(0, gap[1])
        while position < length - width[0]:
            half_x, half_y = rng.uniform(*width) / 2, rng.uniform(*depth) / 2
            if length - position - 2 * half_x < width[0]:
                half_x = min(half_x * 1.4, (length - position) / 2)
            x, y = start + along * (position + half_x) + inward * (setback + half_y)
            angle = float(np.arctan2(along[1], along[0]))
            corners = rectangle(x, y, angle, half_x, half_y)
            crowded = any(np.hypot(*(other - (x, y))) < 0.75 * half_y + half_x * 0.5 for other in taken)
            if contains(polygon, corners) and not (crowded and gap[1] > 1):
                taken.append(np.array([x, y]))
                yield x, y, angle, half_x, half_y
            position += 2 * half_x + rng.uniform(*gap)


@_builder
def perimeter(block: Block, sketch: Sketch) -> None:
    """Attached town houses around a court."""
    inner = base(block, sketch, Surface.YARD)
    rng = sketch.rng
    height = rng.uniform(8, 15)
    for x, y, angle, half_x, half_y in frontage(inner, sketch, (9, 19), (0.0, 0.02), (9, 13), 0.0):
        if rng.random() < 0.03:
            continue
        pitched = rng.random() < 0.75
        roof = Roof.GABLE if pitched else Roof.FLAT
        rise = half_y * rng.uniform(0.5, 0.95) if pitched else 0.0
        look = looks(rng, height + rng.normal(0, 1.6), roof, rise=rise)
        sketch.building(x, y, angle, (half_x, half_y), **look)
    court = inset(block, 15.0)
    if len(court) > 2:
        sketch.area(court, Surface.GARDEN if rng.random() < 0.6 else Surface.YARD, Order.DETAIL)
        trees_in(sketch, court, 60, 0.8)


@_builder
def houses(block: Block, sketch: Sketch) -> None:
    """Detached houses in gardens."""
    inner = base(block, sketch, Surface.GARDEN)
    if len(inner) < 3:
        return
    rng = sketch.rng
    setback = rng.uniform(3.5, 7.5)
    for x, y, angle, half_x, half_y in frontage(inner, sketch, (9, 14), (4, 10), (7.5, 10.5), setback):
        kind = Roof(int(rng.choice([0, 1, 2], p=[0.15, 0.5, 0.35])))
        rise = 0.0 if kind is Roof.FLAT else min(half_x, half_y) * rng.uniform(0.55, 1.0)
        turned = rng.random() < 0.3
        look = looks(rng, rng.uniform(2.8, 6.2), kind, rise=rise)
        half = (half_y, half_x) if turned else (half_x, half_y)
        sketch.building(x, y, angle + np.pi / 2 * turned, half, **look)
        _yard(sketch, np.array([x, y]), angle, half_x, half_y, setback)
    trees_in(sketch, inset(block, 2.0), 22, 0.8)
    if rng.random() < 0.5:
        trees_in(sketch, inset(block, 22.0), 45, 1.0)


def _yard(sketch: Sketch, centre: np.ndarray, angle: float, half_x: float, half_y: float, setback: float) -> None:
    rng = sketch.rng
    along = np.array([np.cos(angle), np.sin(angle)])
    inward = np.array([-along[1], along[0]])
    front = centre - inward * (half_y + setback)
    side = rng.choice([-1, 1])
    drive = along * side * (half_x - 1.5)
    surface = Surface(int(rng.choice([Surface.YARD, Surface.PATH, Surface.CAR_PARK])))
    sketch.band([front + drive, centre + drive], 1.5, surface, Order.DETAIL)
    if rng.random() < 0.4 and setback > 5.2:
        sketch.car(*(front + drive + inward * 2.7), angle + np.pi / 2)
    if rng.random() < 0.45:
        reach = along * side * (half_x + 2.5)
        hedge(
            sketch, front - reach + inward * 0.5, front + drive - along * side * 2 + inward * 0.5, rng.uniform(0.9, 1.9)
        )
    if rng.random() < 0.12:
        pool = centre + inward * (half_y + rng.uniform(5, 8))
        sketch.area(rectangle(*pool, angle, rng.uniform(2.5, 4.5), 2.0), Surface.WATER, Order.DETAIL)


@_builder
def terraces(block: Block, sketch: Sketch) -> None:
    """Rows of narrow houses with one roof line."""
    inner = base(block, sketch, Surface.GARDEN)
    if len(inner) < 3:
        return
    rng = sketch.rng
    eave, rise = rng.uniform(5, 7), rng.uniform(2.5, 4)
    for start, along, inward, length in edges_of(inner):
        position = 3.0
        while position + 20 < length:
            row = min(rng.uniform(24, 55), length - position)
            x, y = start + along * (position + row / 2) + inward * 8.5
            angle = float(np.arctan2(along[1], along[0]))
            if contains(inner, rectangle(x, y, angle, row / 2, 4.5)):
                sketch.building(x, y, angle, (row / 2, 4.5), **looks(rng, eave, Roof.GABLE, rise=rise))
            position += row + rng.uniform(5, 12)
    trees_in(sketch, inset(block, 14.0), 50, 0.7)


@_builder
def slabs(block: Block, sketch: Sketch) -> None:
    """Long blocks of flats on lawns."""
    inner = base(block, sketch, Surface.GRASS)
    if len(inner) < 3:
        return
    rng = sketch.rng
    angle = block.long_axis + rng.choice([0, np.pi / 2])
    placed: list[np.ndarray] = []
    for x, y in scatter(inner, 60, rng):
        half_x, half_y = rng.uniform(16, 30), rng.uniform(5.5, 7.5)
        box = rectangle(x, y, angle, half_x + 3, half_y + 4)
        if not contains(inner, box) or any(np.hypot(*(one - (x, y))) < 36 for one in placed):
            continue
        placed.append(np.array([x, y]))
        look = looks(rng, 3.0 * rng.integers(3, 9), Roof.FLAT, Facade(int(rng.choice([0, 1]))))
        sketch.building(x, y, angle, (half_x, half_y), **look)
        foot = np.array([x, y]) + np.array([np.sin(angle), -np.cos(angle)]) * (half_y + 3)
        reach = np.array([np.cos(angle), np.sin(angle)]) * (half_x + 4)
        sketch.band([foot - reach, foot + reach], 1.2, Surface.PATH, Order.DETAIL)
    trees_in(sketch, inner, 28)


@_builder
def towers(block: Block, sketch: Sketch) -> None:
    """Offices, shops and tall buildings on paved ground."""
    inner = base(block, sketch, Surface.PLAZA)
    if len(inner) < 3:
        return
    rng = sketch.rng
    placed: list[tuple[np.ndarray, float]] = []
    for x, y in scatter(inner, 50, rng):
        half_x, half_y = rng.uniform(9, 21), rng.uniform(8, 15)
        reach = float(np.hypot(half_x, half_y))
        box = rectangle(x, y, block.long_axis, half_x + 2, half_y + 2)
        if not contains(inner, box) or any(np.hypot(*(one - (x, y))) < reach + far for one, far in placed):
            continue
        placed.append((np.array([x, y]), reach))
        eave = 3.2 * rng.integers(3, 7) if rng.random() < 0.7 else 3.2 * rng.integers(8, 14)
        facade = Facade.BANDS if rng.random() < 0.5 else Facade.WINDOWS
        sketch.building(x, y, block.long_axis, (half_x, half_y), **looks(rng, eave, Roof.FLAT, facade))
        if rng.random() < 0.5:
            _penthouse(sketch, x, y, block.long_axis, half_x, half_y, eave)
    trees_in(sketch, inner, 14, 0.8)
    sketch.stands.extend((x, y, rng.uniform(0, 6.28), 0.0) for x, y in scatter(inset(block, 3.0), 6, rng))


def _penthouse(sketch: Sketch, x: float, y: float, angle: float, half_x: float, half_y: float, eave: float) -> None:
    rng = sketch.rng
    look = looks(rng, eave + rng.uniform(2.5, 7), Roof.FLAT, Facade.BANDS)
    shift = rng.uniform(-0.3, 0.3) * half_x
    x, y = x + np.cos(angle) * shift, y + np.sin(angle) * shift
    sketch.building(x, y, angle, (half_x * rng.uniform(0.3, 0.6), half_y * rng.uniform(0.4, 0.8)), **look)


@_builder
def halls(block: Block, sketch: Sketch) -> None:
    """Halls and yards with containers and lorries."""
    inner = base(block, sketch, Surface.YARD)
    if len(inner) < 3:
        return
    rng = sketch.rng
    for x, y, angle, half_x, half_y in frontage(inner, sketch, (24, 62), (8, 20), (18, 36), rng.uniform(3, 12)):
        gable = rng.random() < 0.4
        look = looks(rng, rng.uniform(5.5, 11), Roof.GABLE if gable else Roof.FLAT, Facade.METAL, 2.0 * gable)
        sketch.building(x, y, angle, (half_x, half_y), **look)
    for x, y in scatter(inset(block, 4.0), 14, rng):
        angle = block.long_axis + rng.choice([0, np.pi / 2])
        for step in range(int(rng.integers(1, 5))):
            look = looks(rng, 2.6 * rng.integers(1, 3), Roof.FLAT, Facade.PLAIN)
            look["roof_rgb"] = look["wall_rgb"]
            sketch.building(x - 2.7 * step * np.sin(angle), y + 2.7 * step * np.cos(angle), angle, (3.0, 1.2), **look)
    trees_in(sketch, inner, 5)


@_builder
def square(block: Block, sketch: Sketch) -> None:
    """A paved square with trees around it and something in its middle."""
    inner = base(block, sketch, Surface.PLAZA)
    if len(inner) < 3:
        return
    rng = sketch.rng
    centre = inner.mean(axis=0)
    if rng.random() < 0.6:
        sketch.area(ellipse(centre, 5.0, 5.0), Surface.WATER, Order.DETAIL)
        sketch.pole(*centre, 6.0, 0.6)
    else:
        look = looks(rng, rng.uniform(9, 14), Roof.HIP, Facade.WINDOWS, 8.0)
        sketch.building(*centre, block.long_axis, (9.0, 6.0), **look)
    for start, along, inward, length in edges_of(inset(block, 3.0)):
        for position in np.arange(4, length - 3, rng.uniform(7, 11)):
            grow(sketch, *(start + along * position + inward), 0.7, 0)
    sketch.stands.extend((x, y, rng.uniform(0, 6.28), 0.0) for x, y in scatter(inset(block, 5.0), 8, rng))


def ellipse(centre: np.ndarray, a: float, b: float, count: int = 32) -> np.ndarray:
    """Points (count, 2) of an ellipse with half axes a and b along x and y."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return centre + np.stack((a * np.cos(angle), b * np.sin(angle)), axis=-1)


@_builder
def garden_square(block: Block, sketch: Sketch) -> None:
    """A small green with crossing paths."""
    inner = base(block, sketch, Surface.GRASS)
    if len(inner) < 3:
        return
    _paths(sketch, inner, 1.2)
    trees_in(sketch, inner, 90, 0.9)


def _paths(sketch: Sketch, inner: np.ndarray, half_width: float) -> None:
    rng = sketch.rng
    middle = inner.mean(axis=0) + rng.normal(0, 4, 2)
    for start, along, inward, length in edges_of(inner):
        if length < 18 or rng.random() < 0.25:
            continue
        gate = start + along * length * rng.uniform(0.2, 0.8)
        bulge = (gate + middle) / 2 + along * rng.normal(0, 6) + inward * 2
        t = np.linspace(0, 1, 14)[:, None]
        line = (1 - t) ** 2 * gate + 2 * t * (1 - t) * bulge + t**2 * middle
        sketch.band(line, half_width, Surface.PATH, Order.DETAIL)
        way = float(np.arctan2(*(middle - gate)[::-1]))
        sketch.stands.extend((x, y, way, 0.0) for x, y in line[3:-1:4])


@_builder
def park(block: Block, sketch: Sketch) -> None:
    """Lawns, winding paths, clumps of trees and sometimes a pond."""
    inner = base(block, sketch, Surface.GRASS)
    if len(inner) < 3:
        return
    rng = sketch.rng
    if rng.random() < 0.6:
        a, b = rng.uniform(9, 22, 2)
        centre = inner.mean(axis=0) + rng.uniform(-20, 20, 2)
        shore = ellipse(centre, a, b)
        sketch.area(shore + rng.normal(0, 0.8, shore.shape), Surface.WATER, Order.DETAIL)
        sketch.keep_off(ellipse(centre, a * 0.7, b * 0.7), 0.3 * max(a, b) + 2)
    for _ in range(int(rng.integers(1, 4))):
        _paths(sketch, inner, rng.uniform(0.9, 1.8))
    for x, y in scatter(inner, int(rng.integers(6, 26)), rng):
        clump = rectangle(x, y, 0.0, *rng.uniform(6, 18, 2))
        if contains(inner, clump):
            trees_in(sketch, clump, rng.uniform(60, 260))
    trees_in(sketch, inner, 8)


@_builder
def sports(block: Block, sketch: Sketch) -> None:
    """Pitches with their lines."""
    inner = base(block, sketch, Surface.GRASS)
    if len(inner) < 3:
        return
    rng = sketch.rng
    angle = block.long_axis
    for half_x, half_y in ((46, 30), (30, 19), (18, 9), (12, 6)):
        centre = inner.mean(axis=0)
        if not contains(inner, rectangle(*centre, angle, half_x + 2, half_y + 2)):
            continue
        surface = Surface.PITCH if rng.random() < 0.7 else Surface.SOIL
        sketch.area(rectangle(*centre, angle, half_x, half_y), surface, Order.DETAIL)
        _pitch_lines(sketch, centre, angle, half_x - 1.5, half_y - 1.5)
        break
    trees_in(sketch, inset(block, 1.0), 12)


def _pitch_lines(sketch: Sketch, centre: np.ndarray, angle: float, half_x: float, half_y: float) -> None:
    def outline(corners: np.ndarray) -> None:
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            sketch.bar(start, end, 0.35)

    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    outline(rectangle(*centre, angle, half_x, half_y))
    sketch.bar(centre - across * half_y, centre + across * half_y, 0.35)
    outline(ellipse(centre, half_y * 0.3, half_y * 0.3, 20))
    for side in (-1, 1):
        outline(rectangle(*(centre + along * side * half_x * 0.86), angle, half_x * 0.14, half_y * 0.5))


@_builder
def car_park(block: Block, sketch: Sketch) -> None:
    """Rows of marked bays, some of them taken."""
    inner = base(block, sketch, Surface.CAR_PARK)
    if len(inner) < 3:
        return
    rng = sketch.rng
    angle = block.long_axis
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    centre, taken = inner.mean(axis=0), rng.uniform(0.25, 0.9)
    half_x, half_y = np.ptp((inner - centre) @ along) / 2, np.ptp((inner - centre) @ across) / 2
    for v in np.arange(-half_y + 4, half_y - 4, 16.5):
        for u in np.arange(-half_x + 2, half_x - 2, 2.6):
            for offset, turn in ((0.0, 1), (5.2, -1)):
                bay = centre + along * u + across * (v + offset)
                if not contains(inner, rectangle(*bay, angle, 2.2, 3.6), 0.0):
                    continue
                sketch.bar(bay - along * 1.3 - across * 2.5, bay - along * 1.3 + across * 2.5, 0.2)
                if rng.random() < taken:
                    sketch.car(*bay, angle + turn * np.pi / 2 + rng.normal(0, 0.03))
    trees_in(sketch, inner, 6, 0.7)
    for v in np.arange(-half_y + 12.5, half_y - 4, 16.5):
        sketch.stands.append((*(centre + across * v + along * rng.uniform(-0.5, 0.5) * half_x), angle, 0.0))


@_builder
def fields(block: Block, sketch: Sketch) -> None:
    """Strips of crops between hedgerows."""
    inner = base(block, sketch, Surface.MEADOW)
    if len(inner) < 3:
        return
    rng = sketch.rng
    across = np.array([-np.sin(block.long_axis), np.cos(block.long_axis)])
    low, high = ((inner @ across).min(), (inner @ across).max())
    lines = np.sort(rng.uniform(low, high, int(rng.integers(1, 4))))
    for start, end in zip([low, *lines], [*lines, high], strict=True):
        strip = _clip(_clip(inner, across * (start + 1.5), across), across * (end - 1.5), -across)
        if len(strip) > 2 and rng.random() < 0.85:
            sketch.area(strip, Surface.FIELD if rng.random() < 0.75 else Surface.SOIL, Order.DETAIL)
    for begin, along, inward, length in edges_of(inset(block, 1.0)):
        if rng.random() < 0.5:
            for position in np.arange(3, length, rng.uniform(5, 16)):
                grow(sketch, *(begin + along * position + inward * rng.uniform(0, 2)), rng.uniform(0.5, 1.2))


@_builder
def wood(block: Block, sketch: Sketch) -> None:
    """A wood with a clearing or two."""
    inner = base(block, sketch, Surface.MEADOW)
    if len(inner) < 3:
        return
    _paths(sketch, inner, 1.3)
    trees_in(sketch, inset(block, 4.0), sketch.rng.uniform(70, 170), 1.1)
