"""Every fault planted in a miniature is found and named, and a clean one gives no finding."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvgeo.data.checks.north import agreement, turn_of
from cvgeo.data.dataset_files import read_dataset, write_dataset
from cvgeo.data.images import read_image
from cvgeo.data.readers import open_dataset
from cvgeo.data.world import PRESETS
from cvgeo.errors import UsageError
from cvgeo.pipelines.build_pairs import PairsSettings, SplitSettings, build_pairs
from cvgeo.pipelines.build_tiles import TilesSettings, build_tiles
from cvgeo.pipelines.check import CheckOptions, check_dataset
from cvgeo.pipelines.tile_cutting import tile_size
from cvgeo.pipelines.world import WorldSettings, build_world
from cvgeo.report import Reporter

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def findings(folder, **options):
    return check_dataset(str(folder), CheckOptions(jobs=1, **options), Reporter()).records


def faults(folder, **options):
    return {one["check"] for one in findings(folder, **options) if one["grade"] == "fault"}


def _build(folder, preset, **pairs):
    knobs = replace(PRESETS[preset], panorama_width=256, gsd_m=0.5)
    build_world(WorldSettings(folder / "world", 3, 0.4, preset, knobs, 40), Reporter())
    split = SplitSettings(0.2, 0.2, 60.0)
    size = tile_size(128, 60.0, None)
    world = folder / "world"
    settings = PairsSettings([world / "panoramas"], [world / "ortho.tif"], folder / "data", size, split, **pairs)
    build_pairs(settings, Reporter())
    return folder / "data"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Clean data sets that `build-dataset pairs` makes of a small world, by name."""
    folder = tmp_path_factory.mktemp("built")
    return {
        "native": _build(folder / "aligned", "aligned", jobs=1),
        "native-offcentre": _build(folder / "offcentre", "offcentre", step_m=30.0, jobs=1),
    }


LAYOUTS = {
    "cvusa": {"train": 9, "val": 4, "ground_size": (56, 308), "aerial_size": 96},
    "vigor": {},
    "cvact": {},
    "cvcities": {},
    "university1652": {},
}


@pytest.fixture(params=["native", "native-offcentre", *LAYOUTS])
def layout(request):
    return request.param


@pytest.fixture
def clean(layout, built, make_dataset, tmp_path):
    """A copy of a clean miniature of the layout."""
    if layout in built:
        shutil.copytree(built[layout], tmp_path / "data")
        return tmp_path / "data"
    return make_dataset(layout, tmp_path / "data", **LAYOUTS[layout])


def pictures(folder, kind):
    """The pictures of a data set's panoramas or tiles."""
    dataset = open_dataset(folder)
    return sorted({Path(path) for path in (dataset.panoramas if kind == "panorama" else dataset.tiles).path})


def test_clean_has_no_faults(clean):
    assert faults(clean) == set()


@pytest.mark.parametrize("name", ["native", "native-offcentre"])
def test_what_the_program_builds_has_no_finding_at_all(built, name):
    assert findings(built[name]) == []


@pytest.mark.parametrize("kind", ["panorama", "tile"])
def test_missing(clean, layout, kind):
    if layout == "university1652":
        pytest.skip("this layout has no list: a picture that is gone was never there")
    gone = pictures(clean, kind)[:2]
    for path in gone:
        path.unlink()
    found = [one for one in findings(clean, quick=True) if one["check"] == "missing"]
    assert sum(one["count"] for one in found) == 2 and all(one["grade"] == "fault" and one["mend"] for one in found)
    assert sorted(item for one in found for item in one["items"]) == [str(path) for path in gone]


