from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.data.dataset_files import read_dataset, write_dataset
from cvgeo.data.images import image_size
from cvgeo.data.readers import find_dataset, open_dataset, readers
from cvgeo.data.schema import Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.errors import InputError

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not here")


@pytest.fixture
def native(make_dataset, tmp_path):
    return make_dataset("native", tmp_path / "native")


@pytest.fixture
def cvusa(make_dataset, tmp_path):
    return make_dataset("cvusa", tmp_path / "cvusa", train=5, val=3, ground_size=(28, 154), aerial_size=64)


def test_native_tables(native):
    dataset = open_dataset(native)
    assert dataset.name == "miniature" and dataset.attribution == "made of noise"
    assert dataset.panoramas.id == ["a", "b", "c"] and dataset.tiles.split == ["train", "train", "test", "test"]
    np.testing.assert_array_equal(dataset.panoramas.column0_heading, [180, np.nan, 45.5])
    np.testing.assert_array_equal(dataset.tiles.gsd_m, [0.25, 0.25, 0.25, np.nan])
    assert dataset.pairs.panorama.tolist() == [0, 1, 1, 2] and dataset.pairs.tile.tolist() == [0, 1, 0, 2]
    assert dataset.pairs.role.tolist() == [0, 0, 1, 0]
    np.testing.assert_array_equal(dataset.pairs.offset_east_m, [0, -7.46, np.nan, 0])
    assert dataset.conventions == Conventions("place", None, False)
    assert all(path.is_file() for path in dataset.panoramas.path + dataset.tiles.path)


def test_native_gallery_needs_no_panoramas(native):
    (native / "panoramas.csv").unlink()
    (native / "pairs.csv").unlink()
    dataset = open_dataset(native)
    assert (len(dataset.panoramas), len(dataset.tiles), len(dataset.pairs)) == (0, 4, 0)
    (native / "panoramas.csv").write_text("id\n")
    with pytest.raises(InputError, match=r"panoramas.csv: column path is missing"):
        open_dataset(native)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("panoramas.csv", "id,path", "name,path", "panoramas.csv: column id is missing; it has name, path"),
        ("panoramas.csv", "48.001", "95", "panoramas.csv: line 3: lat 95: -90 to 90 is due"),
        ("panoramas.csv", "48.001", "north", "panoramas.csv: line 3: lat 'north' is not a number"),
        ("panoramas.csv", "48.001", "inf", "line 3: lat inf: -90 to 90 is due"),
        ("panoramas.csv", "b,ground", "a,ground", "line 3: id 'a' is also in line 2"),
        ("panoramas.csv", "ground/b.png", "", "line 3: path is empty"),
        ("panoramas.csv", "45.5,270", "45.5,400", "line 4: hfov 400: 0 to 360 is due"),
        ("panoramas.csv", ",split", ",lat", "panoramas.csv: names a column twice"),
        ("panoramas.csv", "90,-90,train", "90", "line 2: 7 fields where 9 are due"),
        ("panoramas.csv", "ground/b.png", '"ground/b.png', "is not a well-formed CSV file"),
        ("tiles.csv", "2.0001", "200", "tiles.csv: line 3: lon 200: -180 to 180 is due"),
        ("tiles.csv", "0.25,test", "-1,test", "line 4: gsd_m -1: 0 or more is due"),
        ("pairs.csv", "b,t1", "b,t9", "pairs.csv: line 4: tile 't9' is not in tiles.csv"),
        ("pairs.csv", "c,t3", "x,t3", "pairs.csv: line 5: panorama 'x' is not in panoramas.csv"),
        ("pairs.csv", "semi_", "half_", "line 4: role 'half_positive' is unknown; known: positive, semi_positive"),
        ("pairs.csv", "-7.46", "east", "line 3: offset_east_m 'east' is not a number"),
        ("dataset.toml", "cvgeo.dataset", "other", "dataset.toml: is not a description of a data set"),
        ("dataset.toml", "version = 1", "version = 2", "format_version 2, this program reads 1; update cvgeo"),
        ("dataset.toml", '"place"', '"squeeze"', "conventions.fit 'squeeze' is unknown; known: place, stretch"),
        ("dataset.toml", "aligned = false", "ground_rows = [5]", "ground_rows is not [top, bottom, of]"),
        ("dataset.toml", "[conventions]", "[conventions", "is not a well-formed TOML file"),
    ],
)
def test_faults_name_file_and_line(native, name, old, new, message):
    path = native / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        open_dataset(native)
    assert message in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_in_latin_1_or_empty_are_refused(native):
    (native / "tiles.csv").write_bytes("id,path,lat,lon,gsd_m,split\né,x,,,,\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"tiles.csv: is not UTF-8 text"):
        open_dataset(native)
    (native / "tiles.csv").write_text("")
    with pytest.raises(InputError, match=r"tiles.csv: is empty"):
        open_dataset(native)


def test_byte_order_mark_blank_lines_and_blanks_are_accepted(native):
    text = (native / "tiles.csv").read_text().replace("t2,", " t2 ,").replace("\n", "\r\n\r\n")
    (native / "tiles.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert open_dataset(native).tiles.id == ["t1", "t2", "t3", "t4"]


def test_written_set_reads_back_and_can_be_moved(native, tmp_path):
    dataset = open_dataset(native)
    write_dataset(dataset, native)
    shutil.move(native, tmp_path / "moved")
    again = read_dataset(tmp_path / "moved")
    assert again.panoramas.path[0] == tmp_path / "moved" / "ground" / "a.png"
    assert again.name == dataset.name and again.conventions == dataset.conventions
    for table in ("panoramas", "tiles", "pairs"):
        for column in getattr(dataset, table).__dataclass_fields__:
            if column != "path":
                np.testing.assert_array_equal(
                    getattr(getattr(again, table), column), getattr(getattr(dataset, table), column)
                )


def test_pictures_elsewhere_keep_their_place(native, tmp_path):
    dataset = open_dataset(native)
    write_dataset(dataset.subset("test"), tmp_path / "other")
    again = open_dataset(tmp_path / "other")
    assert again.panoramas.path == [native / "ground" / "c.png"] and len(again.tiles) == 2


numbers = st.floats(-90, 90, allow_nan=False) | st.just(float("nan"))
names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), unique=True, max_size=5
)


