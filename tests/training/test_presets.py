"""Every model preset trains by its own recipe, on pictures as small as its structure allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvgeo.config.grids import merged
from cvgeo.config.load import load_model_config, preset_names, preset_recipe
from cvgeo.data.schema import Dataset
from cvgeo.errors import CvgeoError
from cvgeo.pipelines.train import TrainOptions, train
from cvgeo.report import Reporter
from cvgeo.training.checkpoint import load_checkpoint

# Heads and backbones of a hundred million weights take minutes to write and teach nothing more.
SMALLER: dict[str, dict[str, Any]] = {
    "cai": {"aggregator_options": {"out_channels": 64}},
    "cvm_net": {"aggregator_options": {"out_channels": 64}},
    "sample4geo": {"backbone": "convnext_tiny"},
    "siamese_vgg": {"aggregator_options": {"out_channels": 64}},
    "tiny": {"view": {"ground_width": 256, "aerial_width": 256}},  # sixteen columns of sixteen pixels
}


@pytest.fixture(scope="module")
def rings(make_rings: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rings(tmp_path_factory.mktemp("rings") / "rings", train=4, val=2).root


def train_small(data: Path, output: Path, name: str, **view: int) -> dict[str, Any]:
    plain = load_model_config(name).view.aerial == "plain"
    sizes = {"ground_height": 64, "ground_width": 128, "aerial_height": 64, "aerial_width": 64 if plain else 128}
    return train(
        str(data),
        reporter=Reporter(),
        model=name,
        changes={
            "model": merged({"view": sizes}, merged(SMALLER.get(name, {}), {"view": view})),
            "train": {"epochs": 1, "batch_size": 4, "weights": "none", "validate_every": 0, "neighbour_select": 2},
        },
        output=str(output),
        options=TrainOptions(device="cpu", jobs=1),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", preset_names("models"))
def test_every_preset_trains_an_epoch_by_its_recipe(rings: Path, tmp_path: Path, name: str) -> None:
    record = train_small(rings, tmp_path / "run", name)
    assert record["epochs"] == 1 and np.isfinite(record["loss"])
    _, config, _ = load_checkpoint(record["checkpoint"])
    assert (config.model.name, config.train.recipe) == (name, preset_recipe(name))


@pytest.mark.parametrize("name", preset_names("models"))
def test_every_preset_refuses_empty_pictures_before_it_writes(rings: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(
        CvgeoError, match=r"^pictures of 0x(128|256) are too small for the backbone: .*; set larger sizes"
    ):
        train_small(rings, tmp_path / "run", name, ground_height=0)
    assert not (tmp_path / "run").exists()
