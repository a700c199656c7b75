import csv
import json
import shutil

import numpy as np
import pytest
import torch

from cvgeo.config.schema import LossConfig
from cvgeo.data.dataset_files import read_dataset, write_dataset
from cvgeo.errors import InputError, MismatchError, UsageError
from cvgeo.geometry.geodesy import move
from cvgeo.losses import build_loss
from cvgeo.models import fingerprint
from cvgeo.pipelines.embed import EmbedOptions, embed
from cvgeo.pipelines.evaluate import EvaluateOptions, evaluate
from cvgeo.report import Reporter
from cvgeo.training.checkpoint import annotate, heading_sharpness, load_checkpoint, save_checkpoint

ONE = EmbedOptions(device="cpu", jobs=1)


class Heard(Reporter):
    def __init__(self):
        super().__init__()
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture
def data(tmp_path, make_rings):
    make_rings(tmp_path / "data", train=2, val=8)
    return tmp_path / "data"


def run(data, model, reporter=None, **options):
    more = {key: options.pop(key) for key in ("store", "per_query", "query_store", "against") if key in options}
    return evaluate(
        str(data),
        reporter=reporter or Reporter(),
        model=str(model),
        options=EvaluateOptions(**options),
        embedding=ONE,
        **more,
    )


def change(folder, edit):
    dataset = read_dataset(folder)
    edit(dataset)
    write_dataset(dataset, folder)


def test_places_that_can_be_found_are_found(data, rings_model):
    (record,) = run(data, rings_model())
    assert (record["scope"], record["queries"], record["gallery"]) == ("overall", 8, 8)
    assert record["r@1"] == 1.0 and record["r@1_low"] == pytest.approx(0.6756, abs=1e-3)
    assert record["chance"] == pytest.approx(1 / 8)
    assert record["median_error_m"] == 0.0 and record["hit_covers"] == 1.0 and record["mrr"] == 1.0


@pytest.mark.parametrize("circular", [True, False])
def test_unknown_headings_are_found_as_well(data, rings_model, circular):
    (record,) = run(data, rings_model(circular=circular), heading_unknown=True)
    assert record["r@1"] >= 0.75 and record["heading_right"] >= 0.75
    assert record["heading_tolerance_deg"] == 22.5


