"""Attention, sampling points and relations as they are read beside a forward pass."""

import math

import numpy as np
import pytest
import torch

from cvgeo.errors import UsageError
from cvgeo.explain import attention
from cvgeo.models import create_model
from cvgeo.models.attention.deformable import DeformableConv2d
from cvgeo.models.attention.mc_gra import RelationBranch

VIEW = {"ground_height": 32, "ground_width": 64, "aerial_height": 32, "aerial_width": 48}


def model_of(kind, **options):
    torch.manual_seed(0)
    parts = {"aggregator": "average", "attention": kind, "attention_options": options, "view": VIEW}
    model = create_model("tiny", backbone_options={"stride": 8, "width": 4}, **parts).double().eval()
    for module in model.modules():
        if isinstance(module, DeformableConv2d):
            torch.nn.init.normal_(module.offset.weight, std=0.5)
            torch.nn.init.normal_(module.offset.bias, std=0.7)
    return model


def pictures():
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(2, 3, 32, 64, generator=generator, dtype=torch.float64),
        torch.randn(2, 3, 32, 48, generator=generator, dtype=torch.float64),
    )


def bilinear(grid, row, column):
    """A sample of (H, W) at fractional indices, 0 outside."""
    total = 0.0
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(column), math.floor(column) + 1):
            if 0 <= r < grid.shape[0] and 0 <= c < grid.shape[1]:
                total += (1 - abs(row - r)) * (1 - abs(column - c)) * float(grid[r, c])
    return total


@pytest.mark.parametrize("modulated", [False, True])
def test_samples_at_the_points_make_the_convolution(modulated):
    model, (ground, _) = model_of("mc_gra", reduction=2, modulated=modulated), pictures()
    inputs, outputs = {}, {}

    def keep(module, arguments, result):
        inputs[module.kernel_size[0]], outputs[module.kernel_size[0]] = arguments[0], result

    kernels = [one for one in model.branch("ground").attention.modules() if isinstance(one, DeformableConv2d)]
    hooks = [one.register_forward_hook(keep) for one in kernels]
    points = attention.sampling_points(model, "ground", ground)
    assert [one.kernel_size for one in points] == [3, 5]
    for kernel, point in zip(sorted(kernels, key=lambda one: one.kernel_size), points, strict=True):
        size = point.kernel_size
        assert point.places.shape == (2, 4, 8, size * size, 2)
        weights, bias = kernel.weight.detach()[0, 0].flatten(), float(kernel.bias.detach())
        for place in ((0, 0, 0), (1, 2, 5), (0, 3, 7)):
            grid = inputs[size][place[0], 0]
            literal = bias + sum(
                float(weights[k]) * float(point.weights[place][k]) * bilinear(grid, *map(float, point.places[place][k]))
                for k in range(size * size)
            )
            assert literal == pytest.approx(float(outputs[size][place[0], 0, place[1], place[2]]), abs=1e-9)
    for hook in hooks:
        hook.remove()
    assert not any(one._forward_pre_hooks for one in model.modules())


def test_the_relations_of_a_node_against_loops():
    model, (_, aerial) = model_of("mc_gra", reduction=2), pictures()
    branch = next(one for one in model.branch("aerial").attention.modules() if isinstance(one, RelationBranch))
    entered = []
    hook = branch.register_forward_pre_hook(lambda module, arguments: entered.append(arguments[0]))
    node = (1, 4)
    maps = attention.relation_map(model, "aerial", aerial, node)
    hook.remove()
    features = branch.position(entered[0])
    theta, phi = branch.theta(features).detach().numpy(), branch.phi(features).detach().numpy()
    for picture in range(2):
        expected = np.zeros((4, 6))
        for i in range(4):
            for j in range(6):
                expected[i, j] = theta[picture, :, node[0], node[1]] @ phi[picture, :, i, j]
        assert expected.max() > 0
        np.testing.assert_allclose(maps[picture].numpy(), expected / expected.max(), atol=1e-12)


def test_attention_is_what_the_model_multiplies_by():
    model, (ground, aerial) = model_of("cbam"), pictures()
    mask = torch.ones(2, 32, 64, dtype=torch.bool)
    mask[:, :, 40:] = False
    maps = attention.attention_maps(model, ground, aerial, mask)
    with torch.no_grad():
        embedding = model.embed("ground", ground, mask)
    assert torch.equal(maps.ground, embedding.attention) and not maps.ground[:, :, 5:].any()
    assert maps.aerial.shape == (2, 4, 6)


@pytest.mark.parametrize(
    ("kind", "options", "has"),
    [
        ("none", {}, set()),
        ("cbam", {}, {"attention"}),
        ("mc_gra", {}, {"attention", "points", "relation"}),
        ("mc_gra", {"deformable": False}, {"attention", "relation"}),
        ("relation", {}, {"attention", "relation"}),
        ("context", {}, {"attention", "points"}),
    ],
)
def test_what_a_model_has(kind, options, has):
    model = model_of(kind, **options)
    assert {what for what in ("attention", "points", "relation") if attention.has(model, what)} == has


def test_what_a_model_lacks_is_refused():
    model, (ground, aerial) = model_of("none"), pictures()
    with pytest.raises(UsageError, match="no attention"):
        attention.attention_maps(model, ground, aerial)
    with pytest.raises(UsageError, match="no relation"):
        attention.relation_map(model, "ground", ground, (0, 0))
    assert attention.sampling_points(model, "ground", ground) == []
