"""The convolutional decoder: read, reassemble and fuse four feature maps, as in Figure 1."""

from numbers import Integral

import keras

from keras_dpt.encoders.checks import Tap, check_taps
from keras_dpt.encoders.encoder import pyramid_unit
from keras_dpt.layers.feature_fusion import FeatureFusion
from keras_dpt.layers.initializers import decoder_initializer
from keras_dpt.layers.linear import Conv2D
from keras_dpt.layers.readout import READOUTS, make_readout
from keras_dpt.layers.reassemble import Reassemble

# Of reassembled maps, finest first: those of DPT-Large.
REASSEMBLE_CHANNELS = (256, 512, 1024, 1024)
FUSION_SIZES = ("next_level", "double")


def decode(
    features,
    taps,
    readout,
    reassemble_channels,
    fusion_channels,
    use_batch_norm=False,
    fusion_bias=None,
    fusion_projection=True,
    fusion_size="next_level",
    rectified_shortcut=False,
    dtype=None,
):
    """Apply the decoder's layers to Keras tensors.

    Args:
        features: dict of `stage1` ... `stage4` and of `prefixN` where there are prefix tokens.
        taps: the four `Tap`s that describe them.
        readout, reassemble_channels, fusion_channels: resolved, see `resolve`.
        others: see `DPTDecoder`.

    Returns: dict of `P1` ... `P4`.
    """
    unit, maps = pyramid_unit(taps), []
    for n, tap in enumerate(taps, 1):
        x = features[f"stage{n}"]
        if tap.num_prefix_tokens:
            read = make_readout(readout, tap.channels, dtype=dtype, name=f"read_{n}")
            x = read(x, features[f"prefix{n}"])
        if tap.reassemble:
            x = Reassemble(
                reassemble_channels[n - 1],
                factor=factor(tap, n, unit),
                dtype=dtype,
                name=f"reassemble_{n}",
            )(x)
        x = Conv2D(
            fusion_channels[n - 1],
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=decoder_initializer(),
            dtype=dtype,
            name=f"fusion_input_{n}",
        )(x)
        maps.append(x)

    doubles = fusion_size == "double"
    pyramid, x = {}, None
    for n in (4, 3, 2, 1):
        fusion = FeatureFusion(
            fusion_channels[n - 1],
            has_skip=n < 4,
            use_batch_norm=use_batch_norm,
            use_bias=fusion_bias,
            rectified_shortcut=rectified_shortcut,
            out_channels=fusion_channels[max(n - 2, 0)],
            use_projection=fusion_projection,
            stretch_skip=doubles,
            dtype=dtype,
            name=f"fusion_{n}",
        )
        inputs = (maps[3],) if n == 4 else (x, maps[n - 1])
        # The last one doubles: there is no next level.
        x = fusion(*inputs, size_like=None if doubles or n == 1 else maps[n - 2])
        pyramid[f"P{n}"] = x
    return pyramid


def factor(tap, n, unit):
    """By how much `Reassemble` resizes tap n, whose level is at unit / 4, / 2, 1 or x 2.

    Raises: ValueError: `Reassemble` has no such factor.
    """
    level = unit * 2 ** (n - 3)
    by = {4 * level: 4, 2 * level: 2, level: 1, level / 2: 0.5}
    if tap.stride not in by:
        raise ValueError(
            f"Tap {n}, of stride {tap.stride}, cannot be reassembled to level {n}, of stride "
            f"{level:g}: it must be 4, 2, 1 or 0.5 times that. Set "
            "`reassemble=False` for maps that are a pyramid already."
        )
    return by[tap.stride]


def resolve(taps, readout, reassemble_channels, fusion_channels):
    """Defaults and checks of the arguments that depend on the taps.

    Returns: readout, four widths before fusion, four widths in fusion.
    Raises: ValueError: taps that are not four, an unknown `readout` or one without prefix tokens,
        or widths that do not fit the taps.
    """
    taps = check_taps(taps)
    has_prefix = any(tap.num_prefix_tokens for tap in taps)
    if readout is None:
        readout = "project" if has_prefix else "ignore"
    if readout not in READOUTS:
        raise ValueError(f"`readout` must be one of {READOUTS} or None. Received: {readout!r}.")
    if readout != "ignore" and not has_prefix:
        raise ValueError(
            f'`readout="{readout}"` needs prefix tokens, and this encoder has none. Use '
            'readout="ignore".'
        )
    if reassemble_channels is None:
        reassemble_channels = [
            width if tap.reassemble else tap.channels
            for tap, width in zip(taps, REASSEMBLE_CHANNELS, strict=True)
        ]
    widths = _as_list(reassemble_channels)
    fixed = [None if tap.reassemble else tap.channels for tap in taps]
    if len(widths) != 4 or any(f not in (None, w) for w, f in zip(widths, fixed, strict=False)):
        expected = ", ".join("any" if f is None else str(f) for f in fixed)
        raise ValueError(
            f"`reassemble_channels` must be four widths, here ({expected}): maps that are not "
            f"reassembled keep their encoder's width. Received: {reassemble_channels}."
        )
    fused = _as_list(fusion_channels)
    fused = 4 * fused if len(fused) == 1 else fused
    if len(fused) != 4 or not all(isinstance(w, Integral) and w > 0 for w in fused):
        raise ValueError(
            f"`fusion_channels` must be one width or four, finest first. Received: "
            f"{fusion_channels!r}."
        )
    return readout, tuple(widths), tuple(fused)


