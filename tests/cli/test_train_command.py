from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cvgeo.cli.train import Recipe
from cvgeo.config.load import preset_names, resolve
from cvgeo.data.geotiff import write_tile_geotiff
from cvgeo.data.schema import Dataset
from cvgeo.pipelines.train import default_run
from cvgeo.training.checkpoint import read_metadata

SMALL = [
    "--recipe=demo",
    "--weights=none",
    "--batch-size=4",
    "--device=cpu",
    "--jobs=1",
    "--threads=1",
    "--set=model.view.ground_height=16",
    "--set=model.view.ground_width=64",
    "--set=model.view.aerial_height=16",
    "--set=model.view.aerial_width=64",
    "--set=model.backbone_options.width=8",
    "--set=model.aggregator_options.columns=4",
    "--set=train.validate_every=1",
]


def command(data: Path | str, run: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "cvgeo", "train", "--dataset", str(data), "-o", str(run), *SMALL, *more]


def cvgeo(data: Path | str, run: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CVGEO_STATE": str(Path(data).parent), "CVGEO_CONFIG_DIR": str(Path(data).parent)}
    return subprocess.run(command(data, run, *more), capture_output=True, text=True, timeout=300, env=environment)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("cvgeo: epoch")]
    return line


@pytest.fixture(scope="module")
def rings(make_rings: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rings(tmp_path_factory.mktemp("rings") / "rings").root


@pytest.fixture(scope="module")
def whole(rings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of three epochs."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done = cvgeo(rings, run, "--epochs=3")
    assert done.returncode == 0, done.stderr
    (record,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert record["checkpoint"] == str(run / "best.safetensors")
    assert record["epochs"] == 3
    assert 0 <= record["r@1"] <= record["r@5"] <= 1
    return run


def assert_same_runs(one: Path, other: Path) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        assert all(torch.equal(first[key], second[key]) for key in first.keys() | second.keys())
        assert read_metadata(one / name)["fingerprint"] == read_metadata(other / name)["fingerprint"]
    told = []
    for folder in (one, other):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        told.append(
            [{key: line[key] for key in ("epoch", "loss", "lr", "r@1", "r@5", "r@10", "r@1%")} for line in lines]
        )
    assert told[0] == told[1]
    assert not list(other.glob(".*.part"))


def test_the_same_line_again_does_nothing(rings: Path, whole: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    done = cvgeo(rings, whole, "--epochs=3")
    assert done.returncode == 0
    assert "is trained already" in one_line(done)
    assert json.loads(done.stdout)["checkpoint"] == str(whole / "best.safetensors")
    assert {path.name: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_other_settings_are_status_4_and_name_the_first_difference(rings: Path, whole: Path) -> None:
    done = cvgeo(rings, whole, "--epochs=4")
    assert done.returncode == 4
    assert "config.train.epochs was 3 and is now 4; --overwrite" in one_line(done)
    assert done.stdout == ""


@pytest.mark.parametrize("recipe", preset_names("recipes"))
def test_the_help_names_every_recipe(recipe: str) -> None:
    (option,) = [one for one in Recipe.__metadata__ if one.help]
    assert recipe in option.help.replace(".", ",").replace(":", ",").replace(" ", ",").split(",")


def test_a_data_set_without_pairs_leaves_no_run(make_rings: Callable[..., Dataset], tmp_path: Path) -> None:
    data = make_rings(tmp_path / "data", train=0, val=4).root
    done = cvgeo(data, tmp_path / "run")
    assert done.returncode == 3
    assert "no pairs in the split 'train' to train on" in one_line(done)
    assert not (tmp_path / "run").exists()


def test_an_unwritable_run_folder_is_status_1(rings: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = cvgeo(rings, tmp_path / "file" / "run")
    assert done.returncode == 1
    assert "cannot write" in one_line(done)


def test_a_broken_picture_is_listed_and_the_rest_trained_on(make_rings: Callable[..., Dataset], tmp_path: Path) -> None:
    data = make_rings(tmp_path / "data", train=8, val=2)
    Path(data.tiles.path[3]).write_bytes(b"not a picture")
    done = cvgeo(data.root, tmp_path / "run", "--epochs=1")
    assert done.returncode == 5
    assert "aerial003.png: is not a picture" in done.stderr
    assert json.loads(done.stdout)["epochs"] == 1


def wait_for_state(run: Path, process: subprocess.Popen[bytes], batches: int) -> None:
    """Wait until the run has saved that many states (each is a new file)."""
    seen, deadline = set(), time.monotonic() + 60
    while len(seen) < batches:
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline
        if (run / "state.pt").exists():
            seen.add((run / "state.pt").stat().st_mtime_ns)
        time.sleep(0.005)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_state_and_the_same_line_goes_on(
    rings: Path, tmp_path: Path, number: int, status: int
) -> None:
    # Many epochs: the signal comes long before the last. The state is saved at the ends of epochs only, and then.
    words = command(rings, tmp_path / "run", "--epochs=500", "--save-every=1000")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for_state(tmp_path / "run", process, 2)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == status
    assert b"Traceback" not in stderr
    assert stdout == b""
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["progress"]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == state["epoch"] == len(state["metrics"])


def test_kill_9_loses_nothing(rings: Path, whole: Path, tmp_path: Path) -> None:
    for batches in (2, 5):
        words = command(rings, tmp_path / "run", "--epochs=3", "--save-every=0")
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            wait_for_state(tmp_path / "run", process, batches)
            process.kill()
        assert process.returncode == -signal.SIGKILL
    done = cvgeo(rings, tmp_path / "run", "--epochs=3", "--save-every=0")
    assert done.returncode == 0
    assert "goes on at epoch" in done.stderr
    assert_same_runs(whole, tmp_path / "run")


def test_two_processes_cannot_train_the_same_run(rings: Path, tmp_path: Path) -> None:
    words = command(rings, tmp_path / "run", "--epochs=500")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for_state(tmp_path / "run", process, 1)
        second = cvgeo(rings, tmp_path / "run", "--epochs=500")
        process.kill()
    assert second.returncode == 1
    assert f"process {process.pid}" in one_line(second)


@pytest.fixture(scope="module")
def world_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set cut from a small procedural world by the program itself."""
    folder = tmp_path_factory.mktemp("world")
    world, data = str(folder / "world"), str(folder / "data")
    for words in (
        ["world", "--preset=aligned", "--size-km=0.25", "--panoramas=20", "--jobs=1", f"--output={world}"],
        ["pairs", f"{world}/panoramas", f"--aerial={world}/ortho.tif", "--tile-metres=40", "--tile-size=64"]
        + ["--apart=5", "--jobs=1", f"--output={data}"],
    ):
        done = subprocess.run([sys.executable, "-m", "cvgeo", "build-dataset", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return Path(data)


def test_the_strong_recipe_on_a_world_survives_kill_9(world_pairs: Path, tmp_path: Path) -> None:
    more = ["--recipe=strong", "--model=tiny", "--epochs=3", "--save-every=0", "--set=train.resample_every=1"]
    more += ["--set=train.neighbour_select=2", "--set=train.fov_end=90", "--set=train.heading_noise=180"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = cvgeo(world_pairs, whole, *more)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 3
    words = command(world_pairs, killed, *more)
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for_state(killed, process, 2)
        process.kill()
    done = cvgeo(world_pairs, killed, *more)
    assert "goes on at epoch" in done.stderr
    assert_same_runs(whole, killed)
    assert read_metadata(whole / "best.safetensors")["config"]["train"]["sampling"] == "geographic_then_similarity"


@pytest.mark.slow
def test_the_vigor_recipe_on_an_offcentre_world(tmp_path: Path) -> None:
    world, data = tmp_path / "world", tmp_path / "data"
    for words in (
        ["world", "--preset=offcentre", "--size-km=0.4", "--panoramas=90", f"--output={world}"],
        ["pairs", f"{world}/panoramas", f"--aerial={world}/ortho.tif", "--offcentre", "--tile-metres=60"]
        + ["--tile-size=64", "--apart=5", f"--output={data}"],
    ):
        done = subprocess.run([sys.executable, "-m", "cvgeo", "build-dataset", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    later = [
        f"--set=train.loss.options.terms.{name}.from_epoch=1" for name in ("iou_semi_positive", "offset_regression")
    ]
    done = cvgeo(data, tmp_path / "run", "--recipe=vigor", "--model=tiny", "--epochs=3", *later)
    assert done.returncode == 0, done.stderr
    head = "loss.terms.offset_regression.head.0.weight"
    assert load_file(tmp_path / "run" / "best.safetensors")[head].shape[0] == 512


@pytest.mark.slow
def test_twenty_kills_at_random_moments_lose_nothing(rings: Path, tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "killed"
    assert cvgeo(rings, whole, "--epochs=150").returncode == 0
    chance = random.Random(0)
    for kill in range(20):
        # Some while the program starts, most while it trains; some with workers that decode on the fly.
        more = ["--memory=0", "--jobs=2"] if kill % 5 == 4 else []
        words = command(rings, run, "--epochs=150", "--save-every=0", *more)
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            if kill % 4 == 0:
                time.sleep(chance.uniform(0, 5))
            else:
                wait_for_state(run, process, 2)
                time.sleep(chance.uniform(0, 0.3))
            process.kill()
        assert process.returncode == -signal.SIGKILL, "the run was over before the last kill"
    done = cvgeo(rings, run, "--epochs=150", "--save-every=0")
    assert done.returncode == 0
    assert "goes on at epoch" in done.stderr
    assert_same_runs(whole, run)


def test_a_run_from_a_pack_is_the_run_from_pictures(rings: Path, whole: Path, tmp_path: Path) -> None:
    done = cvgeo(rings, tmp_path / "run", "--epochs=3", f"--pack-file={tmp_path / 'pack.h5'}")
    assert done.returncode == 0 and "packing the pictures" in done.stderr
    assert_same_runs(whole, tmp_path / "run")
    again = cvgeo(rings, tmp_path / "again", "--epochs=3", f"--pack-file={tmp_path / 'pack.h5'}")
    assert again.returncode == 0 and "packing" not in again.stderr
    assert_same_runs(whole, tmp_path / "again")
    other = cvgeo(rings, tmp_path / "other", f"--pack-file={tmp_path / 'pack.h5'}", "--set=model.view.ground_width=128")
    assert other.returncode == 4 and "view.ground_width was 64 and is now 128" in one_line(other)
    assert not list(tmp_path.glob("*.lock")) and not list(tmp_path.glob(".*.building"))


def test_runs_of_two_variants_lie_apart():
    config = resolve("tiny", "demo", {})
    assert default_run("vigor", "cross", config) == Path("runs/vigor-cross-tiny-demo")
    assert default_run("vigor", None, config) == Path("runs/vigor-tiny-demo")


def test_an_area_alone_trains_a_model(program, tmp_path):
    blotches = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    rgba = np.full((200, 200, 4), 255, np.uint8)
    rgba[..., :3] = blotches.repeat(10, 0).repeat(10, 1)
    write_tile_geotiff(tmp_path / "here" / "ortho.tif", rgba, 48.0, 11.0, 1.0)
    sizes = [f"model.view.{kind}_{side}" for kind in ("ground", "aerial") for side in ("height=16", "width=64")]
    sizes += ["model.backbone_options.width=8", "model.aggregator_options.columns=4", "train.validate_every=0"]
    words = ["train", "--area", "ortho.tif", "--recipe", "demo", "--epochs", "1", "--batch-size", "8", "-o", "run"]
    words += [word for one in sizes for word in ("--set", one)]
    done = program(*words, "--threads", "1", "-j", "1", env={"CVGEO_CACHE": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stderr
    (record,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert record["epochs"] == 1 and record["loss"] > 0 and (tmp_path / "here" / "run" / "best.safetensors").is_file()
    (made,) = (tmp_path / "cache" / "areas").iterdir()
    assert (made / "pairs.csv").is_file()
    # The same call finds the pairs and the run as they are.
    again = program(*words, "--threads", "1", "-j", "1", env={"CVGEO_CACHE": str(tmp_path / "cache")})
    assert again.returncode == 0 and b"trained already" in again.stderr


@pytest.mark.parametrize("words", [(), ("--dataset", "data", "--area", "ortho.tif")])
def test_a_data_set_or_an_area_is_named(program, words):
    done = program("train", *words)
    assert done.returncode == 2 and b"either --dataset or --area" in done.stderr and not done.stdout
