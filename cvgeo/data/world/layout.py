"""From a seed to a scene: streets with their markings, trees and cars, a river, and the blocks between them."""

from __future__ import annotations

import numpy as np

from cvgeo.data.world import blocks
from cvgeo.data.world.knobs import WorldKnobs
from cvgeo.data.world.noise import Waves
from cvgeo.data.world.scene import (
    SEEN_FROM_ABOVE,
    SEEN_FROM_GROUND,
    Bend,
    Order,
    Scene,
    Sketch,
    Surface,
)
from cvgeo.data.world.streets import ARTERIAL, LANE, LOCAL, MARGIN_M, Roundabout, Street, StreetPlan


def stream(seed: int, *place: int) -> np.random.Generator:
    """The random stream of one part of a world: the same whatever else is drawn, in whatever order."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))


def lay_out(seed: int, size_m: float, knobs: WorldKnobs) -> Scene:
    """The scene of a world: everything that both views show."""
    plan = StreetPlan(size_m, stream(seed, 1))
    sketch = Sketch(stream(seed, 2))
    _river(plan, sketch, size_m)
    for circle in plan.roundabouts:
        _roundabout(circle, sketch)
    for street in plan.streets:
        _carriageway(street, sketch)
        _markings(street, plan.roundabouts, sketch)
    for block in plan.blocks:
        blocks.fill(block, sketch)
    for street in plan.streets:
        _furniture(street, plan.roundabouts, sketch, knobs)
        _stands(street, plan.roundabouts, sketch)
    rng = stream(seed, 3)
    return sketch.bend(size_m, Bend(rng), Terrain(rng, knobs.relief_m))


class Terrain:
    """Heights of the ground in metres: hills of the relief's amplitude, nothing where it is 0."""

    def __init__(self, rng: np.random.Generator, relief_m: float):
        self._waves = Waves(rng, 260.0, 12)
        self._relief_m = relief_m

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Heights at positions; any shape."""
        if self._relief_m == 0:
            return np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)))
        return self._relief_m * 0.7 * self._waves.at(x, y)


def _river(plan: StreetPlan, sketch: Sketch, size_m: float) -> None:
    rng = sketch.rng
    if size_m < 500 or rng.random() < 0.25:
        return
    waves = Waves(rng, 520.0)
    along = np.arange(-MARGIN_M, size_m + MARGIN_M, 10.0)
    offset = rng.uniform(0.15, 0.85) * size_m + 55 * waves.at(along, np.zeros_like(along))
    line = np.stack((along, offset) if rng.random() < 0.5 else (offset, along), axis=-1)
    half_width = rng.uniform(8, 15)
    sketch.band(line, half_width + 5, Surface.MEADOW, Order.RIVER)
    sketch.band(line, half_width, Surface.WATER, Order.RIVER)
    sketch.keep_off(line, half_width + 6)


def _roundabout(circle: Roundabout, sketch: Sketch) -> None:
    def disc(radius: float) -> np.ndarray:
        return blocks.ellipse(circle.centre, radius, radius, 40)

    rng = sketch.rng
    island = circle.radius - circle.lane
    sketch.area(disc(circle.radius + 3.5), Surface.PAVEMENT, Order.PAVEMENT)
    sketch.area(disc(circle.radius), Surface.ROAD, Order.CIRCLE)
    sketch.area(disc(island), Surface.GRASS if rng.random() < 0.7 else Surface.PLAZA, Order.ISLAND)
    if rng.random() < 0.5:
        for angle in np.arange(0, 2 * np.pi, rng.uniform(0.8, 1.6)):
            blocks.grow(sketch, *(circle.centre + 0.6 * island * np.array([np.cos(angle), np.sin(angle)])), 0.7)
    else:
        sketch.pole(*circle.centre, rng.uniform(7, 14), rng.uniform(0.4, 1.2))
    sketch.keep_off(circle.centre, circle.radius + 3)


def _carriageway(street: Street, sketch: Sketch) -> None:
    kind, line = street.kind, [street.start, street.end]
    if kind.half_width == 0:
        return
    if kind.pavement:
        sketch.band(line, kind.margin, Surface.PAVEMENT, Order.PAVEMENT)
    sketch.band(line, kind.half_width, Surface.ROAD, Order.ROAD)


def _gaps(street: Street, circles: list[Roundabout], extra: float) -> list[tuple[float, float]]:
    """Stretches of a street (metres from its start) that belong to junctions."""
    gaps = [(at - half - extra, at + half + extra) for at, half in street.meets]
    for circle in circles:
        at = float((circle.centre - street.start) @ street.direction)
        if abs(float((circle.centre - street.start) @ street.left)) < 1.0 and 0 <= at <= street.length:
            gaps.append((at - circle.radius - extra, at + circle.radius + extra))
    return gaps


def _clear(position: float, reach: float, gaps: list[tuple[float, float]]) -> bool:
    return all(position + reach < low or position - reach > high for low, high in gaps)


def _markings(street: Street, circles: list[Roundabout], sketch: Sketch) -> None:
    kind, rng = street.kind, sketch.rng
    gaps = _gaps(street, circles, 1.5)
    if kind.lanes > 1:
        _lane_lines(street, gaps, sketch)
    if kind is LANE:
        return
    for at, half in street.meets:
        share = 0.5 if kind is not LOCAL else 0.25
        for side in (-1, 1):
            foot = at + side * (half + 3.6)
            if 4 < foot < street.length - 4 and rng.random() < share and _clear(foot, 2.0, _gaps(street, circles, 1.2)):
                _zebra(street, foot, sketch)


def _lane_lines(street: Street, gaps: list[tuple[float, float]], sketch: Sketch) -> None:
    kind, rng = street.kind, sketch.rng
    dash, gap = (3.0, 4.5) if kind is not LOCAL else (2.0, 3.5)
    solid = kind is not LOCAL and rng.random() < 0.5
    if kind is LOCAL and rng.random() < 0.4:
        return
    lines = [(0.0, solid)]
    if kind is ARTERIAL:
        lines = [(-0.25, True), (0.25, True), (-3.9, False), (3.9, False), (-7.5, True), (7.5, True)]
    elif rng.random() < 0.5:
        lines += [(-kind.half_width + 0.4, True), (kind.half_width - 0.4, True)]
    for offset, unbroken in lines:
        for position in np.arange(2.0, street.length, dash if unbroken else dash + gap):
            if _clear(position + dash / 2, dash / 2, gaps):
                start = street.start + street.direction * position + street.left * offset
                sketch.bar(start, start + street.direction * dash, 0.2)


def _zebra(street: Street, position: float, sketch: Sketch) -> None:
    half = street.kind.half_width - 0.3
    for offset in np.arange(-half + 0.25, half, 1.05):
        start = street.start + street.direction * (position - 1.6) + street.left * offset
        sketch.bar(start, start + street.direction * 3.2, 0.55)


def _furniture(street: Street, circles: list[Roundabout], sketch: Sketch, knobs: WorldKnobs) -> None:
    kind, rng = street.kind, sketch.rng
    gaps = _gaps(street, circles, 7.0)
    planted = rng.random(2) < (0.75 if kind is ARTERIAL else 0.4)
    spacing, size, species = rng.uniform(7, 16), rng.uniform(0.55, 1.1), int(rng.random() < 0.1)
    lamps = rng.uniform(22, 34)
    for side, trees in zip((-1, 1), planted, strict=True):
        foot = street.start + street.left * side * (kind.half_width + 0.9)
        for position in np.arange(rng.uniform(4, 12), street.length, spacing):
            if trees and rng.random() < 0.88 and _clear(position, 1.0, gaps):
                blocks.grow(sketch, *(foot + street.direction * position), size, species)
        for position in np.arange(rng.uniform(3, 20), street.length, lamps):
            if _clear(position, 0.0, gaps):
                sketch.pole(*(foot + street.direction * position), rng.uniform(5.5, 8.5), 0.12)
        _parked(street, side, gaps, sketch, knobs.parked)
        _moving(street, side, sketch, knobs.traffic)


def _parked(street: Street, side: int, gaps: list[tuple[float, float]], sketch: Sketch, density: float) -> None:
    rng = sketch.rng
    taken = density * rng.choice([0.0, 0.25, 0.6, 0.85])
    if street.kind is LANE or street.kind is ARTERIAL or taken == 0:
        return
    angle = float(np.arctan2(*street.direction[::-1]))
    for position in np.arange(4.0, street.length, 5.9):
        if rng.random() < taken and _clear(position, 2.5, gaps):
            place = street.start + street.direction * position + street.left * side * (street.kind.half_width - 1.0)
            sketch.car(*place, angle + rng.choice([0, np.pi]) + rng.normal(0, 0.02))


def _moving(street: Street, side: int, sketch: Sketch, density: float) -> None:
    rng = sketch.rng
    if street.kind is LANE:
        return
    angle = float(np.arctan2(*street.direction[::-1])) + (0 if side < 0 else np.pi)
    offsets = (2.0, 5.8) if street.kind is ARTERIAL else (street.kind.half_width * 0.36,)
    for offset in offsets:
        for seen in (SEEN_FROM_ABOVE, SEEN_FROM_GROUND):
            count = rng.poisson(density * street.length / (55 if street.kind is not LOCAL else 140))
            for position in rng.uniform(0, street.length, count):
                place = street.start + street.direction * position + street.left * side * offset
                sketch.car(*place, angle, seen)


def _stands(street: Street, circles: list[Roundabout], sketch: Sketch) -> None:
    """Where a camera car passes: on the right, every few metres, now and then through a junction."""
    rng = sketch.rng
    way = float(np.arctan2(*street.direction[::-1]))
    islands = np.array([circle.centre for circle in circles]).reshape(-1, 2)
    for position in np.arange(rng.uniform(2, 8), street.length - 2, 5.0):
        side = rng.choice([-1, 1])
        lateral = 0.36 * street.kind.half_width * rng.uniform(0.6, 1.2)
        x, y = street.start + street.direction * position + street.left * side * lateral
        if all(np.hypot(*(islands - (x, y)).T) > 16):
            sketch.stands.append((x, y, way + (np.pi if side > 0 else 0.0), 1.0))
