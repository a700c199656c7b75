"""Backbones: sizes, parameter counts, what is held in training, azimuth that wraps, literal SAME padding."""

from __future__ import annotations

import math
import sys

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cvgeo.errors import InputError, UsageError
from cvgeo.models.backbones.base import grid_size
from cvgeo.models.layers import SameConv2d, wrap_azimuth
from cvgeo.models.registry import build, names
from cvgeo.models.weights import first_difference

SMALL = ("resnet18", "tiny", "efficientnet_lite0")


def on_meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build("backbone", name, **options)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet18", 256), ("resnet34", 256), ("resnet50", 1024), ("efficientnet_lite2", 120), ("tiny", 128)],
)
def test_the_papers_picture_becomes_7_by_39(name: str, channels: int) -> None:
    backbone = on_meta(name)
    assert grid_size(backbone, 112, 616) == (channels, 7, 39)
    assert (backbone.out_channels, backbone.stride) == (channels, 16)
    assert grid_size(backbone, 256, 256) == (channels, 16, 16)


@settings(max_examples=12, deadline=None)
@given(name=st.sampled_from(SMALL), height=st.integers(1, 150), width=st.integers(1, 150), circular=st.booleans())
def test_any_size_rounds_up(name: str, height: int, width: int, circular: bool) -> None:
    stride = 16
    if circular and width < 4 * stride:
        width += 4 * stride
    _, rows, columns = grid_size(on_meta(name, circular=circular), height, width)
    assert (rows, columns) == (math.ceil(height / stride), math.ceil(width / stride))


def test_meta_arithmetic_equals_a_real_forward() -> None:
    for name in SMALL:
        features = build("backbone", name).eval()(torch.randn(2, 3, 50, 70))
        assert tuple(features.shape[1:]) == grid_size(on_meta(name), 50, 70)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnets_equal_torchvisions_up_to_layer3(name: str) -> None:
    torch.manual_seed(0)
    whole = getattr(torchvision.models, name)(weights=None).eval()
    backbone = build("backbone", name).eval()
    backbone.load_state_dict(whole.state_dict(), strict=False)
    picture = torch.randn(1, 3, 40, 72)
    with torch.no_grad():
        expected = picture
        for part in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
            expected = getattr(whole, part)(expected)
        torch.testing.assert_close(backbone(picture), expected)
    assert parameters(backbone) == parameters(whole) - parameters(whole.layer4) - parameters(whole.fc)


@pytest.mark.parametrize(
    ("name", "options", "sizes", "millions"),
    [
        # Channels, stride and grid of 112 x 616 pictures; parameters without the head, in millions.
        ("vgg16", {}, (512, 16, 7, 39), 14.71),
        ("vgg16", {"cut": "conv4_3"}, (512, 8, 14, 77), 7.64),
        ("vgg16", {"ceil": False}, (512, 16, 7, 38), 14.71),
        ("vgg16", {"cut": "pool5"}, (512, 32, 4, 20), 14.71),
        ("alexnet", {}, (256, 32, 2, 18), 2.47),
        ("resnet18", {"layers": 2}, (128, 8, 14, 77), 0.68),
        ("resnet34", {"layers": 4, "pool": False}, (512, 16, 7, 39), 21.28),
        ("convnext_tiny", {}, (768, 32, 3, 19), 27.82),
        ("convnext_base", {}, (1024, 32, 3, 19), 87.56),
        ("convnext_base", {"stages": 3}, (512, 16, 7, 38), 60.12),
        ("swin_t", {}, (768, 32, 4, 20), 27.52),
        ("swin_s", {"stages": 3}, (384, 16, 7, 39), None),
        ("efficientnet_b0", {}, (112, 16, 7, 39), 0.85),
        ("efficientnet_b3", {"stages": 7}, (384, 32, 4, 20), None),
        ("oricnn", {"in_channels": 5}, (1536, 32, 4, 20), 15.35),
        ("fcanet34", {}, (512, 32, 4, 20), None),
    ],
)
def test_sizes_and_parameters(name: str, options: dict, sizes: tuple[int, ...], millions: float | None) -> None:
    backbone = on_meta(name, **options)
    channels, rows, columns = grid_size(backbone, 112, 616)
    assert (channels, backbone.stride, rows, columns) == sizes and backbone.out_channels == channels
    if millions is not None:
        assert round(parameters(backbone) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("name", "options", "picture"),
    [("vgg16", {"ceil": False, "cut": "conv4_3"}, 48), ("alexnet", {}, 96), ("efficientnet_b0", {"stages": 7}, 48)],
)
@torch.no_grad()
def test_chains_equal_torchvisions(name: str, options: dict, picture: int) -> None:
    torch.manual_seed(0)
    whole = getattr(torchvision.models, name)(weights=None).eval()
    backbone = build("backbone", name, **options).eval()
    load_state(backbone, whole.state_dict())
    expected = images = torch.randn(1, 3, picture, picture)
    for module in whole.features[: len(backbone.features)]:
        expected = module(expected)
    torch.testing.assert_close(backbone(images), expected)


