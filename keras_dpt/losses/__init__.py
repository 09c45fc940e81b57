"""Losses for dense prediction, usable in `compile` on every backend."""

from keras_dpt.losses.depth import (
    GradientMatchingLoss,
    ScaleInvariantLogLoss,
    ScaleShiftInvariantLoss,
)
from keras_dpt.losses.segmentation import SegmentationLoss

__all__ = [
    "GradientMatchingLoss",
    "ScaleInvariantLogLoss",
    "ScaleShiftInvariantLoss",
    "SegmentationLoss",
]
