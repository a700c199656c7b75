"""Attention against slow literal readings of the paper's equations, in loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.models.attention.deformable import DeformableConv2d, separable_deformable
from cvgeo.models.attention.mc_gra import MCGRA, ContextBranch, RelationBranch
from cvgeo.models.attention.position import sincos_position
from cvgeo.models.registry import build, names

CHANNELS, HEIGHT, WIDTH = 16, 3, 5
NODES = HEIGHT * WIDTH


def features(batch: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, CHANNELS, HEIGHT, WIDTH, generator=generator, dtype=dtype)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter random: nothing is tested at an initial value that hides it."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.copy_(torch.randn_like(parameter))
    return module.double().eval()


@torch.no_grad()
def mechanism(name: str = "mc_gra", **options: object) -> nn.Module:
    """A mechanism with random parameters and the running statistics that they lead to."""
    module = randomised(build("attention", name, channels=CHANNELS, height=HEIGHT, width=WIDTH, **options))
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    module.train()(features(4, seed=9))
    return module.eval()


def literal_1x1(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """(C, H, W) -> (C', H, W), position by position."""
    out = torch.zeros(convolution.out_channels, *x.shape[1:], dtype=x.dtype)
    weight = convolution.weight[:, :, 0, 0]
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            out[:, row, column] = weight @ x[:, row, column]
            if convolution.bias is not None:
                out[:, row, column] += convolution.bias
    return out


def literal_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    for channel in range(len(x)):
        scaled = (x[channel] - norm.running_mean[channel]) / math.sqrt(norm.running_var[channel] + norm.eps)
        out[channel] = scaled * norm.weight[channel] + norm.bias[channel]
    return out


def literal_unit(unit: nn.Sequential, x: Tensor) -> Tensor:
    return literal_norm(unit[1], literal_1x1(unit[0], x)).clamp(min=0)


def bilinear(plane: Tensor, row: float, column: float) -> float:
    """Value of (H, W) between nodes; 0 outside."""
    value, top, left = 0.0, math.floor(row), math.floor(column)
    for y, x in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= y < plane.shape[0] and 0 <= x < plane.shape[1]:
            value += (1 - abs(row - y)) * (1 - abs(column - x)) * plane[y, x].item()
    return value


def literal_deformable(module: DeformableConv2d, x: Tensor) -> Tensor:
    """Equation 4 for (C, H, W): every sample of every kernel node, its offset and factor, one at a time."""
    kernel = module.kernel_size[0]
    predicted = nn.functional.conv2d(x[None], module.offset.weight, module.offset.bias, padding=1)[0]
    out = torch.zeros(module.out_channels, *x.shape[1:], dtype=x.dtype)
    for target in range(module.out_channels):
        for row in range(x.shape[1]):
            for column in range(x.shape[2]):
                total = module.bias[target].item()
                for sample in range(kernel * kernel):
                    y, x_ = divmod(sample, kernel)
                    down, right = predicted[2 * sample : 2 * sample + 2, row, column].tolist()
                    factor = 1.0
                    if module.modulated:
                        factor = 2 * torch.sigmoid(predicted[2 * kernel * kernel + sample, row, column]).item()
                    place = (row + y - kernel // 2 + down, column + x_ - kernel // 2 + right)
                    for source in range(module.in_channels):
                        total += module.weight[target, source, y, x_].item() * factor * bilinear(x[source], *place)
                out[target, row, column] = total
    return out


def literal_context(branch: ContextBranch, x: Tensor) -> Tensor:
    """Equations 5 and 6."""
    reduced = literal_1x1(branch.reduce, x)
    pooled = (reduced.max(dim=0).values + reduced.mean(dim=0))[None]
    return literal_1x1(
        branch.join, torch.cat([literal_deformable(branch.small, pooled), literal_deformable(branch.large, pooled)])
    )


def literal_affinity(branch: RelationBranch, x: Tensor) -> Tensor:
    """Equations 7 to 9: r_ij between every two nodes of the raster scan."""
    x = x + branch.position.code
    theta, phi = literal_unit(branch.theta, x), literal_unit(branch.phi, x)
    relations = torch.zeros(NODES, NODES, dtype=x.dtype)
    for i in range(NODES):
        for j in range(NODES):
            relations[i, j] = theta[:, i // WIDTH, i % WIDTH] @ phi[:, j // WIDTH, j % WIDTH]
    return relations


def literal_relation(branch: RelationBranch, x: Tensor) -> Tensor:
    """Equation 10: node i holds R(i, :) reduced, beside R(:, i) reduced."""
    relations = literal_affinity(branch, x)
    rows, columns = (torch.zeros(NODES, HEIGHT, WIDTH, dtype=x.dtype) for _ in range(2))
    for i in range(NODES):
        rows[:, i // WIDTH, i % WIDTH] = relations[i, :]
        columns[:, i // WIDTH, i % WIDTH] = relations[:, i]
    return torch.cat([literal_unit(branch.rows, rows), literal_unit(branch.columns, columns)])


def literal_mc_gra(module: MCGRA, x: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 5 to 13 for one picture (C, H, W)."""
    joint = torch.cat([literal_context(module.context, x), literal_relation(module.relation, x)])
    hidden = literal_unit(module.first, literal_1x1(module.join, joint))
    attention = torch.sigmoid(literal_norm(module.second[1], literal_1x1(module.second[0], hidden)))[0]
    weighted = torch.empty_like(x)
    for channel in range(len(x)):
        weighted[channel] = attention * x[channel]
    return weighted, attention


@pytest.mark.parametrize("literal", [False, True])
@torch.no_grad()
def test_mc_gra_equals_the_literal_reading(literal: bool) -> None:
    module, x = mechanism(literal=literal, reduction=4), features()
    weighted, attention = module(x)
    for picture in range(len(x)):
        expected, expected_attention = literal_mc_gra(module, x[picture])
        torch.testing.assert_close(weighted[picture], expected)
        torch.testing.assert_close(attention[picture], expected_attention)
    assert attention.std() > 1e-3


@torch.no_grad()
def test_affinity_equals_the_loops_and_is_not_symmetric() -> None:
    branch, x = mechanism().relation, features()
    affinity = branch.affinity(x)
    for picture in range(len(x)):
        torch.testing.assert_close(affinity[picture], literal_affinity(branch, x[picture]))
    assert not torch.allclose(affinity, affinity.transpose(1, 2))


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("kernel", [3, 5])
@torch.no_grad()
def test_deformable_equals_literal_bilinear_sampling(kernel: int, modulated: bool) -> None:
    module = randomised(DeformableConv2d(2, 2, kernel, modulated), seed=3)
    x = features()[:, :2]
    torch.testing.assert_close(module(x)[1], literal_deformable(module, x[1]))
    assert module.offset(x).abs().max() > 1


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("kernel", [3, 5])
@torch.no_grad()
def test_deformable_starts_as_the_ordinary_convolution(kernel: int, modulated: bool) -> None:
    torch.manual_seed(0)
    module = DeformableConv2d(3, 4, kernel, modulated).double()
    x = features()[:, :3]
    ordinary = nn.functional.conv2d(x, module.weight, module.bias, padding=kernel // 2)
    torch.testing.assert_close(module(x), ordinary)


def test_ordinary_kernels_have_the_same_sizes_and_fewer_parameters() -> None:
    deformable, ordinary = MCGRA(CHANNELS, HEIGHT, WIDTH), MCGRA(CHANNELS, HEIGHT, WIDTH, deformable=False)
    assert type(ordinary.context.small) is nn.Conv2d
    for name in ("small", "large"):
        assert getattr(ordinary.context, name).kernel_size == getattr(deformable.context, name).kernel_size
    extra = sum(p.numel() for p in deformable.parameters()) - sum(p.numel() for p in ordinary.parameters())
    assert extra == (9 * 18 + 18) + (9 * 50 + 50)


def test_channels_at_the_papers_size() -> None:
    module = MCGRA(1024, 7, 39)
    assert module.relation.theta[0].out_channels == 128
    assert module.relation.rows[0].weight.shape == (34, 273, 1, 1)
    assert module.join.weight.shape == (69, 69, 1, 1)
    assert module.first[0].weight.shape == (8, 69, 1, 1)
    assert module.second[0].weight.shape == (1, 8, 1, 1)
    assert MCGRA(1024, 7, 39, literal=True).join.weight.shape == (1, 69, 1, 1)


@pytest.mark.parametrize("name", [name for name in names("attention") if name != "none"])
def test_gradients(name: str) -> None:
    module = mechanism(name)
    x = features(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: module(values), (x,), atol=1e-4, fast_mode=True)
    module(x)[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("name", names("attention"))
@torch.no_grad()
def test_a_picture_does_not_depend_on_its_batch(name: str) -> None:
    module = mechanism(name)
    x = features(3)
    mask = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) > 0.3
    for given_mask in (None, mask):
        whole, attention = module(x, given_mask)
        one, one_attention = module(x[1:2], None if given_mask is None else given_mask[1:2])
        torch.testing.assert_close(whole[1:2], one)
        if attention is not None:
            assert attention.shape == (3, HEIGHT, WIDTH)
            torch.testing.assert_close(attention[1:2], one_attention)


@pytest.mark.parametrize("name", [name for name in names("attention") if name not in ("none", "cbam", "context")])
@torch.no_grad()
def test_unseen_nodes_take_no_part(name: str) -> None:
    module = mechanism(name)
    mask = torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, 1:, :2] = False
    x, other = features(seed=0), features(seed=0)
    other[:, :, 1:, :2] = 100 * features(seed=5)[:, :, 1:, :2]
    weighted, attention = module(x, mask)
    same_weighted, same_attention = module(other, mask)
    torch.testing.assert_close(attention, same_attention)
    torch.testing.assert_close(weighted, same_weighted)
    assert (attention[~mask] == 0).all() and (attention[mask] > 0).all()


@torch.no_grad()
def test_cbam_unseen_nodes_get_no_attention_and_give_none() -> None:
    gate = mechanism("cbam")
    mask = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, 1, 2] = False
    x = features(1)
    before = gate(x, mask)[1]
    x[0, :, 1, 2] = 50.0
    torch.testing.assert_close(gate(x, mask)[1], before)
    assert before[0, 1, 2] == 0


@torch.no_grad()
def test_cbam_equals_its_formula() -> None:
    gate, x = mechanism("cbam"), features(1)
    pooled = torch.stack([x[0].max(dim=0).values, x[0].mean(dim=0)])
    attention = torch.zeros(HEIGHT, WIDTH, dtype=x.dtype)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            for y in range(7):
                for x_ in range(7):
                    r, c = row + y - 3, column + x_ - 3
                    if 0 <= r < HEIGHT and 0 <= c < WIDTH:
                        attention[row, column] += (gate.convolution.weight[0, :, y, x_] * pooled[:, r, c]).sum()
    expected = torch.sigmoid(literal_norm(gate.norm, attention[None]))[0]
    torch.testing.assert_close(gate(x)[1][0], expected)


def test_sincos_azimuth_wraps_and_rows_differ() -> None:
    code = sincos_position(32, 7, 40, wrap=True).double()
    steps = (code - code.roll(1, dims=2)).norm(dim=0)
    torch.testing.assert_close(steps[:, 0], steps[:, 1])
    flat = code.flatten(1).T
    distances = torch.cdist(flat, flat) + 10 * torch.eye(len(flat))
    assert distances.min() > 0.05
    plain = sincos_position(32, 7, 40, wrap=False).double()
    jump = (plain - plain.roll(1, dims=2)).norm(dim=0)
    assert (jump[:, 0] > jump[:, 1]).all()


@torch.no_grad()
def test_position_matters_to_relations_only_where_asked_for() -> None:
    shifted = features().roll(1, dims=3)
    for position, equivariant in (("none", True), ("sincos", False), ("learned", False)):
        branch = mechanism(position=position).relation
        affinity = branch.affinity(features()).view(2, HEIGHT, WIDTH, HEIGHT, WIDTH)
        turned = branch.affinity(shifted).view(2, HEIGHT, WIDTH, HEIGHT, WIDTH)
        assert torch.allclose(affinity.roll((1, 1), dims=(2, 4)), turned) is equivariant


def test_learned_position_is_trained_and_fixed_ones_are_not_saved() -> None:
    assert "position.code" in dict(mechanism(position="learned").relation.named_parameters())
    assert "position.code" not in mechanism(position="sincos").relation.state_dict()


@torch.no_grad()
def test_concatenated_context_pools() -> None:
    module = mechanism(context_pool="concat")
    reduced = module.context.reduce(features())
    joined = module.context.join_pools(torch.cat([reduced.amax(1, keepdim=True), reduced.mean(1, keepdim=True)], dim=1))
    expected = module.context.join(torch.cat([module.context.small(joined), module.context.large(joined)], dim=1))
    torch.testing.assert_close(module.context(features()), expected)


def test_bad_options_are_explained() -> None:
    sizes = {"channels": 8, "height": 2, "width": 2}
    with pytest.raises(UsageError, match="position = 'sine'; sincos, learned or none"):
        build("attention", "mc_gra", **sizes, position="sine")
    with pytest.raises(UsageError, match="context_pool = 'mean'; sum or concat"):
        build("attention", "mc_gra", **sizes, context_pool="mean")
    with pytest.raises(UsageError, match="unknown attention 'mcgra'; did you mean mc_gra"):
        build("attention", "mcgra", **sizes)
    with pytest.raises(UsageError, match="unexpected keyword argument 'heads'"):
        build("attention", "mc_gra", **sizes, heads=8)
    with pytest.raises(UsageError, match="reduction = 0; 1 or more"):
        build("attention", "mc_gra", **sizes, reduction=0)


@torch.no_grad()
def test_channels_last_input_gives_the_same() -> None:
    module, x = mechanism(), features()
    torch.testing.assert_close(module(x.to(memory_format=torch.channels_last))[0], module(x)[0])


def literal_convolution(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """(C, H, W) -> (C', H, W), zeros outside, any dilation, node by node."""
    out = torch.zeros(convolution.out_channels, *x.shape[1:], dtype=x.dtype)
    if convolution.bias is not None:
        out += convolution.bias[:, None, None]
    kernel, spread = convolution.kernel_size[0], convolution.dilation[0]
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            for y in range(kernel):
                for x_ in range(kernel):
                    r, c = row + spread * (y - kernel // 2), column + spread * (x_ - kernel // 2)
                    if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                        out[:, row, column] += convolution.weight[:, :, y, x_] @ x[:, r, c]
    return out


def literal_contexts(convolutions: nn.ModuleList, join: nn.Conv2d, x: Tensor) -> Tensor:
    contexts = torch.cat([literal_convolution(one, x).clamp(min=0) for one in convolutions])
    return torch.sigmoid(literal_1x1(join, contexts))[0]


@pytest.mark.parametrize("maximum", [True, False])
@torch.no_grad()
def test_fcam_equals_the_loops(maximum: bool) -> None:
    module, x = mechanism("fcam", reduction=4, maximum=maximum), features(1)
    down, _, up = module.bottleneck
    channels = torch.zeros(CHANNELS, dtype=x.dtype)
    for largest in (False, maximum):
        pooled = torch.tensor(
            [max(plane.flatten().tolist()) if largest else sum(plane.flatten().tolist()) / NODES for plane in x[0]]
        ).to(x.dtype)
        channels += up.weight[:, :, 0, 0] @ (down.weight[:, :, 0, 0] @ pooled).clamp(min=0)
    weighted = x[0] * torch.sigmoid(channels)[:, None, None]
    pooled = torch.stack([weighted.mean(dim=0), weighted.max(dim=0).values])
    attention = literal_contexts(module.local, module.join, pooled)
    result, given = module(x)
    torch.testing.assert_close(given[0], attention)
    torch.testing.assert_close(result[0], weighted * attention)
    assert sum(parameter.numel() for parameter in module.parameters()) == 2 * 16 * 4 + 2 * (9 + 25 + 49) + 3 + 3 + 1


@torch.no_grad()
def test_reweighting_equals_the_loops() -> None:
    module, x = mechanism("reweighting", inner=3), features(1)
    attention = literal_contexts(module.local, module.join, x[0])
    torch.testing.assert_close(module(x)[1][0], attention)
    torch.testing.assert_close(module(x)[0][0], x[0] * attention)


@torch.no_grad()
def test_ssa_equals_the_loops() -> None:
    module, x = mechanism("ssa", reduction=4), features(1)
    contexts = [
        literal_norm(norm, literal_convolution(convolution, x[0])).clamp(min=0)
        for convolution, norm, _ in module.scales
    ]
    scores = literal_1x1(module.choose, torch.cat(contexts))
    mixed = torch.zeros_like(contexts[0])
    for row in range(HEIGHT):
        for column in range(WIDTH):
            raised = [math.exp(score) for score in scores[:, row, column].tolist()]
            for share, context in zip(raised, contexts, strict=True):
                mixed[:, row, column] += share / sum(raised) * context[:, row, column]
    attention = torch.sigmoid(literal_1x1(module.weigh, mixed))[0]
    torch.testing.assert_close(module(x)[1][0], attention)
    torch.testing.assert_close(module(x)[0][0], x[0] * attention)


@pytest.mark.parametrize("wrap", [True, False])
@torch.no_grad()
def test_max_pool_equals_its_two_readings(wrap: bool) -> None:
    x = features(1)
    gate, window = (mechanism("max_pool", over=over, wrap=wrap) for over in ("channels", "window"))
    assert not list(gate.parameters())
    weighted, attention = gate(x)
    pooled, nothing = window(x)
    assert nothing is None
    for row in range(HEIGHT):
        for column in range(WIDTH):
            largest = 1 / (1 + math.exp(-max(x[0, :, row, column].tolist())))
            assert attention[0, row, column].item() == pytest.approx(largest)
            torch.testing.assert_close(weighted[0, :, row, column], largest * x[0, :, row, column])
            rows = [r for r in (row - 1, row, row + 1) if 0 <= r < HEIGHT]
            columns = [c % WIDTH for c in (column - 1, column, column + 1) if wrap or 0 <= c < WIDTH]
            around = torch.stack([x[0, :, r, c] for r in rows for c in columns])
            torch.testing.assert_close(pooled[0, :, row, column], around.max(dim=0).values)
    with pytest.raises(UsageError, match="over = 'rows' of max_pool; channels or window"):
        mechanism("max_pool", over="rows")


@torch.no_grad()
def test_max_pool_of_windows_passes_over_unseen_nodes() -> None:
    module, x = mechanism("max_pool", over="window"), features(1)
    mask = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, 1, 2] = False
    before = module(x, mask)[0]
    x[0, :, 1, 2] = 99.0
    torch.testing.assert_close(module(x, mask)[0], before)
    assert (before[0, :, 1, 2] == 0).all() and before.abs().max() < 99
    assert (module(x, torch.zeros_like(mask))[0] == 0).all()


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize(("kernel", "channels"), [(3, (1, 1)), (5, (1, 1)), (3, (3, 2))])
def test_separable_deformable_equals_torchvision_with_its_gradients(
    kernel: int, channels: tuple[int, int], modulated: bool
) -> None:
    generator = torch.Generator().manual_seed(kernel)
    samples = kernel * kernel

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    x, weight, bias = (
        random(2, channels[0], 4, 6),
        random(channels[1], channels[0], kernel, kernel),
        random(channels[1]),
    )
    # Far beyond the border, at nodes exactly (a fifth), and in between.
    offset = 2 * random(2, 2 * samples, 4, 6).detach()
    offset = torch.where(torch.rand(offset.shape, generator=generator) < 0.2, offset.round(), offset).requires_grad_()
    factors = random(2, samples, 4, 6) if modulated else None
    from torchvision.ops import deform_conv2d

    expected = deform_conv2d(x, offset, weight, bias, padding=kernel // 2, mask=factors)
    found = separable_deformable(x, offset, weight, bias, factors)
    torch.testing.assert_close(found, expected)
    inputs = [one for one in (x, offset, weight, bias, factors) if one is not None]
    slope = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(found, inputs, slope), torch.autograd.grad(expected, inputs, slope), strict=True
    ):
        torch.testing.assert_close(one, other)
