"""Writes a miniature data set in the project's own layout, by hand as a user would: `python make.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

DESCRIPTION = """\
format = "cvgeo.dataset"
format_version = 1
name = "miniature"
attribution = "made of noise"

[conventions]
fit = "place"
aligned = false
"""
PANORAMAS = """\
id,path,lat,lon,column0_heading,hfov,vfov_top,vfov_bottom,split
a,ground/a.png,48.0,2.0,180.0,360,90,-90,train
b,ground/b.png,48.001,2.0,,,,,train
c,ground/c.png,48.1,2.0,45.5,270,30,-30,test
"""
TILES = """\
id,path,lat,lon,gsd_m,split
t1,aerial/t1.png,48.0,2.0,0.25,train
t2,aerial/t2.png,48.001,2.0001,0.25,train
t3,aerial/t3.png,48.1,2.0,0.25,test
t4,aerial/t4.png,48.2,2.0,,test
"""
PAIRS = """\
panorama,tile,role,offset_north_m,offset_east_m
a,t1,positive,0,0
b,t2,positive,0,-7.46
b,t1,semi_positive,,
c,t3,positive,0,0
"""


def make(folder: Path, seed: int = 0) -> Path:
    """Three panoramas, four tiles, four pairs; what is unknown is left empty."""
    generator = np.random.default_rng(seed)
    for name, text in (("dataset.toml", DESCRIPTION), ("panoramas.csv", PANORAMAS), ("tiles.csv", TILES)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "pairs.csv").write_text(PAIRS)
    for kind, names, shape in (("ground", "abc", (32, 64, 3)), ("aerial", ("t1", "t2", "t3", "t4"), (32, 32, 3))):
        (folder / kind).mkdir()
        for name in names:
            cv2.imwrite(str(folder / kind / f"{name}.png"), generator.integers(0, 256, shape, dtype=np.uint8))
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
