"""The whole model: for each view a backbone, attention and an aggregator; pictures in, descriptors out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cvgeo.config.schema import ModelConfig, ViewConfig, ViewParts, to_dict, view_part
from cvgeo.errors import MismatchError, UsageError
from cvgeo.models.backbones.base import grid_size
from cvgeo.models.layers import mask_on_grid
from cvgeo.models.registry import build

VIEWS = ("ground", "aerial")


@dataclass(frozen=True)
class Embedding:
    """What a branch gives: `descriptor` (B, D) L2-normalised, `features` (B, C, h, w) after attention, `attention`
    (B, h, w) in 0..1 or None.
    """

    descriptor: Tensor
    features: Tensor
    attention: Tensor | None


def view_size(view: ViewConfig, name: str) -> tuple[int, int]:
    """(height, width) in pixels of the pictures of a view, `ground` or `aerial`."""
    return (view.ground_height, view.ground_width) if name == "ground" else (view.aerial_height, view.aerial_width)


def azimuth_wraps(view: ViewConfig, name: str) -> bool:
    """Whether the columns of this view run around the compass: yes but for a plain aerial tile."""
    return name == "ground" or view.aerial == "polar"


def _names(name: str) -> tuple[str, ...]:
    """The views that a branch serves."""
    return VIEWS if name == "shared" else (name,)


def build_input(config: ModelConfig, view: str) -> nn.Module:
    """The part that a view's pictures pass before the backbone."""
    height, width = view_size(config.view, view)
    place = {"polar": config.view.aerial == "polar", "column0_heading": config.view.column0_heading}
    return build("input", config.input, height=height, width=width, view=view, **place, **config.input_options)


def build_backbone(config: ModelConfig, view: str, in_channels: int) -> nn.Module:
    """A view's backbone."""
    name, options = view_part(config, "backbone", view)
    if not azimuth_wraps(config.view, view):
        # The left and right edge of a plain tile are no neighbours.
        options.pop("circular", None)
    if in_channels != 3:
        options["in_channels"] = in_channels
    return build("backbone", name, **options)


def view_grid(config: ModelConfig, view: str) -> tuple[int, int, int]:
    """(channels, rows, columns) of a view's features."""
    with torch.device("meta"):
        backbone = build_backbone(config, view, build_input(config, view).out_channels)
        return grid_size(backbone, *view_size(config.view, view))


