"""Samples of a data set as one picture: tile, panorama and polar map side by side, with their ids (paper, Fig. 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cvgeo.explain import drawing

BAND = 100  # height of a panorama and of a polar map, which are four times as wide
SEAM = 4
TILE = 2 * BAND + SEAM
GAP = 16
TITLE = 48
CAPTION = 24
COLUMNS, TILE_COLUMNS = 2, 6


@dataclass
class Sample:
    """A tile (TILE, TILE, 3) and, unless the data set is only a gallery, the panorama on its grid and the tile's polar
    map, (BAND, 4 BAND, 3) each, uint8 RGB; `label` names them.
    """

    label: str
    tile: np.ndarray
    ground: np.ndarray | None = None
    polar: np.ndarray | None = None


def draw_samples(title: str, subtitle: str, samples: Sequence[Sample]) -> np.ndarray:
    """A grid of samples under a title, (H, W, 3) uint8: two pairs a row, or six tiles."""
    pairs = any(sample.ground is not None for sample in samples)
    a_row = min(COLUMNS if pairs else TILE_COLUMNS, len(samples))
    wide = TILE + (SEAM + 4 * BAND if pairs else 0)
    tall = TILE + CAPTION + GAP
    width = max(a_row * (wide + GAP) + GAP, 640)
    sheet = Image.new("RGB", (width, TITLE + math.ceil(len(samples) / a_row) * tall), drawing.PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 12), drawing.shortened(draw, title, 21, width // 2), fill=drawing.INK, font=drawing.font(21))
    short = drawing.shortened(draw, subtitle, 15, width // 2 - 3 * GAP)
    draw.text((width - GAP, 17), short, fill=drawing.MUTED, font=drawing.font(15), anchor="ra")
    for number, sample in enumerate(samples):
        left, top = GAP + (number % a_row) * (wide + GAP), TITLE + (number // a_row) * tall
        _draw_sample(sheet, sample, left, top)
        text = drawing.shortened(draw, sample.label, 15, wide)
        draw.text((left, top + TILE + 5), text, fill=drawing.INK, font=drawing.font(15))
    return np.asarray(sheet)


def _draw_sample(sheet: Image.Image, sample: Sample, left: int, top: int) -> None:
    sheet.paste(Image.fromarray(sample.tile), (left, top))
    for number, band in enumerate((sample.ground, sample.polar)):
        if band is not None:
            sheet.paste(Image.fromarray(band), (left + TILE + SEAM, top + number * (BAND + SEAM)))
