"""Output layers: what a depth head's numbers mean, and how they become metres.

Each says what its output is (`kind`, `unit`), which values it can take (`range`), what activation
the head before it has, and how its values and inverse depth follow from each other. Whoever needs
one of these asks the layer.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_dpt.ops.resize import resize_bilinear


class DepthOutput(keras.layers.Layer):
    """Base of the output layers: any shape of float in, the same shape of float32 out.

    Attributes:
        kind: "relative_inverse_depth" or "metric_depth".
        unit: "m", or `None` for relative values.
        head_activation: of the head's last convolution: "relu" or `None`.
    """

    kind = "metric_depth"
    unit = "m"
    head_activation = "relu"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # It has no weights. JAX runs a model with unbuilt parts once more, eagerly, at each
        # prediction.
        self.built = True

    @property
    def range(self):
        """The smallest and the largest possible value."""
        return 0.0, math.inf

    def to_inverse_depth(self, values):
        """Inverse depth of NumPy values of this output: 1 / metres, never of less than 1e-8 m."""
        return 1 / np.maximum(values, 1e-8)

    def from_inverse_depth(self, values):
        """Values of this output for inverse depth; the inverse of `to_inverse_depth`."""
        return 1 / np.maximum(values, 1e-8)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, dtype="float32")


@keras.saving.register_keras_serializable(package="keras_dpt")
class RelativeInverseDepth(DepthOutput):
    """The head's output unchanged: inverse depth up to scale and shift, >= 0, unitless."""

    kind = "relative_inverse_depth"
    unit = None

    def call(self, x):
        return ops.cast(x, "float32")

    def to_inverse_depth(self, values):
        """The values: they already are inverse depth, up to scale and shift."""
        return values

    def from_inverse_depth(self, values):
        """The values, see `to_inverse_depth`."""
        return values


@keras.saving.register_keras_serializable(package="keras_dpt")
class InverseAffine(DepthOutput):
    """Metres from inverse depth: `depth = 1 / max(scale * x + shift, 1e-8)`.

    Args:
        scale: inverse metres per unit of the input.
        shift: inverse metres at zero.

    Inputs: any shape, float. Returns: the same shape, float32 metres.
    Raises: ValueError: a number that is not finite.
    Source: isl-org/DPT `dpt/models.py`, `DPTDepthModel(invert=True)`.
    """

    def __init__(self, scale, shift, **kwargs):
        super().__init__(**kwargs)
        self.scale = _finite(scale, "scale")
        self.shift = _finite(shift, "shift")

    @property
    def range(self):
        """From 0 m, or to the depth at 0, which is where the head's ReLU ends."""
        return 0.0, 1 / max(self.shift, 1e-8) if self.scale > 0 else 1e8

    def call(self, x):
        x = ops.cast(x, "float32")
        return 1.0 / ops.maximum(self.scale * x + self.shift, 1e-8)

    def get_config(self):
        return super().get_config() | {"scale": self.scale, "shift": self.shift}


@keras.saving.register_keras_serializable(package="keras_dpt")
class ScaledSigmoid(DepthOutput):
    """Metres between 0 and a largest depth: `max_depth * sigmoid(x)`.

    Args: max_depth: metres; 20 for Depth Anything's indoor models, 80 for its outdoor ones.

    Inputs: any shape, float, from a head without an activation. Returns: the same shape, float32.
    Raises: ValueError: `max_depth` is not a number above 0.
    Source: DepthAnything/Depth-Anything-V2 `metric_depth/depth_anything_v2/dpt.py`.
    """

    head_activation = None

    def __init__(self, max_depth, **kwargs):
        super().__init__(**kwargs)
        self.max_depth = _finite(max_depth, "max_depth", above=0)

    @property
    def range(self):
        """From 0 m to `max_depth`."""
        return 0.0, self.max_depth

    def call(self, x):
        return self.max_depth * ops.sigmoid(ops.cast(x, "float32"))

    def get_config(self):
        return super().get_config() | {"max_depth": self.max_depth}


@keras.saving.register_keras_serializable(package="keras_dpt")
class Clamped(DepthOutput):
    """Metres, clamped: `min(max(x + offset, min_depth), max_depth)`.

    Args:
        min_depth, max_depth: metres; 0.001 and 10 for DINOv2's NYU heads, 80 for its KITTI ones.
        offset: metres added first; 0.001 in DINOv2's heads.

    Inputs: any shape, float >= 0. Returns: the same shape, float32 metres.
    Raises: ValueError: numbers that are not finite, or not 0 <= min_depth < max_depth.
    Source: facebookresearch/dinov2 `dinov2/eval/depth/models/decode_heads/decode_head.py`,
        `depth_pred`, and `depther/encoder_decoder.py`, `encode_decode`.
    """

    def __init__(self, min_depth, max_depth, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.min_depth = _finite(min_depth, "min_depth")
        self.max_depth = _finite(max_depth, "max_depth", above=0)
        self.offset = _finite(offset, "offset")
        if not 0 <= self.min_depth < self.max_depth:
            raise ValueError(
                "`min_depth` must be at least 0 and below `max_depth`. Received: "
                f"min_depth={min_depth}, max_depth={max_depth}."
            )

    @property
    def range(self):
        """From `min_depth` to `max_depth`."""
        return self.min_depth, self.max_depth

    def call(self, x):
        return ops.clip(ops.cast(x, "float32") + self.offset, self.min_depth, self.max_depth)

    def get_config(self):
        return super().get_config() | {
            "min_depth": self.min_depth,
            "max_depth": self.max_depth,
            "offset": self.offset,
        }


@keras.saving.register_keras_serializable(package="keras_dpt")
class ResizeLike(keras.layers.Layer):
    """Resize maps to the size of others, bilinearly, corners not aligned.

    Inputs: x `(B, h, w, C)` float; size_like `(B, H, W, _)`. Returns: `(B, H, W, C)`.
    """

    def call(self, x, size_like):
        return resize_bilinear(x, ops.shape(size_like)[1:3], align_corners=False)

    def compute_output_spec(self, x, size_like):
        return keras.KerasTensor((x.shape[0], *size_like.shape[1:3], x.shape[-1]), dtype=x.dtype)


def _finite(value, name, above=-math.inf):
    """`value` as a float; ValueError unless it is a finite number above a bound."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= above:
        bound = "" if above == -math.inf else f" above {above}"
        raise ValueError(f"`{name}` must be a finite number{bound}. Received: {value!r}.")
    return float(value)
