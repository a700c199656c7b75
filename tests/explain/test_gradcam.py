"""Grad-CAM against finite differences, node by node and channel by channel."""

import numpy as np
import pytest
import torch

from cvgeo.explain.gradcam import grad_cam
from cvgeo.models import create_model
from cvgeo.models.layers import mask_on_grid

VIEW = {"ground_height": 32, "ground_width": 64, "aerial_height": 32, "aerial_width": 64}
STEP = 1e-5
CASES = {
    "mixvpr": {"aggregator": "mixvpr", "aggregator_options": {"out_channels": 4, "out_rows": 2}},
    "gem and cbam": {"aggregator": "gem", "attention": "cbam"},
    "max, shared": {"aggregator": "max", "share": True},
    "mc_gra": {"aggregator": "average", "attention": "mc_gra", "attention_options": {"reduction": 2}},
}


def small_model(seed=0, **parts):
    torch.manual_seed(seed)
    model = create_model("tiny", backbone_options={"stride": 16, "width": 4}, view=VIEW, **parts)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
    return model.double().eval()


def pictures(batch, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, 32, 64, generator=generator, dtype=torch.float64) for _ in range(2)]


def differences(features, similarity):
    """d similarity / d features (C, h, w) by central differences."""
    gradient = np.zeros(features.shape)
    for place in np.ndindex(*features.shape):
        moved = []
        for sign in (1, -1):
            there = features.clone()
            there[place] += sign * STEP
            moved.append(float(similarity(there)))
        gradient[place] = (moved[0] - moved[1]) / (2 * STEP)
    return gradient


def literal(features, gradient, by_node=False, seen=None):
    """Grad-CAM of features (C, h, w) and their gradient as the paper's sums say."""
    channels, height, width = features.shape
    result = np.zeros((height, width))
    for c in range(channels):
        weight = sum(gradient[c, i, j] for i in range(height) for j in range(width)) / (height * width)
        mean = features[c][np.ones((height, width), bool) if seen is None else seen].mean()
        for i in range(height):
            for j in range(width):
                result[i, j] += (
                    gradient[c, i, j] * (features[c, i, j] - mean) if by_node else weight * features[c, i, j]
                )
    result = np.maximum(result, 0)
    if seen is not None:
        result[~seen] = 0
    return result / result.max() if result.max() > 0 else result


def reference(model, ground, aerial, mask=None, by_node=False):
    """Both maps of one pair."""
    with torch.no_grad():
        embeddings = {"ground": model.embed("ground", ground, mask), "aerial": model.embed("aerial", aerial)}
        maps = {}
        for view, other in (("ground", "aerial"), ("aerial", "ground")):
            features, aggregator = embeddings[view].features, model.branch(view).aggregator
            seen = mask_on_grid(mask, *features.shape[2:]) if mask is not None and view == "ground" else None
            target = embeddings[other].descriptor[0]

            def similarity(changed, aggregator=aggregator, seen=seen, target=target):
                return aggregator(changed[None], seen)[0] @ target

            gradient = differences(features[0], similarity)
            maps[view] = literal(features[0].numpy(), gradient, by_node, None if seen is None else seen[0].numpy())
    return maps


@pytest.mark.parametrize("parts", CASES.values(), ids=CASES)
def test_against_finite_differences(parts):
    model = small_model(seed=4, **parts)
    ground, aerial = pictures(1)
    maps, expected = grad_cam(model, ground, aerial), reference(model, ground, aerial)
    assert not maps.by_position.any() and expected["ground"].max() == expected["aerial"].max() == 1
    np.testing.assert_allclose(maps.ground[0].numpy(), expected["ground"], atol=1e-5)
    np.testing.assert_allclose(maps.aerial[0].numpy(), expected["aerial"], atol=1e-5)
    with torch.no_grad():
        descriptors = model(ground, aerial)
    torch.testing.assert_close(maps.similarity, (descriptors[0] * descriptors[1]).sum(1))


def test_with_unseen_parts_against_finite_differences():
    model = small_model(aggregator="average", attention="cbam")
    ground, aerial = pictures(1)
    mask = torch.ones(1, 32, 64, dtype=torch.bool)
    mask[:, :, 30:] = False
    maps, expected = grad_cam(model, ground * mask, aerial, mask), reference(model, ground * mask, aerial, mask)
    np.testing.assert_allclose(maps.ground[0].numpy(), expected["ground"], atol=1e-5)
    assert not maps.ground[0, :, 2:].any() and maps.ground[0, :, :2].any()


@pytest.mark.parametrize("masked", [False, True])
def test_an_aggregator_that_subtracts_the_mean_is_read_node_by_node(masked):
    model = small_model(aggregator="columns", aggregator_options={}, share=True)
    ground, aerial = pictures(1)
    mask = None
    if masked:
        mask = torch.ones(1, 32, 64, dtype=torch.bool)
        mask[:, :, :16] = False
    maps = grad_cam(model, ground, aerial, mask)
    expected = reference(model, ground, aerial, mask, by_node=True)
    assert maps.by_position.all() and expected["ground"].max() == 1
    np.testing.assert_allclose(maps.ground[0].numpy(), expected["ground"], atol=1e-5)
    np.testing.assert_allclose(maps.aerial[0].numpy(), expected["aerial"], atol=1e-5)


def test_pairs_of_a_batch_do_not_meet():
    model = small_model(aggregator="gem", attention="cbam")
    ground, aerial = pictures(3)
    together = grad_cam(model, ground, aerial)
    for one in range(3):
        alone = grad_cam(model, ground[one : one + 1], aerial[one : one + 1])
        torch.testing.assert_close(together.ground[one], alone.ground[0])
        torch.testing.assert_close(together.aerial[one], alone.aerial[0])


def test_the_model_is_left_as_it_was():
    model = small_model(aggregator="gem", attention="cbam")
    model.branches["ground"].backbone.requires_grad_(False)
    learning = [parameter.requires_grad for parameter in model.parameters()]
    with torch.no_grad():
        maps = grad_cam(model, *pictures(1))
    assert [parameter.requires_grad for parameter in model.parameters()] == learning
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not maps.ground.requires_grad and not maps.similarity.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_as_on_the_cpu():
    model = small_model(aggregator="gem", attention="mc_gra", attention_options={"reduction": 2})
    pair = pictures(2)
    expected = grad_cam(model, *pair)
    maps = grad_cam(model.cuda(), *(one.cuda() for one in pair))
    torch.testing.assert_close(maps.ground.cpu(), expected.ground, atol=1e-4, rtol=0)
    torch.testing.assert_close(maps.aerial.cpu(), expected.aerial, atol=1e-4, rtol=0)
