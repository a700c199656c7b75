"""The street network: a square cut again and again by streets into blocks, each block of one district."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cvgeo.data.world.noise import Waves

MARGIN_M = 140.0  # the scene goes on beyond the world's edge, so that no panorama looks out of it


@dataclass(frozen=True)
class StreetKind:
    """Half the width of the carriageway and the width of each pavement, in metres."""

    name: str
    half_width: float
    pavement: float
    lanes: int

    @property
    def margin(self) -> float:
        """From the middle of the street to the edge of the block."""
        return self.half_width + self.pavement


ARTERIAL = StreetKind("arterial", 8.0, 4.0, 4)
COLLECTOR = StreetKind("collector", 5.0, 2.8, 2)
LOCAL = StreetKind("local", 3.6, 2.2, 2)
LANE = StreetKind("lane", 2.4, 1.0, 1)
EDGE = StreetKind("edge", 0.0, 0.0, 0)


@dataclass
class Street:
    """A straight line in the plan (bent only with the whole plan), with the places where others meet it."""

    start: np.ndarray
    end: np.ndarray
    kind: StreetKind
    meets: list[tuple[float, float]] = field(default_factory=list)  # (metres from the start, half width of the other)

    @cached_property
    def length(self) -> float:
        """Metres from start to end."""
        return float(np.hypot(*(self.end - self.start)))

    @cached_property
    def direction(self) -> np.ndarray:
        """Unit vector from start to end."""
        return (self.end - self.start) / self.length

    @cached_property
    def left(self) -> np.ndarray:
        """Unit vector to the left of the direction."""
        dx, dy = self.direction
        return np.array([-dy, dx])


@dataclass
class Block:
    """A convex piece of the plan; edge i runs from corner i to corner i + 1, along a street or the world's edge."""

    corners: np.ndarray  # (N, 2), counter-clockwise
    kinds: list[StreetKind]
    district: str = ""

    @property
    def area(self) -> float:
        """Square metres."""
        x, y = self.corners.T
        return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))

    @property
    def centre(self) -> np.ndarray:
        """Mean of the corners."""
        return self.corners.mean(axis=0)

    @property
    def long_axis(self) -> float:
        """Direction of the longest edge in radians."""
        edges = np.roll(self.corners, -1, axis=0) - self.corners
        dx, dy = edges[np.argmax(np.hypot(*edges.T))]
        return float(np.arctan2(dy, dx))


@dataclass(frozen=True)
class Roundabout:
    """A circular crossing: centre in the plan and outer radius of the carriageway."""

    centre: np.ndarray
    radius: float
    lane: float


# Weight of each district by how urban a place is (field value below -0.5, around 0, above 0.5), and its blocks' area.
DISTRICTS: dict[str, tuple[tuple[float, float, float], float, StreetKind, float]] = {
    "old_town": ((0.0, 1.0, 5.0), 3600.0, LOCAL, 0.34),
    "suburb": ((4.0, 4.0, 0.5), 7600.0, LOCAL, 0.12),
    "estate": ((0.5, 2.0, 1.5), 13000.0, LOCAL, 0.08),
    "centre": ((0.0, 1.0, 4.0), 8000.0, COLLECTOR, 0.05),
    "industry": ((1.5, 1.5, 0.3), 18000.0, COLLECTOR, 0.04),
    "park": ((0.6, 0.8, 0.6), 40000.0, LANE, 0.2),
    "country": ((2.5, 0.2, 0.0), 26000.0, LANE, 0.25),
}
SUPER_BLOCK_M2 = 80000.0


def cut(block: Block, point: np.ndarray, angle: float, kind: StreetKind) -> tuple[Block, Block, Street] | None:
    """Cut a block by a line; None where a piece would be a sliver."""
    direction = np.array([np.cos(angle), np.sin(angle)])
    side = (block.corners - point) @ np.array([-direction[1], direction[0]])
    pieces: dict[bool, tuple[list, list]] = {True: ([], []), False: ([], [])}
    crossings = []
    for i, corner in enumerate(block.corners):
        following = (i + 1) % len(side)
        left = bool(side[i] > 0)
        pieces[left][0].append(corner)
        pieces[left][1].append(block.kinds[i])
        if left != bool(side[following] > 0):
            part = side[i] / (side[i] - side[following])
            crossing = corner + part * (block.corners[following] - corner)
            crossings.append(crossing)
            pieces[left][0].append(crossing)
            pieces[left][1].append(kind)
            pieces[not left][0].append(crossing)
            pieces[not left][1].append(block.kinds[i])
    if len(crossings) != 2:
        return None
    halves = [Block(np.array(corners), kinds, block.district) for corners, kinds in (pieces[True], pieces[False])]
    if any(is_sliver(half) for half in halves):
        return None
    start, end = sorted(crossings, key=lambda one: float(one @ direction))
    return halves[0], halves[1], Street(start, end, kind)