@settings(max_examples=40, deadline=None)
@given(ids=names, data=st.data())
def test_any_table_survives_writing(tmp_path_factory, ids, data):
    folder = tmp_path_factory.mktemp("set")
    count = len(ids)
    lat, lon = (data.draw(st.lists(numbers, min_size=count, max_size=count)) for _ in range(2))
    paths = [folder / f"{row}.png" for row in range(count)]
    rows = np.arange(count)
    split = data.draw(st.lists(st.sampled_from(["train", "test"]), min_size=count, max_size=count))
    provenance = {"note": data.draw(st.text()), "shares": [0.1, 2], "deep": {"yes": True}}
    dataset = Dataset(
        data.draw(st.text(min_size=1)),
        folder,
        Panoramas(ids, paths, lat, lon, split=split, source=ids),
        Tiles(ids, paths, lat, lon, np.abs(lon), split),
        Pairs(rows, rows[::-1], rows % 2, lat, lon),
        Conventions("stretch", (208, 624, 832), True),
        provenance,
    )
    write_dataset(dataset, folder)
    again = open_dataset(folder)
    assert (again.name, again.conventions, again.provenance) == (dataset.name, dataset.conventions, provenance)
    for table in ("panoramas", "tiles", "pairs"):
        for column in getattr(dataset, table).__dataclass_fields__:
            np.testing.assert_array_equal(
                getattr(getattr(again, table), column), getattr(getattr(dataset, table), column)
            )


def test_cvusa_layout(cvusa):
    dataset = open_dataset(cvusa)
    assert dataset.name == "cvusa" and dataset.splits() == ["train", "val"]
    assert dataset.panoramas.split == ["train"] * 5 + ["val"] * 3
    assert dataset.conventions.fit == "stretch" and dataset.conventions.aligned
    assert set(dataset.panoramas.column0_heading) == {180.0} and set(dataset.panoramas.hfov) == {360.0}
    assert np.isnan(dataset.panoramas.vfov_top).all()
    locations = np.loadtxt(cvusa / "split_locations" / "all.csv", delimiter=",")
    for row, name in enumerate(dataset.panoramas.id):
        assert dataset.panoramas.lat[row] == locations[int(name) - 1, 2]
        assert dataset.tiles.lon[row] == locations[int(name) - 1, 3]
        assert dataset.panoramas.path[row].stem == dataset.tiles.path[row].stem == name
    assert image_size(dataset.tiles.path[0]) == (64, 64) and image_size(dataset.panoramas.path[0]) == (28, 154)
    expected = 40075016.686 * np.cos(np.radians(dataset.tiles.lat)) / 2**27
    np.testing.assert_allclose(dataset.tiles.gsd_m, expected, rtol=1e-6)