def _as_list(widths):
    return list(widths) if isinstance(widths, list | tuple) else [widths]


@keras.saving.register_keras_serializable(package="keras_dpt")
class DPTDecoder(keras.Model):
    """The decoder on its own, for features that you already have.

    Args:
        taps: four `Tap`s that describe the features, finest first.
        readout: what happens to the class token: "project", "add" or "ignore"; `None`: "project"
            if there are prefix tokens, else "ignore".
        reassemble_channels: widths of the four maps before fusion, finest first. Maps that are not
            reassembled keep their own; `None` takes those and DPT-Large's for the others.
        fusion_channels: width of all maps during fusion; or four widths, finest first, as in
            MiDaS 2.1 small, where each level's result has the width of the next finer one.
        use_batch_norm: batch normalisation in the residual units of fusion (segmentation).
        fusion_bias, fusion_projection, rectified_shortcut: `use_bias`, `use_projection` and
            `rectified_shortcut` of `FeatureFusion`, with their sources.
        fusion_size: "next_level": each fusion's result is resized to the next level's map, as in
            Depth Anything and, for sides that are multiples of 32, in the original. "double": its
            sides are doubled, and the next level's map is resized to it, as in DINOv2's depth
            heads.
        dtype: dtype or dtype policy of all layers.

    Inputs: dict of `stage1` ... `stage4`, `(B, h, w, C)` float, and, for taps with prefix tokens,
        `prefixN`, `(B, P, C)`, the class token first.
    Returns: dict of `P1` ... `P4`, the results of the four fusion blocks, see `DPTBackbone`.
    Raises: ValueError: an unknown `readout`, or arguments that do not fit the taps.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), section 3; `Pn` is isl-org/DPT's `path_n`.

    Example:

    ```python
    import numpy as np

    import keras_dpt

    tap = keras_dpt.Tap(channels=384, stride=14, num_prefix_tokens=1)
    decoder = keras_dpt.DPTDecoder([tap] * 4, reassemble_channels=(48, 96, 192, 384))
    features = {f"stage{n}": np.zeros((1, 5, 7, 384), "float32") for n in (1, 2, 3, 4)}
    features |= {f"prefix{n}": np.zeros((1, 1, 384), "float32") for n in (1, 2, 3, 4)}
    decoder(features)["P1"].shape  # (1, 40, 56, 256)
    ```
    """

    def __init__(
        self,
        taps,
        readout=None,
        reassemble_channels=None,
        fusion_channels=256,
        use_batch_norm=False,
        fusion_bias=None,
        fusion_projection=True,
        fusion_size="next_level",
        rectified_shortcut=False,
        dtype=None,
        **kwargs,
    ):
        taps = check_taps([Tap(**tap) if isinstance(tap, dict) else tap for tap in taps])
        options = {
            "use_batch_norm": use_batch_norm,
            "fusion_bias": fusion_bias,
            "fusion_projection": fusion_projection,
            "fusion_size": checked_fusion_size(fusion_size),
            "rectified_shortcut": rectified_shortcut,
        }
        resolved = resolve(taps, readout, reassemble_channels, fusion_channels)
        features = {}
        for n, tap in enumerate(taps, 1):
            features[f"stage{n}"] = keras.Input((None, None, tap.channels), name=f"stage{n}")
            if count := tap.num_prefix_tokens:
                features[f"prefix{n}"] = keras.Input((count, tap.channels), name=f"prefix{n}")
        pyramid = decode(features, taps, *resolved, **options, dtype=dtype)
        super().__init__(features, pyramid, **kwargs)

        # === Config ===
        self.taps = taps
        self.readout, self.reassemble_channels, fused = resolved
        self.fusion_channels = fusion_channels if isinstance(fusion_channels, int) else fused
        self.options = options

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "taps": [vars(tap) for tap in self.taps],
            "readout": self.readout,
            "reassemble_channels": self.reassemble_channels,
            "fusion_channels": self.fusion_channels,
            **self.options,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = keras.saving.deserialize_keras_object(config["dtype"])
        return cls(**config)


def checked_fusion_size(fusion_size):
    """`fusion_size`, or a ValueError if it is not one of `FUSION_SIZES`."""
    if fusion_size not in FUSION_SIZES:
        raise ValueError(f"`fusion_size` must be one of {FUSION_SIZES}. Received: {fusion_size!r}.")
    return fusion_size
