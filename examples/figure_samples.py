"""What `figures.py` draws: a photo with its true depth, and what the bundled presets make of it."""

from functools import cache

import numpy as np
from skimage import data

import keras_dpt

# Of the motorcycle's camera, as scikit-image's documentation has them: pixels and metres.
FOCAL, CENTRE, OFFSET, BASELINE = 994.978, (311.193, 254.877), 31.086, 0.193001
# Places whose distance is taken as known, (row, column): floor, wall, tank, wheel, shelf.
KNOWN = ((450, 60), (70, 240), (205, 330), (330, 600), (110, 560), (400, 250))


@cache
def motorcycle():
    """The photo, and its true depth in metres, NaN where unknown."""
    photo, _, disparity = data.stereo_motorcycle()
    known = np.isfinite(disparity) & (disparity > 0)
    metres = np.where(known, FOCAL * BASELINE / (np.where(known, disparity, 1) + OFFSET), np.nan)
    return photo, metres


@cache
def model():
    """The bundled depth model."""
    return keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2")


@cache
def relative_depth():
    """The relative map of the motorcycle."""
    return model().predict_image(motorcycle()[0])


def metric_depth():
    """The map in metres, from what is known at a few places."""
    metres = motorcycle()[1]
    return relative_depth().to_metric(points=[(r, c, metres[r, c]) for r, c in KNOWN])