def test_cvusa_without_positions_or_one_split(cvusa):
    shutil.rmtree(cvusa / "split_locations")
    (cvusa / "splits" / "train-19zl.csv").unlink()
    dataset = open_dataset(cvusa)
    assert dataset.splits() == ["val"] and np.isnan(dataset.panoramas.lat).all() and np.isnan(dataset.tiles.gsd_m).all()


def test_cvusa_polar_maps_are_noted_and_left_alone(make_dataset, tmp_path):
    small = {"train": 2, "val": 2, "ground_size": (28, 154), "aerial_size": 32}
    with_maps, without = (
        make_dataset("cvusa", tmp_path / str(size), polar_size=size, **small) for size in ((4, 8), None)
    )
    assert open_dataset(with_maps).provenance == {"not_read": "polarmap/19"}
    assert open_dataset(without).provenance == {}
    assert {path.parts[-3] for path in open_dataset(with_maps).tiles.path} == {"bingmap"}


def test_cvusa_faults(cvusa):
    locations, split = cvusa / "split_locations" / "all.csv", cvusa / "splits" / "val-19zl.csv"
    whole = locations.read_text()
    locations.write_text(whole.split("\n")[0] + "\n")
    with pytest.raises(InputError, match=r"all.csv: has 1 lines, but the splits name image \d+; line N belongs"):
        open_dataset(cvusa)
    locations.write_text(whole)
    split.write_text(split.read_text().replace("bingmap/19/0", "bingmap/19/x", 1))
    with pytest.raises(InputError, match=r"val-19zl.csv: line 1: bingmap/19/x.* is not an image number"):
        open_dataset(cvusa)
    split.write_text("only-one-field\n")
    with pytest.raises(InputError, match=r"line 1: 1 fields where 2 are due"):
        open_dataset(cvusa)


@needs_shared
def test_official_cvusa_labels_at_full_scale(tmp_path):
    source = SHARED / "cvusa_labels"
    (tmp_path / "splits").mkdir()
    shutil.copy(source / "splits" / "val-19zl.csv", tmp_path / "splits")
    shutil.copy(source / "splits" / "train-19zl.first1024.csv", tmp_path / "splits" / "train-19zl.csv")
    shutil.copytree(source / "split_locations", tmp_path / "split_locations")
    seconds = []
    for _ in range(3):
        started = time.process_time()
        dataset = open_dataset(tmp_path)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 1
    assert len(dataset.subset("val").panoramas) == 8884 and len(dataset.subset("train").panoramas) == 1024
    locations = np.loadtxt(tmp_path / "split_locations" / "all.csv", delimiter=",")
    number = np.array(list(map(int, dataset.panoramas.id)))
    assert locations.shape == (45_516, 5) and number.max() == 44_512
    np.testing.assert_array_equal(
        np.stack([dataset.panoramas.lat, dataset.panoramas.lon]), locations[number - 1, 2:4].T
    )
    assert ((locations[:, 4] >= 0) & (locations[:, 4] <= 360)).all()  # headings, which are not applied
    assert set(dataset.panoramas.column0_heading) == {180.0}


def test_large_tables_read_fast(tmp_path):
    count = 20_000
    ids = [f"{row:07d}" for row in range(count)]
    paths = [tmp_path / f"{one}.jpg" for one in ids]
    lat, rows = np.linspace(-80, 80, count), np.arange(count)
    split = ["train"] * count
    dataset = Dataset(
        "big", tmp_path, Panoramas(ids, paths, lat, lat, split=split), Tiles(ids, paths, lat, lat, split=split),
        Pairs(rows, rows, rows * 0),
    )  # fmt: skip
    write_dataset(dataset, tmp_path)
    started = time.process_time()
    again = open_dataset(tmp_path)
    assert time.process_time() - started < 2  # 60,000 lines; about 0.4 s
    assert again.panoramas.id == ids and np.array_equal(again.pairs.tile, rows)


