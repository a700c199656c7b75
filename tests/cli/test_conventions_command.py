"""Each row of the table in cvgeo.data.conventions that is refused or warned of, through the real program."""

import json
import os
import shutil

import pytest

from cvgeo.training.checkpoint import load_checkpoint, save_checkpoint

TRAINED = {"fit": "place", "ground_rows": None, "aligned": True, "tile_metres": [32.0, 32.0]}


@pytest.fixture
def model(tmp_path, rings_model):
    """A function that gives a checkpoint with these conventions (None: it does not say)."""

    def make(conventions):
        embedder, config, _ = load_checkpoint(rings_model())
        path = tmp_path / "here" / "model.safetensors"
        more = {} if conventions is None else {"conventions": conventions}
        save_checkpoint(path, embedder, config, {}, **more)
        return "model.safetensors"

    return make


def state(folder, fit="place", aligned="true", gsd="0.5"):
    """Write into a data set what it says of itself; its tiles have 64 pixels."""
    described = (folder / "dataset.toml").read_text().split("[conventions]")[0]
    (folder / "dataset.toml").write_text(f'{described}[conventions]\nfit = "{fit}"\naligned = {aligned}\n')
    lines = (folder / "tiles.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) | {"gsd_m": gsd} for line in lines[1:]]
    (folder / "tiles.csv").write_text("\n".join([lines[0], *(",".join(row.values()) for row in rows)]) + "\n")


CASES = [
    ({}, {}, 0, ""),
    ({}, {"gsd": "0.53"}, 0, ""),
    ({}, {"gsd": "0.25"}, 4, "cover 16 m of ground, the model was trained on tiles of 32 m; cut the tiles again with"),
    ({}, {"gsd": ""}, 0, "how much ground these tiles cover is unknown"),
    ({"tile_metres": None}, {}, 0, "how much ground the model's tiles cover is unknown"),
    ({"tile_metres": [20.0, 70.0]}, {"gsd": "1.0"}, 0, ""),
    ({"fit": "stretch"}, {}, 4, 'write fit = "stretch" under [conventions]'),
    ({"fit": "stretch", "ground_rows": [208, 624, 832]}, {}, 0, ""),
    ({}, {"fit": "stretch"}, 4, 'write fit = "place" under [conventions]'),
    ({}, {"aligned": "false"}, 0, "the panoramas stand off the tile centres"),
    (None, {}, 0, "does not say which conventions it was trained with"),
]


@pytest.mark.parametrize(("trained", "stated", "status", "said"), CASES)
def test_evaluate_holds_a_data_set_against_the_model(
    program, model, make_rings, tmp_path, trained, stated, status, said
):
    make_rings(tmp_path / "here" / "data", train=0, val=2)
    state(tmp_path / "here" / "data", **stated)
    reference = model(None if trained is None else TRAINED | trained)
    done = program("evaluate", "-d", "data", "--model", reference, "-j", "1")
    lines = done.stderr.decode().splitlines()
    assert done.returncode == status and len(lines) == (1 if said else 0), lines
    assert said in "".join(lines) and (status == 0) == bool(done.stdout)


def test_embed_and_search_refuse_tiles_of_another_size(program, model, make_rings, tmp_path):
    data = make_rings(tmp_path / "here" / "data", train=0, val=2)
    reference = model(TRAINED | {"tile_metres": [60.0, 60.0]})
    words = ("embed", "-d", "data", "--model", reference, "-o", "tiles.h5", "-j", "1")
    refused = program(*words)
    assert refused.returncode == 4 and b"--tile-metres 60, or go on with --allow-mismatch" in refused.stderr
    assert not (tmp_path / "here" / "tiles.h5").exists()
    allowed = program(*words, "--allow-mismatch")
    assert allowed.returncode == 0 and b"cover 32 m of ground" in allowed.stderr
    picture = os.path.abspath(data.panoramas.path[0])
    refused = program("search", picture, "--store", "tiles.h5")
    assert refused.returncode == 4 and b"tiles.h5: the tiles cover 32 m" in refused.stderr and not refused.stdout
    allowed = program("search", picture, "--store", "tiles.h5", "--allow-mismatch")
    assert allowed.returncode == 0 and allowed.stdout
    (told,) = map(json.loads, program("info", "tiles.h5").stdout.splitlines())
    assert told["tile_metres"] == [32.0, 32.0] and told["conventions"]["trained"]["tile_metres"] == [60.0, 60.0]


def test_search_warns_where_the_model_knows_stretched_panoramas(program, model, make_rings, tmp_path):
    data = make_rings(tmp_path / "here" / "data", train=0, val=2)
    assert program("embed", "-d", "data", "--model", model(TRAINED | {"fit": "stretch"}), "-o", "t.h5").returncode == 0
    done = program("search", os.path.abspath(data.panoramas.path[0]), "--store", "t.h5")
    assert done.returncode == 0 and b"the model was trained with fit stretch: their vertical field" in done.stderr


def test_training_records_the_conventions_and_info_shows_them(program, make_rings, tmp_path):
    here = tmp_path / "here"
    make_rings(here / "data", train=4, val=2)
    state(here / "data")
    size = [f"--set=model.view.{kind}_{side}" for kind in ("ground", "aerial") for side in ("height=16", "width=64")]
    small = ["--recipe=demo", "--weights=none", "--batch-size=4", "--epochs=1", "-j1", *size]
    small += ["--set=model.backbone_options.width=8", "--set=model.aggregator_options.columns=4"]
    done = program("train", "-d", "data", "-o", "run", *small)
    assert done.returncode == 0, done.stderr
    files = ("run/best.safetensors", "data")
    checkpoint, data = map(json.loads, program("info", *files).stdout.splitlines())
    assert checkpoint["conventions"] == TRAINED
    assert (data["fit"], data["aligned"], data["tile_metres"]) == ("place", True, [32.0, 32.0])
    shutil.rmtree(here / "run")
    state(here / "data", gsd="")
    done = program("train", "-d", "data", "-o", "run", *small)
    assert done.returncode == 0 and b"how much ground its tiles cover is unknown" in done.stderr
