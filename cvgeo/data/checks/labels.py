"""Do positions, offsets and pairs agree with each other?"""

from __future__ import annotations

import re

import numpy as np

from cvgeo.data.checks import FAULT, REMARK, Evidence, Finding, Findings, by_split, check
from cvgeo.data.checks.evidence import named
from cvgeo.geometry.geodesy import earth_centred
from cvgeo.geometry.neighbours import nearest

FAR_M = 1000.0  # a panorama so far from its positive tile does not stand in it, whatever its size
ROUNDING = 1e-6
LEAST_GAP_M = 5.0  # differences of positions below this are those of the positions themselves
_VIEW = re.compile(r"_(grdView|satView_polish|satView)$")  # what CVACT's names say behind the id


def _swapped(evidence: Evidence) -> np.ndarray:
    """Rows of positive pairs that stand apart, and together once latitude and longitude of one of them are changed."""
    pairs, panoramas, tiles = evidence.dataset.pairs, evidence.dataset.panoramas, evidence.dataset.tiles
    lat, lon = panoramas.lat[pairs.panorama], panoramas.lon[pairs.panorama]
    there = earth_centred(tiles.lat[pairs.tile], tiles.lon[pairs.tile])
    turned = np.linalg.norm(earth_centred(lon, lat) - there, axis=-1)
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(evidence.positive & ~(np.hypot(*evidence.apart) <= FAR_M) & (turned < FAR_M))


@check("swapped coordinates")
def swapped(evidence: Evidence) -> Findings:
    """Latitude and longitude exchanged: panorama and positive tile agree only with one of them the other way round."""
    fault = "latitude and longitude are swapped, of the panorama or of its tile"
    mend = "exchange the two columns where the numbers stand"
    yield from by_split(evidence.pair_splits(), _swapped(evidence), evidence.pair_names, FAULT, fault, mend)


@check("impossible position")
def impossible(evidence: Evidence) -> Findings:
    """Latitudes beyond 90 degrees and longitudes beyond 180."""
    for kind, table, _ in evidence.tables:
        with np.errstate(invalid="ignore"):
            rows = np.flatnonzero((np.abs(table.lat) > 90) | (np.abs(table.lon) > 180))
        fault, mend = f"no place on Earth: {kind}", "check the order: latitude, then longitude"
        yield from by_split(table.split, rows, named(table.id), FAULT, fault, mend)


@check("far from positive")
def far(evidence: Evidence) -> Findings:
    """Positions more than a kilometre from those of the positive tile."""
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(evidence.positive & (np.hypot(*evidence.apart) > FAR_M))
    rows = np.setdiff1d(rows, _swapped(evidence))
    fault = f"stands more than {FAR_M / 1000:g} km from its positive tile"
    mend = "correct the position or the pair"
    yield from by_split(evidence.pair_splits(), rows, evidence.pair_names, FAULT, fault, mend)


