"""The whole model: presets, sharing, masks, sizes, fingerprints, exactly what reaches the backbone."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.config.load import TIERS, load_model_config
from cvgeo.config.schema import ModelConfig, from_dict, to_dict
from cvgeo.errors import MismatchError, UsageError
from cvgeo.losses import WeightedSoftMarginTripletLoss
from cvgeo.models import (
    Embedder,
    build,
    build_embedder,
    create_model,
    describe_model,
    fingerprint,
    list_models,
    names,
)
from cvgeo.models.cost import count_multiply_adds
from cvgeo.models.embedder import LATER_KEYS, view_grid
from cvgeo.models.inputs.orientation import panorama_maps, polar_maps, tile_maps

SIZE = {"ground_height": 32, "ground_width": 96, "aerial_height": 32, "aerial_width": 96}
TINY = {"backbone": "tiny", "backbone_options": {"width": 8}, "view": SIZE}


def pictures(batch: int = 2, height: int = 32, width: int = 96, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def small(**changes: object) -> Embedder:
    torch.manual_seed(0)
    options = {} if changes.get("aggregator") in ("gem", "average") else {"aggregator_options": {"out_channels": 16}}
    return create_model("mc_gra", **{**TINY, **options, **changes})


@pytest.mark.parametrize("name", list_models())
def test_every_preset_is_described_without_weights(name: str) -> None:
    described = describe_model(name)
    assert described.parameters > 0 and described.descriptor_size > 0 and described.multiply_adds > 0
    assert described.backbone in names("backbone") and described.aggregator in names("aggregator")
    assert described.summary and described.source and described.tier in TIERS
    assert bool(described.open) is (described.tier != "own")
    for line in described.published:
        assert line["data"] and line["from"] and len(line) > 2
        assert all(0 < value <= 100 for key, value in line.items() if key.startswith("r@"))


@pytest.mark.parametrize(
    ("name", "descriptor", "grids"),
    [
        ("safa", 4096, ((512, 7, 39), (512, 7, 39))),
        ("dsm", 4096, ((512, 16, 64), (512, 16, 64))),
        ("cvft", 4096, ((512, 7, 39), (512, 16, 16))),
        ("cvm_net", 4096, ((512, 14, 77), (512, 32, 32))),
        ("liu_li", 1536, ((1536, 7, 39), (1536, 16, 16))),
        ("vigor", 4096, ((512, 20, 40), (512, 20, 20))),
        ("geodtr", 4096, ((512, 8, 42), (512, 8, 42))),
        ("sample4geo", 1024, ((1024, 4, 24), (1024, 12, 12))),
    ],
)
def test_published_models_have_their_published_sizes(name: str, descriptor: int, grids: tuple) -> None:
    config = load_model_config(name)
    assert (view_grid(config, "ground"), view_grid(config, "aerial")) == grids
    assert describe_model(name).descriptor_size == descriptor


@pytest.mark.parametrize(
    ("name", "options", "billions"),
    [("vgg16", {}, 15.35), ("resnet50", {"layers": 4}, 4.09), ("convnext_base", {}, 15.35), ("swin_t", {}, 4.49)],
)
def test_cost_is_the_published_one(name: str, options: dict, billions: float) -> None:
    """Multiply-adds at 224 x 224 as torchvision prints them (GFLOPS of its tables), without the small heads."""
    with torch.device("meta"):
        backbone = build("backbone", name, **options)
    assert count_multiply_adds(backbone, (1, 3, 224, 224)) / 1e9 == pytest.approx(billions, abs=0.01)


def test_deformable_convolutions_cost_what_ordinary_ones_do_and_their_offsets() -> None:
    ordinary, deformable = (describe_model(name).multiply_adds for name in ("mc_gra_ordinary", "mc_gra"))
    offsets = 7 * 39 * 9 * (18 + 50)
    assert deformable - ordinary == 2 * offsets


def test_the_papers_model_has_the_papers_sizes() -> None:
    described = describe_model("mc_gra")
    assert described.descriptor_size == 4096
    assert (described.ground_size, described.aerial_size, described.polar) == ((112, 616), (112, 616), True)
    with torch.device("meta"):
        model = create_model("mc_gra")
    assert model.branch("ground").grid == model.branch("aerial").grid == (1024, 7, 39)
    assert model.branch("ground") is not model.branch("aerial")
    with torch.device("meta"):
        plain = create_model("mc_gra_plain")
    assert plain.branch("aerial").grid == (1024, 16, 16)


@pytest.mark.parametrize("attention", names("attention"))
@pytest.mark.parametrize("share", [False, True])
def test_descriptors_features_and_attention(attention: str, share: bool) -> None:
    model = small(attention=attention, share=share).eval()
    assert ("shared" in model.branches) is share
    mask = torch.ones(2, 32, 96, dtype=torch.bool)
    mask[0, :, :40] = False
    embedding = model.embed("ground", pictures(), mask)
    torch.testing.assert_close(embedding.descriptor.norm(dim=1), torch.ones(2))
    assert embedding.descriptor.shape == (2, model.descriptor_size)
    assert embedding.features.shape == (2, 32, 2, 6)
    assert (embedding.attention is None) is (attention == "none")
    ground, aerial = model(pictures(), pictures(seed=1), mask)
    assert ground.shape == aerial.shape == embedding.descriptor.shape
    torch.testing.assert_close(ground, embedding.descriptor)
    assert (
        torch.allclose(model.embed("aerial", pictures()).descriptor, model.embed("ground", pictures()).descriptor)
        is share
    )


@torch.no_grad()
def test_a_descriptor_does_not_depend_on_its_batch() -> None:
    for name in ("mc_gra_small", "tiny"):
        model = create_model(name).eval()
        height, width = model.branch("ground").size
        batch = pictures(3, height, width)
        mask = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1)) > 0.4
        whole = model.embed("ground", batch, mask).descriptor
        torch.testing.assert_close(
            whole[1:2], model.embed("ground", batch[1:2], mask[1:2]).descriptor, atol=1e-5, rtol=1e-4
        )
        nhwc = model.embed("ground", batch.to(memory_format=torch.channels_last), mask).descriptor
        torch.testing.assert_close(nhwc, whole, atol=1e-5, rtol=1e-4)


def test_all_parameters_get_gradients() -> None:
    for options in ({}, {"attention_options": {"literal": True, "modulated": True, "position": "learned"}}):
        model = small(**options).train()
        ground, aerial = model(pictures(4), pictures(4, seed=1))
        (ground * aerial.roll(1, 0)).sum().backward()
        assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


def test_sharing_needs_equal_grids_before_anything_is_trained() -> None:
    plain = {"aerial": "plain", "aerial_height": 64, "aerial_width": 64}
    fault = r"equal feature grids for the aggregator mixvpr, but ground has 7x39 and aerial 4x4; set model.share=false"
    with pytest.raises(UsageError, match=fault):
        create_model("mc_gra", backbone="tiny", attention="none", share=True, view=plain)
    own = {"share": True, "ground": {"aggregator": "gem"}}
    with pytest.raises(UsageError, match=r"share = true, but model.ground has parts of its own; set model.share=false"):
        small(**own)
    with pytest.raises(UsageError, match="the input orientation differs between the views"):
        create_model("liu_li", share=True)
    with pytest.raises(UsageError, match="azimuth wraps in one view only"):
        create_model("mc_gra", backbone="tiny", share=True, view={"aerial": "plain"})
    with pytest.raises(UsageError, match="descriptors differ in length"):
        create_model("zero_shot", backbone="tiny", share=False, view={"ground_width": 320, "aerial_width": 640})


def test_a_plain_tile_does_not_wrap() -> None:
    plain = {**SIZE, "aerial": "plain", "aerial_height": 48, "aerial_width": 48}
    model = small(view=plain, backbone_options={"width": 8, "circular": True}).eval()
    with torch.no_grad():
        whole = {}
        for view, size in (("ground", (32, 96)), ("aerial", (48, 48))):
            picture = pictures(1, *size)
            branch = model.branch(view)
            features = branch.backbone(picture)
            turned = branch.backbone(picture.roll(16, dims=3)).roll(-1, dims=3)
            whole[view] = torch.allclose(features, turned, atol=1e-4)
    assert whole == {"ground": True, "aerial": False}


def test_pictures_of_another_size_are_refused_with_status_4() -> None:
    model = small()
    with pytest.raises(
        MismatchError, match=r"ground pictures of shape \(2, 3, 32, 64\) for a model of \(B, 3, 32, 96\)"
    ) as caught:
        model.embed("ground", pictures(width=64))
    assert caught.value.status == 4
    with pytest.raises(UsageError, match="unknown view 'street'"):
        model.branch("street")


def test_azimuth_columns_are_offered_only_where_both_views_roll() -> None:
    assert create_model("zero_shot", backbone="tiny", view=SIZE).azimuth_columns == 6
    assert small().azimuth_columns == 0
    assert create_model("zero_shot", backbone="tiny", view={**SIZE, "aerial": "plain"}).azimuth_columns == 0


@torch.no_grad()
def test_zero_shot_turns_with_the_heading() -> None:
    torch.manual_seed(0)
    model = create_model("zero_shot", backbone="tiny", backbone_options={"circular": True}, view=SIZE).eval()
    picture = pictures(1)
    before = model.embed("ground", picture).descriptor.view(model.azimuth_columns, -1)
    after = model.embed("ground", picture.roll(2 * 16, dims=3)).descriptor.view(model.azimuth_columns, -1)
    torch.testing.assert_close(after, before.roll(2, dims=0), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_pictures_reach_the_backbone_as_its_weights_want_them() -> None:
    model = create_model("zero_shot", backbone="efficientnet_lite0", view=SIZE).eval()
    view, branch, seen = model.config.view, model.branch("ground"), []
    branch.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    pixels = torch.randint(0, 256, (1, 3, 32, 96), generator=torch.Generator().manual_seed(0)).float()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (view.mean, view.std))
    model.embed("ground", (pixels / 255 - mean) / std)
    torch.testing.assert_close(seen[0], (pixels - 127) / 128, atol=1e-6, rtol=1e-5)
    plain = create_model("zero_shot", view=SIZE).branch("ground")
    assert not plain.renormalise


def test_fingerprint_follows_configuration_and_weights() -> None:
    first, same = small(), small()
    assert fingerprint(first) == fingerprint(same) and len(fingerprint(first)) == 64
    assert fingerprint(first.half()) != fingerprint(same)
    other = small(attention_options={"position": "none"})
    assert fingerprint(other) != fingerprint(same)
    with torch.no_grad():
        next(same.parameters()).view(-1)[0] += 1e-6
    assert fingerprint(same) != fingerprint(small())


def test_configuration_rebuilds_the_model() -> None:
    model = small(share=True)
    again = build_embedder(from_dict(ModelConfig, json.loads(json.dumps(to_dict(model.config)))))
    again.load_state_dict(model.state_dict())
    assert fingerprint(again) == fingerprint(model)


def test_options_belong_to_their_part() -> None:
    changed = create_model("mc_gra", backbone="tiny", aggregator="average")
    assert changed.config.aggregator_options == {} and changed.descriptor_size == 128
    kept = create_model("mc_gra", backbone="tiny", aggregator="mixvpr", aggregator_options={"out_rows": 2})
    assert kept.config.aggregator_options["out_channels"] == 1024 and kept.descriptor_size == 2048


def test_unknown_names_are_explained() -> None:
    with pytest.raises(UsageError, match="unknown model 'mcgra'; did you mean mc_gra"):
        create_model("mcgra")
    with pytest.raises(UsageError, match="unknown setting backbon; did you mean backbone"):
        create_model("mc_gra", backbon="tiny")
    with pytest.raises(UsageError, match=r"mixvpr cannot be built with .*out_channel=3.*unexpected keyword argument"):
        create_model("mc_gra", backbone="tiny", aggregator_options={"out_channel": 3})


@pytest.mark.parametrize("aggregator", names("aggregator"))
@pytest.mark.parametrize("attention", ["none", "mc_gra"])
def test_every_combination_learns_a_few_pairs(attention: str, aggregator: str) -> None:
    torch.manual_seed(0)
    model = create_model("mc_gra", **TINY, attention=attention, aggregator=aggregator).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    ground, aerial = pictures(8), pictures(8) + pictures(8, seed=1)
    losses = []
    for _ in range(12):
        loss = WeightedSoftMarginTripletLoss()(*model(ground, aerial))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("aggregator", ["mixvpr", "flat", "gem"])
def test_autocast_trains_and_gives_single_precision_descriptors(dtype: torch.dtype, aggregator: str) -> None:
    model = small(aggregator=aggregator, attention_options={"modulated": True}).train()
    mask = torch.rand(4, 32, 96, generator=torch.Generator().manual_seed(1)) > 0.3
    exact = model(pictures(4), pictures(4, seed=1), mask)[0]
    with torch.autocast("cpu", dtype=dtype):
        ground, aerial = model(pictures(4), pictures(4, seed=1), mask)
    assert ground.dtype == torch.float32
    torch.testing.assert_close(ground.norm(dim=1), torch.ones(4))
    assert (ground * exact).sum(dim=1).min() > 0.98
    (ground * aerial.roll(1, 0)).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


@torch.no_grad()
def test_whole_models_in_bfloat16() -> None:
    model = small(aggregator="average").eval()
    exact = model.embed("ground", pictures()).descriptor
    halved = model.to(torch.bfloat16).embed("ground", pictures().to(torch.bfloat16)).descriptor
    assert halved.dtype == torch.float32 and (exact * halved).sum(dim=1).min() > 0.98


def test_training_is_deterministic_on_the_cpu() -> None:
    gradients = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            model = small(backbone_options={"width": 8, "circular": True}).train()
            ground, aerial = model(pictures(4), pictures(4, seed=1), torch.ones(4, 32, 96, dtype=torch.bool))
            (ground * aerial.roll(1, 0)).sum().backward()
            gradients.append([parameter.grad for parameter in model.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


@settings(max_examples=12, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 200), attention=st.sampled_from(["mc_gra", "cbam"]))
def test_any_size_can_be_constructed(height: int, width: int, attention: str) -> None:
    view = {"ground_height": height, "ground_width": width, "aerial": "plain", "aerial_height": 33, "aerial_width": 33}
    model = small(view=view, attention=attention, backbone_options={"width": 4}).eval()
    with torch.no_grad():
        descriptors = model(pictures(1, height, width), pictures(1, 33, 33))
    assert all(descriptor.isfinite().all() for descriptor in descriptors)
    assert model.branch("ground").grid[1:] == (math.ceil(height / 16), math.ceil(width / 16))


def test_sizes_too_small_are_explained() -> None:
    with pytest.raises(UsageError, match=r"pictures of 0x96 are too small .*; set larger sizes in model.view"):
        small(view={**SIZE, "ground_height": 0})
    with pytest.raises(UsageError, match="pictures of 32x1 are too small"):
        small(view={**SIZE, "ground_width": 1}, backbone_options={"circular": True})


def test_importing_the_models_is_silent() -> None:
    command = [sys.executable, "-W", "error", "-c", "import cvgeo.models, cvgeo.losses"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@torch.no_grad()
def test_parts_that_take_any_grid_are_shared_by_views_of_any_sizes() -> None:
    plain = {**SIZE, "aerial": "plain", "aerial_height": 48, "aerial_width": 48}
    for attention in ("none", "cbam", "fcam", "ssa", "reweighting", "max_pool"):
        for aggregator in ("average", "max", "gem", "netvlad"):
            model = small(
                attention=attention, aggregator=aggregator, aggregator_options={}, share=True, view=plain
            ).eval()
            ground, aerial = model(pictures(), pictures(2, 48, 48))
            assert ground.shape == aerial.shape == (2, model.descriptor_size)


def test_a_view_has_parts_and_options_of_its_own() -> None:
    model = small(
        ground={"attention": "cbam", "backbone_options": {"blocks": 2}},
        aerial={"aggregator": "average", "aggregator_options": {"out_channels": 64}},
        backbone_options={"width": 8, "circular": True},
    )
    ground, aerial = model.branch("ground"), model.branch("aerial")
    assert type(ground.attention).__name__ == "SpatialGate" and type(aerial.attention).__name__ == "MCGRA"
    assert type(ground.aggregator).__name__ == "MixVPR" and type(aerial.aggregator).__name__ == "AveragePooling"
    assert len(ground.backbone.stages[0]) == 3 and len(aerial.backbone.stages[0]) == 2
    assert ground.backbone.out_channels == aerial.backbone.out_channels == 32 and model.descriptor_size == 64
    again = build_embedder(from_dict(ModelConfig, json.loads(json.dumps(to_dict(model.config)))))
    assert set(again.state_dict()) == set(model.state_dict())
    with pytest.raises(UsageError, match=r"unknown setting ground.atention; did you mean ground.attention"):
        small(ground={"atention": "cbam"})


def test_fingerprints_of_older_models_stay() -> None:
    """Keys that are at their defaults and that older checkpoints do not have count for nothing."""
    model = small()
    older = {key: value for key, value in to_dict(model.config).items() if key not in LATER_KEYS}
    digest = hashlib.sha256(json.dumps(older, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    assert fingerprint(model) == digest.hexdigest()
    assert fingerprint(small(ground={"attention_options": {"position": "none"}})) != fingerprint(model)


def test_rolling_is_offered_where_it_means_turning() -> None:
    assert small(aggregator="columns", aggregator_options={}, backbone_options={"width": 8, "circular": True}).rolls
    assert not small(aggregator="columns", aggregator_options={}).rolls
    assert not small(backbone_options={"width": 8, "circular": True}).rolls
    plain = {**SIZE, "aerial": "plain", "aerial_height": 48, "aerial_width": 96}
    assert small(aggregator="dsm", aggregator_options={}).rolls
    assert not small(aggregator="dsm", aggregator_options={}, view=plain).rolls


SMALLER = {
    "liu_li": {},
    "cai": {"backbone": "fcanet18", "aggregator_options": {"out_channels": 16}},
    "workman": {"backbone": "tiny", "ground": {"backbone_options": {"freeze": 3}}},
    **{name: {"backbone": "tiny"} for name in ("cvft", "cvm_net", "dsm", "geodtr", "safa", "ssa_net", "siamese_vgg")},
}


@pytest.mark.parametrize("name", SMALLER)
def test_published_compositions_train_both_views(name: str) -> None:
    """As their presets compose them, the larger ones on a small backbone."""
    torch.manual_seed(0)
    polar = load_model_config(name).view.aerial == "polar"
    size = {"ground_height": 64, "ground_width": 128, "aerial_height": 64, "aerial_width": 128 if polar else 64}
    options = {"aggregator_options": {"clusters": 4, "out_channels": 16}} if name == "cvm_net" else {}
    model = create_model(name, view=size, **SMALLER[name], **options).train()
    ground, aerial = model(pictures(3, 64, 128), pictures(3, 64, size["aerial_width"], seed=1))
    (ground * aerial.roll(1, 0)).sum().backward()
    assert [key for key, one in model.named_parameters() if one.requires_grad and one.grad is None] == []
    assert ground.shape == aerial.shape == (3, model.descriptor_size)


def test_orientation_maps_say_where_north_and_the_horizon_are() -> None:
    azimuth, altitude = panorama_maps(8, 16)
    assert azimuth[0, 7] == -azimuth[0, 8] == -1 / 16 and altitude[0, 0] == -altitude[7, 0]
    assert altitude[0, 0].item() * 180 == pytest.approx(45 - 90 / 16)
    turned = panorama_maps(8, 16, column0_heading=0.0)[0]
    assert turned[0, 0] == 1 / 16 and turned[0, 15] == -1 / 16
    azimuth, distance = tile_maps(6, 6)
    for row in range(6):
        for column in range(6):
            north, east = (2.5 - row) / 3, (column - 2.5) / 3
            assert azimuth[row, column].item() == pytest.approx(math.atan2(east, north) / math.pi, abs=1e-6)
            assert distance[row, column].item() == pytest.approx(2 * math.hypot(north, east) - 1, abs=1e-6)
    azimuth, distance = polar_maps(4, 8)
    assert azimuth[0, 3] == -azimuth[0, 4] and (distance.diff(dim=0) < 0).all() and distance[0, 0] == 0.75


def test_input_channels_reach_the_backbone_that_takes_them() -> None:
    with torch.device("meta"):
        model = create_model("liu_li")
    assert model.branch("ground").backbone.convolutions[0].weight.shape == (64, 5, 4, 4)
    with pytest.raises(UsageError, match=r"backbone resnet18 cannot be built with .*in_channels=5"):
        create_model("liu_li", backbone="resnet18")


@pytest.mark.parametrize(("backbone", "side"), [("alexnet", 20), ("convnext_tiny", 20), ("swin_t", 3), ("vgg16", 0)])
def test_pictures_too_small_for_a_backbone_are_named(backbone: str, side: int) -> None:
    view = {"ground_height": side, "ground_width": side, "aerial_height": 64, "aerial_width": 64}
    with pytest.raises(
        UsageError, match=f"pictures of {side}x{side} are too small for the backbone.*model.view"
    ) as one:
        create_model("mc_gra", backbone=backbone, attention="none", aggregator="average", view=view)
    assert "\n" not in str(one.value)
