"""Metrics for dense prediction, usable in `compile` on every backend."""

from keras_dpt.metrics.depth import (
    RMSE,
    WHDR,
    AbsRel,
    Delta1,
    Delta2,
    Delta3,
    Log10,
    RMSELog,
    SILog,
    SqRel,
)
from keras_dpt.metrics.segmentation import MeanIoU, PixelAccuracy

__all__ = [
    "AbsRel",
    "Delta1",
    "Delta2",
    "Delta3",
    "Log10",
    "MeanIoU",
    "PixelAccuracy",
    "RMSE",
    "RMSELog",
    "SILog",
    "SqRel",
    "WHDR",
]
