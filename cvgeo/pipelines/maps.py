"""Maps of a search: a picture of the places found on the imagery, or a page that can be moved and looked into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvgeo.data.ground import read_ground
from cvgeo.data.images import read_image, write_image
from cvgeo.data.sources.imagery import find_imagery
from cvgeo.data.sources.mosaic import Mosaic
from cvgeo.errors import CvgeoError, InputError
from cvgeo.explain import drawing
from cvgeo.explain.map_page import PageHit, PageImage, PagePhoto, PageView, inline_picture, map_page
from cvgeo.explain.map_picture import Candidate, draw_map
from cvgeo.geometry.geodesy import distance_m, move, offset_metres
from cvgeo.paths import write_text
from cvgeo.pipelines.found import Found, Hit
from cvgeo.retrieval import EmbeddingStore

MAP_PIXELS = 1200
PAGE_PIXELS = 1280
AROUND = 1.5  # the imagery of a page goes beyond its window, which is no square on most screens
DETAIL_PIXELS = 512
DETAIL_METRES = 200.0
LEAST_METRES = 150.0
PAGE_VIEWS = 20
LEAST_HEAT = 1e-3  # of the heaviest tile's weight: fainter ones do not show


@dataclass(frozen=True)
class Window:
    """A north-up square of ground: its middle, its side in metres."""

    lat: float
    lon: float
    side_m: float

    def xy(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Metres east and north of the middle, (N, 2)."""
        north, east = offset_metres(self.lat, self.lon, lat, lon)
        return np.stack([east, north], axis=-1)