@pytest.mark.parametrize("kind", ["panorama", "tile"])
def test_truncated(clean, kind):
    path = pictures(clean, kind)[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = [one for one in findings(clean) if one["check"] == "damaged"]
    assert [one["items"] for one in found] == [[str(path)]] and "truncated" in found[0]["fault"]


def test_duplicate_across_splits(clean):
    table = open_dataset(clean).panoramas
    other = next(row for row, split in enumerate(table.split) if split != table.split[0])
    shutil.copyfile(table.path[0], table.path[other])
    found = [one for one in findings(clean) if one["check"] == "duplicate"]
    assert [one["grade"] for one in found] == ["fault"] and found[0]["count"] == 1
    assert set(found[0]["items"][0].split(" = ")) == {table.id[0], table.id[other]}


def edit(folder, change):
    """Change a data set in the project's own layout."""
    dataset = read_dataset(folder)
    change(dataset)
    write_dataset(dataset, folder)


@pytest.fixture(params=["native", "native-offcentre"])
def native(request, built, tmp_path):
    return shutil.copytree(built[request.param], tmp_path / "data")


def test_swapped_coordinates(native):
    def swap(dataset):
        table = dataset.panoramas
        table.lat[:5], table.lon[:5] = table.lon[:5].copy(), table.lat[:5].copy()

    edit(native, swap)
    found = [one for one in findings(native, labels_only=True) if one["check"] == "swapped coordinates"]
    assert sum(one["count"] for one in found) == 5


def test_coordinates_swapped_out_of_range(native):
    text = (native / "panoramas.csv").read_text()
    row = text.splitlines()[1].split(",")
    row[2:4] = ["-122.5", "47.5"]
    (native / "panoramas.csv").write_text(text.replace(text.splitlines()[1], ",".join(row)))
    (found,) = findings(native, labels_only=True)
    assert found["check"] == "tables" and "swapped" in found["mend"] and found["grade"] == "fault"


@pytest.mark.parametrize("split", ["train", "all"])
def test_north_off_by_half_a_turn(built, tmp_path, split):
    folder = shutil.copytree(built["native"], tmp_path / "data")

    def turn(dataset):
        some = np.array([split in ("all", one) for one in dataset.panoramas.split])
        heading = dataset.panoramas.column0_heading
        heading[some] = (heading[some] + 180) % 360

    edit(folder, turn)
    found = [one for one in findings(folder) if one["check"] == "north"]
    assert [one["split"] for one in found][-1] == "train" and len(found) >= 1
    assert all(175 <= float(re.search(r"about (\d+) degrees", one["fault"])[1]) <= 185 for one in found)


def test_north_off_in_splits_too_small_to_show_it(built, tmp_path):
    folder = shutil.copytree(built["native"], tmp_path / "data")

    def deal(dataset):
        names = [f"part{row // 7}" for row in range(len(dataset.panoramas))]
        dataset.panoramas.split = names
        dataset.tiles.split = [names[row] for row in np.argsort(dataset.pairs.tile)]
        dataset.panoramas.column0_heading[:] = (dataset.panoramas.column0_heading + 180) % 360

    edit(folder, deal)
    found = [one for one in findings(folder) if one["check"] == "north"]
    assert len(found) == 1 and found[0]["split"] is None and "about 180 degrees" in found[0]["fault"]


def as_cube(sphere, side=64):
    """The faces of a full sphere in a row: right, left, up, down, front, back."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side * 2 - 1
    one = np.ones_like(x)
    flat = (one, -x, -y), (-one, x, -y), (x, y, one), (x, -y, -one), (x, one, -y), (-x, -one, -y)
    right, forward, up = np.concatenate(np.array(flat), axis=2)
    height, width = sphere.shape[:2]
    column = (np.arctan2(right, forward) / (2 * np.pi) + 0.5) * width
    row = (0.5 - np.arctan2(up, np.hypot(right, forward)) / np.pi) * height
    return sphere[row.astype(int).clip(0, height - 1), column.astype(int).clip(0, width - 1)]


def test_north_of_cube_maps(built, tmp_path):
    folder = shutil.copytree(built["native"], tmp_path / "data")

    def cubes(dataset):
        for path in dataset.panoramas.path:
            cv2.imwrite(str(path), as_cube(cv2.imread(str(path))))
        dataset.panoramas.projection = ["cube"] * len(dataset.panoramas)
        dataset.panoramas.vfov_top[:], dataset.panoramas.vfov_bottom[:] = np.nan, np.nan

    def turn(dataset):
        dataset.panoramas.column0_heading[:] = (dataset.panoramas.column0_heading + 180) % 360

    edit(folder, cubes)
    assert findings(folder) == []
    edit(folder, turn)
    assert "north" in faults(folder)


def test_shape_of_photos(native):
    def photos(top):
        def change(dataset):
            panoramas = dataset.panoramas
            panoramas.projection = ["perspective"] * len(panoramas)
            panoramas.hfov[:], panoramas.vfov_top[:], panoramas.vfov_bottom[:] = 90, top, -top

        return change

    edit(native, photos(26.5651))  # twice as wide as high: tan 45 = 2 tan 26.57
    assert "panorama shape" not in {one["check"] for one in findings(native, quick=True)}
    edit(native, photos(45))
    assert "panorama shape" in {one["check"] for one in findings(native, quick=True)}


def test_wrong_positive(native):
    def wrong(dataset):
        rows = np.flatnonzero(dataset.pairs.role == 0)[:2]
        dataset.pairs.tile[rows] = dataset.pairs.tile[rows[::-1]]

    edit(native, wrong)
    assert "wrong positive" in faults(native, labels_only=True)


def test_wrong_pixel_size(native):
    def wrong(dataset):
        dataset.tiles.gsd_m *= 1.25

    edit(native, wrong)
    found = [one for one in findings(native) if one["check"] == "pixel size"]
    assert found and abs(float(re.search(r"of ([\d.]+) m by", found[0]["fault"])[1]) / 0.469 - 1) < 0.03


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5])
def test_galleries_have_no_finding(built, tmp_path, overlap):
    """Streets go on from tile to tile: what looks alike in tiles that hardly overlap says nothing of their scale."""
    ortho = built["native"].parent / "world" / "ortho.tif"
    build_tiles(TilesSettings([ortho], tmp_path / "data", tile_size(128, 60.0, None), overlap, jobs=1), Reporter())
    assert findings(tmp_path / "data") == []


def test_cvusa_wrong_positive(make_dataset, tmp_path):
    folder = make_dataset("cvusa", tmp_path / "data", **LAYOUTS["cvusa"])
    path = folder / "splits" / "train-19zl.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    lines[0][1], lines[1][1] = lines[1][1], lines[0][1]
    path.write_text("".join(",".join(line) + "\n" for line in lines))
    assert faults(folder, labels_only=True) == {"names differ"}


def test_cvusa_north_off_by_half_a_turn(make_dataset, tmp_path):
    folder = make_dataset("cvusa", tmp_path / "data", **(LAYOUTS["cvusa"] | {"train": 16}))
    for path in (folder / "streetview").rglob("*.jpg"):
        image = cv2.imread(str(path))
        cv2.imwrite(str(path), np.roll(image, image.shape[1] // 2, axis=1))
    found = [one for one in findings(folder) if one["check"] == "north"]
    assert [one["split"] for one in found] == ["train"] and "about 180 degrees" in found[0]["fault"]


def change_labels(folder, change):
    """Pass the fields of each line of VIGOR's label files through a function."""
    for path in [*folder.rglob("same_area_balanced_*__corrected.txt")]:
        lines = [change(line.split()) for line in path.read_text().splitlines()]
        path.write_text("".join(" ".join(fields) + "\n" for fields in lines))


def _first_and_second(fields):
    return [fields[0], *fields[4:7], *fields[1:4], *fields[7:]]


def _exchanged(fields):
    name, lat, lon, end = fields[0].split(",")
    return [",".join((name, lon, lat, end)), *fields[1:]]


@pytest.mark.parametrize(
    ("change", "check"),
    [(_first_and_second, "wrong positive"), (_exchanged, "swapped coordinates")],
)
def test_vigor_labels(make_dataset, tmp_path, change, check):
    folder = make_dataset("vigor", tmp_path / "data")
    change_labels(folder, change)
    assert check in faults(folder, labels_only=True)


def test_vigor_pixel_size(make_dataset, tmp_path):
    folder = make_dataset("vigor", tmp_path / "data")
    change_labels(
        folder, lambda one: [one[0], *(f"{float(x) * 1.2:.2f}" if at % 3 else x for at, x in enumerate(one[1:]))]
    )
    assert "pixel size" in faults(folder, labels_only=True)


def test_mixed_sizes_and_shapes(native):
    tiles = pictures(native, "tile")
    for path, size in zip(tiles, ((64, 64), (100, 128)), strict=False):
        cv2.imwrite(str(path), cv2.resize(read_image(path), size))
    assert {"mixed sizes", "tile shape"} <= faults(native, quick=True)


def test_random_split_leaks(native):
    def deal(dataset):
        dataset.panoramas.split[::2] = ["test"] * len(dataset.panoramas.split[::2])

    edit(native, deal)
    assert "leakage" in {one["check"] for one in findings(native, labels_only=True) if one["grade"] == "remark"}


def test_turn_of_against_chance():
    generator = np.random.default_rng(0)
    noise = np.stack([agreement(*generator.integers(0, 256, (2, 32, 64, 3), dtype=np.uint8)) for _ in range(40)])
    assert turn_of(noise) == (0.0, 0.0)
    view = generator.integers(0, 256, (32, 64, 3), dtype=np.uint8)
    assert agreement(np.roll(view, -5, axis=1), view).argmax() == 5


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not here")
def test_official_vigor_labels():
    records = findings(SHARED / "vigor_labels", labels_only=True)
    assert all(one["grade"] == "remark" for one in records)
    outside = [one for one in records if one["check"] == "outside its tile"]
    assert [one["count"] for one in outside] == [12_293]
    sizes = {one["items"][0]: one["fault"] for one in records if one["check"] == "published pixel size"}
    assert sizes.keys() == {"Chicago", "Seattle"}
    assert sizes["Chicago"].startswith("pixels of 0.111 m") and sizes["Seattle"].startswith("pixels of 0.101 m")


def test_options_exclude_each_other(tmp_path):
    with pytest.raises(UsageError, match="exclude each other"):
        findings(tmp_path, quick=True, labels_only=True)


def test_through_the_program(built, tmp_path):
    folder = shutil.copytree(built["native"], tmp_path / "data")
    words = [sys.executable, "-m", "cvgeo", "build-dataset", "check", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "" and "0 kinds of fault" in done.stderr
    for path in pictures(folder, "tile")[:8]:
        path.unlink()
    done = subprocess.run(words, capture_output=True, text=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3 and {one["check"] for one in records} == {"missing"}
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr
    assert sum(one["count"] for one in records) == 8 and max(len(one["items"]) for one in records) <= 5
    done = subprocess.run([*words, "--all", "--format", "table"], capture_output=True, text=True)
    assert done.returncode == 3 and done.stdout.count(".jpg") == 8
