"""The field's data sets by name, each from its miniature through training, embedding and evaluation."""

from __future__ import annotations

import json

import pytest

SMALL = ("--recipe=demo", "--weights=none", "--batch-size=3", "--epochs=1", "--threads=1", "--jobs=1", "--device=cpu")
SIZES = ("ground_height=16", "ground_width=64", "aerial_height=16", "aerial_width=64")
PARTS = (*(f"view.{size}" for size in SIZES), "backbone_options.width=8", "aggregator_options.columns=4")
MINIATURES = {
    "vigor": {"side": 4, "panoramas": 8, "ground_size": (16, 32), "aerial_size": 16},
    "cvact": {"ground_size": (52, 104), "aerial_size": 32},
    "cvusa": {"train": 5, "val": 3, "ground_size": (28, 154), "aerial_size": 64},
    "cvcities": {"pairs": 3, "ground_size": (16, 32), "aerial_size": 16},
    "university1652": {"size": 16},
    "paired_folders": {"ground_size": (16, 32), "aerial_size": 16},
}
EXPECTED = {
    "vigor:cross": ("cross-area, corrected labels, Chicago, SanFrancisco", 16, 32),
    "cvact:test-5m": ("test-5m", 6, 6),
    "cvusa": (None, 3, 3),
    "cvcities": ("the authors' six test cities; theirs are the figures within each city", 6, 6),
    "university1652:street": ("street to satellite", 8, 6),
    "paired_folders": (None, 4, 4),
}


FAST = ("vigor:cross", "cvact:test-5m", "cvusa")


@pytest.mark.parametrize(
    "dataset", [one if one in FAST else pytest.param(one, marks=pytest.mark.slow) for one in EXPECTED]
)
def test_end_to_end(dataset, program, make_dataset, tmp_path):
    name = dataset.partition(":")[0]
    folder = make_dataset(name, tmp_path / "sets" / name, **MINIATURES[name])
    data = {"CVGEO_DATA": str(tmp_path / "sets")}
    sets = [f"--set=model.{part}" for part in PARTS]
    done = program("train", "--dataset", dataset, *SMALL, *sets, "-o", "run", env=data)
    assert done.returncode == 0, done.stderr
    assert (b"do not stand at the tiles' centres" in done.stderr) == (name == "vigor")
    assert (b"panoramas have no known heading" in done.stderr) == (name not in ("vigor", "cvact", "cvusa"))
    assert (b"no known field of view" in done.stderr) == (name in ("university1652", "paired_folders"))
    protocol, queries, gallery = EXPECTED[dataset]
    split = "val" if name == "cvusa" else "test"
    common = ("--dataset", dataset, "--model", "run", "--split", split, "-j", "1", "--device", "cpu")
    done = program("embed", *common, "-o", "tiles.h5", env=data)
    assert done.returncode == 0 and json.loads(done.stdout)["rows"] == gallery, done.stderr
    done = program("evaluate", *common, "--store", "tiles.h5", env=data)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[0])
    assert (record["protocol"], record["queries"], record["gallery"]) == (protocol, queries, gallery)
    assert 0 <= record["r@1"] <= record["r@5"] <= 1
    if name == "cvcities":
        scopes = [json.loads(line)["scope"] for line in done.stdout.splitlines()]
        assert scopes == ["overall", "within london", "within taipei", "within sources"]
    if name == "cvact":
        next((folder / "ANU_data_test" / "streetview").iterdir()).unlink()
        refused = program("evaluate", *common, env=data)
        assert refused.returncode == 3 and b"1 of 12 pictures are missing: ANU_data_test" in refused.stderr
        skipped = program("evaluate", *common, "--skip-missing", env=data)
        assert skipped.returncode == 0 and json.loads(skipped.stdout.splitlines()[0])["queries"] == 5, skipped.stderr


@pytest.mark.parametrize("dataset", ["vigor", "vigor:cross"])
def test_training_from_a_pack(dataset, program, make_dataset, tmp_path):
    """Tiles that belong to every split are packed too."""
    make_dataset("vigor", tmp_path / "sets" / "vigor", **MINIATURES["vigor"])
    sets = [f"--set=model.{part}" for part in PARTS]
    call = ("train", "--dataset", dataset, *SMALL, *sets, "-o", "run", "--pack-file", "pack.h5")
    done = program(*call, env={"CVGEO_DATA": str(tmp_path / "sets")})
    assert done.returncode == 0, done.stderr
