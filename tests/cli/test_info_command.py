import json
import math

import cv2
import numpy as np
import pytest

from cvgeo.pipelines.info import describe_files
from cvgeo.report import Reporter


@pytest.fixture(scope="module")
def things(tmp_path_factory, make_rings, rings_model):
    """A folder with one of each kind."""
    import rasterio

    from cvgeo.pipelines.embed import EmbedOptions, embed

    folder = tmp_path_factory.mktemp("things")
    make_rings(folder / "data", train=2, val=2)
    (folder / "model.safetensors").write_bytes(rings_model().read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVGEO_STATE", str(folder / "state"))
        call = {"reporter": Reporter(), "model": str(folder / "model.safetensors")}
        embed([], folder / "tiles.h5", dataset=str(folder / "data"), options=EmbedOptions(device="cpu", jobs=1), **call)
    transform = rasterio.transform.from_origin(400000, 5500000, 0.5, 0.5)
    kind = {"driver": "GTiff", "width": 64, "height": 32, "count": 3, "dtype": "uint8"}
    with rasterio.open(folder / "ortho.tif", "w", crs="EPSG:32633", transform=transform, **kind) as raster:
        raster.write(np.full((3, 32, 64), 90, np.uint8))
    cv2.imwrite(str(folder / "plain.tif"), np.zeros((5, 10, 3), np.uint8))
    return folder


def describe(verify, *paths):
    reporter = Reporter()
    return list(describe_files([str(path) for path in paths], verify, reporter)), reporter.failures


def test_a_heading_is_told_of_a_picture_of_unknown_field_of_view(tmp_path, geotagged):
    path = geotagged.write_picture(tmp_path / "a.jpg", (64, 48), geotagged.gps(52, 13, direction=41.0, reference="T"))
    ((record,), _) = describe(False, path)
    assert record["heading"] == pytest.approx(41) and math.isnan(record["column0_heading"])
    assert math.isnan(record["hfov"])


@pytest.mark.parametrize("verify", [False, True])
def test_each_kind_is_known(things, verify):
    names = ("tiles.h5", "model.safetensors", "data", "ortho.tif", "plain.tif", "data/pictures")
    records, failures = describe(verify, *(things / name for name in names))
    assert not failures and [record["kind"] for record in records] == [
        "embedding store",
        "checkpoint",
        "data set",
        "raster",
        "picture",
        "folder of pictures",
    ]
    store, checkpoint, data, raster, picture, folder = records
    assert (store["rows"], store["located"], store["view"]) == (4, 4, "aerial")
    assert store["fingerprint"] == checkpoint["fingerprint"] and checkpoint["parts"] == "tiny + none + columns"
    assert (data["headings_known"], data["fields_of_view_known"], data["variant"]) == (4, 4, None)
    assert data["splits"]["val"] == {"panoramas": 2, "tiles": 2} and data["pairs"] == 4
    assert raster["crs"] == "EPSG:32633" and raster["gsd_m"] == pytest.approx(0.5, abs=0.001)
    assert (picture["height"], picture["width"]) == (5, 10) and folder["pictures"] == 8
    assert all(record.get("verified", False) is verify for record in records)


def test_damage_is_named_by_verify(things, tmp_path, make_rings):
    store = bytearray((things / "tiles.h5").read_bytes())
    store[len(store) // 2] ^= 0xFF
    (tmp_path / "tiles.h5").write_bytes(store)
    model = bytearray((things / "model.safetensors").read_bytes())
    model[-5] ^= 0x10
    (tmp_path / "model.safetensors").write_bytes(model)
    make_rings(tmp_path / "data", train=2, val=0)
    (tmp_path / "data" / "pictures" / "ground001.png").write_bytes(b"x")
    records, failures = describe(True, *(tmp_path / name for name in ("tiles.h5", "model.safetensors", "data")))
    assert [record["verified"] for record in records] == [False] and records[0]["broken"] == 1
    assert [item for item, _ in failures] == [
        str(tmp_path / name) for name in ("tiles.h5", "model.safetensors", "data/pictures/ground001.png")
    ]


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors", "state.pt"])
def test_every_file_of_a_run_is_verified(things, tmp_path, name):
    config = {"model": {"name": "rings"}, "train": {"recipe": "demo", "epochs": 3}}
    (tmp_path / "config.json").write_text(json.dumps({"config": config, "dataset": {"name": "rings"}}))
    whole = (things / "model.safetensors").read_bytes()
    for checkpoint in ("best.safetensors", "last.safetensors"):
        (tmp_path / checkpoint).write_bytes(whole)
    records, failures = describe(True, tmp_path)
    assert records[0]["verified"] and not failures
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    assert not describe(False, tmp_path)[1]
    records, failures = describe(True, tmp_path)
    assert not records and name in failures[0][1] and "damaged" in failures[0][1]


def test_shards_beside_a_store_are_told(things, tmp_path):
    for name in ("tiles.h5", "tiles.shard-2-of-3.h5"):
        (tmp_path / name).write_bytes((things / "tiles.h5").read_bytes())
    (record,), _ = describe(False, tmp_path / "tiles.h5")
    assert record["shards"] == [str(tmp_path / "tiles.shard-2-of-3.h5")] and record["format_version"] == 1


def test_indexes_beside_a_store(things, tmp_path):
    from cvgeo.pipelines.index import IndexOptions, build_index

    pytest.importorskip("faiss")
    (tmp_path / "tiles.h5").write_bytes((things / "tiles.h5").read_bytes())
    build_index(str(tmp_path / "tiles.h5"), "faiss", IndexOptions(), Reporter())
    (tmp_path / "renamed").write_bytes((tmp_path / "tiles.h5.faiss").read_bytes())
    (record, renamed), failures = describe(True, tmp_path / "tiles.h5.faiss", tmp_path / "renamed")
    assert not failures and (record["kind"], record["store"]) == ("faiss index", str(tmp_path / "tiles.h5"))
    assert record["structure"] == "hnsw" and record["rows"] == describe(False, tmp_path / "tiles.h5")[0][0]["rows"]
    assert renamed["kind"] == "faiss index" and renamed["store"] is None

    note = {"uri": "tiles.h5.milvus.db", "collection": "c", "fingerprint": "f", "digest": "d", "rows": 4}
    (tmp_path / "tiles.h5.milvus.json").write_text(json.dumps(note))
    (tmp_path / "tiles.h5.milvus.db").mkdir()
    records, failures = describe(True, tmp_path / "tiles.h5.milvus.json", tmp_path / "tiles.h5.milvus.db")
    assert not failures and {one["kind"] for one in records} == {"milvus index"}
    assert all(one["stores"] == [str(tmp_path / "tiles.h5")] and one["collections"] == ["c"] for one in records)
    assert all(one["rows"] == [4] and one["finished"] and one["verified"] is None for one in records)


def test_a_data_set_by_a_file_that_describes_it(things, make_rings, tmp_path):
    make_rings(tmp_path / "data", train=2, val=0)
    (record,), failures = describe(False, tmp_path / "data" / "dataset.toml")
    assert not failures and (record["kind"], record["pairs"]) == ("data set", 2)


def test_statuses_through_the_program(program, things, tmp_path):
    (tmp_path / "nonsense.h5").write_text("nonsense")
    done = program("info", str(things / "tiles.h5"), str(tmp_path / "nonsense.h5"), str(tmp_path / "none"))
    assert done.returncode == 5 and json.loads(done.stdout)["kind"] == "embedding store"
    assert b"nonsense.h5: damaged or not an embedding store" in done.stderr and b"Traceback" not in done.stderr
    assert program("info", str(tmp_path / "none")).returncode == 3


def test_data_sets_by_name_and_variant(make_dataset, tmp_path, monkeypatch):
    make_dataset("university1652", tmp_path / "university1652", size=8)
    make_dataset("paired_folders", tmp_path / "mine", counts={"": 2}, ground_size=(8, 16), aerial_size=8)
    monkeypatch.setenv("CVGEO_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path / "mine")
    records, failures = describe(True, "university1652:drone", "university1652", tmp_path / "university1652", "mine")
    assert not failures and [record["variant"] for record in records] == ["drone", "street", "street", None]
    drone, street, path, mine = records
    assert drone["protocols"] == {"train": "drone to satellite", "test": "drone to satellite"}
    assert list(drone["variants"]) == ["street", "street-google", "drone"] and drone["pairs"] == 27
    assert (drone["headings_known"], drone["fields_of_view_known"], drone["located"]) == (0, 0, 0)
    assert street["panoramas"] == path["panoramas"] == 16 and all(record["verified"] for record in records)
    assert mine["layout"] == "paired-folders" and mine["provenance"]["without_partner"] == {"panoramas": 0, "tiles": 0}


def test_unknown_names_and_variants(make_dataset, tmp_path, monkeypatch):
    make_dataset("university1652", tmp_path / "university1652", size=8)
    monkeypatch.setenv("CVGEO_DATA", str(tmp_path))
    _, failures = describe(False, "university1652:drne", "vigor:cross", "no-such-thing", "no/such:thing")
    texts = [text for _, text in failures]
    assert "has no variant 'drne'; did you mean drone?" in texts[0] and "VIGOR is given out by its authors" in texts[1]
    assert all("no such file or folder; check the spelling" in text for text in texts[2:])
