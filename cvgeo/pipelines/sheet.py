"""The sheet of a query with its best tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cvgeo.data.ground import read_ground
from cvgeo.data.images import read_image, write_image
from cvgeo.errors import CvgeoError
from cvgeo.explain import drawing
from cvgeo.geometry.geodesy import offset_metres
from cvgeo.pipelines.found import Found, Hit
from cvgeo.retrieval import EmbeddingStore

TILE = 300
GAP = 18
FRAME = 5
TITLE = 46
CAPTION = 94
PHOTO_HEIGHT = 480
MOST_PHOTOS = 6
NEAR_M = 25.0


@dataclass
class _Card:
    """One tile of a sheet: its picture (H, W, 3) or None, lines below it, and whether it shows the true place."""

    picture: np.ndarray | None
    rank: int
    lines: list[str]
    true: bool
    best: bool = False


def shows_place(store: EmbeddingStore, row: int, lat: float, lon: float) -> bool:
    """Whether a tile shows a place: within its ground, or within 25 m of its centre where its size is unknown."""
    columns = store.columns
    if any(map(math.isnan, (lat, lon, columns.lat[row], columns.lon[row]))):
        return False
    north, east = offset_metres(columns.lat[row], columns.lon[row], lat, lon)
    half = NEAR_M if math.isnan(columns.ground_m[row]) else columns.ground_m[row] / 2
    return bool(abs(north) <= half and abs(east) <= half)


def _card(found: Found, position: int, store: EmbeddingStore) -> _Card:
    hit = found.hits[position]
    place = "position unknown" if math.isnan(hit.lat) else f"{hit.lat:.6f}, {hit.lon:.6f}"
    told = "" if math.isnan(hit.probability) else f" · probability {100 * hit.probability:.0f} %"
    pose = "heading unknown" if math.isnan(hit.heading) else drawing.heading(hit.heading, hit.heading_sd)
    error = found.error_m(hit)
    if not math.isnan(error):
        pose += f" · off by {drawing.metres(error)}"
    try:
        picture = read_image(store.file_of(hit.row))
    except CvgeoError:
        picture = None  # the tile may live on another machine: its card tells the rest
    true = shows_place(store, hit.row, *found.truth)
    return _Card(
        picture,
        position + 1,
        [_name(hit, store), place, f"score {hit.score:.3f}{told}", pose],
        true,
        position == 0 and not found.abstains,
    )


def _name(hit: Hit, store: EmbeddingStore) -> str:
    return Path(store.columns.id[hit.row]).name if hit.row >= 0 else "between tiles"


def _draw_card(sheet: Image.Image, card: _Card, left: int, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    if card.true:
        box = (left - FRAME, top - FRAME, left + TILE + FRAME - 1, top + TILE + FRAME - 1)
        draw.rounded_rectangle(box, radius=FRAME + 2, fill=drawing.TRUE)
    draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=(232, 234, 238))
    if card.picture is None:
        middle = (left + TILE / 2, top + TILE / 2)
        draw.text(middle, "picture not found", fill=drawing.MUTED, font=drawing.font(16), anchor="mm")
    else:
        image = drawing.fitted(card.picture, TILE, TILE)
        sheet.paste(image, (left + (TILE - image.width) // 2, top + (TILE - image.height) // 2))
    colour = drawing.TRUE if card.true else (drawing.FOUND if card.best else drawing.INK)
    drawing.disc(draw, (left + 24, top + 24), 17, colour, str(card.rank), 17)
    if card.true:
        drawing.label(draw, (left + TILE - 9, top + 9), "true place", 16, drawing.TRUE)
    for number, line in enumerate(card.lines):
        size, ink = (17, drawing.INK) if number == 0 else (15, drawing.MUTED)
        at = (left, top + TILE + FRAME + 6 + (0 if number == 0 else 5 + 20 * number))
        draw.text(at, drawing.shortened(draw, line, size, TILE), fill=ink, font=drawing.font(size))


def draw_sheet(query: np.ndarray, title: str, subtitle: str, cards: list[_Card], verdict: str = "") -> np.ndarray:
    """A query (H, W, 3) above its best tiles, (H', W', 3) uint8; up to five tiles a row. A verdict stands out."""
    a_row = min(5, len(cards))
    width = max(3, a_row) * (TILE + GAP) + GAP
    photo = drawing.fitted(query, width - 2 * GAP, round((width - 2 * GAP) * 0.5))
    lines = math.ceil(len(cards) / a_row)
    height = TITLE + photo.height + 2 * GAP + lines * (TILE + CAPTION + GAP)
    sheet = Image.new("RGB", (width, height), drawing.PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 12), drawing.shortened(draw, title, 22, width // 2), fill=drawing.INK, font=drawing.font(22))
    if verdict:
        drawing.label(draw, (width - GAP, 9), verdict, 17, drawing.OTHER)
    else:
        draw.text((width - GAP, 17), subtitle, fill=drawing.MUTED, font=drawing.font(16), anchor="ra")
    sheet.paste(photo, ((width - photo.width) // 2, TITLE))
    first = (width - a_row * (TILE + GAP) + GAP) // 2
    for number, card in enumerate(cards):
        left = first + (number % a_row) * (TILE + GAP)
        _draw_card(sheet, card, left, TITLE + photo.height + 2 * GAP + (number // a_row) * (TILE + CAPTION + GAP))
    return np.asarray(sheet)


def write_sheet(path: Path, found: Found, store: EmbeddingStore) -> None:
    """Write a query and its best tiles as one picture. Raises InputError, OutputError."""
    cards = [_card(found, position, store) for position in range(len(found.hits))]
    subtitle = f"best {len(cards)} of {len(store):,} tiles"
    photos = [read_ground(one.picture.path, one.picture.tag.projection) for one in found.described[:MOST_PHOTOS]]
    write_image(path, draw_sheet(_side_by_side(photos), found.title, subtitle, cards, found.verdict))


def _side_by_side(photos: list[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 3) of one height in a row, with gaps."""
    if len(photos) == 1:
        return photos[0]
    fitted = [np.asarray(drawing.fitted(photo, 8 * PHOTO_HEIGHT, PHOTO_HEIGHT)) for photo in photos]
    fitted = [photo for photo in fitted if len(photo) == PHOTO_HEIGHT] or fitted[:1]
    gap = np.full((len(fitted[0]), GAP, 3), drawing.PAPER, np.uint8)
    return np.hstack([part for photo in fitted for part in (gap, photo)][1:])
