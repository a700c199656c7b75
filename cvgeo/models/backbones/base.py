"""What all backbones share: stages that are not trained, batch norm that stays as it is, azimuth that wraps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cvgeo.errors import UsageError
from cvgeo.models.layers import wrap_azimuth


class Backbone(nn.Module):
    """Pictures (B, 3, H, W) to features (B, C, h, w), by stages from fine to coarse.

    Options of every backbone: `freeze`, how many stages from the input on are not trained (their batch norm included);
    `batch_norm`, `train` or `eval` (never updated: needed where a weights file has it folded into the convolutions);
    `circular`, whether padding wraps around in azimuth.
    """

    in_channels: int = 3
    out_channels: int
    stride: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    discarded: tuple[str, ...] = ()
    optional: str = ""  # what names of weights hold that a file need not have; they start as they are built

    def finish(self, stages: list[list[nn.Module]], freeze: int, batch_norm: str, circular: bool) -> None:
        """Apply the shared options; the last line of a constructor. Raises UsageError for values out of range."""
        if not 0 <= freeze <= len(stages):
            raise UsageError(f"freeze = {freeze}: this backbone has {len(stages)} stages", mend=f"0 to {len(stages)}")
        if batch_norm not in ("train", "eval"):
            raise UsageError(f"batch_norm = {batch_norm!r}", mend="train or eval")
        if circular:
            wrap_azimuth(self)
        self.batch_norm = batch_norm
        frozen = [module for stage in stages[:freeze] for module in stage]
        for module in frozen:
            module.requires_grad_(False)
        self._held_modules = [name for name, module in self.named_modules() if any(module is one for one in frozen)]

    def train(self, mode: bool = True) -> Backbone:
        """Training mode, except for what is held: frozen stages, and all batch norm where `batch_norm` is eval."""
        super().train(mode)
        # By name: a deep copy must hold its own modules, not the original's.
        held = [self.get_submodule(name) for name in self._held_modules]
        if self.batch_norm == "eval":
            held += [module for module in self.modules() if isinstance(module, _BatchNorm)]
        for module in held:
            module.eval()
        return self

    def translate(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A state dict as others publish it, by this module's names: the same unless a backbone says otherwise."""
        return state

    def imagenet_weights(self) -> Mapping[str, Tensor]:
        """State dict of this backbone's ImageNet weights. Raises UsageError where there are none."""
        raise UsageError(f"{type(self).__name__} has no ImageNet weights", mend="use --weights none or --weights FILE")


@torch.no_grad()
def grid_size(backbone: Backbone, height: int, width: int) -> tuple[int, int, int]:
    """(channels, rows, columns) of the features of a `height` x `width` picture, for a backbone on the meta device.

    Raises UsageError where the picture is too small for it.
    """
    try:
        features = backbone.eval()(torch.empty(1, backbone.in_channels, height, width, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        fault = f"pictures of {height}x{width} are too small for the backbone: {error}"
        raise UsageError(fault, mend="set larger sizes in model.view") from error
    channels, rows, columns = features.shape[1:]
    if not rows or not columns:
        fault = f"pictures of {height}x{width} are too small for the backbone: nothing is left of them"
        raise UsageError(fault, mend="set larger sizes in model.view")
    return int(channels), int(rows), int(columns)


def torchvision_weights(name: str) -> Mapping[str, Tensor]:
    """State dict of a torchvision network's first ImageNet weights (IMAGENET1K_V1), downloaded into torch's cache."""
    # Here, not above: importing torchvision takes as long as torch itself, and some backbones do without.
    from torchvision import models

    weights = models.get_model_weights(name).IMAGENET1K_V1
    # torch tells of the download on stdout, which is kept for data.
    with redirect_stdout(sys.stderr):
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)


def check_stages(name: str, given: int, lowest: int, highest: int, option: str = "stages") -> None:
    """Raise UsageError where a backbone cannot be cut after so many stages."""
    if not lowest <= given <= highest:
        raise UsageError(f"{option} = {given} of {name}", mend=f"{lowest} to {highest}")
