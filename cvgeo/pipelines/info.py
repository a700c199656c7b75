"""`cvgeo info`: what a file or folder of the program is, and whether it is whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from cvgeo.data.conventions import span, tile_metres
from cvgeo.data.images import SUFFIXES, image_size, list_images, looks_like_picture, read_image
from cvgeo.data.missing import missing_pictures, told_missing
from cvgeo.data.pack import BROKEN, Pack, is_pack
from cvgeo.data.readers import DESCRIBING, chosen_reader, find_dataset, open_dataset, reader_of, readers, split_variant
from cvgeo.data.schema import POSITIVE, Dataset
from cvgeo.data.sources.geotags import read_geotag
from cvgeo.data.sources.imagery import PACKED_SUFFIXES, RASTER_SUFFIXES, Imagery, find_pyramids
from cvgeo.data.sources.pyramid import PyramidSource
from cvgeo.data.sources.raster import RasterSource
from cvgeo.data.sources.source import Source
from cvgeo.errors import CvgeoError, InputError
from cvgeo.paths import require_readable
from cvgeo.pipelines.index_facts import describe_index
from cvgeo.report import Reporter
from cvgeo.retrieval import EmbeddingStore
from cvgeo.retrieval.rows import SUFFIXES as STORE_SUFFIXES
from cvgeo.retrieval.shards import shards_of
from cvgeo.training.checkpoint import BEST, LAST, load_checkpoint, read_metadata
from cvgeo.training.run_folder import METRICS, SETTINGS, RunFolder

T = TypeVar("T")

SHOWN = 20  # of the broken pictures of one folder
PYRAMIDS = {".mbtiles": "MBTiles", ".pmtiles": "PMTiles"}


def describe_files(names: Iterable[str], verify: bool, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """A record of each file or folder named; what is damaged or unknown is reported, and the rest is done.

    `verify` reads everything: checksums of stores and checkpoints, each picture of a data set, all of a raster.
    """
    for name in names:
        reporter.now(f"{'verifying' if verify else 'reading'} {name}")
        try:
            record = {"file": name, **_describe(name, verify, reporter)}
        except CvgeoError as error:
            reporter.fail(name, str(error))
            continue
        if verify:
            record["verified"] = record.get("verified", True)
        yield record


def _describe(name: str, verify: bool, reporter: Reporter) -> dict[str, Any]:
    path = Path(name)
    if not path.exists() and _names_dataset(name):
        return _dataset(name, verify, reporter)
    if path.is_file():
        require_readable(path)
    if path.exists() and (index := describe_index(path, verify)) is not None:
        return index
    if path.is_dir():
        if (path / SETTINGS).is_file():
            return _run(path, verify)
        return _folder(path, verify, reporter)
    if not path.exists():
        raise InputError("no such file or folder", path=path, mend="check the spelling")
    if path.suffix == ".safetensors":
        return _checkpoint(path, verify)
    if path.suffix in STORE_SUFFIXES or h5py.is_hdf5(path):
        return _pack(path, verify) if is_pack(path) else _store(path, verify)
    suffix = path.suffix.lower()
    if suffix in PACKED_SUFFIXES:
        return _pyramid(Imagery(str(path)), verify, reporter)
    if suffix in RASTER_SUFFIXES:
        return _raster_or_picture(path, verify)
    if suffix in DESCRIBING and _names_dataset(name):
        return _dataset(name, verify, reporter)
    return _other(path, verify)


def _raster_or_picture(path: Path, verify: bool) -> dict[str, Any]:
    """A raster, else a picture, with the reason why it is no raster among its notes."""
    try:
        return _raster(path, verify)
    except InputError as error:
        if path.suffix.lower() not in SUFFIXES:
            raise
        record = _picture(path, verify)
        return record | {"notes": [*record["notes"], f"no raster: {error.fault}"]}


def _other(path: Path, verify: bool) -> dict[str, Any]:
    """A picture, whatever it is called. Raises InputError for a file of no kind that is known."""
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        with open(path, "rb") as handle:
            head = handle.read(64)
        if head and not looks_like_picture(head):
            mend = "cvgeo info --help lists what can be described"
            raise InputError("is neither a file of the program nor a picture", path=path, mend=mend)
    return _picture(path, verify)


def _names_dataset(name: str) -> bool:
    """Whether what is no path is a data set's name: a known one, or one that is found, with `:VARIANT` or not."""
    reference = split_variant(name)[0]
    if reference.lower() in readers():
        return True
    try:
        find_dataset(reference)
    except InputError:
        return False
    return True


