"""Are the splits apart?"""

from __future__ import annotations

import numpy as np

from cvgeo.data.checks import REMARK, Evidence, Finding, Findings, check
from cvgeo.geometry.geodesy import earth_centred
from cvgeo.geometry.neighbours import has_neighbour

SIDE_IF_UNKNOWN_M = 50.0


@check("leakage")
def leakage(evidence: Evidence) -> Findings:
    """Panoramas nearer than a tile's side to one of another split; a remark, since official sets have it by design."""
    table = evidence.dataset.panoramas
    sides = evidence.side_m[np.isfinite(evidence.side_m)]
    side = float(np.median(sides)) if len(sides) else SIDE_IF_UNKNOWN_M
    points, split = earth_centred(table.lat, table.lon), np.array(table.split, dtype=object)
    known = np.isfinite(table.lat) & np.isfinite(table.lon)
    names = evidence.dataset.splits()
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            own = np.flatnonzero(known & (split == one))
            near = own[has_neighbour(points[own], points[known & (split == other)], side * 0.99)]
            if len(near):
                items = [table.id[row] for row in near.tolist()]
                fault = f"nearer than a tile's side ({side:.0f} m) to a panorama of {other}"
                mend = "figures flatter: name the protocol beside them, or split by place"
                yield Finding(REMARK, len(items), items, fault, mend, one)