class Branch(nn.Module):
    """Input, backbone, attention and aggregator of one view (or of both, where they share)."""

    def __init__(self, config: ModelConfig, name: str) -> None:
        super().__init__()
        view = _names(name)[0]
        wrap = all(azimuth_wraps(config.view, one) for one in _names(name))
        self.size = view_size(config.view, view)
        self.input = build_input(config, view)
        # Without storage the features' size costs nothing, and rounds as the convolutions themselves do.
        self.grid = view_grid(config, view)
        channels, height, width = self.grid
        sizes = {"channels": channels, "height": height, "width": width}
        self.backbone = build_backbone(config, view, self.input.out_channels)
        attention, attention_options = view_part(config, "attention", view)
        self.attention = build("attention", attention, **sizes, wrap=wrap, **attention_options)
        aggregator, aggregator_options = view_part(config, "aggregator", view)
        self.aggregator = build("aggregator", aggregator, **sizes, **aggregator_options)
        self._register_normalisation(config.view)

    def _register_normalisation(self, view: ViewConfig) -> None:
        # Pictures come normalised by the view's mean and deviation; the backbone may have been trained on others'.
        own_mean, own_std = self.backbone.mean, self.backbone.std
        scale = [theirs / own for theirs, own in zip(view.std, own_std, strict=True)]
        shift = [(theirs - own) / std for theirs, own, std in zip(view.mean, own_mean, own_std, strict=True)]
        self.renormalise = scale != [1.0] * 3 or shift != [0.0] * 3
        self.register_buffer("scale", torch.tensor(scale).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Embedding:
        """Pictures (B, 3, H, W), normalised, and a mask (B, H, W) bool (True: seen) or None."""
        if self.renormalise:
            images = images * self.scale + self.shift
        features = self.backbone(self.input(images))
        if mask is not None:
            mask = mask_on_grid(mask, *features.shape[-2:])
        features, attention = self.attention(features, mask)
        return Embedding(self.aggregator(features, mask), features, attention)


class Embedder(nn.Module):
    """The siamese model. With `config.share` one branch serves both views, else each has its own weights.

    The paper says "siamese" but not whether weights are shared; its predecessors (SAFA, DSM, CVM-Net) do not, and so it
    is by default. Sharing needs the same features' grid in both views where attention or aggregator
    belong to one (those that take any have `any_grid`): UsageError otherwise.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        names = ("shared",) if config.share else VIEWS
        if config.share:
            _check_sharing(config)
        self.branches = nn.ModuleDict({name: Branch(config, name) for name in names})
        if config.share:
            self._check_grids()
        self.sizes = tuple(view_size(config.view, view) for view in VIEWS)
        aggregator = self.branches[names[0]].aggregator
        self.descriptor_size: int = aggregator.descriptor_size
        rolls = config.view.aerial == "polar"
        self.azimuth_columns: int = getattr(aggregator, "azimuth_columns", 0) if rolls else 0
        sizes = {branch.aggregator.descriptor_size for branch in self.branches.values()}
        if len(sizes) > 1:
            raise UsageError(f"the views' descriptors differ in length: {sorted(sizes)}", mend="give equal view sizes")

    def _check_grids(self) -> None:
        """Whether what is shared can serve both views' grids: UsageError otherwise."""
        branch = self.branches["shared"]
        bound = [part for part in ("attention", "aggregator") if not getattr(getattr(branch, part), "any_grid", False)]
        grids = [view_grid(self.config, view)[1:] for view in VIEWS]
        if bound and grids[0] != grids[1]:
            ground, aerial = ("x".join(map(str, grid)) for grid in grids)
            part = f"the {bound[0]} {getattr(self.config, bound[0])}"
            fault = f"share = true needs equal feature grids for {part}, but ground has {ground} and aerial {aerial}"
            raise UsageError(fault, mend="set model.share=false or equal view sizes")

    @property
    def rolls(self) -> bool:
        """Whether rolling a descriptor's columns equals turning the picture: its padding must wrap around, too.

        With zeros at the seam the outer columns of any two pictures are alike, and no turn looks best for the wrong
        reason: over the real pairs with unknown heading, rolling finds 2 to 6 of 17 places, turning the pictures 9 or
        10. An aggregator made to be rolled, and trained so, says so itself.
        """
        if not self.azimuth_columns:
            return False
        circular = all(view_part(self.config, "backbone", view)[1].get("circular") for view in VIEWS)
        return bool(circular) or getattr(self.branch("ground").aggregator, "rolls", False)

    @property
    def crops(self) -> bool:
        """Whether an aerial descriptor counts only in the azimuth columns that the ground one sees (DSM)."""
        return bool(self.azimuth_columns) and getattr(self.branch("ground").aggregator, "crops", False)

    def branch(self, view: str) -> Branch:
        """The branch that serves a view, `ground` or `aerial`."""
        if view not in VIEWS:
            raise UsageError(f"unknown view {view!r}", mend="ground or aerial")
        return self.branches["shared" if self.config.share else view]

    def embed(self, view: str, images: Tensor, mask: Tensor | None = None) -> Embedding:
        """Descriptors, features and attention of pictures (B, 3, H, W) of one view.

        `mask` (B, H, W) bool is True where a pixel is seen. Raises MismatchError for pictures of another size than the
        model's.
        """
        expected = view_size(self.config.view, view)
        if images.ndim != 4 or images.shape[1] != 3 or tuple(images.shape[2:]) != expected:
            fault = (
                f"{view} pictures of shape {tuple(images.shape)} for a model of (B, 3, {expected[0]}, {expected[1]})"
            )
            raise MismatchError(fault, mend="resize them to the model's size or use a model of theirs")
        return self.branch(view)(images, mask)

    def forward(self, ground: Tensor, aerial: Tensor, ground_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Descriptors (B, D) of both views from pictures (B, 3, H, W)."""
        return self.embed("ground", ground, ground_mask).descriptor, self.embed("aerial", aerial).descriptor


def _check_sharing(config: ModelConfig) -> None:
    """Whether a configuration's views can share a branch at all: UsageError otherwise."""
    own = [view for view in VIEWS if to_dict(getattr(config, view)) != to_dict(ViewParts())]
    if own:
        fault = f"share = true, but model.{own[0]} has parts of its own"
        raise UsageError(fault, mend=f"set model.share=false, or nothing in model.{own[0]}")
    wraps = config.backbone_options.get("circular") or config.attention in ("mc_gra", "relation", "context")
    if config.view.aerial != "polar" and wraps:
        raise UsageError("share = true: azimuth wraps in one view only", mend="set model.view.aerial=polar")
    if config.view.aerial != "polar" and config.input != "rgb":
        fault = f"share = true: the input {config.input} differs between the views"
        raise UsageError(fault, mend="set model.view.aerial=polar or model.share=false")


# Keys that came after the first checkpoints: at their defaults they change no fingerprint.
LATER_KEYS = ("input", "input_options", "ground", "aerial")


def _identity(config: ModelConfig) -> dict[str, Any]:
    values, defaults = to_dict(config), to_dict(ModelConfig())
    return {key: value for key, value in values.items() if key not in LATER_KEYS or value != defaults[key]}


def fingerprint(model: Embedder) -> str:
    """SHA-256, as 64 hexadecimal digits, over the model's configuration and weights: equal for equal embeddings."""
    digest = hashlib.sha256(json.dumps(_identity(model.config), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # As bytes, since NumPy knows no bfloat16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