def _corners(mosaic: Mosaic, lat: np.ndarray, lon: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """South-west and north-east corner of the imagery; a degree beyond the places where it goes further."""
    (south, west), (north, east) = mosaic.bounds[:, :2].min(axis=0), mosaic.bounds[:, 2:].max(axis=0)
    return (max(south, lat.min() - 1), max(west, lon.min() - 1)), (min(north, lat.max() + 1), min(east, lon.max() + 1))


def _inside(values: np.ndarray, side: float, around: float, low: float, high: float) -> float:
    """Middle of a window of `side` around the values, moved so that it stays between `low` and `high` if it can.

    What lies beyond these, values and `around` them, stays in the window.
    """
    low, high = min(low, values.min() - around), max(high, values.max() + around)
    middle = float(values.max() + values.min()) / 2
    return (low + high) / 2 if side >= high - low else min(max(middle, low + side / 2), high - side / 2)


def _located(found: Found, store: EmbeddingStore) -> list[tuple[int, Hit]]:
    """Ranks and hits that have positions. Raises InputError where none has."""
    places = [(rank, hit) for rank, hit in enumerate(found.hits, start=1) if not math.isnan(hit.lat)]
    if not places:
        raise InputError("its tiles have no positions, so there is no map", path=store.path)
    return places


def _window(
    places: Sequence[tuple[int, Hit]], found: Found, mosaic: Mosaic | None, ortho: str | None, around_m: float = 0.0
) -> Window:
    """A square around the places found, so many metres around each, and the true one.

    Raises InputError where the imagery shows no place found.
    """
    lat, lon = (np.array([getattr(hit, name) for _, hit in places]) for name in ("lat", "lon"))
    if mosaic is not None and not any(mosaic.shows(*place) for place in zip(lat, lon, strict=True)):
        raise InputError("covers none of the places found", path=ortho, mend="name imagery of the same area")
    truth = [found.truth] if _truth_shown(found) else []
    north, east = offset_metres(
        lat[0], lon[0], *(np.append(lat, [t[0] for t in truth]), np.append(lon, [t[1] for t in truth]))
    )
    spread = max(np.ptp(north), np.ptp(east))
    side = max(1.25 * spread, spread + 2 * around_m, 1.25 * LEAST_METRES)
    low, high = (-math.inf, -math.inf), (math.inf, math.inf)
    if mosaic is not None:
        low, high = (offset_metres(lat[0], lon[0], *corner) for corner in _corners(mosaic, lat, lon))
    middle = tuple(
        _inside(values, side, around_m, *ends) for values, *ends in zip((north, east), low, high, strict=True)
    )
    return Window(*(float(one) for one in move(lat[0], lon[0], *middle)), float(side))


def _truth_shown(found: Found) -> bool:
    """Whether the pictures state a place that is near enough to the places found to be on a map with them."""
    return not math.isnan(found.truth[0]) and not found.astray


def write_map(path: Path, found: Found, store: EmbeddingStore, ortho: str) -> None:
    """Write the places found, and the true one where it is known, on imagery of the area, of any kind.

    Raises InputError where no place has a position or the imagery covers none of them.
    """
    places = _located(found, store)
    with Mosaic(find_imagery([ortho])) as mosaic:
        window = _window(places, found, mosaic, ortho)
        gsd = window.side_m / MAP_PIXELS
        image, mask = mosaic.cut_tile(window.lat, window.lon, MAP_PIXELS, gsd)
    lat, lon = ([getattr(hit, name) for _, hit in places] for name in ("lat", "lon"))
    x, y = window.xy(np.array([*lat, found.truth[0]]), np.array([*lon, found.truth[1]])).T
    row, column = MAP_PIXELS / 2 - y / gsd, MAP_PIXELS / 2 + x / gsd
    candidates = [
        Candidate(row[n], column[n], rank, hit.score, *((hit.heading, hit.heading_sd) if rank == 1 else ()))
        for n, (rank, hit) in enumerate(places)
    ]
    best = found.hits[0]
    title = f"{found.title}: {found.verdict or f'{best.lat:.6f}, {best.lon:.6f}'}"
    if found.astray:
        title += f" (its own GPS position: {drawing.metres(found.error_m(best))} away)"
    at = (row[-1], column[-1]) if _truth_shown(found) else None
    image = np.where(mask[..., None], image, np.uint8(drawing.GROUND))
    write_image(path, draw_map(image, candidates, gsd, title, at, mosaic.attribution, not found.abstains))


def write_page(path: Path, founds: Sequence[Found], store: EmbeddingStore, ortho: str | None) -> None:
    """Write the places found for some pictures as one self-contained page, on imagery of any kind where it is named.

    Raises InputError where no place has a position or the imagery covers none of them.
    """
    with nullcontext() if ortho is None else Mosaic(find_imagery([ortho])) as mosaic:
        views = [_view(found, store, mosaic, ortho) for found in founds]
    title = views[0].name if len(views) == 1 else f"{len(views)} pictures"
    write_text(path, map_page(f"Where was {title} taken?" if len(views) == 1 else f"Where were {title} taken?", views))


def _view(found: Found, store: EmbeddingStore, mosaic: Mosaic | None, ortho: str | None) -> PageView:
    places = _located(found, store)
    # A page draws the error ellipses as well.
    ellipses = max((hit.major_m for _, hit in places if not math.isnan(hit.major_m)), default=0.0)
    window = _window(places, found, mosaic, ortho, ellipses)
    return PageView(
        found.title,
        _summary(found, store),
        found.verdict,
        window.side_m,
        [
            PagePhoto(one.picture.path.name, _photo(one.picture.path, one.picture.tag.projection))
            for one in found.described
        ],
        [_hit(rank, hit, found, window, store) for rank, hit in places],
        _heat(found, window, store),
        [] if mosaic is None else _imagery(mosaic, window, places),
        "" if mosaic is None else mosaic.attribution,
        window.xy(*np.array(found.truth)).tolist() if _truth_shown(found) else None,
    )


def _summary(found: Found, store: EmbeddingStore) -> str:
    best = f"best {len(found.hits)}" if len(found.hits) > 1 else "best"
    astray = f" {found.astray[0].upper()}{found.astray[1:]}." if found.astray else ""
    return f"The {best} of {len(store):,} tiles.{astray}"


def _photo(path: Path, projection: str) -> str:
    return inline_picture(read_ground(path, projection), 720, 360)


def _hit(rank: int, hit: Hit, found: Found, window: Window, store: EmbeddingStore) -> PageHit:
    x, y = window.xy(np.array(hit.lat), np.array(hit.lon)).tolist()
    best = found.hits[0]
    apart = math.nan if math.isnan(best.lat) else float(distance_m(best.lat, best.lon, hit.lat, hit.lon))
    return PageHit(
        rank,
        Path(store.columns.id[hit.row]).name if hit.row >= 0 else "",
        x,
        y,
        hit.lat,
        hit.lon,
        hit.score,
        hit.probability,
        hit.heading,
        hit.heading_sd,
        hit.headings or [hit.heading],
        hit.major_m,
        hit.minor_m,
        hit.azimuth,
        apart,
        found.error_m(hit),
        _thumb(store, hit.row),
    )


def _thumb(store: EmbeddingStore, row: int) -> str:
    try:
        return inline_picture(read_image(store.file_of(row)), 152, 152) if row >= 0 else ""
    except CvgeoError:
        return ""  # the tile may live on another machine: the list tells the rest


def _heat(found: Found, window: Window, store: EmbeddingStore) -> list[list[float]]:
    """East, north, side and weight of the tiles that show, faint ones first."""
    lat, lon, ground = (getattr(store.columns, name)[found.rows] for name in ("lat", "lon", "ground_m"))
    shown = ~np.isnan(lat + lon + ground) & (found.weights >= LEAST_HEAT * found.weights.max(initial=0))
    cells = np.column_stack([window.xy(lat[shown], lon[shown]), ground[shown], found.weights[shown]])
    return cells[np.argsort(cells[:, 3], kind="stable")].tolist()


def _imagery(mosaic: Mosaic, window: Window, places: Sequence[tuple[int, Hit]]) -> list[PageImage]:
    """The whole window, and where that is coarse the ground around each place in the imagery's own detail."""
    side = window.side_m * AROUND
    overview, mask = mosaic.cut_tile(window.lat, window.lon, PAGE_PIXELS, side / PAGE_PIXELS)
    images = [_covered(overview, mask, side / PAGE_PIXELS)] if mask.any() else []
    gsd = max(mosaic.gsd_m, DETAIL_METRES / DETAIL_PIXELS)
    if side / PAGE_PIXELS < 1.5 * gsd:
        return images
    pixels = math.ceil(DETAIL_METRES / gsd)
    lat, lon = (np.array([getattr(hit, name) for _, hit in places]) for name in ("lat", "lon"))
    tiles = mosaic.cut_tiles(lat, lon, pixels, gsd)
    for (tile, mask), (x, y) in zip(tiles, window.xy(lat, lon).tolist(), strict=True):
        if mask.all():
            images.append(PageImage(inline_picture(tile, pixels, pixels), x, y, pixels * gsd, pixels * gsd))
    return images


def _covered(picture: np.ndarray, mask: np.ndarray, gsd: float) -> PageImage:
    """The part of a square picture (S, S, 3) around the view's middle that holds all of its data."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    (top, bottom), (left, right) = ((int(some[0]), int(some[-1]) + 1) for some in (rows, columns))
    shown = np.where(mask[..., None], picture, np.uint8(drawing.GROUND))[top:bottom, left:right]
    x, y = ((left + right) / 2 - mask.shape[1] / 2) * gsd, (mask.shape[0] / 2 - (top + bottom) / 2) * gsd
    src = inline_picture(shown, PAGE_PIXELS, PAGE_PIXELS)
    return PageImage(src, x, y, (right - left) * gsd, (bottom - top) * gsd)
