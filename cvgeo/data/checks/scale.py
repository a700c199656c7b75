"""How many metres is a pixel: as stated, by positions and offsets, and by what neighbouring tiles show."""

from __future__ import annotations

import numpy as np

from cvgeo.data.checks import FAULT, REMARK, Evidence, Finding, Findings, check
from cvgeo.geometry.geodesy import offset_metres

TOLERANCE = 0.03  # of stated metres a pixel
PUBLISHED_TOLERANCE = 0.01
LEAST_SHIFT_M = 20.0
LEAST_PAIRS = 5
LEAST_MATCHED, LEAST_AGREEING = 0.25, 0.5  # shares of neighbours in which ground is found again, and that agree


def _sources(evidence: Evidence, tiles: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Which of some tile rows belong to each source, as positions in `tiles`."""
    own = np.array([evidence.dataset.tiles.source[row] for row in tiles.tolist()], dtype=object)
    return [(name, np.flatnonzero(own == name)) for name in sorted(set(own.tolist()))]


def _by_offsets(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Tile rows and how often larger the distance of two tiles of one panorama is by positions than by offsets."""
    pairs, tiles = evidence.dataset.pairs, evidence.dataset.tiles
    order = np.argsort(pairs.panorama, kind="stable")
    one, other = order[:-1], order[1:]
    same = pairs.panorama[one] == pairs.panorama[other]
    one, other = one[same], other[same]
    stated = [column[one] - column[other] for column in (pairs.offset_north_m, pairs.offset_east_m)]
    ends = [column[pairs.tile[rows]] for rows in (one, other) for column in (tiles.lat, tiles.lon)]
    with np.errstate(invalid="ignore"):
        known = np.isfinite([*stated, *ends]).all(axis=0) & (np.abs(ends[0::2]) <= 90).all(axis=0)
    lat, lon, other_lat, other_lon = (end[known] for end in ends)
    metres = np.hypot(*offset_metres(lat, lon, other_lat, other_lon))
    shift = np.hypot(*(part[known] for part in stated))
    enough = (shift > LEAST_SHIFT_M) & (metres > LEAST_SHIFT_M)
    return pairs.tile[one[known][enough]], metres[enough] / shift[enough]


def _finding(evidence: Evidence, source: str, tiles: np.ndarray, measured: float, how: str) -> Finding:
    stated = float(np.median(evidence.dataset.tiles.gsd_m[tiles]))
    fault = f"pixels of {measured:.3f} m by {how}, {stated:.3f} m are stated"
    count = evidence.dataset.tiles.source.count(source)
    return Finding(FAULT, count, [source or evidence.dataset.name], fault, f"state {measured:.4f} m a pixel")


def _by_chance(shifts: np.ndarray) -> bool:
    """Whether ratios of measured to stated metres a pixel, NaN where nothing was found, are those of chance matches.

    Tiles that show no common ground are matched here and there, at any length; true matches are many and agree.
    """
    found = shifts[np.isfinite(shifts)]
    if len(found) < LEAST_MATCHED * len(shifts):
        return True
    return bool(np.mean(np.abs(found / np.median(found) - 1) < TOLERANCE) < LEAST_AGREEING)


@check("pixel size")
def pixel_size(evidence: Evidence) -> Findings:
    """Stated metres a pixel against the distance of tile centres, by the labels' offsets and by the pictures."""
    gsd = evidence.dataset.tiles.gsd_m
    tiles, ratio = _by_offsets(evidence)
    kinds = [(tiles, ratio, "positions and offsets")]
    if evidence.shifts is not None and len(evidence.shifts.tile):
        shifts = evidence.shifts
        times = shifts.gsd_m / gsd[shifts.tile]
        for _, some in _sources(evidence, shifts.tile):
            if _by_chance(times[some]):
                times[some] = np.nan
        kinds.append((shifts.tile, times, "what neighbouring tiles show"))
    for rows, times, how in kinds:
        for source, some in _sources(evidence, rows):
            some = some[np.isfinite(times[some])]
            if len(some) >= LEAST_PAIRS and abs(np.median(times[some]) - 1) > TOLERANCE:
                measured = float(np.median(times[some] * gsd[rows[some]]))
                yield _finding(evidence, source, rows[some], measured, how)


@check("published pixel size")
def published_pixel_size(evidence: Evidence) -> Findings:
    """Sources whose pixels are of another size than the authors of the data set publish: VIGOR's 0.114 m."""
    tiles, ratio = _by_offsets(evidence)
    for source, some in _sources(evidence, tiles):
        measured = float(np.median(ratio[some] * evidence.dataset.tiles.gsd_m[tiles[some]]))
        if abs(measured / evidence.published_gsd_m - 1) > PUBLISHED_TOLERANCE:
            fault = f"pixels of {measured:.3f} m, {evidence.published_gsd_m:g} m are published"
            count = evidence.dataset.tiles.source.count(source)
            mend = "nothing here: this size is read; other programs need it told"
            yield Finding(REMARK, count, [source or evidence.dataset.name], fault, mend)
