"""Swin Transformer, versions 1 and 2: encoders of MiDaS 3.1, for images of one size."""

import math

import keras

from keras_dpt.encoders.shapes import number_of, vote
from keras_dpt.encoders.windowed import WindowedEncoder
from keras_dpt.layers.swin import Swin2Block, SwinBlock


@keras.saving.register_keras_serializable(package="keras_dpt")
class SwinEncoder(WindowedEncoder):
    """A Swin Transformer, tapped after each of its four stages, for squares of one size.

    No norm follows the taps. In float16 the network overflows: use bfloat16 or float32.

    Args:
        embed_dim: width of the first stage; it doubles with each one.
        depths: blocks of the four stages.
        num_heads: attention heads in the four stages.
        window_size: side of a window in cells, at most that of the map.
        image_size: side of the square images; sizes of windows depend on it.
        layer_norm_epsilon: added to variances.
        image_shape: `(image_size, image_size, 3)`, or `None` for sides.
        dtype: dtype or dtype policy of all layers.

    Inputs: `(B, image_size, image_size, 3)` float in [-1, 1].
    Returns: see `keras_dpt.encoders.encoder.Encoder`; maps are at strides 4, 8, 16 and 32.
    Raises: ValueError: windows do not fit the maps, or `image_shape` has other sides.
    Source: Liu et al. 2021 (arXiv 2103.14030); taps as in isl-org/MiDaS
        `midas/backbones/swin_common.py`.

    Example:

    ```python
    import numpy as np

    import keras_dpt

    encoder = keras_dpt.SwinEncoder(
        embed_dim=16, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8), window_size=4, image_size=128
    )
    encoder(np.zeros((1, 128, 128, 3), "float32"))["stage4"].shape  # (1, 4, 4, 128)
    ```
    """

    def __init__(
        self,
        embed_dim=192,
        depths=(2, 2, 18, 2),
        num_heads=(6, 12, 24, 48),
        window_size=12,
        image_size=384,
        layer_norm_epsilon=1e-5,
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        super().__init__(
            lambda stage, *args, **options: SwinBlock(*args, **options),
            True,
            embed_dim,
            depths,
            num_heads,
            window_size,
            image_size,
            layer_norm_epsilon,
            image_shape,
            dtype,
            **kwargs,
        )

    @classmethod
    def config_from_shapes(cls, shapes, **untold):
        if not number_of(shapes, r"stage_0_block_(\d+)/(attention/bias_table)"):
            return None
        heads = [vote(shapes, {rf"stage_{s}_block_\d+/attention/bias_table": 1}) for s in range(4)]
        rows = vote(shapes, {r"stage_0_block_\d+/attention/bias_table": 0})
        window = {"window_size": (math.isqrt(rows) + 1) // 2, "num_heads": heads}
        return cls.shared_config(shapes, **untold) | window


@keras.saving.register_keras_serializable(package="keras_dpt")
class Swin2Encoder(WindowedEncoder):
    """A Swin Transformer V2, tapped after each of its four stages, for squares of one size.

    No norm follows the taps. In float16 the network overflows: use bfloat16 or float32.

    Args:
        embed_dim, depths, num_heads, window_size, image_size, layer_norm_epsilon, image_shape,
            dtype: see `SwinEncoder`.
        pretrained_window_sizes: for each stage, the side of the windows that the MLP of its biases
            was trained with; 0 for the stage's own.

    Inputs, returns, raises: see `SwinEncoder`.
    Source: Liu et al. 2021 (arXiv 2111.09883); taps as in isl-org/MiDaS
        `midas/backbones/swin_common.py`.
    """

    def __init__(
        self,
        embed_dim=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        window_size=24,
        image_size=384,
        pretrained_window_sizes=(0, 0, 0, 0),
        layer_norm_epsilon=1e-5,
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        pretrained = tuple(pretrained_window_sizes)
        super().__init__(
            lambda stage, *args, **options: Swin2Block(
                *args, pretrained_window=pretrained[stage] or None, **options
            ),
            False,
            embed_dim,
            depths,
            num_heads,
            window_size,
            image_size,
            layer_norm_epsilon,
            image_shape,
            dtype,
            **kwargs,
        )
        self.pretrained_window_sizes = pretrained

    @classmethod
    def config_from_shapes(cls, shapes, **untold):
        if not number_of(shapes, r"stage_0_block_(\d+)/(attention/logit_scale)"):
            return None
        heads = [vote(shapes, {rf"stage_{s}_block_\d+/attention/logit_scale": 0}) for s in range(4)]
        return cls.shared_config(shapes, **untold) | {"num_heads": heads}

    def get_config(self):
        return super().get_config() | {"pretrained_window_sizes": self.pretrained_window_sizes}
