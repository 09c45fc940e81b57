"""Metrics for dense prediction, usable in `compile` on every backend."""

from keras_dpt.metrics.segmentation import MeanIoU, PixelAccuracy

__all__ = ["MeanIoU", "PixelAccuracy"]
