"""The gradients of one batch: in chunks as at once, with less memory as with more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvgeo.config.load import resolve
from cvgeo.config.schema import Config
from cvgeo.data.augment import draw_augmentation
from cvgeo.data.loader import PairBatch, PairLoader
from cvgeo.data.pair_facts import PairFacts
from cvgeo.data.schema import Dataset
from cvgeo.losses import build_loss
from cvgeo.models import Embedder, build_embedder
from cvgeo.report import Reporter
from cvgeo.training.checkpointing import checkpoint_activations
from cvgeo.training.inputs import augmented
from cvgeo.training.ranks import Ranks
from cvgeo.training.statistics import learning_norms
from cvgeo.training.step import BatchGradients, batch_norm_remark

VIEW = {"ground_height": 32, "ground_width": 64, "aerial_height": 32, "aerial_width": 64}
TINY = {"view": VIEW, "backbone_options": {"width": 8}, "aggregator_options": {"columns": 4, "out_channels": 8}}
# Without batch norm in training: none at all, folded, or frozen.
EXACT: dict[str, dict[str, Any]] = {
    "folded": {"model": "tiny", "recipe": "paper-small", "changes": {"model": TINY}},
    "sample4geo": {
        "model": "sample4geo",
        "recipe": "sample4geo",
        "changes": {"model": {"view": VIEW, "backbone": "convnext_tiny"}},
    },
    "mining": {"model": "tiny", "recipe": "vigor", "changes": {"model": TINY}},
}


@pytest.fixture(scope="module")
def rings(make_rings: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_rings(tmp_path_factory.mktemp("rings") / "rings", train=8, val=0)


def gradients_of(
    config: Config, data: Dataset, ready: Callable[[Embedder], Any] | None = None
) -> tuple[BatchGradients, PairBatch]:
    torch.manual_seed(0)
    model = build_embedder(config.model, "none")
    loss = build_loss(config.train.loss.name, config.train.loss.options, model.descriptor_size)
    loader = PairLoader(data, config.model.view, jobs=1, memory=1 << 30, reporter=Reporter())
    rows = np.stack([np.arange(8), np.arange(8)], axis=1)
    (pairs,) = loader.pairs([rows])
    if ready is not None:
        ready(model)
    return BatchGradients(model.train(), loss, config, PairFacts(data), Ranks()), pairs


def configured(name: str = "folded", **train: Any) -> Config:
    given = EXACT[name]
    changes = given["changes"] | {"train": {"batch_size": 8, "weights": "none"} | train}
    return resolve(given["model"], given["recipe"], changes)


def frozen(model: Embedder) -> Embedder:
    for branch in model.branches.values():
        branch.backbone.batch_norm = "eval"
    return model


def all_gradients(gradients: BatchGradients) -> dict[str, Tensor]:
    named = [*gradients.model.named_parameters(), *gradients.loss.named_parameters()]
    return {name: one.grad.clone() for name, one in named if one.grad is not None}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], share: float = 1e-4) -> None:
    """Equal but for rounding, measured by the largest gradient of each parameter."""
    assert one.keys() == other.keys()
    assert one
    largest = max(gradient.abs().max() for gradient in one.values())
    for name, gradient in one.items():
        scale = max(gradient.abs().max().item(), 1e-3 * largest.item())
        assert (gradient - other[name]).abs().max() <= share * scale, name


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("chunk", [3, 8])
def test_cached_gradients_are_those_of_the_whole_batch(rings: Dataset, name: str, chunk: int) -> None:
    found = []
    for size in (0, chunk):
        config = configured(name, cache_chunk=size, photometric=0.2, roll=0.5)
        if name == "sample4geo":
            config.model.backbone_options |= {"drop_path": 0.0}
        gradients, pairs = gradients_of(config, rings, frozen)
        assert not learning_norms(gradients.model)
        value, count = gradients(pairs, 1, 2)
        assert count == 8
        found.append((value, all_gradients(gradients)))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert_close(found[0][1], found[1][1])


def test_what_the_model_draws_is_the_same_in_both_passes(rings: Dataset) -> None:
    def dropping(model: Embedder) -> None:
        for branch in frozen(model).branches.values():
            branch.attention = WithDropout(branch.attention)

    config = configured(cache_chunk=4)
    gradients, pairs = gradients_of(config, rings, dropping)
    gradients(pairs, 0, 0)
    cached = all_gradients(gradients)
    gradients.model.zero_grad()
    # The same chunks with their graphs kept, one loss over all: what caching is to equal.
    draw = draw_augmentation(config.train, config.model.view, 0, 0, 8)
    halves = []
    for start in (0, 4):
        some = slice(start, start + 4)
        gradients._seed(0, 0, start)
        inputs = augmented(pairs.take(some), draw.take(some), config.model.view, torch.device("cpu"))
        halves.append(gradients.model(inputs.ground, inputs.aerial, inputs.mask))
    ground, aerial = (torch.cat(parts) for parts in zip(*halves, strict=True))
    gradients.loss(ground, aerial).backward()
    assert_close(all_gradients(gradients), cached)


class WithDropout(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.drop = inner, nn.Dropout(0.5)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        features, attention = self.inner(features, mask)
        return self.drop(features), attention


def test_batch_norm_in_training_counts_each_picture_once_and_is_told_of(rings: Dataset) -> None:
    gradients, pairs = gradients_of(configured(cache_chunk=4), rings)
    norms = learning_norms(gradients.model)
    gradients(pairs, 0, 0)
    assert {int(norm.num_batches_tracked) for norm in norms} == {2}
    assert {norm.momentum for norm in norms} == {0.1}
    remark = batch_norm_remark(gradients.model, gradients.config, gradients.ranks)
    assert f"{len(norms)} batch norms of tiny learn" in remark
    assert "chunks of 4 pairs do not train quite as one whole batch would" in remark
    gradients.config.train.cache_chunk = 0
    assert batch_norm_remark(gradients.model, gradients.config, gradients.ranks) is None
    gradients.config.train.cache_chunk = 4
    assert batch_norm_remark(frozen(gradients.model).train(), gradients.config, gradients.ranks) is None


def test_caching_holds_the_graph_of_one_chunk_at_a_time(rings: Dataset) -> None:
    kept: dict[int, int] = {}
    for chunk in (0, 2):
        gradients, pairs = gradients_of(configured(cache_chunk=chunk), rings, frozen)
        most = held = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal held, most
            held += tensor.numel()
            most = max(most, held)
            return tensor

        inner = gradients.model.forward

        def counted(*views: Tensor | None, inner: Callable[..., Any] = inner) -> Any:
            nonlocal held
            held = 0
            return inner(*views)

        gradients.model.forward = counted
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            gradients(pairs, 0, 0)
        kept[chunk] = most
    assert kept[2] < 0.5 * kept[0]


SIZES = {"convnext_tiny": {"stages": 2}, "resnet18": {}}


@pytest.mark.parametrize("backbone", SIZES)
def test_checkpointed_activations_give_the_same_gradients_and_statistics(rings: Dataset, backbone: str) -> None:
    found = []
    for ready in (None, checkpoint_activations):
        config = configured("folded", cache_chunk=0)
        config.model.backbone, config.model.backbone_options = backbone, SIZES[backbone]
        config.model.attention, config.model.attention_options = "mc_gra", {}
        gradients, pairs = gradients_of(config, rings, ready)
        names = list(gradients.model.state_dict())
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda one, kept=kept: kept.append(one) or one, lambda one: one):
            gradients(pairs, 0, 0)
        buffers = {name: one.clone() for name, one in gradients.model.named_buffers() if "running" in name}
        found.append(
            (all_gradients(gradients), buffers, names, sum({one.data_ptr(): one.numel() for one in kept}.values()))
        )
    assert found[0][2] == found[1][2]
    assert_close(found[0][0], found[1][0])
    for name, expected in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], expected)
    assert found[1][3] < 0.7 * found[0][3]
