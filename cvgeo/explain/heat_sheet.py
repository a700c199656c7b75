"""The sheet of heat maps: a pair's pictures above, a row of maps for each model below (paper, Fig. 12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cvgeo.explain import drawing
from cvgeo.explain.heat import colour_bar

SIDE = 190  # height of all panels, in pixels
WIDE = 4 * SIDE  # 360 by 90 degrees in square angular pixels
GAP = 14
TITLE = 66
CAPTION = 30
COMPASS = 30
FOOT = 58
TITLES = ("ground", "aerial, as seen from its centre", "aerial, north up")
LETTERS = {0: "N", 45: "NE", 90: "E", 135: "SE", 180: "S", 225: "SW", 270: "W", 315: "NW"}
SMALL, LARGE, NODE = (0, 229, 255), (124, 252, 80), (255, 255, 255)


@dataclass
class Panels:
    """The three columns of a row: `ground` and `polar` (SIDE, WIDE, 3), `tile` (SIDE, SIDE, 3), uint8 RGB."""

    ground: np.ndarray
    polar: np.ndarray
    tile: np.ndarray


@dataclass
class HeatRow:
    """One model's maps over the pictures, its name, and a remark."""

    label: str
    remark: str
    panels: Panels


def _place_row(sheet: Image.Image, panels: Panels, top: int) -> None:
    left = GAP
    for panel in (panels.ground, panels.polar, panels.tile):
        sheet.paste(Image.fromarray(panel), (left, top))
        left += panel.shape[1] + GAP


def _compass(draw: ImageDraw.ImageDraw, left: int, top: int, column0_heading: float) -> None:
    """Ticks and letters of the eight directions under a panel that runs around the compass."""
    for heading, letter in LETTERS.items():
        x = left + (heading - column0_heading) % 360 / 360 * WIDE
        draw.line((x, top, x, top + 4), fill=drawing.MUTED)
        anchor = "la" if x < left + 8 else "ma"
        draw.text((x, top + 5), letter, fill=drawing.MUTED, font=drawing.font(13), anchor=anchor)


def _foot(sheet: Image.Image, top: int, scale: str, legend: Sequence[tuple[tuple[int, int, int], str]]) -> None:
    draw = ImageDraw.Draw(sheet)
    width = 360
    sheet.paste(Image.fromarray(colour_bar(width, 16)), (GAP, top))
    for share, text, anchor in ((0.0, "0", "la"), (0.5, "0.5", "ma"), (1.0, "1", "ra")):
        at = (GAP + share * (width - 1), top + 20)
        draw.text(at, text, fill=drawing.INK, font=drawing.font(14), anchor=anchor)
    draw.text((GAP + width + 14, top + 8), scale, fill=drawing.INK, font=drawing.font(15), anchor="lm")
    x = GAP + width + 40 + draw.textlength(scale, font=drawing.font(15))
    for colour, text in legend:
        draw.ellipse((x, top + 2, x + 12, top + 14), fill=colour, outline=drawing.INK, width=1)
        draw.text((x + 18, top + 8), text, fill=drawing.INK, font=drawing.font(15), anchor="lm")
        x += 40 + draw.textlength(text, font=drawing.font(15))


def draw_heat_sheet(
    title: str,
    subtitle: str,
    pictures: Panels,
    rows: Sequence[HeatRow],
    column0_heading: float,
    scale: str,
    legend: Sequence[tuple[tuple[int, int, int], str]] = (),
) -> np.ndarray:
    """The sheet, (H, W, 3) uint8 RGB.

    column0_heading: of the ground and polar panels, in degrees. scale: what the colour bar's 0 to 1 mean. legend:
    colours of marks and what they are.
    """
    width = 2 * WIDE + SIDE + 4 * GAP
    height = TITLE + SIDE + COMPASS + len(rows) * (CAPTION + SIDE + GAP) + FOOT
    sheet = Image.new("RGB", (width, height), drawing.PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 9), drawing.shortened(draw, title, 21, width // 2), fill=drawing.INK, font=drawing.font(21))
    short = drawing.shortened(draw, subtitle, 16, width // 2 - 3 * GAP)
    draw.text((width - GAP, 13), short, fill=drawing.MUTED, font=drawing.font(16), anchor="ra")
    lefts = (GAP, 2 * GAP + WIDE, 3 * GAP + 2 * WIDE)
    for left, text in zip(lefts, TITLES, strict=True):
        draw.text((left, TITLE - 6), text, fill=drawing.MUTED, font=drawing.font(15), anchor="ls")
    _place_row(sheet, pictures, TITLE)
    for left in lefts[:2]:
        _compass(draw, left, TITLE + SIDE + 1, column0_heading)
    top = TITLE + SIDE + COMPASS
    for row in rows:
        label = drawing.shortened(draw, row.label, 18, WIDE)
        draw.text((GAP, top + CAPTION - 7), label, fill=drawing.INK, font=drawing.font(18), anchor="ls")
        start = GAP + 18 + draw.textlength(label, font=drawing.font(18))
        remark = drawing.shortened(draw, row.remark, 15, width - GAP - start)
        draw.text((start, top + CAPTION - 7), remark, fill=drawing.MUTED, font=drawing.font(15), anchor="ls")
        _place_row(sheet, row.panels, top + CAPTION)
        top += CAPTION + SIDE + GAP
    _foot(sheet, top + 8, scale, legend)
    return np.asarray(sheet)


def draw_marks(panel: np.ndarray, node: tuple[float, float], groups: Sequence[np.ndarray]) -> np.ndarray:
    """A panel (H, W, 3) with a ring around a place (row, column) and with small discs at the samples of each group.

    groups: (K, 2) each, rows and columns in pixels; the first is drawn last, in SMALL, the others in LARGE. What lies
    outside the panel is left out.
    """
    picture = Image.fromarray(panel)
    draw = ImageDraw.Draw(picture)
    for number, places in reversed(list(enumerate(groups))):
        radius, fill = (3, SMALL) if number == 0 else (5, LARGE)
        for row, column in places:
            box = (column - radius, row - radius, column + radius, row + radius)
            draw.ellipse(box, fill=fill, outline=drawing.INK, width=1)
    for radius, colour, width in ((11, drawing.INK, 4), (10, NODE, 2)):
        box = (node[1] - radius, node[0] - radius, node[1] + radius, node[0] + radius)
        draw.ellipse(box, outline=colour, width=width)
    return np.asarray(picture)