@pytest.fixture
def pairs_folder(tmp_path):
    (tmp_path / "pairs.csv").write_text(
        "id,ground,aerial,dataset,lat,lon,heading_of_centre_column_deg,gsd_m,hfov\n"
        "one,g/1.png,a/1.png,left,,,0.0,,\n"
        "two,g/2.png,a/2.png,right,51.5,-0.1,12.5,0.3,\n"
        "three,g/3.png,a/2.png,right,51.5,-0.1,90,0.3,90\n"
        "four,g/4.png,a/4.png,right,,,,,\n"
    )
    return tmp_path


def test_pairs_folder(pairs_folder):
    dataset = open_dataset(pairs_folder)
    assert dataset.splits() == ["test"] and dataset.panoramas.source == ["left", "right", "right", "right"]
    np.testing.assert_array_equal(dataset.panoramas.column0_heading, [180, 192.5, 45, np.nan])
    np.testing.assert_array_equal(dataset.panoramas.hfov, [360, 360, 90, 360])
    np.testing.assert_array_equal(dataset.panoramas.lat, [np.nan, 51.5, 51.5, np.nan])
    assert dataset.panoramas.path[1] == pairs_folder / "g" / "2.png"
    assert dataset.tiles.id == ["one", "two", "four"] and dataset.pairs.tile.tolist() == [0, 1, 1, 2]
    assert len(dataset.subset(source="right").pairs) == 3


def test_pairs_folder_without_ids_and_its_faults(pairs_folder):
    table = pairs_folder / "pairs.csv"
    table.write_text("ground,aerial\ng/x.png,a/x.png\nh/x.png,b/x.png\n")
    assert len(set(open_dataset(pairs_folder).panoramas.id)) == 2
    table.write_text("ground,aerial,lat,lon\ng/x.png,a/x.png,5,\n")
    with pytest.raises(InputError, match="line 2: has one of lat and lon only"):
        open_dataset(table)
    table.write_text("ground\ng/x.png\n")
    with pytest.raises(InputError, match="column aerial is missing"):
        open_dataset(pairs_folder)


@needs_shared
def test_real_pairs():
    dataset = open_dataset(SHARED / "real_pairs")
    assert len(dataset.panoramas) == len(dataset.tiles) == 17
    assert sorted(set(dataset.tiles.source)) == ["cv-cities", "cvact", "cvusa", "london"]
    assert all(path.is_file() for path in dataset.panoramas.path + dataset.tiles.path)
    london = dataset.subset(source="london").panoramas
    np.testing.assert_allclose(london.column0_heading[0], 180 + 12.113)
    assert not np.isnan(london.lat).any()


def test_names_are_looked_up(native, monkeypatch, tmp_path):
    monkeypatch.setenv("CVGEO_DATA", str(native.parent))
    monkeypatch.chdir(tmp_path)
    assert find_dataset("native") == native and open_dataset("native").name == "miniature"
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("CVGEO_DATA", str(tmp_path / "empty"))
    assert open_dataset("native").name == "miniature"  # the folder of that name here
    assert find_dataset(native / "dataset.toml") == native


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cvusa", "cvusa: no data set of that name in .*; CVUSA is given out on request by .* layout: bingmap/19"),
        ("CVUSA", "CVUSA is given out on request"),
        ("atlantis", "atlantis: no data set of that name in .*; give a folder, or set CVGEO_DATA"),
        ("", "no data set of that name"),
        ("no/such/folder", "no/such/folder: no data set of that name"),
    ],
)
def test_missing_sets(name, message, monkeypatch, tmp_path):
    monkeypatch.setenv("CVGEO_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        open_dataset(name)


def test_unknown_layout_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"no known data set layout; known layouts: cvact: .*cvusa: .*pairs-folder: "):
        open_dataset(tmp_path)
    assert {"native", "cvusa", "pairs-folder"} <= set(readers())


def test_each_miniature_is_recognised_by_one_reader(native, cvusa, pairs_folder, tmp_path):
    alone = tmp_path / "pairs"
    alone.mkdir()
    shutil.copy(pairs_folder / "pairs.csv", alone)
    for folder, name in ((native, "native"), (cvusa, "cvusa"), (alone, "pairs-folder")):
        assert [one.name for one in readers().values() if one.recognises(folder)] == [name]