def _store(path: Path, verify: bool) -> dict[str, Any]:
    with EmbeddingStore(path) as store:
        damaged = store.verify() if verify else []
        if damaged:
            names = ", ".join(damaged[:20]) + (f" and {len(damaged) - 20} more" if len(damaged) > 20 else "")
            mend = "make the store again with cvgeo embed --overwrite"
            raise InputError(f"damaged rows: {names}", path=path, mend=mend)
        header = store.header
        return {
            "kind": "embedding store",
            "rows": len(store),
            "dimension": header.dimension,
            "storage": header.storage,
            "view": header.view,
            "located": int((~np.isnan(store.columns.lat)).sum()),
            "parts": store.parts,
            "format_version": store.format_version,
            "shards": [str(one.path(path)) for one in shards_of(path)],
            "model": header.model,
            "weights": header.weights or None,
            "fingerprint": header.fingerprint,
            "tile_metres": span(store.columns.ground_m),
            "conventions": header.conventions,
            "azimuth_columns": header.azimuth_columns,
            "azimuth_model": header.azimuth_model or None,
            "azimuth_dimension": header.azimuth_dimension,
            "column0_heading": header.column0_heading,
            "polar_convention": header.polar_convention or None,
            "created_by": header.created_by,
        }


def _pack(path: Path, verify: bool) -> dict[str, Any]:
    with Pack(path) as pack:
        damaged = sum(len(table.damaged_rows()) for table in pack.tables.values()) if verify else 0
        if damaged:
            mend = "remove it: the next training packs again"
            raise InputError(f"a damaged pack: {damaged} views are not what was written", path=path, mend=mend)
        view = pack.settings["view"]
        return {
            "kind": "pack",
            "dataset": pack.dataset,
            "panoramas": len(pack.tables["ground"]),
            "tiles": len(pack.tables["aerial"]),
            "broken": int(sum((table.status == BROKEN).sum() for table in pack.tables.values())),
            "bytes": path.stat().st_size,
            "fit": pack.settings["fit"],
            "ground_rows": pack.settings["ground_rows"],
            "view": view,
            "created_by": f"cvgeo {pack.settings['made_by']['cvgeo']}",
        }


def _checkpoint(path: Path, verify: bool) -> dict[str, Any]:
    details = read_metadata(path)
    if verify:
        load_checkpoint(path)
    model = details["config"].get("model", {})
    view = model.get("view", {})
    return {
        "kind": "checkpoint",
        "model": model.get("name"),
        "parts": " + ".join(str(model.get(part)) for part in ("backbone", "attention", "aggregator")),
        "ground": f"{view.get('ground_height')}x{view.get('ground_width')}",
        "aerial": f"{view.get('aerial_height')}x{view.get('aerial_width')} {view.get('aerial')}",
        "column0_heading": view.get("column0_heading"),
        "polar_convention": view.get("polar_convention") if view.get("aerial") == "polar" else None,
        "conventions": details.get("conventions"),
        "recipe": details["config"].get("train", {}).get("recipe"),
        "dataset": details.get("dataset"),
        "epoch": details.get("epoch"),
        "metrics": details["metrics"],
        "heading_sharpness": details.get("heading_sharpness"),
        "fingerprint": details["fingerprint"],
        "created_by": f"cvgeo {details.get('cvgeo_version')}",
    }


def _run(path: Path, verify: bool) -> dict[str, Any]:
    try:
        settings = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
        config, dataset = settings["config"], settings["dataset"]
        lines = (path / METRICS).read_text(encoding="utf-8").splitlines() if (path / METRICS).exists() else []
        epochs = [json.loads(line) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"a damaged run folder ({error})", path=path, mend="train again with --overwrite") from error
    best = path / BEST
    if verify:
        for checkpoint in (best, path / LAST):
            if checkpoint.exists():
                load_checkpoint(checkpoint)
        RunFolder(path).load_state()
    return {
        "kind": "run",
        "model": config["model"]["name"],
        "recipe": config["train"]["recipe"],
        "dataset": dataset,
        "epochs_done": len(epochs),
        "epochs": config["train"]["epochs"],
        "last": epochs[-1] if epochs else None,
        "checkpoint": str(best) if best.exists() else None,
    }


def _folder(path: Path, verify: bool, reporter: Reporter) -> dict[str, Any]:
    try:
        reader_of(path)
    except InputError:
        if pyramids := find_pyramids(path):
            return _pyramid(pyramids[0], verify, reporter)
        pictures = list_images(path)
        if not pictures:
            raise
        broken = {"verified": _broken_pictures(pictures, reporter) == 0} if verify else {}
        return {"kind": "folder of pictures", "pictures": len(pictures), **broken}
    return _dataset(path, verify, reporter)