def is_sliver(block: Block) -> bool:
    """Whether what streets leave of a block is too narrow to build on, or an edge too short for a junction."""
    edges = np.hypot(*(np.roll(block.corners, -1, axis=0) - block.corners).T)
    width = 2 * block.area / edges.sum()
    return width < 13 + np.mean([kind.margin for kind in block.kinds]) or bool(edges.min() < 16)


class StreetPlan:
    """Streets, blocks and roundabouts of a world, in plan coordinates (metres, x east, y north)."""

    def __init__(self, size_m: float, rng: np.random.Generator):
        self.streets: list[Street] = []
        self.blocks: list[Block] = []
        self.roundabouts: list[Roundabout] = []
        self._rng = rng
        self._urban = Waves(rng, 900.0)
        low, high = -MARGIN_M, size_m + MARGIN_M
        square = Block(np.array([(low, low), (high, low), (high, high), (low, high)]), [EDGE] * 4)
        pending = [square]
        while pending:
            pending.extend(self._divide(pending.pop()))
        self._find_meetings()

    def _divide(self, block: Block) -> list[Block]:
        if not block.district and block.area < SUPER_BLOCK_M2 * self._rng.uniform(0.6, 1.6):
            block.district = self._district(block.centre)
        if not block.district:
            kind = ARTERIAL if block.area > 5 * SUPER_BLOCK_M2 else COLLECTOR
            return self._cut_once(block, kind, 0.12, four=0.5)
        _, area, kind, jitter = DISTRICTS[block.district]
        if block.area > area * self._rng.uniform(0.9, 1.9):
            return self._cut_once(block, kind, jitter, four=0.3)
        self.blocks.append(block)
        return []

    def _district(self, centre: np.ndarray) -> str:
        urban = float(self._urban.at(*centre))
        weights = np.array([np.interp(urban, (-0.8, 0.0, 0.8), row[0]) for row in DISTRICTS.values()])
        return str(self._rng.choice(list(DISTRICTS), p=weights / weights.sum()))

    def _cut_once(self, block: Block, kind: StreetKind, jitter: float, four: float) -> list[Block]:
        for _ in range(8):
            spread = 0.1 * np.sqrt(block.area)
            point = block.centre + self._rng.uniform(-spread, spread, 2)
            across = block.long_axis + np.pi / 2 + self._rng.normal(0, jitter)
            halves = cut(block, point, across, kind)
            if halves is None:
                continue
            if self._rng.random() < four and (quarters := self._cross(halves, point, across, kind, jitter)):
                return quarters
            self.streets.append(halves[2])
            return [halves[0], halves[1]]
        if not block.district:
            block.district = self._district(block.centre)
        self.blocks.append(block)
        return []

    def _cross(self, halves: tuple, point: np.ndarray, angle: float, kind: StreetKind, jitter: float) -> list[Block]:
        second = angle + np.pi / 2 + self._rng.normal(0, jitter)
        parts = [cut(half, point, second, kind) for half in halves[:2]]
        if parts[0] is None or parts[1] is None:
            return []
        # The two chords of the second street join at the crossing.
        ends = [end for part in parts for end in (part[2].start, part[2].end)]
        direction = np.array([np.cos(second), np.sin(second)])
        ends.sort(key=lambda one: float(one @ direction))
        self.streets += [halves[2], Street(ends[0], ends[-1], kind)]
        if kind in (ARTERIAL, COLLECTOR) and self._rng.random() < 0.5:
            radius, lane = (22.0, 9.0) if kind is ARTERIAL else (15.0, 6.0)
            self.roundabouts.append(Roundabout(point, radius, lane))
        return [parts[0][0], parts[0][1], parts[1][0], parts[1][1]]

    def _find_meetings(self) -> None:
        starts = np.array([street.start for street in self.streets])
        directions = np.array([street.direction for street in self.streets])
        lengths = np.array([street.length for street in self.streets])
        for number, street in enumerate(self.streets):
            # Where the lines cross, as metres along each of them.
            across = directions[:, 0] * street.direction[1] - directions[:, 1] * street.direction[0]
            across = np.where(np.abs(across) < 1e-9, np.nan, across)
            gap = starts - street.start
            along = (directions[:, 0] * gap[:, 1] - directions[:, 1] * gap[:, 0]) / across
            along_other = (street.direction[0] * gap[:, 1] - street.direction[1] * gap[:, 0]) / across
            inside = (along > -0.1) & (along < street.length + 0.1)
            inside &= (along_other > -0.1) & (along_other < lengths + 0.1)
            for other in np.flatnonzero(inside):
                if other != number:
                    street.meets.append((float(along[other]), self.streets[other].kind.half_width))
            street.meets.sort()