def test_sources_are_measured_alone_and_together(data, rings_model, tmp_path):
    change(data, name_sources)
    records = run(data, rings_model(), per_query=tmp_path / "q.csv")
    assert [record["scope"] for record in records] == ["overall", "within a", "within b", "within sources"]
    assert [record["queries"] for record in records] == [8, 5, 3, 8]
    assert [record["gallery"] for record in records] == [8, 5, 3, 4.2]
    assert records[3]["chance"] == pytest.approx((5 / 5 + 3 / 3) / 8)
    with open(tmp_path / "q.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16 and rows[0]["query"] == "p002" and rows[0]["rank"] == "1" and rows[0]["top"] == "t002"


def name_sources(dataset):
    dataset.panoramas.source = dataset.tiles.source = ["", "", *["a"] * 5, *["b"] * 3]


def test_distractors_stand_in_every_gallery(data, rings_model, tmp_path, make_rings):
    change(data, name_sources)
    # The same pictures under other names: each is a tie with the tile that it copies, and ties count against it.
    shutil.copytree(data, tmp_path / "same")
    records = run(data, rings_model(), distractors=str(tmp_path / "same"), both_ways=True, per_query=tmp_path / "q.csv")
    forward, backward = records[:4], records[4:]
    assert [record["gallery"] for record in forward] == [18, 15, 13, 14.2] and forward[0]["distractors"] == 10
    assert all(record["r@1"] == 0.0 and record["mrr"] == 0.5 for record in forward)
    assert [record["gallery"] for record in backward] == [8, 5, 3, 4.2]
    assert all(record["r@1"] == 1.0 for record in backward)
    make_rings(tmp_path / "other", train=0, val=4, seed=77)
    (record, *_) = run(data, rings_model(), distractors=str(tmp_path / "other"))
    assert record["gallery"] == 12 and record["r@1"] == 1.0 and record["chance"] == pytest.approx(1 / 12)


def test_distractors_of_another_ground_size_are_warned_of(data, rings_model, tmp_path):
    shutil.copytree(data, tmp_path / "near")
    change(tmp_path / "near", lambda dataset: setattr(dataset.tiles, "gsd_m", dataset.tiles.gsd_m / 2))
    heard = Heard()
    run(data, rings_model(), heard, distractors=str(tmp_path / "near"))
    assert any("too easy to tell apart" in warning for warning in heard.warnings)


def test_both_ways_against_a_literal_reading(data, rings_model, tmp_path):
    """Three panoramas of two tiles: a tile's rank is that of the better of its own, among all others."""

    def two_of_one(dataset):
        dataset.pairs.tile[3] = dataset.pairs.tile[2]

    change(data, two_of_one)
    records = run(data, rings_model(), both_ways=True, per_query=tmp_path / "q.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    backward = {row["query"]: row for row in rows if row["scope"] == "overall, aerial to ground"}
    assert [record["scope"] for record in records] == ["overall", "overall, aerial to ground"]
    # The third tile is of no panorama any more; the second one is of two, and is found by its true one.
    assert "t003" not in backward and backward["t002"]["top"] == "p002" and backward["t002"]["covers"]
    assert len(backward) == records[1]["queries"] == 7 and records[1]["gallery"] == 8
    assert records[1]["chance"] == pytest.approx((2 / 8 + 6 / 8) / 7)
    assert records[1]["r@1"] == 1.0 and records[1]["median_error_m"] == 0.0


def test_two_models_are_compared_query_by_query(data, rings_model, tmp_path):
    change(data, name_sources)
    run(data, rings_model(), both_ways=True, per_query=tmp_path / "q.csv")
    # Another model that found two places of source a only at rank 2.
    lines = (tmp_path / "q.csv").read_text().splitlines()
    worse = [line.replace(",5,1,1,", ",5,2,2,") if line.startswith("within a,p00") else line for line in lines]
    (tmp_path / "w.csv").write_text("\n".join(worse) + "\n")
    records = {one["scope"]: one for one in run(data, rings_model(), both_ways=True, against=tmp_path / "w.csv")}
    assert records["within a"]["difference_r@1"] == 1.0 and records["within a"]["difference_mrr"] == 0.5
    assert records["within sources"]["difference_r@1"] == pytest.approx(5 / 8)
    assert (
        0 <= records["within sources"]["difference_r@1_low"] < 5 / 8 < records["within sources"]["difference_r@1_high"]
    )
    assert records["overall"]["difference_r@1"] == records["within sources, aerial to ground"]["difference_r@1"] == 0.0
    with pytest.raises(MismatchError, match="aerial to ground"):
        lines = [line for line in lines if "aerial to ground" not in line]
        (tmp_path / "w.csv").write_text("\n".join(lines) + "\n")
        run(data, rings_model(), both_ways=True, against=tmp_path / "w.csv")


def test_wrong_pairs_are_not_found(data, rings_model, tmp_path):
    def shift(dataset):
        dataset.pairs.tile = np.roll(dataset.pairs.tile, 1)
        dataset.pairs.tile[:2] = [0, 1]
        dataset.pairs.tile[2:] = np.roll(np.arange(2, 10), 1)

    change(data, shift)
    (record,) = run(data, rings_model(), per_query=tmp_path / "q.jsonl")
    assert record["r@1"] == 0.0 and record["hit_masked"] == 0.0
    first = json.loads((tmp_path / "q.jsonl").read_text().splitlines()[0])
    assert first["rank"] > 1 and first["top"] == "t002" and first["error_m"] == 0.0


def test_semi_positives_count_by_name(data, rings_model):
    """The true tile is only a semi-positive, and another one the exact positive."""

    def swap(dataset):
        tiles = np.arange(10)
        dataset.pairs.__init__(
            np.concatenate([tiles, tiles]), np.concatenate([(tiles + 1) % 10, tiles]), np.repeat([0, 1], 10)
        )

    change(data, swap)
    record = run(data, rings_model())[0]
    assert record["r@1"] == 0.0 and record["hit_covers"] == 1.0


def test_a_collapsed_model_is_warned_of_and_ranks_last(data, rings_model, monkeypatch):
    from cvgeo.pipelines import embed as pipeline

    row = np.random.default_rng(0).normal(size=(1, 1024)).astype(np.float32)
    real = pipeline.describe

    def constant(model, view, items):
        size = real(model, view, items).shape[1]
        return np.tile(row[:, :size] / np.linalg.norm(row[:, :size]), (len(items), 1))

    monkeypatch.setattr(pipeline, "describe", constant)
    reporter = Heard()
    (record,) = run(data, rings_model(), reporter)
    assert record["r@1"] == record["r@5"] == 0.0 and record["mrr"] == pytest.approx(1 / 8)
    assert any("same embedding" in text for text in reporter.warnings)


def test_broken_pictures_are_left_out_and_said(data, rings_model):
    (data / "pictures" / "ground004.png").write_bytes(b"no")
    (data / "pictures" / "aerial005.png").write_bytes(b"no")
    reporter = Heard()
    (record,) = run(data, rings_model(), reporter)
    assert (record["queries"], record["gallery"]) == (6, 7) and len(reporter.failures) == 2
    assert any("2 panoramas are left out" in text for text in reporter.warnings)


def test_a_given_store_may_hold_more(data, rings_model, tmp_path):
    alone = run(data, rings_model())
    run(data, rings_model(), split="train", store=str(tmp_path / "t.h5"))
    assert run(data, rings_model(), store=str(tmp_path / "t.h5"), query_store=str(tmp_path / "q.h5")) == alone


def test_splits(data, rings_model):
    assert run(data, rings_model(), split="train")[0]["queries"] == 2
    with pytest.raises(InputError, match="splits: train, val"):
        run(data, rings_model(), split="none")


def test_no_pair_left(data, rings_model):
    for path in (data / "pictures").glob("ground*"):
        path.write_bytes(b"no")
    with pytest.raises(InputError, match="could be embedded"):
        run(data, rings_model())


def with_offset_head(model, path, offset, from_epoch=0, epoch=1):
    """The checkpoint of a model with a head that puts every panorama (north, east) shares of a side off the centre."""
    embedder, config, _ = load_checkpoint(model)
    terms = {"info_nce": {}, "offset_regression": {"hidden": 4, "from_epoch": from_epoch}}
    config.train.loss = LossConfig("sum", {"terms": terms})
    loss = build_loss("sum", config.train.loss.options, embedder.descriptor_size)
    last = loss.terms["offset_regression"].head[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(2 * torch.tensor(offset))
    save_checkpoint(path, embedder, config, {}, loss, epoch=epoch)
    return path


@pytest.mark.parametrize("unknown", [False, True])
def test_the_offset_head_corrects_the_error(data, rings_model, tmp_path, unknown):
    """Panoramas 8 m north and 4 m west of the centres of tiles of 32 m: a quarter and an eighth of a side."""

    def off_centre(dataset):
        table = dataset.panoramas
        table.lat, table.lon = move(table.lat, table.lon, np.full(len(table), 8.0), np.full(len(table), -4.0))

    change(data, off_centre)
    model = with_offset_head(rings_model(), tmp_path / "head.safetensors", (0.25, -0.125))
    (record,) = run(data, model, heading_unknown=unknown, per_query=tmp_path / "q.csv")
    with open(tmp_path / "q.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [row for row in rows if row["rank"] == "1"]
    assert len(found) >= 6 and all(row["error_m"] == "8.94" and row["error_offset_m"] == "0.0" for row in found)
    assert record["median_error_m"] == pytest.approx(np.hypot(8, 4), abs=0.01)
    assert record["median_error_offset_m"] == pytest.approx(0, abs=0.01)
    assert record["median_error_offset_m_low"] <= record["median_error_offset_m_high"]


def test_a_head_that_was_not_trained_yet_is_not_used(data, rings_model, tmp_path):
    model = with_offset_head(rings_model(), tmp_path / "head.safetensors", (0.25, 0.0), from_epoch=3, epoch=3)
    assert "median_error_offset_m" not in run(data, model)[0]
    model = with_offset_head(rings_model(), tmp_path / "later.safetensors", (0.25, 0.0), from_epoch=3, epoch=4)
    assert run(data, model)[0]["median_error_offset_m"] == pytest.approx(8, abs=0.01)


def test_a_narrow_view_finds_less_and_knows_it(data, rings_model):
    wide, narrow = (
        run(data, rings_model(circular=True), heading_unknown=True, hfov=hfov, seed=3)[0] for hfov in (None, 90.0)
    )
    assert "hfov" not in wide and narrow["hfov"] == 90.0
    assert wide["median_heading_error_deg"] < 8 and wide["heading_within_10"] >= narrow["heading_within_10"]
    assert wide["median_heading_sd_deg"] < narrow["median_heading_sd_deg"] <= 180
    for name in ("heading_within_5", "top_heading_within_5", "heading_within_sd", "heading_within_2sd"):
        assert 0 <= narrow[name] <= 1


def test_the_uncertainty_of_headings_is_told_apart_by_right_and_wrong_tiles(data, rings_model, tmp_path):
    (record,) = run(
        data, rings_model(circular=True), heading_unknown=True, hfov=90.0, seed=3, per_query=tmp_path / "q.csv"
    )
    with open(tmp_path / "q.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    covers = np.array([row["covers"] == "True" for row in rows])
    error, sd = (np.array([float(row[f"top_heading_{name}"]) for row in rows]) for name in ("error_deg", "sd_deg"))
    assert 0 < covers.sum() < len(covers)
    for name, some in (("right", covers), ("wrong", ~covers)):
        within = np.mean(np.abs(error[some]) <= 2 * sd[some])
        assert record[f"top_{name}_heading_within_2sd"] == pytest.approx(within, abs=1e-9)
        assert record[f"top_{name}_median_heading_sd_deg"] == pytest.approx(np.median(sd[some]), abs=0.01)
    above = np.mean(sd[~covers][:, None] > sd[covers])
    assert record["heading_sd_auc"] == pytest.approx(above, abs=0.02)
    right = [row for row in rows if row["rank"] == "1"]
    assert right and all(row["heading_error_deg"] == row["top_heading_error_deg"] for row in right)


def test_a_window_is_taken_of_known_headings_as_well(data, rings_model):
    (record,) = run(data, rings_model(), hfov=180.0)
    assert record["hfov"] == 180.0 and record["r@1"] > 0.3 and "heading_within_5" not in record


def test_calibration_is_written_into_the_checkpoint(data, rings_model, tmp_path):
    model = shutil.copy(rings_model(), tmp_path / "own.safetensors")
    (record,) = run(data, model, heading_unknown=True, calibrate_heading=True, seed=1)
    (again,) = run(data, model, heading_unknown=True, seed=1)
    assert again["heading_within_sd"] == record["heading_within_sd"]
    assert again["median_heading_sd_deg"] == pytest.approx(record["median_heading_sd_deg"], rel=1e-3)
    assert heading_sharpness(model) != heading_sharpness(rings_model())
    assert fingerprint(load_checkpoint(model)[0]) == fingerprint(load_checkpoint(rings_model())[0])
    with pytest.raises(UsageError, match="preset"):
        annotate("zero_shot", heading_sharpness=1.0)


@pytest.mark.parametrize("kept", [True, False])
def test_headings_by_the_azimuth_maps_of_a_second_model(data, rings_model, tmp_path, kept):
    first, second = rings_model(circular=False), rings_model()
    store = tmp_path / "tiles.h5"
    if kept:
        call = {"reporter": Reporter(), "model": str(first), "azimuth": str(second), "options": ONE}
        embed([], store, dataset=str(data), split="val", **call)
    (alone,) = run(data, second, heading_unknown=True)
    options = {"heading_unknown": True, "azimuth": str(second), "headings": 4}
    (record,) = run(data, first, **options, **({"store": str(store)} if kept else {}))
    # The right tile's heading is the second model's own.
    assert record["median_heading_error_deg"] == pytest.approx(alone["median_heading_error_deg"], abs=0.01)
    assert record["median_heading_sd_deg"] == pytest.approx(alone["median_heading_sd_deg"], abs=0.1)
