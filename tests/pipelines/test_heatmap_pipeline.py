"""Heat maps of pairs from a data set, a tile and a store: what is drawn, what is left, what is refused."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch

from cvgeo.config.schema import Config
from cvgeo.data.images import read_image
from cvgeo.data.readers import open_dataset
from cvgeo.data.sources.geotags import StatedPose
from cvgeo.errors import InputError, MismatchError, UsageError
from cvgeo.geometry.geodesy import map_to_latlon, offset_metres
from cvgeo.models import create_model
from cvgeo.pipelines.embed import EmbedOptions, embed
from cvgeo.pipelines.heat_pairs import pairs_of_dataset
from cvgeo.pipelines.heatmap import HeatmapOptions, explain_pair, heatmaps, load_models
from cvgeo.pipelines.samples import write_samples
from cvgeo.report import Reporter
from cvgeo.training.checkpoint import save_checkpoint

VIEW = {"ground_height": 32, "ground_width": 128, "aerial_height": 32, "aerial_width": 128}


@pytest.fixture(scope="module")
def rings(tmp_path_factory, make_rings):
    folder = tmp_path_factory.mktemp("rings")
    make_rings(folder / "data", train=4, val=2)
    return folder / "data"


@pytest.fixture(scope="module")
def attentive(tmp_path_factory):
    """A checkpoint with MC_GRA on plain tiles."""
    path = tmp_path_factory.mktemp("attentive") / "attentive.safetensors"
    torch.manual_seed(0)
    view = VIEW | {"aerial": "plain", "aerial_height": 64, "aerial_width": 64}
    parts = {"attention": "mc_gra", "attention_options": {"reduction": 4}, "aggregator": "average"}
    model = create_model("tiny", backbone_options={"stride": 8, "width": 8}, view=view, **parts)
    save_checkpoint(path, model.eval(), Config(model=model.config), {})
    return path


def ground(rings, number=0):
    return str(rings / "pictures" / f"ground{number:03d}.png")


def draw(names, output, models, reporter=None, **more):
    options = more.pop("options", HeatmapOptions(device="cpu"))
    call = {"models": [str(one) for one in models], "options": options}
    return list(heatmaps(names, output, reporter=reporter or Reporter(), **call, **more))


def test_a_pair_of_a_data_set_by_two_models(rings, rings_model, attentive, tmp_path):
    models = [rings_model(), attentive]
    by_id = draw(["p001"], tmp_path / "a", models, dataset=str(rings), geotiff=tmp_path / "g")
    by_path = draw([ground(rings, 1)], tmp_path / "b", models, dataset=str(rings))
    first, second = by_id[0]
    assert (first["query"], first["tile"], first["kind"]) == ("p001", "t001", "gradcam")
    assert [one["similarity"] for one in by_id[0]] == [one["similarity"] for one in by_path[0]]
    assert first["similarity"] > 0.5 and first["heading"] == 0.0 and first["lat"] == pytest.approx(52.001)
    assert first["files"][0] == second["files"][0] == str(tmp_path / "a" / "ground001.heatmap.png")
    assert Path(second["files"][1]).name == "ground001.attentive.tif"
    one = draw(["p001"], tmp_path / "c", models[:1], dataset=str(rings))
    small, large = (read_image(records[0][0]["files"][0]) for records in (one, by_id))
    assert large.shape[0] > small.shape[0] and large.shape[1] == small.shape[1]


def test_the_overlay_lies_on_the_tile(rings, attentive, tmp_path):
    record = draw(["p002"], tmp_path, [attentive], dataset=str(rings), geotiff=tmp_path)[0][0]
    size = read_image(rings / "pictures" / "aerial002.png").shape[0]
    with rasterio.open(record["files"][1]) as raster:
        assert (raster.height, raster.width, raster.count) == (size, size, 4)
        lat, lon = map_to_latlon(*raster.xy(0, 0), raster.crs)
        alpha = raster.read(4)
    north, east = offset_metres(record["lat"], record["lon"], lat, lon)
    middle = (size - 1) / 2 * 0.5
    assert np.hypot(north - middle, east + middle) < 0.5 * 0.5
    assert alpha.max() > 150


def test_what_is_there_is_left_and_what_is_other_is_refused(rings, rings_model, tmp_path):
    call = {"dataset": str(rings), "geotiff": tmp_path / "g"}
    records = draw(["p000"], tmp_path / "s.png", [rings_model()], **call)
    files = [Path(name) for name in records[0][0]["files"]]
    stamps = [path.stat().st_mtime_ns for path in files]
    assert draw(["p000"], tmp_path / "s.png", [rings_model()], **call) == records
    assert [path.stat().st_mtime_ns for path in files] == stamps
    with pytest.raises(MismatchError, match=r"s\.png: exists"):
        draw(["p000"], tmp_path / "s.png", [rings_model(seed=1)], dataset=str(rings))
    files[0].unlink()
    overlay = files[1].read_bytes()
    files[1].write_bytes(b"another raster")
    with pytest.raises(MismatchError, match=r"\.tif: exists"):
        draw(["p000"], tmp_path / "s.png", [rings_model()], **call)
    files[1].write_bytes(overlay)
    assert draw(["p000"], tmp_path / "s.png", [rings_model()], **call) == records and files[0].exists()
    (tmp_path / "s.png").write_bytes(b"something else")
    with pytest.raises(MismatchError):
        draw(["p000"], tmp_path / "s.png", [rings_model()], dataset=str(rings))
    again = HeatmapOptions(device="cpu", overwrite=True)
    assert draw(["p000"], tmp_path / "s.png", [rings_model()], options=again, dataset=str(rings))


def test_the_heading_of_a_picture_is_found_with_its_tile(rings, rings_model, tmp_path):
    image = cv2.imread(ground(rings, 3))
    cv2.imwrite(str(tmp_path / "turned.png"), np.roll(image, -32, axis=1))
    tile = rings / "pictures" / "aerial003.png"
    record = draw([str(tmp_path / "turned.png")], tmp_path / "a", [rings_model()], tile=tile)[0][0]
    assert abs(record["heading"] - 90) < 8 and math.isnan(record["lat"])
    known = HeatmapOptions(device="cpu", stated=StatedPose(heading=90.0))
    record = draw([str(tmp_path / "turned.png")], tmp_path / "b", [rings_model()], tile=tile, options=known)[0][0]
    reference = draw(["p003"], tmp_path / "c", [rings_model()], dataset=str(rings))[0][0]
    assert record["heading"] == 90.0 and record["similarity"] == pytest.approx(reference["similarity"], abs=1e-4)


@pytest.mark.parametrize("kind", ["attention", "points", "relation"])
def test_kinds_of_maps_and_the_node_of_a_direction(rings, attentive, tmp_path, kind):
    options = HeatmapOptions(kind, at=None if kind == "attention" else (90.0, -40.0), device="cpu")
    model = load_models([str(attentive)], None, options)[0]
    (_, pair), *_ = pairs_of_dataset(["p000"], str(rings))
    similarity, remark, maps = explain_pair(model, pair, pair.read_ground(), read_image(pair.tile_path), options)
    assert -1 <= similarity <= 1 and maps.ground.shape == (4, 16) and maps.aerial.shape == (8, 8)
    assert maps.ground.max() == maps.aerial.max() == 1 and maps.ground.min() >= 0
    assert ("attention: ground" in remark) == (kind != "relation")
    if kind == "attention":
        assert maps.ground_marks is None
    else:
        # North is in the middle, so east is three quarters along; 40 degrees down is the last row.
        np.testing.assert_allclose(maps.ground_marks.node, (3.5 / 4, 12.5 / 16))
        assert [len(group) for group in maps.ground_marks.groups] == ([9, 25] if kind == "points" else [])
    assert draw(["p000"], tmp_path, [attentive], dataset=str(rings), options=options)


def test_the_rest_is_done_where_pictures_are_bad(rings, rings_model, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    reporter = Reporter()
    names = [str(tmp_path / "broken.jpg"), ground(rings), str(tmp_path / "none.png")]
    tile = rings / "pictures" / "aerial000.png"
    done = draw(names, tmp_path / "a", [rings_model()], reporter, tile=tile)
    assert len(done) == 1 and len(reporter.failures) == 2
    assert [one.name for one in (tmp_path / "a").iterdir()] == ["ground000.heatmap.png"]
    reporter = Reporter()
    done = draw(["p000", "p999"], tmp_path / "b", [rings_model()], reporter, dataset=str(rings))
    assert len(done) == 1 and "no panorama" in reporter.failures[0][1]
    with pytest.raises(InputError, match=r"none\.png"):
        draw([ground(rings)], tmp_path, [rings_model()], tile=tmp_path / "none.png")
    with pytest.raises(UsageError, match="name a folder"):
        draw(["p000", "p001"], tmp_path / "one.png", [rings_model()], dataset=str(rings))


def test_a_geotiff_of_a_tile_of_unknown_place_fails_alone(rings, rings_model, tmp_path):
    reporter = Reporter()
    call = {"tile": rings / "pictures" / "aerial000.png", "geotiff": tmp_path / "g"}
    done = draw([ground(rings)], tmp_path / "a", [rings_model()], reporter, **call)
    assert len(done[0][0]["files"]) == 1 and "no GeoTIFF" in reporter.failures[0][1]
    assert not (tmp_path / "g").exists()


def test_the_best_match_of_a_store(rings, rings_model, tmp_path, monkeypatch):
    monkeypatch.setenv("CVGEO_STATE", str(tmp_path / "state"))
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    for number in range(4):
        name = f"aerial{number:03d}.png"
        (tiles / name).write_bytes((rings / "pictures" / name).read_bytes())
    embed_options = EmbedOptions(device="cpu", jobs=1)
    model = str(rings_model())
    embed([str(tiles)], tmp_path / "t.h5", reporter=Reporter(), model=model, options=embed_options)
    record = draw([ground(rings, 2)], tmp_path / "a", [])[0][0]
    assert record["tile"] == "tiles/aerial002.png" and Path(record["model"]) == Path(model)
    (tiles / "aerial002.png").unlink()
    reporter = Reporter()
    done = draw([ground(rings, 2), ground(rings, 1)], tmp_path / "b", [model], reporter, store=str(tmp_path / "t.h5"))
    assert [one[0]["tile"] for one in done] == ["tiles/aerial001.png"]
    assert "aerial002.png" in reporter.failures[0][1]


def test_models_that_lack_what_is_shown_are_refused_first(rings, rings_model, attentive, tmp_path):
    for kind, known in (("attention", "cbam, maxpool, mc_gra"), ("points", "mc_gra"), ("relation", "mc_gra")):
        with pytest.raises(UsageError, match=known):
            options = HeatmapOptions(kind, device="cpu")
            draw(["p000"], tmp_path / "a", [attentive, rings_model()], dataset=str(rings), options=options)
    assert not (tmp_path / "a").exists()


def test_models_of_one_name_get_labels_of_their_own(rings_model, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.safetensors").write_bytes(rings_model().read_bytes())
    paths = [tmp_path / "run", tmp_path / "run" / "best.safetensors", rings_model()]
    loaded = load_models([str(path) for path in paths], None, HeatmapOptions(device="cpu"))
    assert [one.label for one in loaded] == ["run", "run-2", "rings-0-True"]


def test_the_model_of_a_grids_cell_is_labelled_by_the_cell(rings_model, tmp_path):
    run = tmp_path / "cbam-seed0" / "run"
    run.mkdir(parents=True)
    (run / "best.safetensors").write_bytes(rings_model().read_bytes())
    (run.parent / "cell.json").write_text("{}")
    loaded = load_models([str(run), str(run / "best.safetensors")], None, HeatmapOptions(device="cpu"))
    assert [one.label for one in loaded] == ["cbam-seed0", "cbam-seed0-2"]


def test_a_data_sets_samples(rings, tmp_path):
    reporter = Reporter()
    write_samples(tmp_path / "s.png", str(rings), 4, reporter)
    sheet = read_image(tmp_path / "s.png")
    # Panorama and polar map of a place stand one above the other and show the same sectors.
    above, below = sheet[48 + 50, 250:620].astype(int), sheet[48 + 130, 250:620].astype(int)
    assert np.median(np.abs(above - below)) < 12 and not reporter.failures
    data = open_dataset(str(rings))
    assert len(data.pairs) == 6
