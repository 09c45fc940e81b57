"""Known distances that cannot be metres. NumPy only."""

import logging

import numpy as np

from keras_dpt.errors import DepthError

logger = logging.getLogger("keras_dpt")

# Farther than this, in metres, hardly anything in a photo is; millimetres soon are.
FARTHEST = 1000.0
_FAR_FOR_WHOLE_NUMBERS = 200.0


def check_metres(metres, max_depth=FARTHEST, name="points", error_class=DepthError):
    """Stop where known depths look like millimetres, before they are clipped or fitted.

    Args:
        metres: known depths of any shape; those that are 0, negative or not finite do not count.
        max_depth: the largest depth that would not be clipped.
        name: what they are called in messages.
        error_class: of the error.

    Raises: `error_class`: most of them are beyond `max_depth`. A few of them, or whole numbers in
        the hundreds, are logged as a warning.
    """
    metres = np.asarray(metres)
    known = metres[np.isfinite(metres) & (metres > 0)]
    if not known.size:
        return
    low, middle, high = float(known.min()), float(np.median(known)), float(known.max())
    if middle > max_depth:
        raise error_class(
            f"{name}: did you mean metres? Received: {low:g} to {high:g}, most of it beyond "
            f"{max_depth:g} m. Divide millimetres by 1000 ({low / 1000:.4g} to "
            f"{high / 1000:.4g} m)."
        )
    if high > max_depth:
        logger.warning(
            "%s: %d of %d known depths are beyond max_depth, %g m (up to %g). Are they metres?",
            name,
            np.count_nonzero(known > max_depth),
            known.size,
            max_depth,
            high,
        )
    elif middle > _FAR_FOR_WHOLE_NUMBERS and (known == np.rint(known)).all():
        logger.warning(
            "%s: known depths are whole numbers from %g to %g. They are taken as metres; divide "
            "millimetres by 1000.",
            name,
            low,
            high,
        )


def warn_if_not_metres(values):
    """Log a warning where most of a metric map is farther than any photo shows."""
    if values.max() > FARTHEST and (middle := float(np.median(values))) > FARTHEST:
        logger.warning(
            "Half of this map is beyond %.4g m. Metric depth is in metres: divide millimetres by "
            "1000.",
            middle,
        )


def warn_if_clipped(inverse, max_depth):
    """Log a warning where a fit puts most of a map, inverse depths, at or behind `max_depth`."""
    share = np.count_nonzero(inverse < 1 / max_depth) / inverse.size
    if share > 0.5:
        logger.warning(
            "%.0f%% of the map is at max_depth, %g m, or behind. Are the known depths metres, and "
            "from near and far?",
            100 * share,
            max_depth,
        )
