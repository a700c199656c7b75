from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cvgeo.config.schema import ViewConfig
from cvgeo.data import packing
from cvgeo.data.loader import PairLoader
from cvgeo.data.pack import EMPTY, Pack
from cvgeo.data.packing import unfinished
from cvgeo.data.schema import Dataset
from cvgeo.errors import InputError, MismatchError, OutputError
from cvgeo.pipelines.pack import ready_pack
from cvgeo.report import Reporter

VIEW = ViewConfig(ground_height=16, ground_width=36, aerial_height=16, aerial_width=32)
BATCHES = [np.array([[3, 3], [0, 0], [7, 7]]), np.array([[1, 1], [5, 5], [2, 2]])]


@pytest.fixture
def rings(make_rings: Callable[..., Dataset], tmp_path: Path) -> Dataset:
    return make_rings(tmp_path / "rings", train=8, val=2)


def packed(data: Dataset, path: Path, view: ViewConfig = VIEW, jobs: int = 1) -> Pack:
    return ready_pack(data, ["train", "val"], view, path, jobs, Reporter())


def decoded_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the number of rows whenever views are about to be decoded."""
    counts: list[int] = []
    whole = packing.item_batches

    def counted(views: object, size: int, jobs: int) -> object:
        counts.append(len(views))
        return whole(views, size, jobs)

    monkeypatch.setattr(packing, "item_batches", counted)
    return counts


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("fields_of_view", [[360.0] * 8, [270.0] * 8, [360.0, 270.0] * 4])
def test_a_pack_gives_the_same_batches_as_decoding(
    rings: Dataset, tmp_path: Path, fields_of_view: list[float], jobs: int
) -> None:
    rings.panoramas.hfov[:8] = fields_of_view
    part = rings.subset("train")
    pack = packed(rings, tmp_path / "pack.h5", jobs=jobs)
    loaders = [
        PairLoader(part, VIEW, jobs=1, memory=memory, reporter=Reporter(), pack=one)
        for one, memory in ((pack, 0), (None, 0), (None, 1 << 30))
    ]
    assert loaders[0].held_bytes == 0
    for one, *others in zip(*(loader.pairs(BATCHES) for loader in loaders), strict=True):
        for other in others:
            assert torch.equal(one.ground, other.ground) and torch.equal(one.aerial, other.aerial)
            assert (one.mask is None) == (other.mask is None)
            assert one.mask is None or torch.equal(one.mask, other.mask)
    for kind in ("ground", "aerial"):
        for one, other in zip(loaders[0].single(kind, 3), loaders[1].single(kind, 3), strict=True):
            assert one[0].tolist() == other[0].tolist() and torch.equal(one[1], other[1])


def test_a_pack_is_used_again_and_only_what_changed_is_decoded(
    rings: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = decoded_rows(monkeypatch)
    path = tmp_path / "pack.h5"
    packed(rings, path).close()
    inode = path.stat().st_ino
    packed(rings, path).close()
    assert counts == [10, 10] and path.stat().st_ino == inode
    # Same size, other content: the time tells.
    picture = rings.panoramas.path[4]
    os.utime(picture, ns=(1, 1))
    packed(rings, path).close()
    shutil.copy(rings.tiles.path[1], rings.tiles.path[0])
    packed(rings, path).close()
    assert counts[2:] == [1, 0, 0, 1]
    with packed(rings, path) as pack:
        loader = PairLoader(rings, VIEW, jobs=1, memory=0, reporter=Reporter(), pack=pack)
        views = next(loader.single("aerial", 2))[1]
        assert torch.equal(views[0], views[1])
    assert not unfinished(path).exists() and not path.with_name("pack.h5.lock").exists()


def test_a_moved_data_set_keeps_its_pack(rings: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cvgeo.data.dataset_files import read_dataset

    packed(rings, tmp_path / "pack.h5").close()
    counts = decoded_rows(monkeypatch)
    packed(read_dataset(shutil.move(rings.root, tmp_path / "elsewhere")), tmp_path / "pack.h5").close()
    assert counts == []


@pytest.mark.parametrize("after", [0, 3, 7, 12])
def test_a_killed_build_goes_on_and_serves_nothing_wrong(
    rings: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    path, whole = tmp_path / "pack.h5", tmp_path / "whole.h5"
    packed(rings, whole).close()
    monkeypatch.setattr(packing, "FLUSH_BYTES", 1)
    process = os.fork()
    if process == 0:
        add, count = packing._Filler.add, [0]

        def killed(self: object, row: int, item: object) -> None:
            if count[0] == after:
                os.kill(os.getpid(), 9)
            count[0] += 1
            add(self, row, item)

        packing._Filler.add = killed
        packed(rings, path)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 9
    assert not path.exists()
    with Pack(unfinished(path)) as pack:
        assert sum(int((table.status != EMPTY).sum()) for table in pack.tables.values()) == after
    counts = decoded_rows(monkeypatch)
    with packed(rings, path) as pack, Pack(whole) as other:
        assert sum(counts) == 20 - after
        for kind in ("ground", "aerial"):
            assert not pack.tables[kind].damaged_rows()
            every = np.arange(10)
            assert torch.equal(pack.tables[kind].take(every)[0], other.tables[kind].take(every)[0])


def test_broken_pictures_are_recorded_and_not_tried_again(
    rings: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(rings.panoramas.path[3]).write_bytes(b"no picture")
    Path(rings.tiles.path[5]).unlink()
    path = tmp_path / "pack.h5"
    packed(rings, path).close()
    counts = decoded_rows(monkeypatch)
    told = []
    for memory, pack in ((0, packed(rings, path)), (1 << 30, None)):
        reporter = Reporter()
        loader = PairLoader(rings, VIEW, jobs=1, memory=memory, reporter=reporter, pack=pack)
        assert loader.broken_panoramas == [3] and loader.broken_tiles == [5]
        told.append(sorted(reporter.failures))
    assert told[0] == told[1] and counts == []
    shutil.copy(rings.panoramas.path[4], rings.panoramas.path[3])
    with packed(rings, path) as pack:
        assert PairLoader(rings, VIEW, jobs=1, memory=0, reporter=Reporter(), pack=pack).broken_panoramas == []
    assert counts == [1, 0]


def test_a_changed_bit_and_a_cut_file_are_noticed(rings: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "pack.h5"
    with packed(rings, path) as pack:
        offset = pack.tables["ground"]._place["images"][0]
    content = bytearray(path.read_bytes())
    content[offset + 100] ^= 1
    path.write_bytes(content)
    with Pack(path) as pack:
        assert pack.tables["ground"].damaged_rows() == [0] and pack.tables["aerial"].damaged_rows() == []
    with Pack(path) as pack, pytest.raises(InputError, match=r"damaged pack: row 0 of ground .* remove it"):
        pack.tables["ground"].take(np.array([0]))
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged pack"):
        packed(rings, path)


def test_what_is_no_pack_or_another_one_is_refused(rings: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "pack.h5"
    packed(rings, path).close()
    before = path.read_bytes()
    other = ViewConfig(ground_height=16, ground_width=40, aerial_height=16, aerial_width=32)
    with pytest.raises(MismatchError, match=r"view.ground_width was 36 and is now 40; name another"):
        packed(rings, path, other)
    assert path.read_bytes() == before
    (tmp_path / "text.h5").write_text("no pack")
    with pytest.raises(InputError):
        packed(rings, tmp_path / "text.h5")
    assert (tmp_path / "text.h5").read_text() == "no pack"


def test_a_small_disk_is_found_before_anything_is_decoded(
    rings: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = decoded_rows(monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(OutputError, match=r"a pack of 0.0 MiB does not fit .* free some space"):
        packed(rings, tmp_path / "pack.h5")
    assert counts == [] and not unfinished(tmp_path / "pack.h5").exists()
