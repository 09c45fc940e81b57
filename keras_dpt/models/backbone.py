"""The network without its head: encoder -> read and reassemble -> fusion, as in Figure 1."""

import keras
import keras_hub

from keras_dpt.encoders import ENCODERS
from keras_dpt.encoders.encoder import freeze_layers_too
from keras_dpt.layers.feature_fusion import FeatureFusion
from keras_dpt.layers.initializers import decoder_initializer
from keras_dpt.layers.linear import Conv2D
from keras_dpt.layers.readout import make_readout
from keras_dpt.layers.reassemble import Reassemble
from keras_dpt.models.from_preset import FromPreset


@keras.saving.register_keras_serializable(package="keras_dpt")
class DPTBackbone(FromPreset, keras_hub.models.Backbone):
    """Encoder and convolutional decoder of a Dense Prediction Transformer.

    Args:
        image_encoder: an `Encoder`, such as `ViTEncoder` or `ViTHybridEncoder`.
        readout: what happens to the class token: "project", "add" or "ignore".
        reassemble_channels: widths of the four maps before fusion, finest first. Where the encoder
            taps a convolutional stage, that stage's width.
        fusion_channels: width of all maps during fusion.
        use_batch_norm: batch normalisation in the residual units of fusion (segmentation).
        image_shape: `(height, width, 3)`; `None` where any size shall do.
        dtype: dtype or dtype policy of all layers, the encoder's included.

    Inputs: `(B, H, W, 3)` float in [-1, 1], sides multiples of 32.
    Returns: dict of `P1` ... `P4`, the results of the four fusion blocks; `Pn` is
        `(B, H / 2**n, W / 2**n, fusion_channels)` for encoders of stride 16.
    Raises: ValueError: an unknown `readout`, or widths that do not fit the encoder.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), section 3; `Pn` is isl-org/DPT's `path_n`.

    Example:

    ```python
    encoder = keras_dpt.ViTEncoder(
        num_layers=4, hidden_dim=64, num_heads=4, mlp_dim=128, out_indices=(0, 1, 2, 3)
    )
    backbone = keras_dpt.DPTBackbone(
        encoder, reassemble_channels=(16, 32, 64, 64), fusion_channels=32
    )
    pyramid = backbone(np.zeros((1, 64, 96, 3), "float32"))
    pyramid["P1"].shape  # (1, 32, 48, 32)
    ```
    """

    def __init__(
        self,
        image_encoder,
        readout="project",
        reassemble_channels=(256, 512, 1024, 1024),
        fusion_channels=256,
        use_batch_norm=False,
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        _check_widths(reassemble_channels, image_encoder.taps)

        # === Layers and functional model ===
        image = keras.Input(image_shape, name="images")
        features = image_encoder(image)
        maps = []
        for n, tap in enumerate(image_encoder.taps, 1):
            x = features[f"stage{n}"]
            if tap.has_prefix:
                read = make_readout(readout, tap.channels, dtype=dtype, name=f"read_{n}")
                x = read(x, features[f"prefix{n}"])
                x = Reassemble(
                    reassemble_channels[n - 1],
                    # From stride 16 to strides 4, 8, 16 and 32.
                    factor=(4, 2, 1, 0.5)[n - 1],
                    dtype=dtype,
                    name=f"reassemble_{n}",
                )(x)
            x = Conv2D(
                fusion_channels,
                3,
                padding="same",
                use_bias=False,
                kernel_initializer=decoder_initializer(),
                dtype=dtype,
                name=f"fusion_input_{n}",
            )(x)
            maps.append(x)

        def fusion(n):
            return FeatureFusion(
                fusion_channels,
                has_skip=n < 4,
                use_batch_norm=use_batch_norm,
                dtype=dtype,
                name=f"fusion_{n}",
            )

        pyramid = {"P4": fusion(4)(maps[3], size_like=maps[2])}
        pyramid["P3"] = fusion(3)(pyramid["P4"], maps[2], size_like=maps[1])
        pyramid["P2"] = fusion(2)(pyramid["P3"], maps[1], size_like=maps[0])
        pyramid["P1"] = fusion(1)(pyramid["P2"], maps[0])
        super().__init__(image, pyramid, dtype=dtype, **kwargs)
        freeze_layers_too(self)

        # === Config ===
        self.image_encoder = image_encoder
        self.readout = readout
        self.reassemble_channels = tuple(reassemble_channels)
        self.fusion_channels = fusion_channels
        self.use_batch_norm = use_batch_norm
        self.image_shape = tuple(image_shape)

    def default_lora_layer_names(self):
        """Layers that `enable_lora(rank)` adapts: the encoder's query, key, value projections."""
        return self.image_encoder.default_lora_layer_names()

    def get_config(self):
        return super().get_config() | {
            "image_encoder": keras.saving.serialize_keras_object(self.image_encoder),
            "readout": self.readout,
            "reassemble_channels": self.reassemble_channels,
            "fusion_channels": self.fusion_channels,
            "use_batch_norm": self.use_batch_norm,
            "image_shape": self.image_shape,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        encoder = config["image_encoder"]
        if isinstance(encoder, dict):
            if config.get("dtype") is not None:
                # One policy for the whole network, also when `from_preset(dtype=...)` changed it.
                encoder = encoder | {"config": encoder["config"] | {"dtype": config["dtype"]}}
            config["image_encoder"] = keras.saving.deserialize_keras_object(encoder)
        return super().from_config(config)

    @classmethod
    def from_architecture(cls, preset, dtype=None, **kwargs):
        """Build from a preset's `architecture` (see `keras_dpt.presets`), with fresh weights."""
        architecture = preset["architecture"]
        encoder = ENCODERS[architecture["encoder"]](dtype=dtype, **architecture["encoder_config"])
        return cls(encoder, dtype=dtype, **architecture["backbone_config"] | kwargs)


def _check_widths(reassemble_channels, taps):
    widths = list(reassemble_channels)
    fixed = [None if tap.has_prefix else tap.channels for tap in taps]
    if len(widths) != 4 or any(f not in (None, w) for w, f in zip(widths, fixed, strict=False)):
        expected = ", ".join("any" if f is None else str(f) for f in fixed)
        raise ValueError(
            f"`reassemble_channels` has to be four widths, here ({expected}): maps of "
            "convolutional stages keep their encoder's width. Received: "
            f"{tuple(reassemble_channels)}."
        )
