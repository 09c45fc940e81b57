"""What makers of random files share: outputs of a known spread, classifiers that are not used."""

import numpy as np

CLASSES = 1000
RAISED = 100.0  # bias that keeps what comes before a ReLU positive


def calibrated(found, last, raw, mean=0.7, std=1.0):
    """Tensors whose last layer gives outputs a mean and a spread, so that a ReLU cuts some of them.

    Both numbers are rounded, so that another order of sums makes the same file.

    Args: found: `{name: array}`. last: name of the layer. raw: function of tensors that returns the
        output on an image before the last activation, or behind a ReLU.
    """
    weight, bias = f"{last}.weight", f"{last}.bias"
    raised = np.full_like(found[bias], RAISED)
    output = np.asarray(raw(found | {bias: raised}), "float64")
    gain = float(f"{std / output.std():.2g}")
    shift = float(f"{mean - gain * (output.mean() - RAISED):.2g}")
    return found | {
        weight: (gain * found[weight]).astype("float32"),
        bias: np.full_like(found[bias], shift),
    }


def classifier(name, width):
    """Shapes of an ImageNet classifier, `{tensor name: shape}`."""
    return {f"{name}.weight": (CLASSES, width), f"{name}.bias": (CLASSES,)}
