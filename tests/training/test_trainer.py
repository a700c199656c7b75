from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cvgeo.config.load import preset_names
from cvgeo.config.schema import ModelConfig, TrainConfig, from_dict
from cvgeo.data.dataset_files import read_dataset, write_dataset
from cvgeo.data.loader import PairLoader
from cvgeo.data.samplers import UniquePlaceBatches
from cvgeo.data.schema import Dataset, Pairs, Panoramas, Tiles
from cvgeo.errors import CvgeoError, InputError, MismatchError, OutputError, UsageError
from cvgeo.models import Embedder, build_embedder
from cvgeo.pipelines.train import TrainOptions, recalls, train
from cvgeo.report import Reporter
from cvgeo.training.checkpoint import load_checkpoint, load_loss, read_metadata
from cvgeo.training.neighbours import embed_all
from cvgeo.training.trainer import better, build_optimizer

VIEW = {"ground_height": 16, "ground_width": 64, "aerial_height": 16, "aerial_width": 64}
MODEL = {"view": VIEW, "backbone_options": {"width": 8}, "aggregator_options": {"columns": 4, "out_channels": 8}}
TRAIN = {"epochs": 3, "batch_size": 4, "validate_every": 1, "erase": 0.3}


class Killed(BaseException):
    pass


class Listener(Reporter):
    """Keeps what it is told; `kill_at` raises when that many batches of training were passed on."""

    def __init__(self, kill_at: int | None = None) -> None:
        super().__init__()
        self.kill_at, self.notes, self.warnings = kill_at, [], []

    def track(self, items: Iterable[Any], what: str, total: int | None = None) -> Iterator[Any]:
        for item in items:
            if what.startswith("epoch") and self.kill_at is not None:
                if self.kill_at == 0:
                    raise Killed
                self.kill_at -= 1
            yield item

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def rings(make_rings: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rings(tmp_path_factory.mktemp("rings") / "rings").root


def run(data: Path, output: Path, reporter: Reporter | None = None, **changes: Any) -> dict[str, Any]:
    """Train the tiny model; changes go to the `train` table, but `model_...`, `options` and `overwrite`."""
    options = changes.pop("options", {})
    model = MODEL | changes.pop("model", {})
    return train(
        str(data),
        reporter=reporter or Listener(),
        recipe="demo",
        changes={"model": model, "train": TRAIN | changes},
        output=str(output),
        options=TrainOptions(device="cpu", jobs=1, threads=1, **({"save_seconds": 0.0} | options)),
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in ("seconds", "pairs_per_second")}


def assert_same_runs(one: Path, other: Path) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert read_metadata(one / name)["epoch"] == read_metadata(other / name)["epoch"]
    assert [timeless(line) for line in lines(one)] == [timeless(line) for line in lines(other)]


@pytest.fixture(scope="module")
def undisturbed(rings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run(rings, folder)
    return folder


def test_training_learns_to_tell_places_apart(make_rings: Callable[..., Dataset], tmp_path: Path) -> None:
    data = make_rings(tmp_path / "data", train=32, val=10).root
    changes = {"batch_size": 8, "learning_rate": 5e-3, "flip": 0.0, "photometric": 0.0, "erase": 0.0}
    record = run(data, tmp_path / "run", epochs=12, **changes, options={"save_seconds": 60})
    told = lines(tmp_path / "run")
    assert [line["epoch"] for line in told] == list(range(1, 13))
    assert told[-1]["loss"] < 0.5 * told[0]["loss"]
    assert record["r@1"] >= 0.7  # chance 0.1
    assert record["epochs"] == 12
    assert record["checkpoint"] == str(tmp_path / "run" / "best.safetensors")
    model, config, metadata = load_checkpoint(record["checkpoint"])
    assert metadata["epoch"] == record["best_epoch"]
    assert metadata["dataset"]["name"] == "rings"
    assert config.train.epochs == 12
    assert model.descriptor_size == 32


def test_the_record_of_an_epoch_is_complete(undisturbed: Path) -> None:
    keys = ["epoch", "loss", "lr", "r@1", "r@5", "r@10", "r@1%", "seconds", "pairs_per_second"]
    for line in lines(undisturbed):
        assert list(line) == keys
        assert 0 <= line["r@1"] <= line["r@5"] <= line["r@10"] == 1
        assert line["pairs_per_second"] > 0
    names = ["best.safetensors", "config.json", "last.safetensors", "metrics.jsonl", "state.pt"]
    assert sorted(path.name for path in undisturbed.iterdir()) == names


@pytest.mark.parametrize("kills", [[0], [1], [3], [5], [1, 2, 4]])
def test_a_run_killed_between_any_batches_ends_as_an_undisturbed_one(
    rings: Path, undisturbed: Path, tmp_path: Path, kills: list[int]
) -> None:
    for kill_at in kills:
        with pytest.raises(Killed):
            run(rings, tmp_path / "run", Listener(kill_at))
    listener = Listener()
    run(rings, tmp_path / "run", listener)
    assert_same_runs(tmp_path / "run", undisturbed)


def test_a_run_killed_without_a_state_within_the_epoch_goes_on_from_the_last_epoch(
    rings: Path, undisturbed: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        run(rings, tmp_path / "run", Listener(4), options={"save_seconds": 1e9})
    listener = Listener()
    run(rings, tmp_path / "run", listener, options={"save_seconds": 1e9})
    assert any("goes on at epoch 2, batch 1" in note for note in listener.notes)
    assert_same_runs(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("where", ["cvgeo.pipelines.train.recalls", "cvgeo.training.trainer.save_checkpoint"])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_run_killed_while_it_validates_or_publishes_loses_nothing(
    rings: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, epoch: int
) -> None:
    calls = []

    def killed(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == epoch:
            raise Killed
        return original(*arguments, **options)

    module, name = where.rsplit(".", 1)
    original = getattr(__import__(module, fromlist=[name]), name)
    with monkeypatch.context() as patch:
        patch.setattr(where, killed)
        with pytest.raises(Killed):
            run(rings, tmp_path / "run")
    run(rings, tmp_path / "run")
    assert_same_runs(tmp_path / "run", undisturbed)


def test_a_finished_run_is_not_touched(rings: Path, undisturbed: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in undisturbed.iterdir()}
    listener = Listener()
    record = run(rings, undisturbed, listener)
    assert record["epochs"] == 3
    assert before == {path.name: path.stat().st_mtime_ns for path in undisturbed.iterdir()}
    assert any("is trained already" in note for note in listener.notes)


def test_other_settings_are_refused_and_overwrite_starts_again(rings: Path, tmp_path: Path) -> None:
    run(rings, tmp_path / "run", epochs=1)
    with pytest.raises(MismatchError, match=r"config.train.seed was 0 and is now 1; --overwrite"):
        run(rings, tmp_path / "run", epochs=1, seed=1)
    run(rings, tmp_path / "run", epochs=1, seed=1, options={"overwrite": True})
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["train"]["seed"] == 1


def test_a_changed_data_set_is_refused(make_rings: Callable[..., Dataset], tmp_path: Path) -> None:
    data = make_rings(tmp_path / "data", train=4, val=2)
    run(data.root, tmp_path / "run", epochs=1)
    data.panoramas.lat[0] += 0.1
    write_dataset(data, data.root)
    with pytest.raises(MismatchError, match=r"dataset.fingerprint was"):
        run(data.root, tmp_path / "run", epochs=1)


def test_decoding_on_the_fly_trains_the_same(rings: Path, undisturbed: Path, tmp_path: Path) -> None:
    run(rings, tmp_path / "run", options={"memory": 0})
    assert_same_runs(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("share", [0, 1])
def test_folded_batch_norm_stays_folded_in_a_resumed_run(rings: Path, tmp_path: Path, share: int) -> None:
    torch.manual_seed(0)
    state = build_embedder(
        from_dict(ModelConfig, {"backbone": "tiny", "aggregator": "flat", "attention": "none"} | MODEL)
    )
    weights = {}
    for name, value in state.branches["ground"].backbone.state_dict().items():
        is_bias = (
            name.endswith("bias")
            and name.replace("bias", "running_var") in state.branches["ground"].backbone.state_dict()
        )
        weights[name] = torch.randn_like(value) * 0.1 if is_bias else value.clone()
    save_file(weights, tmp_path / "folded.safetensors")
    changes = {"weights": str(tmp_path / "folded.safetensors"), "epochs": 2, "model": {"share": bool(share)}}
    with pytest.raises(Killed):
        run(rings, tmp_path / "killed", Listener(4), **changes)
    run(rings, tmp_path / "killed", **changes)
    run(rings, tmp_path / "whole", **changes)
    assert_same_runs(tmp_path / "killed", tmp_path / "whole")
    model, config, _ = load_checkpoint(tmp_path / "killed" / "best.safetensors")
    assert config.model.backbone_options["batch_norm"] == "eval"
    means = [value for name, value in model.state_dict().items() if "backbone" in name and "running_mean" in name]
    assert means
    assert not any(mean.any() for mean in means)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    rings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        run(rings, tmp_path / "run", Listener(4))
    good = (tmp_path / "run" / "last.safetensors").read_bytes()
    monkeypatch.setattr(
        "cvgeo.losses.InfoNCELoss.with_geometry", lambda self, ground, aerial, known: ground.sum() * float("nan")
    )
    with pytest.raises(
        CvgeoError, match=r"the loss became nan in epoch 2, batch 2; lower train.learning_rate"
    ) as caught:
        run(rings, tmp_path / "run")
    assert caught.value.status == 1
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == good


def test_infinite_weights_are_not_saved(rings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvgeo.training.trainer.learning_rate", lambda train, epoch: 1e39)
    with pytest.raises(CvgeoError, match="the weights became infinite before epoch 1, batch 2"):
        run(rings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_line_and_keeps_what_was_there(rings: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(rings, tmp_path / "run", Listener(4))
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    size = len(before["state.pt"]) - 100
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files stands in for the end of the disk: both are an OSError of the write.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        with pytest.raises(OutputError, match=r"run/.*: cannot write"):
            run(rings, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_without_a_validation_split_the_lowest_loss_is_best(make_rings: Callable[..., Dataset], tmp_path: Path) -> None:
    data = make_rings(tmp_path / "data", train=8, val=0).root
    listener = Listener()
    record = run(data, tmp_path / "run", listener)
    told = lines(tmp_path / "run")
    assert record["r@1"] is None
    assert record["best_epoch"] == min(told, key=lambda line: line["loss"])["epoch"]
    assert any("lowest loss" in warning for warning in listener.warnings)


def test_only_validated_epochs_can_be_best(rings: Path, tmp_path: Path) -> None:
    record = run(rings, tmp_path / "run", epochs=5, validate_every=2)
    told = {line["epoch"]: line["r@1"] for line in lines(tmp_path / "run")}
    assert [epoch for epoch, recall in told.items() if recall is not None] == [2, 4, 5]
    assert record["best_epoch"] in (2, 4, 5)
    assert record["r@1"] == max(told[epoch] for epoch in (2, 4, 5))


def test_no_validation_at_all(rings: Path, tmp_path: Path) -> None:
    listener = Listener()
    assert run(rings, tmp_path / "run", listener, validate_every=0)["r@1"] is None
    assert not listener.warnings


def test_broken_pictures_are_reported_and_the_rest_is_trained_on(
    make_rings: Callable[..., Dataset], tmp_path: Path
) -> None:
    data = make_rings(tmp_path / "data", train=8, val=3)
    for path in (data.panoramas.path[1], data.tiles.path[2], data.panoramas.path[9]):
        Path(path).write_bytes(Path(path).read_bytes()[:60])
    for memory in (1 << 30, 0):
        listener = Listener()
        record = run(data.root, tmp_path / f"run{memory}", listener, batch_size=3, options={"memory": memory})
        assert record["epochs"] == 3
        assert sorted(Path(item).name for item, _ in listener.failures) == [
            "aerial002.png",
            "ground001.png",
            "ground009.png",
        ]


def test_a_set_of_broken_pictures_is_an_error(make_rings: Callable[..., Dataset], tmp_path: Path) -> None:
    data = make_rings(tmp_path / "data", train=4, val=0)
    for path in data.tiles.path:
        Path(path).write_bytes(b"")
    with pytest.raises(InputError, match="no panorama has a positive tile"):
        run(data.root, tmp_path / "run")
    with pytest.raises(CvgeoError, match="no batch of the training split could be read"):
        run(data.root, tmp_path / "run", options={"memory": 0})


@pytest.mark.parametrize(
    "model",
    [
        {
            "view": VIEW | {"aerial": "plain", "aerial_height": 32, "aerial_width": 32},
            "aggregator_options": {"columns": 2, "out_channels": 8},
        },
        {"share": True},
        {"attention": "mc_gra", "attention_options": {"deformable": True}},
    ],
)
def test_every_kind_of_model_trains_and_resumes_exactly(rings: Path, tmp_path: Path, model: dict) -> None:
    changes = {"model": model, "epochs": 1, "loss": {"name": "weighted_soft_margin_triplet", "options": {}}}
    run(rings, tmp_path / "whole", **changes)
    with pytest.raises(Killed):
        run(rings, tmp_path / "killed", Listener(2), **changes)
    run(rings, tmp_path / "killed", **changes)
    assert_same_runs(tmp_path / "whole", tmp_path / "killed")


def test_partial_panoramas_train_with_their_masks(make_rings: Callable[..., Dataset], tmp_path: Path) -> None:
    data = make_rings(tmp_path / "data", train=8, val=3)
    data.panoramas.hfov[:] = 270.0
    write_dataset(data, data.root)
    assert np.isfinite(run(data.root, tmp_path / "run")["loss"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimizer": "lion"}, "unknown train.optimizer 'lion'"),
        ({"precision": "float8"}, "unknown train.precision 'float8'"),
        ({"schedule": "staircase"}, "unknown train.schedule 'staircase'"),
        ({"epochs": 0}, "train.epochs = 0 is out of range"),
        ({"roll": 1.5}, "train.roll = 1.5 is out of range"),
        ({"batch_size": 13}, "batch size 13 is larger than the training split of 12 pairs"),
        ({"warp": 1}, "unknown setting train.warp"),
        ({"loss": {"name": "triplets"}}, "unknown loss 'triplets'"),
        ({"sampling": "hard"}, "unknown train.sampling 'hard'; known: random, geographic"),
        ({"fov_end": 0}, "train.fov_end = 0.0 is out of range; 1 to 360"),
        ({"heading_noise": 200}, "train.heading_noise = 200.0 is out of range; 0 to 180"),
        ({"resample_every": 0}, "train.resample_every = 0 is out of range"),
        ({"false_negative_m": -1}, "train.false_negative_m = -1.0 is out of range"),
        ({"schedule": "exponential"}, "train.decay_epochs = 0"),
        ({"model": {"backbone_options": {"freeze": 4, "width": 8}, "share": True}}, "freeze"),
    ],
)
def test_settings_that_make_no_sense_are_refused(rings: Path, tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run(rings, tmp_path / "run", **changes)


def test_an_empty_training_split_names_those_that_are_there(make_rings: Callable[..., Dataset], tmp_path: Path) -> None:
    data = make_rings(tmp_path / "data", train=0, val=4)
    with pytest.raises(InputError, match=r"no pairs in the split 'train' .* these splits: val"):
        run(data.root, tmp_path / "run")


def test_nothing_to_train_is_refused() -> None:
    frozen = torch.nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(UsageError, match="all parameters are frozen"):
        build_optimizer(TrainConfig(), [frozen])


@pytest.mark.parametrize(("name", "decay"), [("adam", "coupled"), ("adamw", "decoupled")])
def test_weight_decay_is_coupled_in_adam_and_decoupled_in_adamw(name: str, decay: str) -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(module.weight, 10.0)
    optimizer = build_optimizer(TrainConfig(optimizer=name, learning_rate=0.1, weight_decay=0.5), [module])
    module.weight.grad = torch.zeros_like(module.weight)
    optimizer.step()
    # With no gradient of the loss, Adam's first step goes by the rate whatever the decay's size; AdamW's by both.
    expected = 10 - 0.1 if decay == "coupled" else 10 * (1 - 0.1 * 0.5)
    assert module.weight.item() == pytest.approx(expected, rel=1e-4)


def test_the_better_epoch() -> None:
    def line(epoch: int, recall: float | None, loss: float) -> dict[str, Any]:
        return {"epoch": epoch, "r@1": recall, "loss": loss}

    first = line(1, 0.5, 0.9)
    assert better(None, first) is first
    assert better(first, line(2, 0.4, 0.1)) is first
    assert better(first, line(2, 0.6, 2.0))["epoch"] == 2
    assert better(first, line(2, 0.5, 0.8))["epoch"] == 2
    assert better(first, line(2, 0.5, 0.9)) is first
    assert better(line(1, None, 0.9), line(2, None, 0.8))["epoch"] == 2


def test_recalls_agree_with_a_loop(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    panoramas, tiles, size = 30, 150, 6
    ground, aerial = (generator.normal(size=(count, size)).astype(np.float32) for count in (panoramas, tiles))
    ground, aerial = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (ground, aerial))
    rows = np.arange(panoramas)
    pairs = Pairs(np.r_[rows, rows, [4]], np.r_[rows * 5, rows * 5 + 1, [0]], np.r_[rows * 0, rows * 0 + 1, [0]])
    names = [[str(row) for row in range(count)] for count in (panoramas, tiles)]
    data = Dataset(
        "x", tmp_path, Panoramas(names[0], [tmp_path] * panoramas), Tiles(names[1], [tmp_path] * tiles), pairs
    )
    ranks = []
    for row in rows:
        own = {row * 5} | ({0} if row == 4 else set())
        best = max(float(ground[row] @ aerial[tile]) for tile in own)
        ranks.append(1 + sum(float(ground[row] @ aerial[tile]) >= best for tile in range(tiles) if tile not in own))
    for name, k in {"r@1": 1, "r@5": 5, "r@10": 10, "r@1%": 1}.items():
        assert recalls(data, ground, aerial)[name] == pytest.approx(np.mean(np.array(ranks) <= k))


def test_the_callers_random_state_and_threads_are_left_alone(rings: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(5)
    run(rings, tmp_path / "run", epochs=1)
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_data_set_is_read_back_as_written(rings: Path) -> None:
    assert len(read_dataset(rings).subset("train").pairs) == 12


@pytest.fixture(scope="module")
def offset_rings(make_rings: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rings whose panoramas stand off the centre of their tile, and are shown by the next one's tile as well."""
    data = make_rings(tmp_path_factory.mktemp("offset") / "rings", train=14, val=4)
    rows, east = np.arange(18), np.linspace(-6, 6, 18)
    pairs = (np.r_[rows, rows[:12]], np.r_[rows, rows[1:13]], np.repeat([0, 1], [18, 12]))
    data.pairs = Pairs(*pairs, np.r_[rows * 0.0, rows[:12] * 0.0 - 14], np.r_[east, east[:12]])
    write_dataset(data, data.root)
    return data.root


TERMS = {
    "info_nce": {"label_smoothing": 0.0},
    "iou_semi_positive": {"weight": 0.1, "from_epoch": 1},
    "offset_regression": {"weight": 0.5, "from_epoch": 1, "hidden": 8},
}
HARD = {
    "loss": {"name": "sum", "options": {"terms": TERMS}},
    "sampling": "geographic_then_similarity",
    "resample_every": 2,
    "neighbour_pool": 6,
    "neighbour_select": 2,
    "false_negative_m": 150.0,
    "fov_end": 90.0,
    "heading_noise": 30.0,
    "greyscale": 0.2,
    "posterise": 0.2,
    "epochs": 4,
}


@pytest.fixture(scope="module")
def hard_run(offset_rings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hard") / "run"
    run(offset_rings, folder, **HARD)
    return folder


@pytest.mark.parametrize("kills", [[1], [3], [6, 1], [9]])
def test_hard_batches_curriculum_and_what_a_loss_learns_survive_a_kill(
    offset_rings: Path, hard_run: Path, tmp_path: Path, kills: list[int]
) -> None:
    for kill_at in kills:
        with pytest.raises(Killed):
            run(offset_rings, tmp_path / "run", Listener(kill_at), **HARD)
    run(offset_rings, tmp_path / "run", **HARD)
    assert_same_runs(tmp_path / "run", hard_run)


def test_hard_batches_decoded_on_the_fly_train_the_same(offset_rings: Path, hard_run: Path, tmp_path: Path) -> None:
    run(offset_rings, tmp_path / "run", options={"memory": 0}, **HARD)
    assert_same_runs(tmp_path / "run", hard_run)


def test_the_table_of_neighbours_changes_when_it_is_due(
    offset_rings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {}
    original = UniquePlaceBatches.epoch

    def listening(self: UniquePlaceBatches, epoch: int, semi_positives: bool = False) -> list[np.ndarray]:
        tables[epoch] = (self.neighbours, semi_positives)
        return original(self, epoch, semi_positives)

    monkeypatch.setattr(UniquePlaceBatches, "epoch", listening)
    run(offset_rings, tmp_path / "run", **HARD)
    assert tables[0][0] is tables[1][0]
    assert tables[2][0] is tables[3][0]
    assert not np.array_equal(tables[0][0], tables[2][0])
    # Of the first epoch: the places stand in a line.
    assert {abs(int(one) - 5) for one in tables[0][0][5]} == {1, 2, 3}
    assert [semi for _, semi in tables.values()] == [False, True, True, True]


def test_a_checkpoint_keeps_what_the_loss_learned(hard_run: Path) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        model, config, _ = load_checkpoint(hard_run / name)
        loss = load_loss(hard_run / name, model.descriptor_size)
        assert not loss.training
        assert config.train.loss.options["terms"] == TERMS
        descriptors = torch.nn.functional.normalize(torch.randn(3, model.descriptor_size), dim=1)
        assert loss.terms["offset_regression"].predict(descriptors, descriptors).shape == (3, 2)
    state = torch.load(hard_run / "state.pt", weights_only=True)["loss"]
    assert all(torch.equal(state[name], tensor) for name, tensor in loss.state_dict().items())
    assert loss.terms["info_nce"].logit_scale.item() != pytest.approx(np.log(1 / 0.07), abs=1e-6)


def test_the_offset_head_learns_with_the_model(offset_rings: Path, tmp_path: Path) -> None:
    seen = {}
    for epochs in (1, 20):
        terms = {"info_nce": {}, "offset_regression": {"hidden": 16}}
        changes = {
            "loss": {"name": "sum", "options": {"terms": terms}},
            "flip": 0.0,
            "roll": 0.0,
            "learning_rate": 5e-3,
        }
        run(
            offset_rings, tmp_path / f"{epochs}", epochs=epochs, photometric=0.0, erase=0.0, validate_every=0, **changes
        )
        path = tmp_path / f"{epochs}" / "last.safetensors"
        model = load_checkpoint(path)[0]
        data = read_dataset(offset_rings).subset("train")
        loader = PairLoader(data, model.config.view, jobs=1, memory=1 << 30, reporter=Reporter())
        views = [torch.from_numpy(embed_all(model, loader, kind)) for kind in ("ground", "aerial")]
        offsets = load_loss(path, model.descriptor_size).terms["offset_regression"].predict(*views) * 32
        wrong = offsets[:, 1].detach().numpy() - data.pairs.offset_east_m[: len(views[0])]
        seen[epochs] = float(np.abs(wrong).mean())
    assert seen[20] < 0.6 * seen[1], seen


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({"name": "iou_semi_positive"}, "the loss iou_semi_positive needs semi-positive tiles"),
        ({"name": "offset_regression"}, "the loss offset_regression needs the offsets"),
        ({"name": "sum", "options": {"terms": TERMS}}, "the loss sum needs"),
    ],
)
def test_a_data_set_without_what_the_loss_needs_is_refused(rings: Path, tmp_path: Path, loss: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(rings, tmp_path / "run", loss=loss)
    assert not (tmp_path / "run").exists()


def test_geographic_batches_need_places(make_rings: Callable[..., Dataset], tmp_path: Path) -> None:
    data = make_rings(tmp_path / "data", train=8, val=2)
    data.panoramas.lat[:] = data.tiles.lat[:] = np.nan
    write_dataset(data, data.root)
    with pytest.raises(InputError, match=r"no positions, .*set train.sampling=similarity or random"):
        run(data.root, tmp_path / "run", sampling="geographic")
    assert np.isfinite(run(data.root, tmp_path / "run", sampling="similarity", resample_every=1)["loss"])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_mask_over_all_negatives_leaves_the_weights_alone(rings: Path, tmp_path: Path, name: str) -> None:
    changes = {"loss": {"name": "weighted_soft_margin_triplet"}, "optimizer": name, "weight_decay": 0.0, "epochs": 1}
    run(rings, tmp_path / "run", false_negative_m=1e7, **changes)
    (line,) = lines(tmp_path / "run")
    assert line["loss"] == 0
    trained = load_file(tmp_path / "run" / "last.safetensors")
    config = load_checkpoint(tmp_path / "run" / "last.safetensors")[1].model
    torch.manual_seed(0)
    model = build_embedder(config)
    assert all(torch.equal(trained[key], one) for key, one in model.named_parameters())


def test_half_precision_is_for_the_model_and_not_for_the_pictures(
    rings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[torch.Tensor]] = {"float32": [], "bfloat16": []}
    original = Embedder.forward
    for precision, views in seen.items():

        def listening(self: Embedder, *given: torch.Tensor | None, views: list[torch.Tensor] = views) -> Any:
            views.extend(one for one in given if one is not None)
            return original(self, *given)

        monkeypatch.setattr(Embedder, "forward", listening)
        run(rings, tmp_path / precision, precision=precision, epochs=1, photometric=0.3, greyscale=0.5)
    assert len(seen["float32"]) == len(seen["bfloat16"]) > 0
    assert all(torch.equal(*pair) for pair in zip(seen["float32"], seen["bfloat16"], strict=True))


@pytest.mark.parametrize("recipe", preset_names("recipes"))
def test_every_recipe_trains_any_model(offset_rings: Path, tmp_path: Path, recipe: str) -> None:
    small = {"epochs": 1, "batch_size": 4, "weights": "none", "neighbour_select": 2}
    record = train(
        str(offset_rings),
        reporter=Listener(),
        model="tiny",
        recipe=recipe,
        changes={"model": MODEL, "train": small},
        output=str(tmp_path / "run"),
        options=TrainOptions(device="cpu", jobs=1, threads=1),
    )
    assert np.isfinite(record["loss"])
    _, config, metadata = load_checkpoint(record["checkpoint"])
    assert config.train.recipe == recipe
    assert metadata["epoch"] == 1


def test_distances_at_the_best_roll_need_azimuth_columns(rings: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="compares at the best roll, and mc_gra has no azimuth columns"):
        train(str(rings), reporter=Listener(), model="mc_gra", recipe="dsm", output=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
