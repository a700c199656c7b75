from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cvgeo.errors import InputError, MismatchError, OutputError
from cvgeo.training.run_folder import Progress, RunFolder, first_difference

SETTINGS = {"config": {"train": {"epochs": 3, "milestones": {"30": 1e-6}}, "view": {"mean": (0.1, 0.2)}}}
TENSORS = {
    "model": {"w": torch.arange(3.0)},
    "optimizer": {"state": {0: {"step": torch.tensor(4.0)}}, "groups": [1e-3]},
}


def test_the_same_settings_go_on_and_others_are_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.open(SETTINGS, overwrite=False)
    run.open(SETTINGS, overwrite=False)
    run.save_state(Progress(epoch=1), TENSORS)
    other = {"config": {**SETTINGS["config"], "train": {"epochs": 3, "milestones": {"20": 1e-6}}}}
    with pytest.raises(MismatchError, match=r"config.train.milestones.30 was 1e-06 and is now null; --overwrite"):
        run.open(other, overwrite=False)
    run.open(other, overwrite=True)
    assert run.load_state() is None
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json"]


def test_a_call_that_failed_before_it_saved_anything_hinders_no_other(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.open(SETTINGS, overwrite=False)
    run.open({"config": {"train": {"epochs": 4}}}, overwrite=False)
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"config": {"train": {"epochs": 4}}}


def test_a_call_that_failed_before_it_saved_anything_leaves_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.open({"seed": 0}, overwrite=False)
    run.forget()
    assert not run.path.exists()
    run.open({"seed": 0}, overwrite=False)
    run.last.touch()
    run.forget()
    assert run.last.exists() and (run.path / "config.json").exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    for overwrite in (False, True):
        with pytest.raises(InputError, match="holds no run"):
            RunFolder(tmp_path / "photos").open(SETTINGS, overwrite)
    assert (tmp_path / "photos" / "a.jpg").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="holds no run"):
        RunFolder(tmp_path / "file").open(SETTINGS, overwrite=False)
    with pytest.raises(OutputError, match="cannot write"):
        RunFolder(tmp_path / "file" / "run").open(SETTINGS, overwrite=False)


def test_an_empty_folder_and_leftovers_of_a_killed_process_are_no_hindrance(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / ".state.pt.0123abcd.part").write_bytes(b"half")
    run.open(SETTINGS, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: is damaged; --overwrite"):
        RunFolder(tmp_path).open(SETTINGS, overwrite=False)


def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    progress = Progress(2, 5, 0.1 + 0.2, 5, 40, 1.5, [{"epoch": 1, "r@1": None}], {"epoch": 1, "r@1": None})
    run.save_state(progress, {**TENSORS, "model_config": {"mean": (0.1, 0.2)}})
    loaded, tensors = run.load_state()
    assert loaded == progress
    assert torch.equal(tensors["model"]["w"], TENSORS["model"]["w"])
    assert tensors["optimizer"]["groups"] == [1e-3]
    assert tensors["model_config"] == {"mean": (0.1, 0.2)}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_damaged_state_is_named(tmp_path: Path, share: float) -> None:
    run = RunFolder(tmp_path)
    run.save_state(Progress(), TENSORS)
    path = tmp_path / "state.pt"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"state.pt: damaged state of a training run; --overwrite"):
        run.load_state()


def test_a_state_that_is_no_state_is_named(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "state.pt")
    with pytest.raises(InputError, match="damaged state"):
        RunFolder(tmp_path).load_state()
    torch.save({"format": 9, "progress": {}}, tmp_path / "state.pt")
    with pytest.raises(MismatchError, match="state of format 9, this program reads format 1"):
        RunFolder(tmp_path).load_state()


def test_metrics_are_published_when_all_files_are_those_of_the_state(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    progress = Progress(2, metrics=[{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    run.write_metrics(progress)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == progress.metrics
    assert not run.is_published(progress)
    run.best.touch()
    run.last.touch()
    assert run.is_published(progress)
    assert not run.is_published(Progress(3, metrics=[*progress.metrics, {"epoch": 3}]))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, "a.c was 2 and is now 3"),
        ({"a": 1}, {"a": 1, "new": "x"}, 'new was null and is now "x"'),
        ({"a": "f" * 64}, {"a": "0" * 64}, 'a was "' + "f" * 15 + '..." and is now "' + "0" * 15 + '..."'),
    ],
)
def test_the_first_difference(old: dict, new: dict, said: str) -> None:
    assert first_difference(old, new) == said


def test_a_run_from_before_a_setting_goes_on_with_its_default(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.open({"config": {"train": {"epochs": 3}}}, overwrite=False)
    run.save_state(Progress(epoch=1), TENSORS)
    run.open({"config": {"train": {"epochs": 3, "compile": False, "cache_chunk": 0}}}, overwrite=False)
    with pytest.raises(MismatchError, match=r"config.train.cache_chunk was 0 and is now 8"):
        run.open({"config": {"train": {"epochs": 3, "cache_chunk": 8}}}, overwrite=False)