def _offsets(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Metres north and east of the tile's centre: as stated, else by the positions where these are near each other."""
    pairs = evidence.dataset.pairs
    stated = np.isfinite(pairs.offset_north_m) & np.isfinite(pairs.offset_east_m)
    near = np.hypot(*evidence.apart) <= FAR_M
    by_place = [np.where(near, one, np.nan) for one in evidence.apart]
    given = pairs.offset_north_m, pairs.offset_east_m
    north, east = (np.where(stated, *both) for both in zip(given, by_place, strict=True))
    return north, east


@check("outside its tile")
def outside(evidence: Evidence) -> Findings:
    """Panoramas outside a tile that is said to show their place.

    Outside means that the offset north or east exceeds half the tile's side: in VIGOR |d| > 320 pixels of 640. Outside
    the positive tile is a fault. A panorama outside one or more of its semi-positive tiles counts once, as a remark: of
    VIGOR's corrected labels of Chicago and Seattle these are 12,293 of 49,230, none outside its positive tile.
    """
    pairs, panoramas = evidence.dataset.pairs, evidence.dataset.panoramas
    half = evidence.side_m[pairs.tile] / 2
    with np.errstate(invalid="ignore"):
        out = np.maximum(*map(np.abs, _offsets(evidence))) > half * (1 + ROUNDING)
    rows = np.flatnonzero(out & evidence.positive)
    fault, mend = "the panorama stands outside its positive tile", "correct the offset, the position or the pair"
    yield from by_split(evidence.pair_splits(), rows, evidence.pair_names, FAULT, fault, mend)
    rows = np.unique(pairs.panorama[out & ~evidence.positive])
    fault = "the panorama stands outside a semi-positive tile"
    mend = "nothing, or leave such pairs out where semi-positives are trained on"
    if len(rows):
        splits = ", ".join(sorted({panoramas.split[row] for row in rows.tolist()}))
        yield Finding(REMARK, len(rows), named(panoramas.id)(rows), fault, mend, splits)


@check("wrong positive")
def wrong_positive(evidence: Evidence) -> Findings:
    """Positive tiles that are not the nearest: by position another tile of the set lies clearly nearer."""
    pairs, panoramas, tiles = evidence.dataset.pairs, evidence.dataset.panoramas, evidence.dataset.tiles
    own = np.hypot(*evidence.apart)
    rows = np.flatnonzero(evidence.positive & (own > LEAST_GAP_M) & (own < FAR_M))
    located = np.flatnonzero(np.isfinite(tiles.lat) & np.isfinite(tiles.lon))
    if not len(rows) or not len(located):
        return
    points = earth_centred(panoramas.lat[pairs.panorama[rows]], panoramas.lon[pairs.panorama[rows]])
    reach = float(np.quantile(own[rows], 0.9)) * 1.5 + LEAST_GAP_M
    _, metres = nearest(points, earth_centred(tiles.lat[located], tiles.lon[located]), reach)
    rows = rows[metres < 0.8 * own[rows] - LEAST_GAP_M]
    fault, mend = "another tile lies nearer than the positive one", "pair the panorama with the nearest tile"
    yield from by_split(evidence.pair_splits(), rows, evidence.pair_names, FAULT, fault, mend)


@check("names differ")
def names_differ(evidence: Evidence) -> Findings:
    """Positive pairs whose file names differ, in a set that names both pictures of a place alike."""
    pairs, panoramas, tiles = evidence.dataset.pairs, evidence.dataset.panoramas, evidence.dataset.tiles
    rows = np.flatnonzero(evidence.positive)
    ground = [_VIEW.sub("", panoramas.path[row].stem) for row in pairs.panorama[rows].tolist()]
    aerial = [_VIEW.sub("", tiles.path[row].stem) for row in pairs.tile[rows].tolist()]
    same = np.array([one == other for one, other in zip(ground, aerial, strict=True)], dtype=bool)
    if len(rows) and same.mean() >= 0.5:
        # A panorama may have other positives beside the one of its name.
        rows = rows[~np.isin(pairs.panorama[rows], pairs.panorama[rows[same]])]
        fault = "panorama and positive tile are named by two places"
        mend = "pair the pictures of one name"
        yield from by_split(evidence.pair_splits(), rows, evidence.pair_names, FAULT, fault, mend)


@check("offset")
def offset(evidence: Evidence) -> Findings:
    """Stated offsets of positive pairs that differ from the positions by more than a quarter of the tile."""
    pairs = evidence.dataset.pairs
    north, east = evidence.apart
    gap = np.hypot(pairs.offset_north_m - north, pairs.offset_east_m - east)
    with np.errstate(invalid="ignore"):
        limit = np.maximum(LEAST_GAP_M, evidence.side_m[pairs.tile] / 4)
        rows = np.flatnonzero(evidence.positive & (gap > limit) & (np.hypot(north, east) <= FAR_M))
    fault = "the stated offset does not agree with the positions"
    mend = "correct the offset (panorama minus tile centre, metres north and east), the position or the pair"
    yield from by_split(evidence.pair_splits(), rows, evidence.pair_names, FAULT, fault, mend)


@check("unpaired")
def unpaired(evidence: Evidence) -> Findings:
    """Panoramas without a positive tile, in a set of pairs: queries that nothing can answer."""
    panoramas, pairs = evidence.dataset.panoramas, evidence.dataset.pairs
    if len(pairs):
        rows = np.setdiff1d(np.arange(len(panoramas)), pairs.panorama[evidence.positive])
        fault, mend = "has no positive tile", "give it one, or take it out"
        yield from by_split(panoramas.split, rows, named(panoramas.id), FAULT, fault, mend)
