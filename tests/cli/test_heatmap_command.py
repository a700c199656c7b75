import json

import pytest


@pytest.fixture(scope="module")
def rings(tmp_path_factory, make_rings):
    folder = tmp_path_factory.mktemp("rings")
    make_rings(folder / "data", train=4, val=0)
    return folder


def test_from_picture_to_sheet(program, rings, rings_model, tmp_path):
    data, model = str(rings / "data"), str(rings_model())
    words = ("heatmap", "-", "-d", data, "--model", model, "--geotiff", "overlays")
    done = program(*words, stdin=None, input=b"p000\np009\np001\n")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 5 and b"p009: is no panorama" in done.stderr and b"2 done, 1 failed" in done.stderr
    assert [record["tile"] for record in records] == ["t000", "t001"]
    names = ["heatmaps/ground000.heatmap.png", "overlays/ground000.rings-0-True.tif"]
    assert records[0]["files"] == names and all((tmp_path / "here" / name).exists() for name in names)

    done = program("heatmap", "p000", "-d", data, "--model", model, "--model", model)
    assert done.returncode == 4 and done.stderr.count(b"\n") == 1 and b"--overwrite" in done.stderr


def test_info_draws_samples_of_a_data_set(program, rings, tmp_path):
    data = str(rings / "data")
    done = program("info", data, "--sheet", "samples.png", "--samples", "3")
    assert done.returncode == 0 and json.loads(done.stdout)["pairs"] == 4
    assert (tmp_path / "here" / "samples.png").stat().st_size > 0
    done = program("info", data, data, "--sheet", "samples.png")
    assert done.returncode == 2 and b"one data set" in done.stderr