def _dataset(reference: str | Path, verify: bool, reporter: Reporter) -> dict[str, Any]:
    data = open_dataset(reference)
    _, layout, variant = chosen_reader(reference)
    record = {
        "kind": "data set",
        "name": data.name,
        "layout": layout.name,
        "variant": variant,
        "variants": layout.variants,
        "panoramas": len(data.panoramas),
        "tiles": len(data.tiles),
        "pairs": len(data.pairs),
        "positive": int((data.pairs.role == POSITIVE).sum()),
        "splits": {name: _counts(data, name) for name in data.splits()},
        "sources": sorted(set(data.panoramas.source) - {""}),
        "located": int((~np.isnan(data.panoramas.lat)).sum()),
        "headings_known": int((~np.isnan(data.panoramas.column0_heading)).sum()),
        "fields_of_view_known": int((~np.isnan(data.panoramas.hfov)).sum()),
        "protocols": data.protocols,
        "fit": data.conventions.fit,
        "ground_rows": data.conventions.ground_rows,
        "aligned": data.conventions.aligned,
        "tile_metres": tile_metres(data.tiles),
        "attribution": data.attribution or None,
        "provenance": data.provenance,
    }
    if verify:
        record |= _verified(data, reporter)
    return record


def _verified(data: Dataset, reporter: Reporter) -> dict[str, Any]:
    missing = missing_pictures(data)
    if missing:
        reporter.fail(str(data.root), f"{told_missing(data, missing)}; fetch them")
    gone = set(missing)
    there = [path for path in (*data.panoramas.path, *data.tiles.path) if path not in gone]
    broken = _broken_pictures(there, reporter)
    return {"missing": len(missing), "broken": broken, "verified": not missing and broken == 0}


def _counts(data: Dataset, split: str) -> dict[str, int]:
    part = data.subset(split)
    return {"panoramas": len(part.panoramas), "tiles": len(part.tiles)}


def _broken_pictures(pictures: list[Path], reporter: Reporter) -> int:
    return _count_broken(pictures, read_image, str, "pictures", reporter)


def _count_broken(
    items: list[T], read: Callable[[T], object], name: Callable[[T], str], kind: str, reporter: Reporter
) -> int:
    """How many items cannot be read; the first ones are reported."""
    broken = 0
    for item in reporter.track(items, kind):
        try:
            read(item)
        except CvgeoError as error:
            broken += 1
            if broken <= SHOWN:
                reporter.fail(name(item), str(error))
    if broken > SHOWN:
        reporter.warn(f"{broken - SHOWN} more {kind} cannot be read")
    return broken


def _raster(path: Path, verify: bool) -> dict[str, Any]:
    with RasterSource(path) as raster:
        height, width = raster.size
        if verify:
            lat, lon = raster.pixel_to_latlon(np.array([height / 2]), np.array([width / 2]))
            raster.cut_tile(float(lat[0]), float(lon[0]), 256, max(height, width) * raster.gsd_m / 256)
        return {"kind": "raster", "height": height, "width": width, **_ground(raster)}


def _ground(source: Source) -> dict[str, Any]:
    south, west, north, east = source.bounds_latlon
    place = {"south": south, "west": west, "north": north, "east": east}
    return {"crs": source.crs_name, "gsd_m": round(source.gsd_m, 4), **place}


def _pyramid(imagery: Imagery, verify: bool, reporter: Reporter) -> dict[str, Any]:
    with imagery.open() as source:
        assert isinstance(source, PyramidSource)
        addresses = list(source.store.addresses())
        record = {
            "kind": PYRAMIDS.get(Path(imagery.place).suffix.lower(), "folder of map tiles"),
            "tiles": len(addresses),
            "zooms": source.store.zooms,
            "tile_size": source.tile_size,
            **_ground(source),
            "attribution": source.attribution or None,
        }
        if verify:
            broken = _count_broken(addresses, source.check, source.tile_name, "map tiles", reporter)
            record |= {"broken": broken, "verified": broken == 0}
        return record


def _picture(path: Path, verify: bool) -> dict[str, Any]:
    height, width = read_image(path).shape[:2] if verify else image_size(path)
    record: dict[str, Any] = {"kind": "picture", "height": height, "width": width}
    try:
        tag = read_geotag(path)
    except InputError as error:
        return record | {"notes": [error.fault]}
    known = not math.isnan(tag.hfov)
    column0_heading = tag.column0_heading if known else math.nan
    record |= {"lat": tag.lat, "lon": tag.lon, "heading": tag.heading, "column0_heading": column0_heading}
    record |= {"hfov": tag.hfov, "vfov_top": tag.vfov_top, "vfov_bottom": tag.vfov_bottom}
    record |= {"projection": tag.projection} if tag.projection else {}
    return record | {"pitch": tag.pitch, "roll": tag.roll, "notes": tag.notes}
