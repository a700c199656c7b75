import json
import math
import os
import shutil

import numpy as np
import pytest

from cvgeo.errors import InputError, MismatchError
from cvgeo.pipelines import embed as pipeline
from cvgeo.pipelines.embed import EmbedOptions, embed, last_store
from cvgeo.pipelines.pictures import named_position
from cvgeo.report import Reporter
from cvgeo.retrieval import EmbeddingStore

ONE = EmbedOptions(device="cpu", jobs=1, batch_size=4)


@pytest.fixture
def run(tmp_path, make_rings, rings_model, monkeypatch):
    """Embed the tiles of a small data set; keywords change the call."""
    monkeypatch.setenv("CVGEO_STATE", str(tmp_path / "state"))
    make_rings(tmp_path / "data", train=6, val=4)

    def call(names=(), store="tiles.h5", dataset=tmp_path / "data", reporter=None, options=ONE, **more):
        dataset = None if names else str(dataset)
        more = {"model": str(rings_model()), **more}
        reporter = reporter or Reporter()
        return embed(list(names), tmp_path / store, reporter=reporter, dataset=dataset, options=options, **more)

    return call


def content(path):
    with EmbeddingStore(path) as store:
        return store.columns.take(np.arange(len(store))), store.fetch(np.arange(len(store)))


def test_all_that_is_known_is_in_the_store(run, tmp_path):
    record = run()
    assert (record["rows"], record["new"], record["reused"], record["failed"]) == (10, 10, 0, 0)
    columns, embeddings = content(tmp_path / "tiles.h5")
    assert columns.id == [f"t{i:03d}" for i in range(10)]
    assert columns.path[3] == os.path.join("data", "pictures", "aerial003.png")
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=2e-3)
    np.testing.assert_allclose(columns.ground_m, 32.0)
    np.testing.assert_allclose(columns.lat, 52 + np.arange(10) * 1e-3)
    with EmbeddingStore(tmp_path / "tiles.h5") as store:
        assert store.header.azimuth_columns == 16 and store.header.view == "aerial"
        assert store.header.column0_heading == 180.0 and store.header.model_config["backbone"] == "tiny"
        assert store.parts == 0


def test_split_and_view(run, tmp_path):
    assert run(split="val", store="a.h5")["rows"] == 4
    assert run(split="val", store="g.h5", view="ground")["rows"] == 4
    assert content(tmp_path / "g.h5")[0].id[0] == "p006"
    with pytest.raises(InputError, match="splits: train, val"):
        run(split="test", store="x.h5")


def test_second_run_computes_nothing(run, monkeypatch):
    run()
    monkeypatch.setattr(pipeline, "describe", None)
    monkeypatch.setattr(pipeline, "file_sha256", None)
    assert run()["reused"] == 10


def test_a_changed_picture_is_computed_again(run, tmp_path):
    run()
    before = content(tmp_path / "tiles.h5")[1]
    pictures = tmp_path / "data" / "pictures"
    shutil.copyfile(pictures / "aerial000.png", pictures / "aerial005.png")
    record = run()
    assert (record["new"], record["reused"], record["rows"]) == (1, 9, 10)
    columns, after = content(tmp_path / "tiles.h5")
    changed, first = columns.id.index("t005"), columns.id.index("t000")
    np.testing.assert_allclose(after[changed], after[first], atol=2e-3)
    assert np.abs(after[changed] - before[5]).max() > 0.01


def test_a_touched_picture_is_not_computed_again(run, tmp_path, monkeypatch):
    run()
    before = content(tmp_path / "tiles.h5")[1]
    os.utime(tmp_path / "data" / "pictures" / "aerial002.png", (1, 1))
    monkeypatch.setattr(pipeline, "describe", None)
    assert run()["reused"] == 10
    columns, after = content(tmp_path / "tiles.h5")
    assert columns.mtime_ns[columns.id.index("t002")] == 10**9
    np.testing.assert_array_equal(after[np.argsort(columns.id)], before)
    monkeypatch.setattr(pipeline, "file_sha256", None)
    assert run()["reused"] == 10


def test_a_moved_tile_gets_its_new_position_without_computing(run, tmp_path, monkeypatch):
    run()
    table = tmp_path / "data" / "tiles.csv"
    table.write_text(table.read_text().replace("52.004", "53.004", 1))
    monkeypatch.setattr(pipeline, "describe", None)
    assert run()["reused"] == 10
    columns, _ = content(tmp_path / "tiles.h5")
    assert columns.lat[columns.id.index("t004")] == pytest.approx(53.004)


def test_a_panorama_of_another_heading_is_computed_again(run, tmp_path):
    run(view="ground", store="g.h5")
    table = tmp_path / "data" / "panoramas.csv"
    lines = table.read_text().splitlines()
    lines[3] = lines[3].replace("180", "90", 1)
    table.write_text("\n".join(lines) + "\n")
    assert run(view="ground", store="g.h5")["new"] == 1


