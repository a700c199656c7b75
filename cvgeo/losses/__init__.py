"""Training losses: (ground, aerial) descriptors (B, D), row i of both being a pair, to a scalar. One a file.

A loss that needs more than the two descriptors says so (`PairLoss.needs_at`) and is given a `PairGeometry` by the
trainer (`PairLoss.with_geometry`).
"""

from cvgeo.losses.hard_exemplar import HardExemplarReweightingLoss
from cvgeo.losses.info_nce import InfoNCELoss
from cvgeo.losses.iou_semi_positive import IoUSemiPositiveLoss
from cvgeo.losses.offset_regression import OffsetRegressionLoss
from cvgeo.losses.pairs import PairGeometry, PairLoss, build_loss
from cvgeo.losses.soft_margin import WeightedSoftMarginTripletLoss
from cvgeo.losses.sum import SumLoss
from cvgeo.losses.turned_info_nce import TurnedInfoNCELoss

__all__ = [
    "HardExemplarReweightingLoss",
    "InfoNCELoss",
    "IoUSemiPositiveLoss",
    "OffsetRegressionLoss",
    "PairGeometry",
    "PairLoss",
    "SumLoss",
    "TurnedInfoNCELoss",
    "WeightedSoftMarginTripletLoss",
    "build_loss",
]
