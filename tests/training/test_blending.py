"""Interpolated fine-tuning: what is kept lies between the start and what was trained; training goes on as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cvgeo.errors import UsageError
from cvgeo.pipelines.train import TrainOptions, train
from cvgeo.report import Reporter
from cvgeo.training.blending import blended
from cvgeo.training.checkpoint import load_checkpoint


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_weights_within_lie_between_and_are_put_back():
    torch.manual_seed(0)
    start, own = model().state_dict(), model()
    own[1].num_batches_tracked += 5
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    with blended(own, start, 0.25):
        for name, tensor in own.state_dict().items():
            expected = 0.75 * start[name] + 0.25 * before[name] if tensor.is_floating_point() else before[name]
            torch.testing.assert_close(tensor, expected)
    for name, tensor in own.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_they_are_put_back_after_a_fault_too():
    own = model()
    before = own[0].weight.clone()
    with pytest.raises(RuntimeError), blended(own, model().state_dict(), 0.5):
        raise RuntimeError
    assert torch.equal(own[0].weight, before)


def run(data: Path, output: Path, **changes: float) -> dict[str, torch.Tensor]:
    sizes = {f"{kind}_{side}": size for kind in ("ground", "aerial") for side, size in (("height", 32), ("width", 64))}
    settings = {"weights": "none", "epochs": 2, "batch_size": 4, "validate_every": 0, "roll": 0.0} | changes
    record = train(
        str(data),
        reporter=Reporter(),
        recipe="synthetic",
        changes={"model": {"view": sizes}, "train": settings},
        output=str(output),
        options=TrainOptions(device="cpu", jobs=1, threads=1),
    )
    found, config, _ = load_checkpoint(record["checkpoint"])
    assert config.model.name == config.train.recipe == "synthetic"
    return found.state_dict()


def test_the_recipe_keeps_a_part_of_what_the_map_learned(make_rings, tmp_path):
    make_rings(tmp_path / "data", train=8, val=2)
    whole, part = (run(tmp_path / "data", tmp_path / str(share), blend=share) for share in (1.0, 0.25))
    (name,) = [name for name in whole if name.endswith("map.weight")]
    learned = whole[name] - torch.eye(256)
    assert learned.abs().max() > 1e-3
    torch.testing.assert_close(part[name] - torch.eye(256), 0.25 * learned, atol=1e-6, rtol=1e-4)
    # The backbone is frozen: the same first weights in both.
    assert all(torch.equal(whole[other], part[other]) for other in whole if other != name)


def test_a_share_is_between_nothing_and_all(make_rings, tmp_path):
    make_rings(tmp_path / "data", train=4, val=2)
    with pytest.raises(UsageError, match=r"train\.blend"):
        run(tmp_path / "data", tmp_path / "run", blend=1.5)
