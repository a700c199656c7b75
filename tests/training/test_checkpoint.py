from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cvgeo.config.load import resolve
from cvgeo.config.schema import Config, to_dict
from cvgeo.errors import InputError, MismatchError
from cvgeo.models import Embedder, build_embedder, fingerprint
from cvgeo.training.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    read_metadata,
    resolve_model,
    save_checkpoint,
)

VIEW = {"ground_height": 16, "ground_width": 64, "aerial_height": 16, "aerial_width": 64}


def small(**changes: object) -> tuple[Config, Embedder]:
    keys = {"view": VIEW, "backbone_options": {"width": 8}, "aggregator_options": {"columns": 4}, **changes}
    config = resolve("tiny", "demo", {"model": keys})
    torch.manual_seed(0)
    return config, build_embedder(config.model)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Config, Embedder]:
    config, model = small()
    path = tmp_path / "run" / "best.safetensors"
    save_checkpoint(path, model, config, {"r@1": 0.5}, epoch=3, dataset={"name": "x", "fingerprint": "f"})
    return path, config, model


def rewrite(path: Path, change: dict | None = None, drop: str | None = None, tensors: dict | None = None) -> None:
    """Write the checkpoint again with other metadata (values of `cvgeo`'s keys) or other tensors."""
    details = read_metadata(path) | (change or {})
    if drop:
        del details[drop]
    state = load_file(path) if tensors is None else tensors
    save_file(state, path, {"cvgeo": json.dumps(details)})


def test_a_checkpoint_rebuilds_its_model(saved: tuple[Path, Config, Embedder]) -> None:
    path, config, model = saved
    loaded, read_config, metadata = load_checkpoint(path)
    assert not loaded.training
    assert to_dict(read_config) == to_dict(config)
    assert fingerprint(loaded) == fingerprint(model) == metadata["fingerprint"]
    assert (metadata["epoch"], metadata["metrics"], metadata["dataset"]["name"]) == (3, {"r@1": 0.5}, "x")
    images = torch.randn(2, 3, 16, 64)
    with torch.no_grad():
        expected = model.eval().embed("ground", images).descriptor
        assert torch.equal(loaded.embed("ground", images).descriptor, expected)


def test_shared_branches_and_options_survive(tmp_path: Path) -> None:
    config, model = small(share=True, aggregator_options={"columns": 2})
    save_checkpoint(tmp_path / "m.safetensors", model, config, {})
    loaded, read_config, _ = load_checkpoint(tmp_path / "m.safetensors")
    assert read_config.model.share
    assert read_config.model.aggregator_options["columns"] == 2
    assert fingerprint(loaded) == fingerprint(model)


def test_folded_batch_norm_stays_in_evaluation_mode(tmp_path: Path) -> None:
    config, model = small(backbone_options={"width": 8, "batch_norm": "eval"})
    save_checkpoint(tmp_path / "m.safetensors", model, config, {})
    loaded = load_checkpoint(tmp_path / "m.safetensors")[0].train()
    norms = [module for module in loaded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(module.training for module in loaded.branches["ground"].backbone.modules() if module in norms)


def test_checkpoints_are_readable_as_other_files_are(saved: tuple[Path, Config, Embedder]) -> None:
    other = saved[0].with_name("plain")
    other.touch()
    assert saved[0].stat().st_mode == other.stat().st_mode
    assert sorted(path.name for path in saved[0].parent.iterdir()) == ["best.safetensors", "plain"]


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.safetensors: cannot read"):
        load_checkpoint(tmp_path / "gone.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        load_checkpoint(tmp_path)
    text = tmp_path / "text.safetensors"
    text.write_text("not tensors, but longer than the eight bytes of a header")
    with pytest.raises(InputError, match=r"text.safetensors: is not a checkpoint, or damaged"):
        load_checkpoint(text)
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    with pytest.raises(InputError, match=r"empty.safetensors: is not a checkpoint, or damaged"):
        load_checkpoint(empty)
    plain = tmp_path / "plain.safetensors"
    save_file({"weight": torch.zeros(2)}, plain)
    with pytest.raises(InputError, match="no cvgeo configuration"):
        load_checkpoint(plain)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_is_damaged(saved: tuple[Path, Config, Embedder], share: float) -> None:
    path = saved[0]
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(path)


def test_one_flipped_bit_of_the_weights_is_noticed(saved: tuple[Path, Config, Embedder]) -> None:
    path = saved[0]
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="not those that were written"):
        load_checkpoint(path)


def test_another_format_is_a_mismatch(saved: tuple[Path, Config, Embedder]) -> None:
    rewrite(saved[0], {"format_version": 99})
    with pytest.raises(MismatchError, match="format 99, this program reads format 1"):
        load_checkpoint(saved[0])


@pytest.mark.parametrize("key", ["config", "fingerprint", "metrics"])
def test_a_missing_key_is_named(saved: tuple[Path, Config, Embedder], key: str) -> None:
    rewrite(saved[0], drop=key)
    with pytest.raises(InputError, match=f"{key} is missing"):
        load_checkpoint(saved[0])


def test_a_configuration_of_another_program_is_a_mismatch(saved: tuple[Path, Config, Embedder]) -> None:
    config = read_metadata(saved[0])["config"]
    config["model"]["flux"] = 1
    rewrite(saved[0], {"config": config})
    with pytest.raises(MismatchError, match=r"unknown setting model.flux"):
        load_checkpoint(saved[0])


def test_the_first_difference_of_weights_is_named(saved: tuple[Path, Config, Embedder]) -> None:
    state = load_file(saved[0])
    name = next(name for name in state if name.endswith("stem.0.weight"))
    rewrite(saved[0], tensors={**state, name: state[name][:3].contiguous()})
    with pytest.raises(MismatchError, match=r"stem.0.weight is \(3, 3, 5, 5\), expected \(8, 3, 5, 5\)"):
        load_checkpoint(saved[0])
    rewrite(saved[0], tensors={key: value for key, value in state.items() if key != name})
    with pytest.raises(MismatchError, match="is missing"):
        load_checkpoint(saved[0])


def test_references_are_files_folders_and_presets(saved: tuple[Path, Config, Embedder], tmp_path: Path) -> None:
    path, _, model = saved
    assert find_checkpoint(path) == find_checkpoint(path.parent) == path
    assert find_checkpoint("tiny") is None
    assert fingerprint(resolve_model(path.parent)) == fingerprint(model)
    path.rename(path.with_name("last.safetensors"))
    assert find_checkpoint(path.parent).name == "last.safetensors"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no checkpoint in this folder"):
        find_checkpoint(tmp_path / "empty")
    with pytest.raises(InputError, match=r"no such model; give a checkpoint, a run folder, or one of .*zero_shot"):
        find_checkpoint(tmp_path / "runs" / "2026")
    with pytest.raises(InputError, match=r"no such model; did you mean zero_shot\?"):
        find_checkpoint("zero_shoot")


def test_a_preset_takes_weights_from_the_call_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVGEO_WEIGHTS", "none")
    model = resolve_model("tiny")
    assert not model.training
    with pytest.raises(InputError, match="no such weights file"):
        resolve_model("tiny", str(tmp_path / "gone.pth"))
    monkeypatch.setenv("CVGEO_WEIGHTS", str(tmp_path / "away.pth"))
    with pytest.raises(InputError, match=r"away\.pth"):
        resolve_model("tiny")
    assert resolve_model("tiny", "none").descriptor_size == model.descriptor_size
