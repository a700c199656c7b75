"""Are the pictures of the shape that their table says?"""

from __future__ import annotations

import numpy as np

from cvgeo.data.checks import FAULT, REMARK, Evidence, Findings, by_split, check
from cvgeo.data.checks.evidence import named
from cvgeo.geometry.projections import CUBE, CYLINDRICAL, EQUIRECTANGULAR, PERSPECTIVE
from cvgeo.geometry.shapes import SQUARE_TOLERANCE

ASPECT_TOLERANCE = 0.03  # of a panorama's pixels: as many degrees high as wide


@check("tile shape")
def off_square(evidence: Evidence) -> Findings:
    """Tiles too far from square: the polar transform refuses them."""
    tiles, seen = evidence.dataset.tiles, evidence.tiles
    long, short = np.maximum(seen.height, seen.width), np.minimum(seen.height, seen.width)
    rows = np.flatnonzero(long - short > SQUARE_TOLERANCE * long)
    mend = "cut square tiles: the polar transform refuses these"
    yield from by_split(tiles.split, rows, named(tiles.id), FAULT, "a tile far from square", mend)


@check("mixed sizes")
def mixed_sizes(evidence: Evidence) -> Findings:
    """Pictures of another size than most of their source.

    Of tiles with one stated ground sampling distance that is a fault: one of the two cannot be right.
    """
    for kind, table, seen in evidence.tables:
        odd = {FAULT: [], REMARK: []}
        source = np.array(table.source, dtype=object)
        for name in sorted(set(table.source)):
            rows = np.flatnonzero((source == name) & (seen.height > 0))
            sizes, inverse, counts = np.unique(
                np.stack([seen.height[rows], seen.width[rows]], axis=1), axis=0, return_inverse=True, return_counts=True
            )
            if len(sizes) < 2:
                continue
            usual = counts.argmax()
            other = rows[inverse.ravel() != usual]
            gsd = getattr(table, "gsd_m", np.full(len(table), np.nan))
            same = np.isclose(gsd[other], np.median(gsd[rows[inverse.ravel() == usual]]), rtol=1e-3)
            odd[FAULT] += other[same].tolist()
            odd[REMARK] += other[~same].tolist()
        mend = "resize or fetch them again; tiles that show more ground need their own ground sampling distance"
        for grade, rows in odd.items():
            fault = f"a {kind} of another size than the others" + (
                " with the same stated metres a pixel" if grade == FAULT else ""
            )
            yield from by_split(table.split, np.sort(rows), named(table.id), grade, fault, mend)


@check("panorama shape")
def field_of_view(evidence: Evidence) -> Findings:
    """Panoramas whose shape does not fit their stated field of view, if pixels are square; cube maps have none."""
    table, seen = evidence.dataset.panoramas, evidence.panoramas
    projection = np.array([name or EQUIRECTANGULAR for name in table.projection], dtype=object)
    width, top, bottom = np.radians([table.hfov, table.vfov_top, table.vfov_bottom])
    flat, upright_plane = projection == PERSPECTIVE, np.isin(projection, (PERSPECTIVE, CYLINDRICAL))
    with np.errstate(invalid="ignore", divide="ignore"):
        height = np.where(upright_plane, np.tan(top) - np.tan(bottom), top - bottom)
        due = np.where(flat, 2 * np.tan(width / 2), width) / np.where(projection == CUBE, np.nan, height)
        shape = seen.width / np.where(seen.height > 0, seen.height, np.nan)
        rows = np.flatnonzero(np.abs(shape / due - 1) > ASPECT_TOLERANCE)
        upright = np.flatnonzero((table.hfov >= 359) & (shape < 1) & (projection != CUBE))
    mend = "correct hfov, vfov_top and vfov_bottom, or the picture"
    fault = "the picture's shape does not fit the stated fields of view"
    yield from by_split(table.split, rows, named(table.id), REMARK, fault, mend)
    fault = "higher than wide, yet said to go all around"
    yield from by_split(table.split, np.setdiff1d(upright, rows), named(table.id), REMARK, fault, mend)