@pytest.mark.parametrize("name", ["convnext_tiny", "swin_t"])
@torch.no_grad()
def test_stages_equal_torchvisions(name: str) -> None:
    torch.manual_seed(0)
    whole = getattr(torchvision.models, name)(weights=None).eval()
    picture = torch.randn(1, 3, 64, 96)
    for stages in (3, 4):
        backbone = build("backbone", name, stages=stages).eval()
        load_state(backbone, whole.state_dict())
        expected = whole.features[: 2 * stages](picture)
        if name == "swin_t":
            expected = (whole.norm(expected) if stages == 4 else expected).permute(0, 3, 1, 2)
        torch.testing.assert_close(backbone(picture), expected)


def load_state(backbone: nn.Module, state: dict[str, torch.Tensor]) -> None:
    assert first_difference(backbone.state_dict(), state, backbone.discarded, backbone.optional) == ""
    backbone.load_state_dict(state, strict=False)


@torch.no_grad()
def test_fcanet_is_a_resnet_where_its_attention_passes_all() -> None:
    torch.manual_seed(0)
    whole = torchvision.models.resnet18(weights=None).eval()
    backbone = build("backbone", "fcanet18").eval()
    load_state(backbone, whole.state_dict())
    fcam = [module for module in backbone.modules() if type(module).__name__ == "FCAM"]
    assert len(fcam) == 8
    picture = torch.randn(1, 3, 64, 64)
    plain = build("backbone", "resnet18", layers=4).eval()
    load_state(plain, whole.state_dict())
    assert not torch.allclose(backbone(picture), plain(picture))
    for module in fcam:
        module.forward = lambda features, mask=None: (features, None)
    torch.testing.assert_close(backbone(picture), plain(picture))


@torch.no_grad()
def test_oricnn_equals_a_literal_chain() -> None:
    torch.manual_seed(0)
    backbone = build("backbone", "oricnn", in_channels=5).eval()
    picture, levels = torch.randn(1, 5, 256, 128), []
    features = picture
    for number in range(7):
        if number:
            features = torch.where(features > 0, features, 0.2 * features)
        weight, bias = backbone.convolutions[number].weight, backbone.convolutions[number].bias
        features = nn.functional.conv2d(nn.functional.pad(features, (1, 1, 1, 1)), weight, bias, stride=2)
        features = features if number == 0 else backbone.norms[number](features)
        levels.append(features)
    result = backbone(picture)
    for row in range(8):
        for column in range(4):
            expected = torch.cat([levels[k][0, :, row >> (k - 4), column >> (k - 4)] for k in (4, 5, 6)])
            torch.testing.assert_close(result[0, :, row, column], expected)


def test_what_cannot_wrap_says_so() -> None:
    with pytest.raises(UsageError, match="the windows of swin_t do not wrap around; set circular=false"):
        on_meta("swin_t", circular=True)
    with pytest.raises(UsageError, match="stages = 5 of convnext_tiny; 2 to 4"):
        on_meta("convnext_tiny", stages=5)
    with pytest.raises(UsageError, match="cut = 'conv9' of vgg16; conv3_3, conv4_3"):
        on_meta("vgg16", cut="conv9")


@pytest.mark.parametrize(
    ("name", "options"),
    [("vgg16", {"cut": "conv4_3"}), ("convnext_tiny", {"stages": 2}), ("efficientnet_b0", {}), ("oricnn", {})],
)
@torch.no_grad()
def test_new_families_roll_with_the_picture(name: str, options: dict) -> None:
    torch.manual_seed(0)
    backbone = build("backbone", name, circular=True, **options).eval()
    picture, nodes = torch.randn(1, 3, 32, 256), 128 // backbone.stride
    expected = backbone(picture).roll(nodes, dims=3)
    rolled = backbone(picture.roll(128, dims=3))
    assert ((rolled - expected).abs().max() / expected.abs().max()).item() < 1e-4


def test_timm_networks_by_name() -> None:
    pytest.importorskip("timm", reason="the extra cvgeo[timm] is not installed")
    backbone = on_meta("timm", model="resnet18", level=-2)
    assert grid_size(backbone, 64, 96) == (256, 4, 6) and backbone.stride == 16
    vit = build("backbone", "timm", model="vit_tiny_patch16_224", arguments={"img_size": [32, 64]}).eval()
    assert vit(torch.randn(1, 3, 32, 64)).shape == (1, 192, 2, 4) and vit.mean == (0.5, 0.5, 0.5)
    with pytest.raises(UsageError, match="timm knows no model 'resnet81'; did you mean resnet"):
        on_meta("timm", model="resnet81")
    with pytest.raises(UsageError, match="networks of timm pad as they are"):
        on_meta("timm", model="resnet18", circular=True)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"needs the package timm; pip install 'cvgeo\[timm\]'"):
        build("backbone", "timm", model="resnet18")


