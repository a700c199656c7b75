"""`cvgeo search`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, write_records

if TYPE_CHECKING:
    from cvgeo.geometry.areas import Area
    from cvgeo.pipelines.found import Found
    from cvgeo.pipelines.search import Searcher

EXAMPLES = [
    ("cvgeo search pano.jpg", "the five best places, from the store made last"),
    ("cvgeo search pano.jpg --store tiles.h5 -k 10 --sheet sheet.png", "ten, and a picture of them"),
    ("cvgeo search photos/ --heading unknown --format geojson > places.geojson", "a folder, for a map"),
    ("cvgeo search photo.jpg --hfov 70 --near 48.137,11.575,2km", "a photo from somewhere near a position"),
    ("cvgeo search a.jpg b.jpg c.jpg --same-place", "photos of one place, one answer"),
    ("cvgeo search photo.jpg --map map.html --ortho area.mbtiles", "a map page on imagery of the area"),
    ("cvgeo search pano.jpg --refine area.tif", "finer than a tile"),
    ("cvgeo search photos/ --min-probability 0.8", "only what is probable; a record without a place for the others"),
    ("cvgeo search pano.jpg --index faiss --near 52.52,13.40,2km", "by the store's index, near a position"),
    ("find photos -name '*.jpg' | cvgeo search - | jq -c 'select(.rank == 1)'", "paths from a pipe, as they come"),
]
ENVIRONMENT = [("CVGEO_STATE", "folder that remembers the store made last")]
COLUMNS = ["query", "rank", "tile", "score", "lat", "lon", "heading", "heading_sd"]
COLUMNS += ["probability", "error_m"]
SPARE = ["heading_sd", "error_m", "tile", "score", "probability", "heading"]  # what narrow terminals have no room for
TABLE = {"columns": COLUMNS, "grouped": "query", "spare": SPARE}
PAGE_SUFFIXES = (".html", ".htm")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

STDIN = ("pictures", "store")

Pictures = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURE|FOLDER...", help="Ground pictures and folders of them; - reads paths from stdin as they come."
    ),
]
Store = Annotated[
    str | None,
    typer.Option(metavar="STORE", help="Store of aerial tiles; the one made last by default. - takes embed's record."),
]
Model = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Where the store's model lies now; as the store says by default.")
]
Weights = Annotated[
    str | None, typer.Option(metavar="SOURCE", help="A preset's backbone weights; as the store says by default.")
]
K = Annotated[int, typer.Option("-k", min=1, metavar="N", help="Places a picture.")]
Headings = Annotated[
    int | None,
    typer.Option(min=1, max=360, metavar="N", help="Headings tried where it is unknown; the model's own by default."),
]
Azimuth = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Find the heading in the best places by this model's azimuth columns; the store's maps by default.",
    ),
]
Near = Annotated[
    str | None,
    typer.Option(metavar="LAT,LON,RADIUS", help="Search only within so many metres (500, 500m, 2km) of a position."),
]
Polygon = Annotated[
    Path | None, typer.Option(metavar="FILE.geojson", help="Search only within the polygons of a GeoJSON file.")
]
SamePlace = Annotated[
    bool, typer.Option("--same-place", help="All pictures show one place: search them as one, one answer for all.")
]
MinProbability = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=1.0, metavar="P", help="Place nothing where the best place is less probable (calibrated models)."
    ),
]
Refine = Annotated[
    str | None,
    typer.Option(
        metavar="IMAGERY", help="Look for the place within the best tiles, on imagery of any kind that is finer."
    ),
]
RefineCandidates = Annotated[
    int, typer.Option(min=1, max=50, metavar="N", help="How many of the best tiles --refine looks around.")
]
Sheet = Annotated[
    Path | None, typer.Option(metavar="FILE.png", help="Draw the picture and its best tiles (one picture only).")
]
Map = Annotated[
    Path | None,
    typer.Option(
        "--map",
        metavar="FILE.html",
        help="Draw the places: as a page that works offline, for up to 20 pictures, or of one picture as FILE.png.",
    ),
]
Ortho = Annotated[
    str | None,
    typer.Option(metavar="IMAGERY", help="Imagery to draw the map on, of any kind that build-dataset tiles takes."),
]


def search(
    pictures: Pictures,
    store: Store = None,
    model: Model = None,
    weights: Weights = None,
    k: K = 5,
    heading: options.Heading = None,
    hfov: options.Hfov = None,
    projection: options.Projection = None,
    pitch: options.Pitch = None,
    roll: options.Roll = None,
    declination: options.Declination = None,
    headings: Headings = None,
    azimuth: Azimuth = None,
    near: Near = None,
    polygon: Polygon = None,
    same_place: SamePlace = False,
    min_probability: MinProbability = None,
    refine: Refine = None,
    refine_candidates: RefineCandidates = 5,
    sheet: Sheet = None,
    map: Map = None,
    ortho: Ortho = None,
    index: options.Index = options.IndexName.AUTO,
    milvus: options.Milvus = None,
    allow_mismatch: options.AllowMismatch = False,
    device: options.Device = "auto",
    threads: options.Threads = 0,
    memory: options.Memory = None,
    null: options.Null = False,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Find where pictures were taken: the tiles of a store that match best, with their positions.

    A picture of unknown heading is tried at all headings; the best is given with each place, in heading_sd how
    uncertain it is. A record's error_m is the distance to the picture's own GPS position, where it has one. The
    error ellipse (ellipse_major_m, ellipse_minor_m, ellipse_azimuth) holds 68 % of where the camera may be, if the
    place is right. GeoJSON draws it. A calibrated model also tells the probability of a place, and in none that no
    tile shows it. See cvgeo-locating(7) and cvgeo-probability(7).
    """
    options.use(threads, memory)
    _check(sheet, map, ortho)
    stated = options.stated_pose(projection, heading, hfov, pitch, roll, declination)
    from cvgeo.cli.stdin import names_from, reference_from
    from cvgeo.pipelines.search import TOGETHER, Searcher, SearchOptions, find_places

    where = {"areas": _areas(near, polygon), "same_place": same_place, "index": index.value, "milvus": milvus}
    where |= {"refine": refine, "candidates": refine_candidates, "min_probability": min_probability}
    known = {"stated": stated, "headings": headings, "azimuth": azimuth}
    wanted = SearchOptions(k=k, device=device, allow_mismatch=allow_mismatch, **known, **where)
    names = names_from(pictures, null)
    searcher = Searcher(None if store is None else reference_from(store, "store"), model, weights, wanted, reporter)
    found = find_places(names, searcher, reporter, 1 if "-" in pictures else TOGETHER)
    if sheet is not None or map is not None:
        found = _drawn(found, sheet, map, ortho, searcher)
    return _written(found, searcher, chosen_format(format, json))


