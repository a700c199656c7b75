"""Aggregators against literal loops; masks; azimuth that rolls."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.models import MixVPR
from cvgeo.models.layers import area_weights
from cvgeo.models.registry import build, names

CHANNELS, HEIGHT, WIDTH = 6, 3, 8
OPTIONS = {
    "mixvpr": {"out_channels": 5, "out_rows": 2, "mix_depth": 2},
    "flat": {"out_channels": 4, "columns": 4},
    "netvlad": {"clusters": 3, "out_channels": 5, "gating": True},
    "safa": {"heads": 2},
    "geodtr": {"descriptors": 3, "heads": 2, "hidden": 7},
    "dense": {"out_channels": 5},
    "dsm": {"out_channels": 4, "inner": (5, 4)},
    "transport": {"rows": 2, "columns": 3, "out_channels": 4, "transport": True, "sharpness": 3.0, "iterations": 5},
    "average": {"norm": True, "out_channels": 4},
}


def features(batch: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, CHANNELS, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)


def aggregator(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    chosen = {**OPTIONS.get(name, {}), **options}
    module = build("aggregator", name, channels=CHANNELS, height=HEIGHT, width=WIDTH, **chosen)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module.double().eval()


def literal_mixvpr(module: MixVPR, x: Tensor) -> Tensor:
    """Equations 14 to 16 for one picture (C, H, W), one channel and one position at a time."""
    rows = [x[channel].reshape(-1).tolist() for channel in range(len(x))]
    for mixer in module.mix:
        norm, first, _, second = mixer.mix
        for row in rows:
            mean = sum(row) / len(row)
            variance = sum((value - mean) ** 2 for value in row) / len(row)
            scaled = [
                (value - mean) / math.sqrt(variance + norm.eps) * norm.weight[n].item() + norm.bias[n].item()
                for n, value in enumerate(row)
            ]
            hidden = [
                max(0.0, (first.weight[h] @ torch.tensor(scaled, dtype=x.dtype) + first.bias[h]).item())
                for h in range(len(first.bias))
            ]
            mixed = [
                (second.weight[n] @ torch.tensor(hidden, dtype=x.dtype) + second.bias[n]).item()
                for n in range(len(row))
            ]
            row[:] = [value + change for value, change in zip(row, mixed, strict=True)]
    matrix = torch.tensor(rows, dtype=x.dtype)
    depth, reduce = module.channel_proj, module.row_proj
    out = torch.zeros(depth.out_features, reduce.out_features, dtype=x.dtype)
    for d in range(depth.out_features):
        line = torch.stack([depth.weight[d] @ matrix[:, n] + depth.bias[d] for n in range(matrix.shape[1])])
        for r in range(reduce.out_features):
            out[d, r] = reduce.weight[r] @ line + reduce.bias[r]
    flat = out.reshape(-1)
    return flat / flat.pow(2).sum().sqrt()


@torch.no_grad()
def test_mixvpr_equals_the_loops() -> None:
    module = aggregator("mixvpr", mlp_ratio=2)
    x = features()
    descriptor = module(x)
    for picture in range(len(x)):
        torch.testing.assert_close(descriptor[picture], literal_mixvpr(module, x[picture]))


def test_mixvpr_has_the_documented_signature_and_sizes() -> None:
    module = MixVPR(in_channels=1024, in_h=7, in_w=39, out_channels=1024, mix_depth=4, mlp_ratio=1, out_rows=4)
    assert module.descriptor_size == 4096
    mixers = 4 * (2 * 273 + 2 * (273 * 273 + 273))
    assert sum(p.numel() for p in module.parameters()) == mixers + (1024 * 1024 + 1024) + (273 * 4 + 4)
    assert MixVPR().descriptor_size == 2048
    assert len(MixVPR().mix) == 1


def test_mixvpr_starts_near_an_identity_mixer() -> None:
    torch.manual_seed(0)
    first = MixVPR(4, 5, 5).mix[0].mix[1]
    assert first.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert (first.bias == 0).all()


@pytest.mark.parametrize("name", names("aggregator"))
@torch.no_grad()
def test_descriptors_are_unit_vectors_of_the_said_length_whatever_the_batch(name: str) -> None:
    module, x = aggregator(name), features()
    mask = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) > 0.3
    for given_mask in (None, mask):
        descriptor = module(x, given_mask)
        assert descriptor.shape == (3, module.descriptor_size)
        torch.testing.assert_close(descriptor.norm(dim=1), torch.ones(3, dtype=x.dtype))
        one = module(x[1:2], None if given_mask is None else given_mask[1:2])
        torch.testing.assert_close(descriptor[1:2], one)
    torch.testing.assert_close(module(x, torch.ones_like(mask)), module(x))
    torch.testing.assert_close(module(x.to(memory_format=torch.channels_last)), module(x))


@pytest.mark.parametrize("name", names("aggregator"))
@torch.no_grad()
def test_unseen_features_do_not_matter(name: str) -> None:
    module, x, other = aggregator(name), features(), features()
    mask = torch.ones(3, HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, :, 5:] = False
    mask[:, 0] = False
    other[(~mask)[:, None].expand_as(other)] = 77.0
    torch.testing.assert_close(module(x, mask), module(other, mask))
    assert not torch.allclose(module(x), module(other))


@pytest.mark.parametrize("name", names("aggregator"))
def test_nothing_seen_is_finite(name: str) -> None:
    module = aggregator(name)
    x = features().requires_grad_()
    descriptor = module(x, torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool))
    descriptor.sum().backward()
    assert descriptor.isfinite().all() and x.grad.isfinite().all()


@pytest.mark.parametrize("name", names("aggregator"))
def test_gradients(name: str) -> None:
    module = aggregator(name)
    x = features(2)
    if name == "gem":
        # Below its clamp the derivative is 0 and at it there is none.
        x = x.abs() + 0.5
    assert torch.autograd.gradcheck(module, (x.requires_grad_(),))
    module(x)[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@torch.no_grad()
def test_poolings_equal_their_formulas() -> None:
    x = features(1).abs() + 0.1
    flat = x[0].reshape(CHANNELS, -1)
    gem = aggregator("gem")
    mean, project = flat.mean(dim=1), aggregator("average")
    scaled = (mean - mean.mean()) / (mean.var(correction=0) + 1e-6).sqrt()
    normed = scaled * project.norm.weight + project.norm.bias
    expected = {
        "average": project.project.weight @ normed + project.project.bias,
        "max": flat.max(dim=1).values,
        "gem": flat.pow(gem.power).mean(dim=1).pow(1 / gem.power),
    }
    for name, value in expected.items():
        module = gem if name == "gem" else aggregator(name)
        torch.testing.assert_close(module(x)[0].double(), value / value.norm(), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_columns_equal_the_loops() -> None:
    x = features(1)
    mask = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, 0, 2], mask[0, :, 5] = False, False
    seen = [(row, column) for row in range(HEIGHT) for column in range(WIDTH) if mask[0, row, column]]
    mean = sum(x[0, :, row, column] for row, column in seen) / len(seen)
    expected = torch.zeros(WIDTH, CHANNELS, dtype=x.dtype)
    for column in range(WIDTH):
        rows = [row for row in range(HEIGHT) if mask[0, row, column]]
        if rows:
            expected[column] = sum(x[0, :, row, column] - mean for row in rows) / len(rows)
    descriptor = aggregator("columns")(x, mask)[0].view(WIDTH, CHANNELS)
    torch.testing.assert_close(descriptor, expected / expected.norm())
    by_column = aggregator("columns", normalise="column")(x, mask)[0].view(WIDTH, CHANNELS)
    lengths = by_column.norm(dim=1)
    torch.testing.assert_close(lengths, mask[0].any(0).double() / math.sqrt(WIDTH - 1))


@pytest.mark.parametrize(("name", "options"), [("columns", {}), ("columns", {"columns": 4}), ("flat", {"rows": 3})])
@settings(max_examples=10, deadline=None)
@given(turn=st.integers(0, 7), seed=st.integers(0, 20))
def test_rolling_the_columns_turns_the_heading(name: str, options: dict[str, int], turn: int, seed: int) -> None:
    module = aggregator(name, **options)
    x = features(1, seed)
    per_column = WIDTH // module.azimuth_columns
    with torch.no_grad():
        before, after = module(x)[0].numpy(), module(x.roll(turn * per_column, dims=3))[0].numpy()
    rolled = np.roll(before.reshape(module.azimuth_columns, -1), turn, axis=0)
    np.testing.assert_allclose(rolled.reshape(-1), after, atol=1e-12)


@torch.no_grad()
def test_flat_grid_equals_plain_pooling() -> None:
    module, x = aggregator("flat", rows=3, columns=2), features(1)
    reduced = module.reduce(x)[0]
    expected = torch.stack(
        [torch.cat([reduced[:, row, 4 * c : 4 * c + 4].mean(dim=1) for row in range(HEIGHT)]) for c in range(2)]
    ).reshape(-1)
    torch.testing.assert_close(module(x)[0], expected / expected.norm())


@given(size=st.integers(1, 40), bins=st.integers(1, 40))
def test_area_weights_share_out_every_cell_and_fill_every_bin_alike(size: int, bins: int) -> None:
    weights = area_weights(size, bins)
    assert weights.shape == (bins, size)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(size))
    torch.testing.assert_close(weights.sum(dim=1), torch.full((bins,), size / bins))


def test_bad_options_are_explained() -> None:
    with pytest.raises(UsageError, match="columns = 9 of a grid of 8; 0 \\(all\\) to 8"):
        aggregator("columns", columns=9)
    with pytest.raises(UsageError, match="rows = 4 of a grid of 3"):
        aggregator("flat", rows=4)
    with pytest.raises(UsageError, match="normalise = 'row'; whole or column"):
        aggregator("columns", normalise="row")
    with pytest.raises(UsageError, match="unknown aggregator 'mixpvr'; did you mean mixvpr"):
        aggregator("mixpvr")
    for name, options, said in (
        ("netvlad", {"out_channels": 0}, "gating only with out_channels"),
        ("safa", {"over": "rows"}, "over mean or max, heads 1 or more"),
        ("geodtr", {"layers": 0}, "geodtr; 1 or more each"),
        ("dense", {"out_channels": 0}, "out_channels = 0 of dense; 1 or more"),
        ("transport", {"rows": 0}, "of transport; 1 or more each"),
    ):
        with pytest.raises(UsageError, match=said):
            aggregator(name, **options)


def literal_unit(vector: Tensor) -> Tensor:
    return vector / vector.pow(2).sum().sqrt()


@torch.no_grad()
def test_netvlad_equals_the_loops() -> None:
    module, x = aggregator("netvlad"), features(1)
    mask = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, 1, 3] = False
    sums = torch.zeros(3, CHANNELS, dtype=x.dtype)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            if not mask[0, row, column]:
                continue
            node = literal_unit(x[0, :, row, column])
            scores = [(module.assign.weight[k, :, 0, 0] @ node + module.assign.bias[k]).exp().item() for k in range(3)]
            for k in range(3):
                sums[k] += scores[k] / sum(scores) * (node - module.centres[k])
    vlad = literal_unit(torch.cat([literal_unit(one) for one in sums]))
    reduced = module.reduce.weight @ vlad + module.reduce.bias
    gated = reduced * torch.sigmoid(module.gate.weight @ reduced + module.gate.bias)
    torch.testing.assert_close(module(x, mask)[0], literal_unit(gated))
    plain = aggregator("netvlad", out_channels=0, gating=False)
    assert plain.descriptor_size == 18 and plain(x).shape == (1, 18)


def literal_pool(x: Tensor) -> Tensor:
    """2x2 maxima of (C, H, W), an odd rest on its own."""
    rows, columns = -(-x.shape[1] // 2), -(-x.shape[2] // 2)
    out = torch.empty(len(x), rows, columns, dtype=x.dtype)
    for row in range(rows):
        for column in range(columns):
            out[:, row, column] = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(1).max(dim=1).values
    return out


@pytest.mark.parametrize("over", ["mean", "max"])
@pytest.mark.parametrize("pool", [True, False])
@torch.no_grad()
def test_safa_equals_the_loops(over: str, pool: bool) -> None:
    module, x = aggregator("safa", over=over, pool=pool), features(1)
    nodes = (literal_pool(x[0]) if pool else x[0]).reshape(CHANNELS, -1)
    count, weights, parts = nodes.shape[1], module.weights, []
    saliency = [nodes[:, n].mean() if over == "mean" else nodes[:, n].max() for n in range(count)]
    for head in range(2):
        inner = []
        for m in range(count // 2):
            inner.append(sum(saliency[n] * weights.first[head, n, m] for n in range(count)))
            inner[m] = inner[m] + weights.first_bias[head, m]
        part = torch.zeros(CHANNELS, dtype=x.dtype)
        for n in range(count):
            weight = sum(inner[m] * weights.second[head, m, n] for m in range(count // 2))
            part += (weight + weights.second_bias[head, n]) * nodes[:, n]
        parts.append(part)
    torch.testing.assert_close(module(x)[0], literal_unit(torch.cat(parts)))


def test_safa_has_the_published_size() -> None:
    module = build("aggregator", "safa", channels=512, height=7, width=39)
    assert module.descriptor_size == 4096
    assert sum(p.numel() for p in module.parameters()) == 8 * (80 * 40 + 40 + 40 * 80 + 80)


@torch.no_grad()
def test_sinkhorn_balances_rows_and_columns() -> None:
    from cvgeo.models.aggregators.transport import sinkhorn

    scores = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plan = sinkhorn(scores, 60)
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(2, 5, dtype=plan.dtype))
    torch.testing.assert_close(plan.sum(dim=2), torch.ones(2, 5, dtype=plan.dtype))
    literal = [[math.exp(value) for value in row] for row in scores[0].tolist()]
    for _ in range(2):
        literal = [[value / sum(row) for value in row] for row in literal]
        totals = [sum(row[c] for row in literal) for c in range(5)]
        literal = [[value / totals[c] for c, value in enumerate(row)] for row in literal]
    torch.testing.assert_close(sinkhorn(scores, 2)[0], torch.tensor(literal, dtype=plan.dtype))


@torch.no_grad()
def test_transport_equals_the_loops() -> None:
    module, x = aggregator("transport", rows=2, columns=4), features(1)
    # 3 x 8 nodes by a convolution of stride 2 are 2 x 4: nothing is resized.
    grid = torch.zeros(4, 2, 4, dtype=x.dtype)
    for row in range(2):
        for column in range(4):
            grid[:, row, column] = module.reduce.bias
            for y in range(3):
                for x_ in range(3):
                    r, c = 2 * row + y - 1, 2 * column + x_ - 1
                    if 0 <= r < HEIGHT and 0 <= c < WIDTH:
                        grid[:, row, column] += module.reduce.weight[:, :, y, x_] @ x[0, :, r, c]
    nodes = grid.clamp(min=0).reshape(4, 8)
    summary = (module.summary.weight[0, :, 0, 0] @ nodes + module.summary.bias).clamp(min=0)
    costs = (module.costs.weight @ summary + module.costs.bias).reshape(8, 8)
    plan = (-3.0 * costs).exp()
    for _ in range(5):
        plan = plan / plan.sum(dim=1, keepdim=True)
        plan = plan / plan.sum(dim=0, keepdim=True)
    moved = torch.zeros(8, 4, dtype=x.dtype)
    for target in range(8):
        for source in range(8):
            moved[target] += plan[source, target] * nodes[:, source]
    torch.testing.assert_close(module(x)[0], literal_unit(moved.reshape(-1)))
    still = aggregator("transport", rows=2, columns=4, transport=False)
    assert still(x).shape == (1, 32) and still.costs is None


@torch.no_grad()
def test_geodtr_equals_the_loops() -> None:
    module, x = aggregator("geodtr"), features(1)
    nodes = x[0].reshape(CHANNELS, -1)
    positions, inner = nodes.shape[1], module.first.shape[2]
    assert inner == 12
    hidden = torch.zeros(3, inner, dtype=x.dtype)
    for d in range(3):
        for m in range(inner):
            value, code = module.first_bias[d, m].item(), module.index_bias[d, m].item()
            for n in range(positions):
                channels = nodes[:, n].tolist()
                value += max(channels) * module.first[n, d, m].item()
                code += channels.index(max(channels)) / CHANNELS * module.index[n, d, m].item()
            hidden[d, m] = value + min(max(code, -1), 1)
    for layer in module.encoder.layers:
        hidden = literal_encoder_layer(layer, hidden)
    hidden = literal_layer_norm(module.encoder.norm, hidden)
    parts = []
    for d in range(3):
        part = torch.zeros(CHANNELS, dtype=x.dtype)
        for n in range(positions):
            weight = sum(hidden[d, m] * module.second[m, d, n] for m in range(inner)) + module.second_bias[d, n]
            part += weight.clamp(-1, 1) * nodes[:, n]
        parts.append(part)
    # The code flattens channels first, then descriptors.
    torch.testing.assert_close(module(x)[0], literal_unit(torch.stack(parts, dim=1).reshape(-1)))


def literal_layer_norm(norm: nn.LayerNorm, rows: Tensor) -> Tensor:
    mean, variance = rows.mean(dim=1, keepdim=True), rows.var(dim=1, keepdim=True, correction=0)
    return (rows - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def literal_encoder_layer(layer: nn.TransformerEncoderLayer, rows: Tensor) -> Tensor:
    """Post-norm transformer layer of (L, E) rows, head by head."""
    attention = layer.self_attn
    query, key, value = (rows @ w.T + b for w, b in zip(*(p.chunk(3) for p in weights_of(attention)), strict=True))
    heads = []
    for q, k, v in zip(*(one.chunk(attention.num_heads, dim=1) for one in (query, key, value)), strict=True):
        scores = (q @ k.T / math.sqrt(q.shape[1])).exp()
        heads.append(scores / scores.sum(dim=1, keepdim=True) @ v)
    joined = torch.cat(heads, dim=1) @ attention.out_proj.weight.T + attention.out_proj.bias
    rows = literal_layer_norm(layer.norm1, rows + joined)
    inner = rows @ layer.linear1.weight.T + layer.linear1.bias
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    return literal_layer_norm(layer.norm2, rows + inner @ layer.linear2.weight.T + layer.linear2.bias)


def weights_of(attention: nn.MultiheadAttention) -> tuple[Tensor, Tensor]:
    return attention.in_proj_weight, attention.in_proj_bias


def test_geodtr_has_the_published_size() -> None:
    """8 x 42 positions: two maps to and from 168 numbers and the index map for each of 8 layouts, two layers."""
    module = build("aggregator", "geodtr", channels=512, height=8, width=42)
    layer = (3 * 168 * 168 + 3 * 168) + (168 * 168 + 168) + (168 * 512 + 512) + (512 * 168 + 168) + 4 * 168
    maps = 3 * 336 * 8 * 168 + 8 * 168 + 8 * 336 + 8 * 168
    assert sum(p.numel() for p in module.parameters()) == maps + 2 * layer + 2 * 168
    assert module.descriptor_size == 4096


@pytest.mark.parametrize("circular", [True, False])
@torch.no_grad()
def test_dsm_equals_the_loops(circular: bool) -> None:
    module, x = aggregator("dsm", circular=circular), features(1)
    grid = x[0]
    for number, stride in ((0, 2), (2, 2), (4, 1)):
        convolution = module.reduce[number]
        made = torch.zeros(convolution.out_channels, -(-grid.shape[1] // stride), WIDTH, dtype=x.dtype)
        for row in range(made.shape[1]):
            for column in range(WIDTH):
                made[:, row, column] = convolution.bias
                for y in range(3):
                    for x_ in range(3):
                        r, c = stride * row + y - 1, column + x_ - 1
                        if 0 <= r < grid.shape[1] and (circular or 0 <= c < WIDTH):
                            made[:, row, column] += convolution.weight[:, :, y, x_] @ grid[:, r, c % WIDTH]
        grid = made.clamp(min=0) if number < 4 else made
    columns = torch.cat([grid[:, :, column].T.reshape(-1) for column in range(WIDTH)])
    torch.testing.assert_close(module(x)[0], literal_unit(columns))


def test_dsm_at_the_published_size() -> None:
    module = build("aggregator", "dsm", channels=512, height=16, width=64)
    assert (module.azimuth_columns, module.descriptor_size) == (64, 4 * 64 * 16)
    assert sum(p.numel() for p in module.parameters()) == 9 * (512 * 256 + 256 * 64 + 64 * 16) + 256 + 64 + 16


@torch.no_grad()
def test_dsm_turns_with_the_heading_and_is_matched_by_correlation() -> None:
    """The best roll of retrieval's scorer is the official argmax over all shifts of the correlation."""
    from cvgeo.retrieval.heading import RollingScorer
    from cvgeo.retrieval.peaks import best_turn

    module = aggregator("dsm", circular=True)
    ground, tiles = features(2, seed=1), features(2, seed=1).roll(3, dims=3)
    queries, rows = module(ground).numpy(), module(tiles).numpy()
    turned = RollingScorer(queries, WIDTH).turns(np.array([0, 1]), rows)
    per_column = rows.reshape(2, WIDTH, -1)
    for pair in range(2):
        query = queries[pair].reshape(WIDTH, -1)
        for shift in range(WIDTH):
            score = sum(float(query[c] @ per_column[pair, (c + shift) % WIDTH]) for c in range(WIDTH))
            assert turned[pair, shift] == pytest.approx(score, abs=1e-5)
    np.testing.assert_allclose(best_turn(turned), 3 * 360 / WIDTH, atol=1e-3)