def test_parameter_counts() -> None:
    assert parameters(on_meta("resnet50")) == 8_543_296
    assert parameters(on_meta("resnet18")) == 2_782_784
    assert parameters(on_meta("resnet50", layers=4)) == 23_508_032
    assert 300_000 < parameters(on_meta("tiny")) < 1_000_000


def family(*starts: str) -> list[str]:
    return [name for name in names("backbone") if name.startswith(starts)]


WITHOUT_BATCH_NORM = family("vgg", "alexnet", "convnext", "swin")


@pytest.mark.parametrize("name", [name for name in names("backbone") if name != "timm"])
def test_batch_norm_is_held_where_asked_for(name: str) -> None:
    held = on_meta(name, batch_norm="eval").train()
    norms = [module for module in held.modules() if isinstance(module, _BatchNorm)]
    assert bool(norms) is (name not in WITHOUT_BATCH_NORM) and not any(module.training for module in norms)
    assert held.training
    free = on_meta(name).train()
    assert all(module.training for module in free.modules())
    assert not any(module.training for module in free.eval().modules())


@pytest.mark.parametrize("name", SMALL)
def test_frozen_stages_are_neither_trained_nor_renormalised(name: str) -> None:
    backbone = build("backbone", name, freeze=2).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 64, 64)).sum().backward()
    assert any(parameter.grad is not None for parameter in backbone.parameters())
    frozen = {key for key, parameter in backbone.named_parameters() if not parameter.requires_grad}
    assert frozen
    stems = {key.rsplit(".", 1)[0] for key in frozen}
    changed = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and not any(key.rsplit(".", 1)[0] in stems for key in changed)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_circular_features_roll_with_the_picture(name: str) -> None:
    torch.manual_seed(0)
    backbone = build("backbone", name, circular=True).eval()
    picture = torch.randn(1, 3, 48, 128)
    plain = build("backbone", name).eval()
    plain.load_state_dict(backbone.state_dict())
    for module, rolls in ((backbone, True), (plain, False)):
        rolled, expected = module(picture.roll(32, dims=3)), module(picture).roll(2, dims=3)
        difference = (rolled - expected).abs().max() / expected.abs().max()
        assert (difference.item() < 1e-4) is rolls


@torch.no_grad()
def test_wrapping_keeps_the_inside_and_the_names() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 5, 2, 2), nn.Sequential(nn.MaxPool2d(3, 2, 1)), nn.Conv2d(4, 2, 1))
    names_before, picture = list(plain.state_dict()), torch.randn(1, 3, 20, 40)
    expected = plain(picture)
    wrapped = wrap_azimuth(plain)
    assert list(wrapped.state_dict()) == names_before
    torch.testing.assert_close(wrapped(picture)[..., 2:-2], expected[..., 2:-2])
    tiled = wrapped(picture.repeat(1, 1, 1, 2))
    torch.testing.assert_close(tiled, wrapped(picture).repeat(1, 1, 1, 2))


@given(
    size=st.tuples(st.integers(1, 11), st.integers(4, 11)),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
)
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_same_padding_equals_its_definition(size: tuple[int, int], kernel: int, stride: int) -> None:
    convolution = SameConv2d(1, 1, kernel, stride, bias=False).double()
    picture = torch.randn(1, 1, *size, dtype=torch.float64)
    starts = []
    for length in size:
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        starts.append(-(total // 2))
    result = convolution(picture)[0, 0]
    assert result.shape == tuple(-(-length // stride) for length in size)
    for row in range(result.shape[0]):
        for column in range(result.shape[1]):
            total = 0.0
            for y in range(kernel):
                for x in range(kernel):
                    r, c = starts[0] + row * stride + y, starts[1] + column * stride + x
                    if 0 <= r < size[0] and 0 <= c < size[1]:
                        total += (convolution.weight[0, 0, y, x] * picture[0, 0, r, c]).item()
            assert result[row, column].item() == pytest.approx(total, abs=1e-9)


def test_bad_options_are_explained() -> None:
    with pytest.raises(UsageError, match="freeze = 5: this backbone has 4 stages; 0 to 4"):
        build("backbone", "resnet18", freeze=5)
    with pytest.raises(UsageError, match="layers = 1 of resnet18; 2, 3 or 4"):
        build("backbone", "resnet18", layers=1)
    with pytest.raises(UsageError, match="batch_norm = 'off'; train or eval"):
        build("backbone", "tiny", batch_norm="off")
    with pytest.raises(UsageError, match="norm = 'layer'; batch or group"):
        build("backbone", "tiny", norm="layer")
    with pytest.raises(UsageError, match="stride = 4 of the backbone tiny; 8 or 16"):
        build("backbone", "tiny", stride=4)
    with pytest.raises(UsageError, match="unknown backbone 'resnet5'; did you mean resnet50"):
        build("backbone", "resnet5")
