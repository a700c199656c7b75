"""Whether a configuration's parts go together, before anything is trained."""

from __future__ import annotations

import torch

from cvgeo.config.schema import Config
from cvgeo.errors import UsageError
from cvgeo.losses import SumLoss, build_loss
from cvgeo.models import Embedder


def check_composition(config: Config) -> None:
    """Build model and loss without storage. Raises the UsageError of the part that cannot be built."""
    chosen = config.train.loss
    with torch.device("meta"):
        model = Embedder(config.model)
        loss = build_loss(chosen.name, chosen.options, model.descriptor_size)
    terms = loss.terms.values() if isinstance(loss, SumLoss) else [loss]
    if any(getattr(term, "rolls", False) for term in terms) and not model.azimuth_columns:
        fault = f"the loss {chosen.name} compares at the best roll, and {config.model.name} has no azimuth columns"
        raise UsageError(fault, mend="use a model such as dsm, another recipe, or similarity = inner in its options")
