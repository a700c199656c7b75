"""Checkpoints: safetensors with the resolved configuration, the conventions and the metrics in their metadata.

A checkpoint rebuilds its model without anything else at hand, and says what it was trained on. What the loss has
learned besides (an offset head, a temperature) stands beside the model's weights. No pickle is read.
"""

from __future__ import annotations

import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cvgeo import __version__
from cvgeo.config.load import preset_names
from cvgeo.config.schema import Config, from_dict, to_dict
from cvgeo.errors import InputError, MismatchError, UsageError, explain_os_error
from cvgeo.losses import OffsetRegressionLoss, PairLoss, SumLoss, build_loss
from cvgeo.losses.pairs import OFFSET
from cvgeo.models import Embedder, build, build_embedder, create_model, fingerprint
from cvgeo.models.weights import first_difference
from cvgeo.paths import atomic_file, require_readable, utf8_path

FORMAT_VERSION = 1
BEST = "best.safetensors"
LAST = "last.safetensors"
SHARPNESS = 14.0  # of headings where nothing is measured: 1 / 0.07, the temperature that InfoNCE starts from
LOSS = "loss."  # before the names of the loss's tensors


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Embedder,
    config: Config,
    metrics: dict[str, Any],
    loss: nn.Module | None = None,
    **more: Any,
) -> None:
    """Write a model's weights with all that is needed to use them, whole or not at all.

    With `loss` its own weights go along, for `load_loss`. `more` are further plain values for the metadata (the
    trainer adds `dataset`, `conventions` and `epoch`). Raises OutputError.
    """
    details = {
        "format_version": FORMAT_VERSION,
        "cvgeo_version": __version__,
        "config": to_dict(config),
        "fingerprint": fingerprint(model),
        "metrics": metrics,
        **more,
    }
    tensors = dict(model.state_dict())
    if loss is not None:
        tensors |= {LOSS + name: tensor for name, tensor in loss.state_dict().items()}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Written by Python, not by safetensors, whose error for a full disk is no OSError.
    content = save(state, {"format": "pt", "cvgeo": json.dumps(details)})
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a checkpoint says of itself, without its weights being read.

    Keys: format_version, cvgeo_version, config, fingerprint, metrics, and from the trainer dataset, conventions and
    epoch. Raises InputError for a missing or damaged file and for one of another program, MismatchError for one of a
    later format.
    """
    return _open(path, with_weights=False)[0]


def _open(path: str | os.PathLike[str], with_weights: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if os.path.isdir(path):
        raise InputError("is a folder, not a checkpoint", path=path, mend=f"name a file such as {BEST}")
    require_readable(path)
    try:
        with safe_open(utf8_path(path), "pt") as file:
            text = (file.metadata() or {}).get("cvgeo")
            state = {name: file.get_tensor(name) for name in file.keys()} if with_weights else {}  # noqa: SIM118
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    except SafetensorError as error:
        fault = f"is not a checkpoint, or damaged ({error})"
        raise InputError(fault, path=path, mend="name a .safetensors file that cvgeo train wrote") from error
    if text is None:
        mend = "for a backbone's weights alone use --weights FILE"
        raise InputError("holds weights but no cvgeo configuration", path=path, mend=mend)
    return _check(text, path), state


def annotate(reference: str | os.PathLike[str], **values: Any) -> None:
    """Add plain values to what a checkpoint (or a run folder's) says of itself; its weights stay.

    Raises UsageError for a preset, which has no file, and the errors of `read_metadata`.
    """
    path = find_checkpoint(reference)
    if path is None:
        raise UsageError(f"{reference} is a preset and has no checkpoint to write to", mend="name a trained model")
    details, state = _open(path, with_weights=True)
    content = save(state, {"format": "pt", "cvgeo": json.dumps(details | values)})
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def heading_sharpness(reference: str | os.PathLike[str]) -> float:
    """What `cvgeo.retrieval.peaks.heading_sd` takes, as measured for a checkpoint; a preset's or unmeasured: 14."""
    path = find_checkpoint(reference)
    value = None if path is None else read_metadata(path).get("heading_sharpness")
    return float(value) if isinstance(value, int | float) and value > 0 else SHARPNESS


def _check(text: str, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        details = json.loads(text)
        version = details["format_version"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError("damaged: its metadata cannot be read", path=path, mend="get the file again") from error
    if version != FORMAT_VERSION:
        fault = f"checkpoint of format {version}, this program reads format {FORMAT_VERSION}"
        raise MismatchError(fault, path=path, mend="use the cvgeo version that wrote it")
    missing = [key for key in ("config", "fingerprint", "metrics") if key not in details]
    if missing:
        raise InputError(f"damaged: {missing[0]} is missing in its metadata", path=path, mend="get the file again")
    return details


def load_checkpoint(
    path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> tuple[Embedder, Config, dict[str, Any]]:
    """The model of a checkpoint in evaluation mode, its configuration, and its metadata (see `read_metadata`).

    Raises InputError for a missing or damaged file (the weights are checked against their fingerprint), MismatchError
    for another format or weights that do not fit the configuration, naming the first difference.
    """
    details, state = _open(path, with_weights=True)
    config = _config(details, path)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(LOSS)}
    model = build_embedder(config.model)
    difference = first_difference(model.state_dict(), state, ())
    if difference:
        raise MismatchError(f"its weights do not fit its configuration: {difference}", path=path)
    model.load_state_dict(state)
    if fingerprint(model) != details["fingerprint"]:
        raise InputError("damaged: the weights are not those that were written", path=path, mend="get the file again")
    return model.to(device).eval(), config, details


def _config(details: dict[str, Any], path: str | os.PathLike[str]) -> Config:
    try:
        return from_dict(Config, details["config"])
    except (UsageError, TypeError, AttributeError) as error:
        fault = f"its configuration is not this program's ({error})"
        raise MismatchError(fault, path=path, mend="use the cvgeo version that wrote it") from error


def load_loss(path: str | os.PathLike[str], descriptor_size: int) -> PairLoss:
    """The loss that a checkpoint's model of descriptors (B, D) was trained with, with what it learned, for evaluation.

    An offset head predicts from it: `load_loss(path, model.descriptor_size).predict(ground, aerial)`, or the like of
    `terms["offset_regression"]` of a sum. Raises the errors of `load_checkpoint`, and MismatchError for a checkpoint
    that was written without its loss.
    """
    details, state = _open(path, with_weights=True)
    chosen = _config(details, path).train.loss
    loss = build_loss(chosen.name, chosen.options, descriptor_size)
    own = {name.removeprefix(LOSS): tensor for name, tensor in state.items() if name.startswith(LOSS)}
    difference = first_difference(loss.state_dict(), own, ())
    if difference:
        raise MismatchError(f"it does not hold its loss {chosen.name}: {difference}", path=path)
    loss.load_state_dict(own)
    return loss.eval()


def load_offset_head(reference: str | os.PathLike[str], descriptor_size: int) -> OffsetRegressionLoss | None:
    """The offset head of a checkpoint or run folder, None where it has none, or none that was trained yet.

    None for a preset's name. Raises the errors of `load_loss`.
    """
    path = find_checkpoint(reference)
    details = {} if path is None else read_metadata(path)
    if path is None or "epoch" not in details:
        return None
    chosen = _config(details, path).train.loss
    if OFFSET not in build("loss", chosen.name, **chosen.options).needs_at(int(details["epoch"]) - 1):
        return None
    loss = load_loss(path, descriptor_size)
    terms = loss.terms.values() if isinstance(loss, SumLoss) else [loss]
    return next((term for term in terms if isinstance(term, OffsetRegressionLoss)), None)


def find_checkpoint(reference: str | os.PathLike[str]) -> Path | None:
    """The checkpoint that a reference names: a file, or a run folder's best (else last) one; None for a preset's name.

    Raises InputError where there is none.
    """
    path = Path(reference)
    if str(reference) in preset_names("models"):
        return None
    if path.is_dir():
        for name in (BEST, LAST):
            if (path / name).is_file():
                return path / name
        raise InputError("no checkpoint in this folder", path=path, mend="train first, or name a checkpoint file")
    if not path.exists():
        known = preset_names("models")
        near = get_close_matches(path.name, known, n=1)
        mend = f"did you mean {near[0]}?" if near else "give a checkpoint, a run folder, or one of " + ", ".join(known)
        raise InputError("no such model", path=path, mend=mend)
    return path


def trained_conventions(reference: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The conventions of the data that a checkpoint was trained on, empty where it does not say; None for a preset."""
    path = find_checkpoint(reference)
    return None if path is None else read_metadata(path).get("conventions", {})


def resolve_model(
    reference: str | os.PathLike[str], weights: str | None = None, device: str | torch.device = "cpu"
) -> Embedder:
    """The model that a user names, in evaluation mode.

    A checkpoint file and a run folder have their own weights, and `weights` is not looked at. A preset's name
    (`zero_shot`; write `./zero_shot` for a folder of that name) gives an untrained model whose backbone gets `weights`:
    else `$CVGEO_WEIGHTS`, else ImageNet's. Raises the errors of `load_checkpoint` and `cvgeo.models.create_model`.
    """
    path = find_checkpoint(reference)
    if path is not None:
        return load_checkpoint(path, device)[0]
    source = weights or os.environ.get("CVGEO_WEIGHTS") or "imagenet"
    return create_model(str(reference), source).to(device).eval()
