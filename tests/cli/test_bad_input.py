"""What every command says of bad input: one line that names it and says what to do, a status, and nothing written."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Row = tuple[object, ...]  # a call, the exit status, and what the line says

AERIAL = "--aerial a.tif --tile-metres 20 --tile-size 32"
SIZE = "--tile-metres 20 --tile-size 32"
MODEL = "--model a.safetensors"
RUN = "--recipe demo -o x"
GRID = "--recipe demo --epochs 1 --batch-size 2 -o x"
SPELLING, AGAIN = "check the spelling", "fetch it again"
# Of every kind of file there is an empty one, one that is cut in its middle, one that is not there, one that holds some
# words, and a folder of that name.

PICTURES: list[Row] = [
    (call.replace("KIND", kind), 3, f"{kind}.", said)
    for call in (
        "polar KIND.png",
        f"embed KIND.png {MODEL} -o x.h5",
        "search KIND.jpg --store a.h5",
        f"heatmap KIND.jpg --tile a.png {MODEL} --hfov 360 -o x.png",
        f"heatmap a.jpg --tile KIND.png {MODEL} --hfov 360 -o x.png",
        f"build-dataset pairs KIND.jpg {AERIAL} -o x",
        "info --verify KIND.jpg",
    )
    for kind, said in (("empty", AGAIN), ("cut", AGAIN), ("none", SPELLING), ("text", "convert it to JPEG or PNG"))
] + [
    ("polar folder.png", 3, "folder.png", "holds no pictures; name one that does"),
    (f"embed folder.png {MODEL} -o x.h5", 3, "folder.png", "holds no pictures; name one that does"),
    ("search folder.png --store a.h5", 3, "folder.png", "holds no pictures; name one that does"),
    (f"heatmap a.jpg --tile folder.png {MODEL} -o x.png", 3, "folder.png", "is a folder, not a picture; name a file"),
    (f"build-dataset pairs folder.png {AERIAL} -o x", 3, "folder.png", "name a folder with panoramas"),
    ("polar a.jpg", 3, "a.jpg", "too far from square; crop it"),
    ("polar zero.png", 3, "zero.png", "it has no pixels"),
    ("polar huge.png", 3, "huge.png", "100000x100000 pixels are refused"),
    ("search wide.png --store a.h5", 3, "wide.png", "a side has at most 1,000,000; cut it into parts"),
    ("polar seven.tif", 3, "seven.tif", AGAIN),
    ("search a.png --store a.h5 -k 1", 0, "warning: a.png: its field of view is unknown, 65 degrees are assumed"),
    ("search focal.jpg --store a.h5 -k 1", 0, "warning: focal.jpg: its field of view is unknown"),
    ("search p/a.jpg q/a.jpg --store a.h5 -k 1", 0),
]

RASTERS: list[Row] = [
    (f"build-dataset tiles --aerial {kind}.tif {SIZE} -o x", 3, f"{kind}.tif", said)
    for kind, said in (
        ("empty", "name a GeoTIFF or another raster"),
        ("cut", AGAIN),
        ("none", SPELLING),
        ("text", "name a GeoTIFF or another raster"),
        ("folder", "no raster in this folder; name a GeoTIFF"),
        ("unplaced", "has no coordinate reference system; give it one"),
        ("metres", "are not in degrees, as EPSG:4326 is; say in which system they are"),
        ("complex", "its numbers are complex"),
    )
] + [
    (f"build-dataset pairs a-photos --aerial text.tif {SIZE} -o x", 3, "text.tif", "name a GeoTIFF"),
    (f"build-dataset pairs a-photos --aerial cut.tif {SIZE} -o x", 3, "cut.tif", AGAIN),
    (f"build-dataset area --aerial cut.tif {SIZE} --spacing 20 --apart 1 -o x", 3, "cut.tif", AGAIN),
    (f"build-dataset area --aerial none.tif {SIZE} -o x", 3, "none.tif", SPELLING),
    (f"build-dataset tiles {AERIAL} --bbox 1,2,3,4 -o x", 3, "a.tif: --bbox lies outside", "lies within 51.99"),
    (f"build-dataset area {AERIAL} --bbox 1,2,3,4 -o x", 3, "a.tif: --bbox lies outside", "lies within 51.99"),
    ("search a.jpg --store a.h5 --refine text.tif", 3, "text.tif", "name a GeoTIFF"),
    ("search a.jpg --store a.h5 -k 1 --refine cut.tif", 0, "a.jpg: not refined: cut.tif: is damaged", AGAIN),
    ("search a.jpg --store a.h5 -k 1 --refine far.tif", 0, "not refined", "name imagery of the same area"),
    ("search a.jpg --store a.h5 --map x.png --ortho cut.tif", 3, "cut.tif", AGAIN),
    ("search a.jpg --store a.h5 --map x.png --ortho far.tif", 3, "far.tif", "name imagery of the same area"),
    ("search a.jpg --store a.h5 --map x.html --ortho none.tif", 3, "none.tif", SPELLING),
]

MODELS: list[Row] = [
    (f"embed a.png --model {kind}.safetensors -o x.h5", 3, f"{kind}.safetensors", said)
    for kind, said in (
        ("empty", "name a .safetensors file that cvgeo train wrote"),
        ("cut", "name a .safetensors file that cvgeo train wrote"),
        ("none", "no such model; give a checkpoint, a run folder, or one of any_view"),
        ("text", "name a .safetensors file that cvgeo train wrote"),
        ("folder", "no checkpoint in this folder; train first"),
    )
] + [
    ("embed a.png --model zero_shott -o x.h5", 3, "zero_shott: no such model; did you mean zero_shot?"),
    ("search a.jpg --store a.h5 --model cut.safetensors", 3, "cut.safetensors", "name a .safetensors file"),
    ("search a.jpg --store a.h5 --azimuth text.safetensors", 3, "text.safetensors", "name a .safetensors file"),
    ("search a.jpg --store a.h5 --model other.safetensors", 4, "a.h5: was made by another model", "embed again"),
    (
        "search a.jpg --store orphan.h5",
        3,
        "orphan.h5: the model that made it, gone.safetensors",
        "name it with --model",
    ),
    ("evaluate -d a-data --model none.safetensors", 3, "none.safetensors: no such model; give"),
    ("heatmap a.jpg --tile a.png --model cut.safetensors -o x.png", 3, "cut.safetensors", "name a .safetensors file"),
    ("heatmap a.jpg --tile a.png --model zero_shott -o x.png", 3, "zero_shott", "did you mean zero_shot?"),
    ("train -d a-data --model mc_grra -o x", 2, "unknown model 'mc_grra'; did you mean mc_gra?"),
    (f"train -d a-data {RUN} --weights none.pth", 3, "none.pth", "give a file, or one of none, imagenet, lite"),
    (f"train -d a-data {RUN} --weights text.safetensors", 3, "text.safetensors", "get the file again"),
    ("info empty.safetensors", 3, "empty.safetensors", "name a .safetensors file"),
    ("info cut.safetensors", 3, "cut.safetensors", "name a .safetensors file"),
]

AGAIN_STORE = "make the store again with cvgeo embed --overwrite"
STORES: list[Row] = [
    (f"{call} {name}", 3, f"{name}: {said}")
    for call in ("search a.jpg --store", "index")
    for name, said in (
        ("empty.h5", f"damaged or not an embedding store (it is empty); {AGAIN_STORE}"),
        ("text.h5", f"damaged or not an embedding store (it is no HDF5 file); {AGAIN_STORE}"),
        ("cut.h5", "damaged or not an embedding store (truncated file"),
        ("none.h5", "no such store; make one with cvgeo embed -o"),
        ("folder.h5", "is a folder, not an embedding store; name an .h5 file"),
        ("a.png", "damaged or not an embedding store (it is no HDF5 file); name an .h5 file that cvgeo embed made"),
        ("strange.h5", "an HDF5 file, but not an embedding store; name a file made by cvgeo embed"),
    )
] + [
    (f"embed a.png {MODEL} -o text.h5", 3, "text.h5", AGAIN_STORE),
    (f"embed a.png {MODEL} -o folder.h5", 3, "folder.h5", "is a folder, not an embedding store; name an .h5 file"),
    (f"embed a.png {MODEL} -o a.jpg --overwrite", 3, "a.jpg", "is not overwritten; name an .h5 file"),
    (f"evaluate -d a-data {MODEL} --store folder.h5", 3, "folder.h5", "is a folder, not an embedding store"),
    ("heatmap a.jpg --store text.h5 -o x.png", 3, "text.h5", AGAIN_STORE),
    ("heatmap a.jpg --store none.h5 -o x.png", 3, "none.h5", "no such store; make one with cvgeo embed -o"),
    ("info cut.h5", 3, "cut.h5", AGAIN_STORE),
    ("info strange.h5", 3, "strange.h5", "an HDF5 file, but not an embedding store"),
    ("info cut.h5.faiss", 3, "cut.h5.faiss", "damaged or no index of cvgeo; build it again with cvgeo index"),
    ("search a.jpg --store nowhere.h5 --map x.html", 3, "nowhere.h5: its tiles have no positions", "embed a data set"),
    ("search a.jpg --store nowhere.h5 --near 52,13,1km", 3, "nowhere.h5: its tiles have no positions", "embed a data"),
    ("search a.jpg --store a.h5 --index faiss", 3, "a.h5.faiss: no such index; build it: cvgeo index a.h5"),
    ("search a.jpg --store a.h5 --index milvus", 3, "a.h5: no milvus index of this store is known; build it"),
    ("index --check a.h5", 3, "a.h5.faiss: no such index; build it: cvgeo index a.h5"),
]

IS_FILE = "is a file, and describes no data set; name the folder of a data set"
SETS: list[Row] = [
    (call.replace("SET", "text.csv"), 3, f"text.csv: {IS_FILE}")
    for call in (
        f"train -d SET {RUN}",
        f"evaluate -d SET {MODEL}",
        f"embed -d SET {MODEL} -o x.h5",
        f"heatmap p004 -d SET {MODEL} -o x.png",
        "build-dataset check SET",
        "info SET --sheet x.png",
        f"ablate -d SET {GRID} --vary train.roll=0,1",
    )
] + [
    (f"train -d empty.csv {RUN}", 3, f"empty.csv: {IS_FILE}"),
    (f"train -d a-data/pictures/aerial000.png {RUN}", 3, f"aerial000.png: {IS_FILE}"),
    (f"train -d none {RUN}", 3, "none: no data set of that name", "give a folder, or set CVGEO_DATA"),
    (f"train -d folder.csv {RUN}", 3, "folder.csv: no known data set layout; known layouts: cvact: "),
    (f"train -d a-data:twice {RUN}", 2, "a-data: native has no variant 'twice'; known: none"),
    (f"evaluate -d none {MODEL}", 3, "none: no data set of that name", "give a folder, or set CVGEO_DATA"),
    (f"evaluate -d a-data {MODEL} --split test", 3, "a-data: no split 'test'; it has these splits: train, val"),
    (f"evaluate -d a-data {MODEL} --distractors none", 3, "none: no data set of that name", "give a folder"),
    (f"heatmap p999 -d a-data {MODEL} -o x.png", 3, "p999: is no panorama of a-data; name one by its id or path"),
    ("info text.csv", 3, "text.csv: is neither a file of the program nor a picture; cvgeo info --help lists"),
    ("info none", 3, "none: no such file or folder; check the spelling"),
]

POSITIONS = f"build-dataset pairs {AERIAL} -o x --positions"
NEAR, POLYGON = "search a.jpg --store a.h5 --near", "search a.jpg --store a.h5 --polygon"
TABLES: list[Row] = [
    (f"{POSITIONS} empty.csv", 3, "empty.csv: is empty: the line that names the columns is missing; write"),
    (f"{POSITIONS} text.csv", 3, "text.csv: column file is missing; it has these are some words"),
    (f"{POSITIONS} quoted.csv", 3, "quoted.csv: is not a well-formed CSV file", "write it again"),
    (f"{POSITIONS} none.csv", 3, "none.csv", SPELLING),
    (f"{POSITIONS} folder.csv", 3, "folder.csv", "name a file, not a folder"),
    (f"{POSITIONS} a.jpg", 3, "a.jpg: is no CSV text; name a table, or save it as UTF-8 CSV"),
    (f"{POSITIONS} heads.csv", 3, "heads.csv: names no picture; write a line for each"),
    (f"{POSITIONS} nan.csv", 3, "nan.csv: line 2: lat nan: -90 to 90 is due"),
    (f"{POSITIONS} inf.csv", 3, "inf.csv: line 2: lon inf: -180 to 180 is due"),
    (f"{POSITIONS} twice.csv", 3, "twice.csv: line 3: the same picture has other values in line 2; keep one of them"),
    (f"evaluate -d a-data {MODEL} --against text.csv", 3, "text.csv: column scope is missing; it has these are"),
    (f"evaluate -d a-data {MODEL} --against none.csv", 3, "none.csv", SPELLING),
    (f"{POLYGON} empty.geojson", 3, "empty.geojson: is no GeoJSON", "export the area as GeoJSON"),
    (f"{POLYGON} cut.geojson", 3, "cut.geojson: is no GeoJSON", "export the area as GeoJSON"),
    (f"{POLYGON} text.geojson", 3, "text.geojson: is no GeoJSON", "export the area as GeoJSON"),
    (f"{POLYGON} none.geojson", 3, "none.geojson", SPELLING),
    (f"{POLYGON} folder.geojson", 3, "folder.geojson", "name a file, not a folder"),
    (f"{POLYGON} none-in-it.geojson", 3, "none-in-it.geojson: holds no polygon; draw the area as a polygon"),
    (f"{POLYGON} open.geojson", 3, "open.geojson: a ring is not closed; repeat its first position at its end"),
    (f"{POLYGON} utm.geojson", 3, "utm.geojson: its coordinates are in EPSG:25832, not in WGS84 degrees; ogr2ogr"),
    (f"{NEAR} 52,13", 2, "--near 52,13 is no position and radius; give LAT,LON,RADIUS"),
    (f"{NEAR} 52,13,-5", 2, "--near: a radius of -5 holds nothing; give metres"),
    (f"{NEAR} nan,13,5", 2, "--near: latitude nan is out of range; the order is latitude, longitude, radius"),
    (f"{NEAR} 13,520,1km", 2, "--near: longitude 520 is out of range; the order is"),
    (f"{NEAR} 10,10,1km", 3, "a.h5: none of its 6 tiles lies in the area; give a wider area"),
]

WORDS: list[Row] = [
    ("search a.jpg --store a.h5 -k -1", 2, "'-k'", "greater than or equal to 1"),
    ("search a.jpg --store a.h5 -k 99999999999999999999", 2, "--k 99999999999999999999 is no number"),
    ("search a.jpg --store a.h5 --hfov 0", 2, "'--hfov'", "greater than or equal to 1"),
    ("search a.jpg --store a.h5 --hfov 400", 2, "'--hfov'", "less than or equal to 360"),
    ("search a.jpg --store a.h5 --heading north", 2, "--heading 'north' is no heading; give degrees from north"),
    ("search a.jpg --store a.h5 --ortho a.tif", 2, "--ortho is what --map is drawn on; name --map"),
    ("search a.jpg --store a.h5 --map x.txt", 2, "x.txt: --map is written as a picture; name a .html, .png or .jpg"),
    ("search a.jpg --store a.h5 --map x.png", 2, "needs --ortho; give the imagery, or name a .html file"),
    ("search a.jpg --store a.h5 --sheet x.txt", 2, "x.txt: --sheet is written as a picture; name a .png"),
    ("search a.jpg a-photos/a1.jpg --store a.h5 --sheet x.png", 2, "show one picture; name one picture"),
    (["search", "", "--store", "a.h5"], 2, "a word of the call is empty; is a variable of the shell not set?"),
    (["build-dataset", "world", "--output="], 2, "a word of the call is empty"),
    ("polar a.png --heading nan", 2, "--heading nan is no number that can be meant"),
    ("build-dataset tiles --aerial a.tif --tile-metres inf -o x", 2, "--tile-metres inf is no number"),
    (f"train -d a-data {RUN} --seed 99999999999999999999", 2, "--seed 99999999999999999999 is no number"),
    ("train -d a-data --recipe dmo -o x", 2, "unknown recipe 'dmo'; did you mean demo?"),
    (f"train -d a-data {RUN} --set train.epoch=1", 2, "unknown setting train.epoch; did you mean train.epochs?"),
    (f"ablate -d a-data {GRID} --vary train.rolll=0,1", 2, "unknown setting train.rolll; did you mean train.roll?"),
    ("models tinny", 2, "unknown model 'tinny'; did you mean tiny?"),
    ("config polra", 2, "no command 'polra'; did you mean polar?"),
    ("build-dataset world --preset alined -o x", 2, "'alined' is not one of 'aligned', 'offcentre'"),
    (f"embed {MODEL} -o x.h5", 2, "give pictures or --dataset, one of them"),
    (f"embed -d a-data a.png {MODEL} -o x.h5", 2, "give pictures or --dataset, one of them"),
    (f"evaluate -d a-data {MODEL} --heading unknown --query-store x.h5", 2, "--query-store"),
    (f"evaluate -d a-data {MODEL} --hfov 90 --query-store x.h5", 2, "whole panoramas"),
    (f"evaluate -d a-data {MODEL} --calibrate-heading", 2, "add --heading unknown"),
    (f"heatmap p004 -d a-data {MODEL} --kind attention", 2, "models with it: cai, cbam, maxpool, mc_gra"),
    ("heatmap p004 -d a-data", 2, "no --model is named; name a checkpoint"),
    (f"heatmap p004 -d a-data --tile t.png {MODEL}", 2, "each name the tile; give one of them"),
    (f"heatmap p004 -d a-data {MODEL} --heading 5", 2, "leave --heading and the like out"),
    (f"heatmap p004 -d a-data {MODEL} --kind points --at 1", 2, "--at '1' is no direction; give a heading"),
]

OUTPUTS: list[Row] = [
    ("polar a.png -o text.csv", 2, "text.csv: is no folder and no .png file; maps are written as PNG"),
    (f"build-dataset pairs a-photos {AERIAL} -o a-data/pictures", 4, "a-data/pictures: exists and is no data set"),
    (f"build-dataset tiles {AERIAL} -o text.csv", 4, "text.csv: exists and is no data set", "name another folder"),
    ("build-dataset world --size-km 0.3 --panoramas 1 -o text.csv", 3, "text.csv: is not a folder; name a folder"),
    ("demo text.csv", 3, "text.csv: is not a folder; name a folder"),
    ("train -d a-data --recipe demo -o a-photos", 3, "a-photos: is there already and holds no run; name another"),
    (
        "ablate -d a-data --recipe demo --vary train.roll=0,1 -o a-photos",
        3,
        "a-photos: is there already and holds no grid; name another place",
    ),
    ("search a.jpg --store a.h5 --map folder.png --ortho a.tif", 1, "folder.png", "name a file, not a folder"),
    ("search a.jpg --store a.h5 --sheet folder.png", 1, "folder.png", "name a file, not a folder"),
    (f"evaluate -d a-data {MODEL} --per-query folder.csv", 1, "folder.csv", "name a file, not a folder"),
    ("info a-data --sheet folder.png", 1, "folder.png", "name a file, not a folder"),
]

# With these bytes on stdin.
NOTHING = "standard input: is empty; pipe paths into it, one a line"
PIPED: list[Row] = [
    ("polar -", 3, NOTHING, b""),
    ("polar -", 3, NOTHING, b"\n\n"),
    ("polar - -o -", 3, NOTHING, b""),
    ("search - --store a.h5", 3, NOTHING, b""),
    (f"embed - {MODEL} -o x.h5", 3, NOTHING, b""),
    (f"heatmap - --tile a.png {MODEL} -o x.png", 3, NOTHING, b""),
    ("info -", 3, NOTHING, b""),
    (f"build-dataset pairs - {AERIAL} -o x", 3, NOTHING, b""),
    ("index -", 3, "nothing came from stdin; pipe in a record with 'store', or name it", b""),
    (f"train -d - {RUN}", 3, "nothing came from stdin; pipe in a record with 'dataset', or name it", b""),
    ("search a.jpg --store -", 3, "nothing came from stdin; pipe in a record with 'store', or name it", b""),
    ("polar - a.png", 3, "standard input: is a picture, not a list of paths; give paths", b"\xff\xd8\xff\0"),
    (f"embed - {MODEL} -o x.h5", 3, "standard input: is a picture, not a list of paths; give", b"\x89PNG\r\n\x1a\n"),
    ("polar a.png - -o -", 2, "`-o -` takes one picture, not 2; name a folder with -o", b"a.png"),
]
# A conclusion behind the lines of the pictures that could not be used.
CONCLUSIONS = ("none of the pictures can be embedded", "no pictures to embed", "see the lines above")


def _spoil(here: Path, other_model: Path) -> None:
    """Put bad files into a folder of good ones, called by what is wrong with them."""
    for path in list(here.glob("a.*")):
        content = path.read_bytes()
        (here / f"empty{path.suffix}").write_bytes(b"")
        (here / f"cut{path.suffix}").write_bytes(content[: len(content) // 2])
        (here / f"text{path.suffix}").write_text("these are some words\n")
        (here / f"folder{path.suffix}").mkdir()
    (here / "cut.h5.faiss").write_bytes(b"IHNf")
    shutil.copy(other_model, here / "other.safetensors")
    _spoil_pictures(here)
    _spoil_rasters(here)
    _spoil_stores(here)
    heads, photo = "file,lat,lon,heading\n", "a-photos/a0.jpg"
    tables = {"heads": "", "nan": f"{photo},nan,13,0\n", "inf": f"{photo},52,inf,0\n"}
    tables |= {"quoted": f'"{photo},52', "twice": f"{photo},52,13,0\n{photo},52.1,13,0\n"}
    for name, lines in tables.items():
        (here / f"{name}.csv").write_text(heads + lines)
    box = json.loads((here / "a.geojson").read_text())
    shapes = {
        "none-in-it": {"type": "FeatureCollection", "features": []},
        "open": {"type": "Polygon", "coordinates": [box["coordinates"][0][:-1]]},
        "utm": box | {"crs": {"properties": {"name": "EPSG:25832"}}},
    }
    for name, shape in shapes.items():
        (here / f"{name}.geojson").write_text(json.dumps(shape))


def _spoil_pictures(here: Path) -> None:
    import struct
    import zlib

    for name, width, height in (("zero", 0, 0), ("huge", 100_000, 100_000), ("wide", 900_000_000, 1)):
        chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")
        written = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
                   for kind, data in chunks]  # fmt: skip
        (here / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    exif = Image.Exif()
    exif[0x8769] = {0xA405: 60_000}  # a lens of 60 metres
    Image.new("RGB", (96, 64)).save(here / "focal.jpg", exif=exif)
    for folder in ("p", "q"):
        (here / folder).mkdir()
        shutil.copy(here / "a.jpg", here / folder)


def _spoil_rasters(here: Path) -> None:
    import rasterio
    from rasterio.transform import from_origin

    places = {
        "unplaced": (None, from_origin(5e5, 6e6, 1, 1), "uint8", 3),
        "metres": ("EPSG:4326", from_origin(5e5, 6e6, 1, 1), "uint8", 3),
        "complex": ("EPSG:32633", from_origin(5e5, 6e6, 1, 1), "complex64", 1),
        "far": ("EPSG:32633", from_origin(5e5, 6e6, 1, 1), "uint8", 3),
        "seven": ("EPSG:32633", from_origin(5e5, 6e6, 1, 1), "uint8", 7),
    }
    for name, (crs, transform, kind, bands) in places.items():
        profile = {"driver": "GTiff", "height": 64, "width": 64, "count": bands, "dtype": kind}
        with rasterio.open(here / f"{name}.tif", "w", crs=crs, transform=transform, **profile) as target:
            target.write(np.ones((bands, 64, 64), kind))


def _spoil_stores(here: Path) -> None:
    import h5py

    from cvgeo.retrieval import EmbeddingStore
    from cvgeo.retrieval.rows import StoreRows
    from cvgeo.retrieval.store import writing

    with h5py.File(here / "strange.h5", "w") as file:
        file["x"] = np.zeros(3)
    with EmbeddingStore(here / "a.h5") as store:
        rows = StoreRows.of(list(store.columns.id), store.fetch(np.arange(len(store))), ground_m=store.columns.ground_m)
        for name, header in (("nowhere", store.header), ("orphan", replace(store.header, model="gone.safetensors"))):
            with writing(here / f"{name}.h5", replace(header)) as writer:
                writer.add(rows)
                writer.join(everything=True)


def _tree(folder: Path) -> dict[str, int]:
    """What is in a folder, and since when files are as they are."""
    return {str(path): 0 if path.is_dir() else path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def here(toys, rings_model, tmp_path_factory) -> Path:
    """Good files called a, and bad ones; no call writes there."""
    folder = toys.called(b"a", tmp_path_factory.mktemp("bad") / "here")
    _spoil(folder, rings_model(seed=5))
    return folder


def _told(stderr: str, status: int) -> str:
    """The one line that tells what is wrong."""
    assert "Traceback" not in stderr, stderr
    lines = stderr.splitlines()
    if lines and lines[0].startswith("Usage: "):
        # As the parser tells of a word that it refuses, with the command's usage above.
        assert status == 2 and len(lines) == 4 and lines[3].startswith("Error: "), stderr
        return lines[3]
    passing = ("cvgeo: evaluating the split ", *(["cvgeo: warning: "] if status else []))
    lines = [line for line in lines if not line.startswith(passing)]
    if len(lines) > 1 and any(one in lines[-1] for one in CONCLUSIONS):
        lines.pop()
    assert len(lines) <= 1 and all(line.startswith("cvgeo: ") for line in lines), stderr
    return "".join(lines)


def _held(toys, here: Path, row: Row, stdin: bytes = b"") -> None:
    call, status, *said = row
    words = call if isinstance(call, list) else str(call).split()
    before = _tree(here)
    done = toys.call(words, here, input=stdin)
    assert done.returncode == status, done.stderr.decode()
    line = _told(done.stderr.decode(), done.returncode)
    assert all(one in line for one in said), line
    assert bool(line) == bool(said)
    assert _tree(here) == before
    assert not [one for one in os.listdir(toys.environment["TMPDIR"]) if one.startswith("cvgeo-")]
    assert status == 0 or not done.stdout


def _named(rows: list[Row]) -> pytest.MarkDecorator:
    calls = [row[0] if isinstance(row[0], str) else " ".join(map(repr, row[0])) for row in rows]
    return pytest.mark.parametrize("row", [pytest.param(row, id=call) for row, call in zip(rows, calls, strict=True)])


@_named([*PICTURES, *RASTERS, *MODELS, *STORES, *SETS, *TABLES, *WORDS, *OUTPUTS])
def test_a_bad_call(toys, here, row):
    _held(toys, here, row)


@_named(PIPED)
def test_a_bad_pipe(toys, here, row):
    *row, stdin = row
    _held(toys, here, tuple(row), stdin)