def _written(found: Iterable[Found], searcher: Searcher, format: options.OutputFormat) -> int:
    """How many pictures were found, their records written."""
    count = Counted()
    write_records(count.records(found, searcher), format, **TABLE)
    searcher.close()
    return count.pictures


def _drawn(
    found: Iterator[Found], sheet: Path | None, map: Path | None, ortho: str | None, searcher: Searcher
) -> list[Found]:
    """All that was found, after the sheet and the map of it are written."""
    from cvgeo.errors import UsageError
    from cvgeo.pipelines.maps import PAGE_VIEWS, write_map, write_page
    from cvgeo.pipelines.sheet import write_sheet

    if map is not None:
        searcher.require_positions("so there is no map")
    page = map is not None and map.suffix.lower() in PAGE_SUFFIXES
    most = PAGE_VIEWS if page and sheet is None else 1
    held = [one for one, _ in zip(found, range(most + 1), strict=False)]
    if len(held) > most:
        shown = f"a map page shows at most {PAGE_VIEWS} pictures" if most > 1 else "--sheet and --map show one picture"
        raise UsageError(shown, mend="name fewer pictures" if most > 1 else "name one picture, or --map FILE.html")
    if held and sheet is not None:
        searcher.reporter.now(f"drawing {sheet}")
        write_sheet(sheet, held[0], searcher.store)
    if held and map is not None:
        searcher.reporter.now(f"drawing {map}")
        if page:
            write_page(map, held, searcher.store, ortho)
        else:
            write_map(map, held[0], searcher.store, ortho)
    return held


def _areas(near: str | None, polygon: Path | None) -> list[Area]:
    """Where the pictures were taken for certain."""
    from cvgeo.data.areas import parse_near, read_polygons

    discs = [] if near is None else [parse_near(near)]
    return discs if polygon is None else [*discs, read_polygons(polygon)]


class Counted:
    """Counts the pictures whose records pass through."""

    def __init__(self) -> None:
        self.pictures = 0

    def records(self, found: Any, searcher: Searcher) -> Iterator[dict[str, Any]]:
        """The records of all hits."""
        for one in found:
            self.pictures += 1
            yield from one.records(searcher.store)


def _check(sheet: Path | None, map: Path | None, ortho: str | None) -> None:
    """Raise UsageError for what makes no sense, before anything heavy is imported."""
    from cvgeo.errors import UsageError

    page = map is not None and map.suffix.lower() in PAGE_SUFFIXES
    for name, path in (("--sheet", sheet), ("--map", map)):
        if path is not None and path.suffix.lower() not in PICTURE_SUFFIXES and not (name == "--map" and page):
            mend = "name a .png or .jpg file" if name == "--sheet" else "name a .html, .png or .jpg file"
            raise UsageError(f"{name} is written as a picture", path=path, mend=mend)
    if ortho is not None and map is None:
        raise UsageError("--ortho is what --map is drawn on", mend="name --map FILE.html too")
    if map is not None and ortho is None and not page:
        raise UsageError("a map as a picture needs --ortho", mend="give the imagery, or name a .html file")
