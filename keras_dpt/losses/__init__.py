"""Losses for dense prediction, usable in `compile` on every backend."""

from keras_dpt.losses.depth import ScaleInvariantLogLoss, ScaleShiftInvariantLoss

__all__ = ["ScaleInvariantLogLoss", "ScaleShiftInvariantLoss"]
