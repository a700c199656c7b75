"""Masks on feature grids and means over what is seen, against loops."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.models.layers import mask_on_grid, masked_mean, unit


def test_a_node_is_seen_if_half_of_its_pixels_are() -> None:
    mask = torch.zeros(1, 8, 16, dtype=torch.bool)
    mask[0, :, :4] = True
    mask[0, :4, 4:8] = True
    mask[0, :3, 8:12] = True
    assert mask_on_grid(mask, 1, 4).tolist() == [[[True, True, False, False]]]


def test_a_narrow_strip_keeps_its_best_nodes_and_nothing_seen_none() -> None:
    mask = torch.zeros(2, 32, 64, dtype=torch.bool)
    mask[0, 12:17, :] = True
    on_grid = mask_on_grid(mask, 2, 4)
    assert on_grid[0].tolist() == [[True] * 4, [False] * 4]
    assert not on_grid[1].any()


@given(seed=st.integers(0, 50), dims=st.sampled_from([(2, 3), 2, 3]))
@settings(max_examples=20, deadline=None)
def test_masked_mean_equals_the_loop(seed: int, dims: tuple[int, int] | int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    mask = torch.rand(2, 4, 5, generator=generator) > 0.5
    mean = masked_mean(features, mask, dims, keepdim=True).expand_as(features)
    for b in range(2):
        for row in range(4):
            for column in range(5):
                rows = range(4) if dims != 3 else [row]
                columns = range(5) if dims != 2 else [column]
                seen = [features[b, :, r, c] for r in rows for c in columns if mask[b, r, c]]
                expected = sum(seen) / len(seen) if seen else torch.zeros(3, dtype=torch.float64)
                torch.testing.assert_close(mean[b, :, row, column], expected)


def test_unit_raises_half_precision_and_keeps_zero() -> None:
    values = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float16)
    torch.testing.assert_close(unit(values), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