def test_broken_and_missing_pictures_are_told_and_the_rest_is_done(run, tmp_path):
    pictures = tmp_path / "data" / "pictures"
    (pictures / "aerial001.png").write_bytes(b"no picture")
    (pictures / "aerial004.png").unlink()
    with pytest.raises(InputError, match=r"1 of 10 pictures are missing: pictures/aerial004.png; .* --skip-missing"):
        run()
    reporter = Reporter()
    record = run(reporter=reporter, options=EmbedOptions(device="cpu", jobs=1, skip_missing=True))
    assert (record["new"], record["failed"], record["rows"]) == (8, 1, 8)
    assert [os.path.basename(item) for item, _ in reporter.failures] == ["aerial001.png"]
    assert all(item in reason for item, reason in reporter.failures)


def test_workers_give_the_same(run, tmp_path):
    run(store="one.h5")
    run(store="two.h5", options=EmbedOptions(device="cpu", jobs=2, batch_size=4, part_rows=5))
    for first, second in zip(content(tmp_path / "one.h5"), content(tmp_path / "two.h5"), strict=True):
        np.testing.assert_array_equal(getattr(first, "id", first), getattr(second, "id", second))


def test_another_model_is_refused(run, rings_model, tmp_path):
    run()
    before = (tmp_path / "tiles.h5").read_bytes()
    with pytest.raises(MismatchError, match="--overwrite"):
        run(model=str(rings_model(seed=1)))
    assert (tmp_path / "tiles.h5").read_bytes() == before
    overwriting = EmbedOptions(device="cpu", jobs=1, overwrite=True)
    assert run(model=str(rings_model(seed=1)), options=overwriting)["new"] == 10


def test_a_model_that_gives_no_numbers_fails_pictures(run, monkeypatch):
    real = pipeline.describe

    def broken(model, view, items):
        descriptors = real(model, view, items)
        descriptors[0] = np.nan
        return descriptors

    monkeypatch.setattr(pipeline, "describe", broken)
    reporter = Reporter()
    record = run(reporter=reporter)
    assert record["failed"] == 3 and "finite" in reporter.failures[0][1]


def test_loose_tiles_tell_their_places_by_name(run, tmp_path):
    tiles = tmp_path / "loose"
    (tiles / "18" / "69105").mkdir(parents=True)
    picture = tmp_path / "data" / "pictures" / "aerial000.png"
    for name in ("satellite_41.8871_-87.6233.png", "18/69105/105093.png", "plain.png"):
        shutil.copyfile(picture, tiles / name)
    # The tile of the pyramid shows 127 m, the model is of 32 m.
    across = EmbedOptions(device="cpu", jobs=1, allow_mismatch=True)
    assert run([str(tiles), str(tiles / "plain.png")], store="loose.h5", options=across)["rows"] == 3
    columns, _ = content(tmp_path / "loose.h5")
    rows = {os.path.basename(id): row for row, id in enumerate(columns.id)}
    assert columns.lat[rows["satellite_41.8871_-87.6233.png"]] == 41.8871
    tile = rows["105093.png"]
    assert columns.lat[tile] == pytest.approx(33.5717, abs=1e-4) and columns.lon[tile] == pytest.approx(
        -85.098, abs=1e-3
    )
    assert columns.ground_m[tile] == pytest.approx(127.4, abs=0.1)
    assert math.isnan(columns.lat[rows["plain.png"]])


def test_names_that_only_look_like_positions():
    from pathlib import Path

    for name in ("a/99/1/2.png", "2/9/1.png", "img_1234_5678.png", "x_95.12345_3.12345.png", "1.5_2.5.png"):
        assert math.isnan(named_position(Path(name))[0])


def test_ground_pictures_without_a_data_set(run, tmp_path):
    picture = tmp_path / "data" / "pictures" / "ground000.png"
    assert run([str(picture)], store="g.h5", view="ground")["rows"] == 1


def test_nothing_to_embed(run, tmp_path):
    (tmp_path / "empty").mkdir()
    reporter = Reporter()
    with pytest.raises(InputError, match="no pictures to embed"):
        run([str(tmp_path / "empty")], store="e.h5", reporter=reporter)
    assert not (tmp_path / "e.h5").exists()
    assert "no pictures" in reporter.failures[0][1]


def test_the_store_made_last_is_remembered(run, tmp_path, monkeypatch):
    run()
    assert last_store() == tmp_path / "tiles.h5"
    (tmp_path / "state" / "last_store.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match="--store"):
        last_store()
    monkeypatch.setenv("CVGEO_STATE", str(tmp_path / "none"))
    with pytest.raises(InputError, match="no store is remembered"):
        last_store()
