"""Long work looks at the free disk first; how much is free is made up here."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvgeo.errors import OutputError
from cvgeo.paths import check_space
from cvgeo.pipelines import polar as polar_pipeline
from cvgeo.pipelines.embed import EmbedOptions, embed
from cvgeo.pipelines.polar import PolarSettings, make_maps
from cvgeo.pipelines.tile_cutting import TileSize, tiles_space
from cvgeo.pipelines.train import TrainOptions, train
from cvgeo.pipelines.world import WorldSettings, build_world
from cvgeo.report import Reporter


class Told(Reporter):
    """Keeps the warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def free(monkeypatch):
    """A function that says how many bytes are free from now on."""

    def say(size: float) -> None:
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 2**40 - int(size), int(size))
        )

    return say


def test_enough_too_little_for_sure_and_perhaps(tmp_path, free):
    path = tmp_path / "not" / "there" / "yet"
    free(1000)
    assert check_space(path, "it", 999, 10) is None
    assert "it takes about 0.0 MiB" in check_space(path, "it", 1001, 1000)
    with pytest.raises(OutputError, match=r"yet: it of 3.0 GiB does not fit into the 0.0 MiB that are free; free some"):
        check_space(path, "it", 3 * 2**30, 3 * 2**30)


def test_a_system_that_does_not_say_is_no_hindrance(tmp_path, monkeypatch):
    def fail(_: Path) -> None:
        raise PermissionError("not told")

    monkeypatch.setattr(shutil, "disk_usage", fail)
    assert check_space(tmp_path, "it", 2**60, 2**60) is None


def test_a_store_is_refused_before_a_picture_is_read(tmp_path, free, make_rings, rings_model, monkeypatch):
    monkeypatch.setenv("CVGEO_STATE", str(tmp_path / "state"))
    make_rings(tmp_path / "data", train=4, val=2)
    call = {"model": str(rings_model()), "dataset": str(tmp_path / "data")}
    options = EmbedOptions(device="cpu", jobs=1)
    free(100)
    with pytest.raises(OutputError, match=r"6 new rows of 0.0 MiB does not fit"):
        embed([], tmp_path / "tiles.h5", reporter=Reporter(), options=options, **call)
    free(7000)
    told = Told()
    embed([], tmp_path / "tiles.h5", reporter=told, options=options, **call)
    assert len(told.warnings) == 1 and "6 new rows takes about" in told.warnings[0]
    free(0)
    again = embed([], tmp_path / "tiles.h5", reporter=Reporter(), options=options, **call)
    assert again["reused"] == 6  # nothing is to be written


def test_a_folder_of_maps_is_refused_before_one_is_made(tmp_path, free, monkeypatch):
    monkeypatch.setattr(polar_pipeline, "MANY", 2)
    (tmp_path / "in").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), np.zeros((20, 20, 3), np.uint8))
    free(10)
    with pytest.raises(OutputError, match=r"a set of 3 maps of 0.0 MiB does not fit"):
        list(make_maps([str(tmp_path / "in")], tmp_path / "out", PolarSettings(), Reporter()))
    assert not (tmp_path / "out").exists()


def test_worlds_tiles_and_runs_are_refused(tmp_path, free, make_rings):
    free(1000)
    with pytest.raises(OutputError, match=r"a world of 0.2 km"):
        build_world(WorldSettings(tmp_path / "world", size_km=0.2), Reporter())
    assert not (tmp_path / "world" / "ortho.tif").exists()
    with pytest.raises(OutputError, match=r"a data set of 2,000 tiles of 2.5 MiB does not fit"):
        tiles_space(tmp_path / "tiles", 2000, TileSize(256, 0.2), Reporter())
    tiles_space(tmp_path / "tiles", 0, TileSize(256, 0.2), Reporter())
    make_rings(tmp_path / "data", train=8, val=4)
    changes = {"train": {"epochs": 1, "batch_size": 4}}
    with pytest.raises(OutputError, match=r"a run of .* does not fit"):
        train(
            str(tmp_path / "data"),
            reporter=Reporter(),
            model="tiny",
            changes=changes,
            output=str(tmp_path / "run"),
            options=TrainOptions(device="cpu", jobs=1),
        )
