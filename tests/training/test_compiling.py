"""A compiled model is the same model; without a compiler it trains as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cvgeo.config.load import load_model_config
from cvgeo.config.schema import Config, from_dict
from cvgeo.errors import UsageError
from cvgeo.models import Embedder, build_embedder
from cvgeo.pipelines.train import check_config
from cvgeo.report import Reporter
from cvgeo.training.compiling import as_written, compile_model, compiler_fault

VIEW = {"ground_height": 16, "ground_width": 64, "aerial_height": 16, "aerial_width": 64}


def small() -> Embedder:
    """A shared branch: one graph to compile."""
    changes = {"view": VIEW, "share": True, "backbone_options": {"width": 8}, "aggregator_options": {"columns": 4}}
    torch.manual_seed(0)
    return build_embedder(load_model_config("tiny", changes), "none").train()


class Warned(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_without_a_compiler_one_line_says_so_and_the_model_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    reporter, model = Warned(), small()
    assert not compile_model(model, reporter)
    assert reporter.warnings == ["train.compile: no C++ compiler is found (g++, clang++): trains without it"]
    monkeypatch.setenv("CXX", "strange++")
    assert "strange++" in compiler_fault(torch.device("cpu"))
    images = torch.zeros(2, 3, 16, 64)
    assert len(model(images, images)[0]) == 2


def test_keeping_what_is_cheap_and_keeping_nothing_exclude_each_other() -> None:
    config = from_dict(Config, {"train": {"compile": True, "checkpoint_activations": True}})
    with pytest.raises(UsageError, match=r"train.compile keeps .* take one of them"):
        check_config(config)


@pytest.mark.slow
@pytest.mark.skipif(compiler_fault(torch.device("cpu")) is not None, reason="no compiler")
def test_a_compiled_model_has_the_same_names_descriptors_and_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    images = torch.rand(4, 3, 16, 64, generator=torch.Generator().manual_seed(1))
    model = small()

    def both() -> tuple[Tensor, dict[str, Tensor]]:
        model.zero_grad()
        descriptors = model(images, images.flip(3))
        product = descriptors[0] @ descriptors[1].T
        (product * torch.arange(16.0).view(4, 4)).sum().backward()
        gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
        return product.detach(), gradients

    plain, names = both(), list(model.state_dict())
    assert compile_model(model, Reporter())
    compiled = both()
    assert list(model.state_dict()) == names
    torch.testing.assert_close(compiled[0], plain[0], rtol=1e-4, atol=1e-5)
    largest = max(one.abs().max() for one in plain[1].values()).item()
    assert plain[1].keys() == compiled[1].keys()
    for name, expected in plain[1].items():
        torch.testing.assert_close(compiled[1][name], expected, rtol=1e-3, atol=1e-4 * largest, msg=name)
    with as_written(True), torch.inference_mode():
        # Another batch size and mode: nothing is compiled for them.
        model.eval()
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert model(images[:3], images[:3])[0].shape == (3, model.descriptor_size)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before