@torch.no_grad()
def test_dense_equals_its_formula() -> None:
    for pool in (True, False):
        module, x = aggregator("dense", pool=pool), features(1)
        flat = (literal_pool(x[0]) if pool else x[0]).reshape(-1)
        torch.testing.assert_close(module(x)[0], literal_unit(module.map.weight @ flat + module.map.bias))


@pytest.mark.parametrize("name", [name for name in names("aggregator") if name not in ("columns", "flat")])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (7, 2), (4, 9)])
@torch.no_grad()
def test_any_grid_size(name: str, height: int, width: int) -> None:
    module = build("aggregator", name, channels=CHANNELS, height=height, width=width, **OPTIONS.get(name, {})).eval()
    descriptor = module(torch.randn(2, CHANNELS, height, width, generator=torch.Generator().manual_seed(0)))
    assert descriptor.shape == (2, module.descriptor_size) and descriptor.isfinite().all()


def test_mapped_columns_are_columns_until_they_are_trained():
    torch.manual_seed(0)
    features, mask = torch.randn(2, 6, 3, 8), torch.rand(2, 3, 8) > 0.3
    for normalise in ("whole", "column"):
        plain = build("aggregator", "columns", channels=6, height=3, width=8, columns=4, normalise=normalise)
        mapped = build("aggregator", "mapped_columns", channels=6, height=3, width=8, columns=4, normalise=normalise)
        torch.testing.assert_close(mapped(features, mask), plain(features, mask))


def test_mapped_columns_against_a_literal_map():
    torch.manual_seed(1)
    features = torch.randn(1, 5, 3, 4)
    mapped = build("aggregator", "mapped_columns", channels=5, height=3, width=4)
    torch.nn.init.normal_(mapped.map.weight)
    expected = []
    for column in range(4):
        mean = [features[0, c, :, column].mean() - features[0, c].mean() for c in range(5)]
        expected += [sum(mapped.map.weight[o, c] * mean[c] for c in range(5)) for o in range(5)]
    expected = torch.stack(expected) / torch.stack(expected).norm()
    torch.testing.assert_close(mapped(features)[0], expected)
