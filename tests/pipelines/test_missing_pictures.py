"""What a data set names but lacks is counted and listed by `info` and `heatmap`; cube maps are watched whole."""

from __future__ import annotations

import os

import numpy as np
import pytest

from cvgeo.cli.options import stated_pose
from cvgeo.data.ground import fronts, is_face, parts
from cvgeo.data.images import write_image
from cvgeo.data.pack import row_digests
from cvgeo.data.schema import Panoramas
from cvgeo.geometry.projections import FACES
from cvgeo.pipelines.embed import EmbedOptions, embed
from cvgeo.pipelines.heat_pairs import pairs_of_dataset
from cvgeo.pipelines.info import describe_files
from cvgeo.pipelines.pictures import ground_files, read_ground_picture
from cvgeo.pipelines.samples import write_samples
from cvgeo.report import Reporter


@pytest.fixture
def lacking(tmp_path, make_rings):
    """A data set of four pairs that lacks one panorama and the tile of another."""
    data = make_rings(tmp_path / "data", train=2, val=2)
    data.panoramas.path[1].unlink()
    data.tiles.path[2].unlink()
    return data


def test_info_counts_and_lists_them(lacking):
    reporter = Reporter()
    (record,) = describe_files([str(lacking.root)], True, reporter)
    assert (record["missing"], record["broken"], record["verified"]) == (2, 0, False)
    names = [os.path.join("pictures", name) for name in ("ground001.png", "aerial002.png")]
    told = f"2 of 8 pictures are missing: {names[0]}, {names[1]}; fetch them"
    assert reporter.failures == [(str(lacking.root), told)]


def test_the_sheet_shows_what_is_there(lacking, tmp_path):
    reporter = Reporter()
    write_samples(tmp_path / "sheet.png", str(lacking.root), 8, reporter)
    assert (tmp_path / "sheet.png").stat().st_size > 0
    assert [text.split(":")[0] for _, text in reporter.failures] == ["2 of 8 pictures are missing"]


def test_heat_maps_name_what_the_pair_lacks(lacking):
    found = [one for _, one in pairs_of_dataset(lacking.panoramas.id, str(lacking.root))]
    assert found[0].query == "p000" and found[3].query == "p003"
    for number, name in ((1, "ground001.png"), (2, "aerial002.png")):
        text = str(found[number])
        assert f"2 of 8 pictures are missing: {os.path.join('pictures', name)}, " in text and "spelling" not in text


@pytest.fixture
def cube(tmp_path):
    """The six files of a cube map, in the order of FACES."""
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / f"place_{name}.png" for name in FACES]
    for shade, path in enumerate(paths):
        write_image(path, np.full((32, 32, 3), 30 * shade + 20, np.uint8))
    return paths


def test_six_files_are_recognised_unless_another_projection_is_said(cube, tmp_path):
    other = tmp_path / "photos" / "other.png"
    write_image(other, np.zeros((32, 64, 3), np.uint8))
    assert all(map(is_face, cube)) and not is_face(other)
    folder = [str(tmp_path / "photos")]
    nothing = stated_pose(None, None, None, None, None, None)
    assert list(ground_files(folder, nothing, Reporter())) == [other, cube[0]]
    assert read_ground_picture(cube[0], Reporter(), nothing).tag.projection == "cube"
    assert len(list(fronts([*cube, other], "perspective"))) == 7
    write_image(cube[3], np.zeros((32, 40, 3), np.uint8))
    assert not is_face(cube[0]) and list(fronts(cube)) == cube


def test_all_six_files_are_watched(cube, tmp_path, rings_model):
    table = Panoramas(["one"], [cube[0]], hfov=[360.0], projection=["cube"])
    before = row_digests(table, tmp_path)
    call = {"reporter": Reporter(), "model": str(rings_model()), "view": "ground"}
    call |= {"options": EmbedOptions(device="cpu", jobs=1)}
    folder, store = [str(tmp_path / "photos")], tmp_path / "x.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVGEO_STATE", str(tmp_path / "state"))
        counts = [embed(folder, store, **call)]
        counts.append(embed(folder, store, **call))
        write_image(cube[4], np.full((32, 32, 3), 250, np.uint8))
        counts.append(embed(folder, store, **call))
    assert [(one["rows"], one["new"], one["reused"]) for one in counts] == [(1, 1, 0), (1, 0, 1), (1, 1, 0)]
    assert parts(cube[0], "cube") == cube and parts(cube[0]) == [cube[0]]
    assert (row_digests(table, tmp_path) != before).any()
