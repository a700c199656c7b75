"""Two processes with half of a batch each against one with the whole of it."""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cvgeo.data.schema import Dataset
from cvgeo.errors import UsageError
from cvgeo.pipelines.train import TrainOptions, train
from cvgeo.report import Reporter
from cvgeo.training.ranks import Ranks, is_first, is_restarted, own_device

PROGRAM = Path(__file__).with_name("ranks_program.py")
CASES = [f"{loss}-group-{chunk}" for loss in ("weighted_soft_margin_triplet", "info_nce") for chunk in (0, 2)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environments(count: int) -> list[dict[str, str]]:
    """What torchrun gives to the processes that it starts."""
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    given = [shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
    return [os.environ | {key: str(value) for key, value in one.items()} for one in given]


@pytest.fixture(scope="module")
def found(make_rings: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process, and what two together give for each case."""
    folder = tmp_path_factory.mktemp("ranks")
    data = make_rings(folder / "rings", train=8, val=0).root
    call = [sys.executable, str(PROGRAM), str(data), str(folder)]
    started = [subprocess.Popen(call, env=one) for one in environments(2)]
    runpy.run_path(str(PROGRAM))["main"](str(data), folder)
    assert [one.wait(timeout=300) for one in started] == [0, 0]
    return folder


def of_case(folder: Path, case: str) -> list[dict[str, Tensor]]:
    return [load_file(folder / f"{case}-{end}.safetensors") for end in ("1-0", "2-0", "2-1")]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_gradients_of_one(found: Path, case: str) -> None:
    alone, first, second = of_case(found, case)
    assert alone.keys() == first.keys() == second.keys()
    assert any("backbone" in name for name in alone)
    largest = max(one.abs().max() for one in alone.values()).item()
    for name, expected in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], expected, rtol=1e-3, atol=1e-5 * largest, msg=name)


def test_negatives_span_all_processes(found: Path) -> None:
    # The loss of half a batch alone is another: it has half of the negatives.
    alone, first, _ = of_case(found, "info_nce-group-0")
    torch.testing.assert_close(first["value"], alone["value"])


def test_running_statistics_stay_equal_on_all_processes(found: Path) -> None:
    alone, first, second = of_case(found, "info_nce-batch-0")
    names = [name for name in alone if "running_mean" in name]
    assert names
    for name in names:
        assert torch.equal(first[name], second[name])
        assert (first[name] - alone[name]).abs().max() < 0.2 * alone[name].abs().max() + 1e-3


def test_a_batch_is_divided_without_gap_or_overlap() -> None:
    for size in (1, 2, 3, 5):
        for count in (5, 8, 64):
            rows = [row for rank in range(size) for row in list(range(count))[Ranks(rank, size).part(count)]]
            assert rows == list(range(count))
            lengths = {len(range(count)[Ranks(rank, size).part(count)]) for rank in range(size)}
            assert max(lengths) - min(lengths) <= 1


def test_a_stray_variable_of_another_program_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert is_first()
    assert own_device(torch.device("cpu")).type == "cpu"


def test_a_restart_by_torchrun_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environments(2)[0].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert not is_restarted()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert is_restarted()
    monkeypatch.delenv("MASTER_PORT")
    assert not is_restarted()


def test_more_processes_than_pairs_are_refused(
    make_rings: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_rings(tmp_path / "rings", train=4, val=0).root
    monkeypatch.setattr("cvgeo.pipelines.train.joined", lambda device: FakeRun())
    changes = {"train": {"batch_size": 2, "weights": "none"}}
    with pytest.raises(UsageError, match="batch size 2 for 3 processes; --batch-size 6 or more"):
        train(
            str(data),
            reporter=Reporter(),
            recipe="demo",
            changes=changes,
            output=str(tmp_path / "run"),
            options=TrainOptions("cpu", 1),
        )
    assert not (tmp_path / "run").exists()


class FakeRun:
    def __enter__(self) -> Ranks:
        return Ranks(0, 3, 3)

    def __exit__(self, *fault: object) -> None:
        return None


def torchrun(data: Path, run: Path) -> list[str]:
    """Two processes of the real program; the state is saved after every batch."""
    small = [f"--set=model.view.{name}" for name in ("ground_height=16", "ground_width=64", "aerial_height=16")]
    small += ["--set=model.view.aerial_width=64", "--set=model.backbone_options.width=8"]
    small += ["--set=model.aggregator_options.columns=4", "--set=train.validate_every=1", "--weights=none"]
    words = ["train", "-d", str(data), "-o", str(run), "--recipe=demo", "--batch-size=4", "--epochs=3", "--jobs=1"]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    return [*start, "-m", "cvgeo", *words, "--device=cpu", "--save-every=0", "--json", *small]


def process_of_rank(rank: int, parent: int) -> int:
    """The number of the process that a running torchrun started as this rank, 0 where there is none yet."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in children:
        if f"\0RANK={rank}\0" in "\0" + Path(f"/proc/{child}/environ").read_text():
            return int(child)
    return 0


@pytest.mark.slow
def test_a_run_whose_process_is_killed_goes_on_as_if_nothing_had_been(
    make_rings: Callable[..., Dataset], tmp_path: Path
) -> None:
    data = make_rings(tmp_path / "rings", train=24, val=4).root
    environment = os.environ | {"CVGEO_STATE": str(tmp_path), "CVGEO_CONFIG_DIR": str(tmp_path)}
    options = {"capture_output": True, "text": True, "timeout": 600, "env": environment}
    whole = subprocess.run(torchrun(data, tmp_path / "whole"), **options)
    assert whole.returncode == 0, whole.stderr
    (record,) = [json.loads(line) for line in whole.stdout.splitlines()]
    assert record["epochs"] == 3
    assert sum("epoch 3/3" in line for line in whole.stderr.splitlines()) == 1
    with subprocess.Popen(torchrun(data, tmp_path / "run"), env=environment, stderr=subprocess.DEVNULL) as running:
        while not (tmp_path / "run" / "state.pt").exists() and running.poll() is None:
            time.sleep(0.01)
        os.kill(process_of_rank(1, running.pid), signal.SIGKILL)
        assert running.wait(timeout=300) != 0
    again = subprocess.run(torchrun(data, tmp_path / "run"), **options)
    assert again.returncode == 0, again.stderr
    assert "goes on at epoch" in again.stderr
    first, second = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())
