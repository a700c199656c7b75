"""Any network of timm (Wightman 2019) as a backbone; by the extra `cvgeo[timm]`."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import Tensor

from cvgeo.errors import InputError, UsageError
from cvgeo.models.backbones.base import Backbone
from cvgeo.models.registry import register

_PREFIX = "net.model."


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise InputError("the backbone timm needs the package timm", mend="pip install 'cvgeo[timm]'") from error
    return timm


@register("backbone", "timm")
class Timm(Backbone):
    """The last (or an earlier) feature level of a network of timm.

    Options: `model`, timm's name (`resnet50`, `vit_small_patch14_dinov2`, `convnext_base.fb_in22k_ft_in1k_384`);
    `level`, which of its feature levels, -1 the last; `arguments`, further ones of its constructor (as `img_size`);
    `freeze` 0, or 1 for all of it; `batch_norm`. Padding is the network's own: `circular` is refused. Its mean and
    deviation are those that timm names for its weights.
    """

    def __init__(
        self,
        model: str,
        level: int = -1,
        arguments: dict[str, Any] | None = None,
        freeze: int = 0,
        batch_norm: str = "train",
        circular: bool = False,
    ) -> None:
        super().__init__()
        timm = _timm()
        if circular:
            raise UsageError("circular = true: networks of timm pad as they are", mend="set circular=false")
        architecture = model.partition(".")[0]
        if not timm.is_model(architecture):
            near = get_close_matches(architecture, timm.list_models(), n=1)
            mend = f"did you mean {near[0]}?" if near else "see timm.list_models()"
            raise UsageError(f"timm knows no model {model!r}", mend=mend)
        self.model = model
        self.options = {"features_only": True, "feature_cls": "getter", "out_indices": (level,), **(arguments or {})}
        self.net = timm.create_model(model, pretrained=False, **self.options)
        self.out_channels = self.net.feature_info.channels()[-1]
        self.stride = self.net.feature_info.reduction()[-1]
        known = self.net.pretrained_cfg if hasattr(self.net, "pretrained_cfg") else self.net.model.pretrained_cfg
        self.mean, self.std = tuple(known["mean"]), tuple(known["std"])
        self.discarded = (f"{_PREFIX}head", f"{_PREFIX}fc", f"{_PREFIX}classifier", f"{_PREFIX}norm")
        self.finish([[self.net]], freeze, batch_norm, circular=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, h, w)."""
        return self.net(images)[0]

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """timm's own names by this module's."""
        return {_PREFIX + name.removeprefix("net.").removeprefix("model."): value for name, value in state.items()}

    def imagenet_weights(self) -> Mapping[str, Tensor]:
        """The weights that timm publishes for this name, from its model hub."""
        return _timm().create_model(self.model, pretrained=True, **self.options).state_dict()
