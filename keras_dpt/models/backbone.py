"""The network without its head: encoder -> read and reassemble -> fusion, as in Figure 1."""

import keras

from keras_dpt.encoders import ENCODERS
from keras_dpt.encoders.checks import check_outputs
from keras_dpt.encoders.encoder import fixed_shape, freeze_layers_too
from keras_dpt.encoders.keras_hub_backbone import as_encoder
from keras_dpt.errors import TrainingError, WeightsError
from keras_dpt.hub import keras_hub
from keras_dpt.layers.recomputing import recompute
from keras_dpt.models.decoder import checked_fusion_size, decode, resolve
from keras_dpt.models.from_preset import FromPreset, check_whole
from keras_dpt.models.openvino import OnOpenVINO
from keras_dpt.ops.training import check_training
from keras_dpt.schema import reason_of


@keras.saving.register_keras_serializable(package="keras_dpt")
class DPTBackbone(FromPreset, OnOpenVINO, keras_hub.models.Backbone):
    """Encoder and convolutional decoder of a Dense Prediction Transformer.

    Args:
        image_encoder: an `Encoder`, such as `ViTEncoder` or `ViTHybridEncoder`; or a
            `keras_hub.models.Backbone` for images, or the handle of its preset, which is wrapped in
            a `KerasHubEncoder`.
        readout, reassemble_channels, fusion_channels, use_batch_norm, fusion_bias,
            fusion_projection, fusion_size, rectified_shortcut: see `DPTDecoder`.
        image_shape: `(height, width, 3)`; `None` for a variable side.
        dtype: dtype or dtype policy of all layers, the encoder's included.

    Inputs: `(B, H, W, 3)` float, normalised as the weights expect; sides multiples of
        `image_encoder.required_multiple`.
    Returns: dict of `P1` ... `P4`, the results of the four fusion blocks; `Pn` is
        `(B, H / 2**n, W / 2**n, fusion_channels)` for encoders of stride 16; for smaller strides it
        is larger in proportion.
    Raises: ValueError: an unknown `readout`, or arguments that do not fit the encoder.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), section 3; `Pn` is isl-org/DPT's `path_n`.

    Example:

    ```python
    import numpy as np

    import keras_dpt

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
        readout=None,
        reassemble_channels=None,
        fusion_channels=256,
        use_batch_norm=False,
        fusion_bias=None,
        fusion_projection=True,
        fusion_size="next_level",
        rectified_shortcut=False,
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        image_encoder = as_encoder(image_encoder)
        taps = tuple(image_encoder.taps)
        image_shape = fixed_shape(image_encoder, image_shape)
        resolved = resolve(taps, readout, reassemble_channels, fusion_channels)
        options = {
            "use_batch_norm": use_batch_norm,
            "fusion_bias": fusion_bias,
            "fusion_projection": fusion_projection,
            "fusion_size": checked_fusion_size(fusion_size),
            "rectified_shortcut": rectified_shortcut,
        }

        # === Layers and functional model ===
        image = keras.Input(image_shape, name="images")
        features = image_encoder(image)
        check_outputs(features, taps, type(image_encoder).__name__)
        pyramid = decode(features, taps, *resolved, **options, dtype=dtype)
        super().__init__(image, pyramid, dtype=dtype, **kwargs)
        freeze_layers_too(self)

        # === Config ===
        self.image_encoder = image_encoder
        self.readout, self.reassemble_channels, fused = resolved
        self.fusion_channels = fusion_channels if isinstance(fusion_channels, int) else fused
        self.use_batch_norm = use_batch_norm
        self.fusion_bias = fusion_bias
        self.fusion_projection = fusion_projection
        self.fusion_size = fusion_size
        self.rectified_shortcut = rectified_shortcut
        self.image_shape = tuple(image_shape)

    @property
    def size_multiple(self):
        """Image sides are rounded to multiples of this; see `Encoder.size_multiple`."""
        return self.image_encoder.size_multiple

    def load_weights(self, filepath, *args, **kwargs):
        """As in Keras, but rejects NaN, infinity, and a preset whose head is missing."""
        check_whole(self, filepath)
        super().load_weights(filepath, *args, **kwargs)

    def default_lora_layer_names(self):
        """Layers that `enable_lora(rank)` adapts: the encoder's query, key, value projections."""
        return self.image_encoder.default_lora_layer_names()

    def enable_lora(self, rank, target_layer_names=None):
        """Freeze the backbone and train low-rank adapters in some of its layers.

        Args:
            rank: rank of the adapters.
            target_layer_names: names of dense layers or convolutions; by default
                `default_lora_layer_names()`. Networks of convolutions have no default: "conv" is
                what ResNet's and EfficientNet-Lite's are called.

        Raises: ValueError: the backbone has no layer of these names; nothing is frozen then.
            TrainingError: (a ValueError) the backend does not train.
        """
        check_training("LoRA")
        names = target_layer_names or self.default_lora_layer_names()
        layers = [x for x in self._flatten_layers() if not isinstance(x, keras.Model)]
        able = {layer.name for layer in layers if hasattr(layer, "enable_lora")}
        if not able & set(names):
            dense = [x.name for x in layers if isinstance(x, keras.layers.Dense)]
            raise ValueError(
                "No layer to adapt: "
                f"{list(names) or 'this encoder has no default'}. Give `target_layer_names=` of "
                f"dense layers or convolutions, such as {(dense or sorted(able))[:6]}."
            )
        super().enable_lora(rank, names)

    def enable_gradient_checkpointing(self, enabled=True):
        """Train in less memory and more time: transformer blocks keep only their inputs.

        The rest of a block is computed again for its gradient. Losses and gradients are the same,
        and the setting is not saved. Call it before the first `fit`, or `compile` again.

        Args: enabled: `False` turns it off.
        Raises: TrainingError: (a ValueError) the encoder has no transformer blocks, or the backend
            does not train.
        """
        layers = self.image_encoder.recomputed_layers()
        if not layers:
            raise TrainingError(
                "Gradient checkpointing is for transformer blocks. Received: "
                f"{type(self.image_encoder).__name__}, which has none."
            )
        recompute(layers, enabled)

    def get_config(self):
        return super().get_config() | {
            "image_encoder": keras.saving.serialize_keras_object(self.image_encoder),
            "readout": self.readout,
            "reassemble_channels": self.reassemble_channels,
            "fusion_channels": self.fusion_channels,
            "use_batch_norm": self.use_batch_norm,
            "fusion_bias": self.fusion_bias,
            "fusion_projection": self.fusion_projection,
            "fusion_size": self.fusion_size,
            "rectified_shortcut": self.rectified_shortcut,
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
            config["image_encoder"] = _deserialized(encoder)
        return super().from_config(config)

    @classmethod
    def from_architecture(cls, preset, dtype=None, **kwargs):
        """Build from a preset's `architecture` (see `keras_dpt.presets`), with fresh weights."""
        architecture = preset["architecture"]
        name = architecture["encoder"]
        if name not in ENCODERS:
            raise ValueError(
                f"There is no encoder {name!r}. Encoders: {', '.join(ENCODERS)}. One of your own "
                f'becomes known by `keras_dpt.encoders.ENCODERS["{name}"] = {name}`.'
            )
        encoder = ENCODERS[name](dtype=dtype, **architecture["encoder_config"])
        return cls(encoder, dtype=dtype, **architecture["backbone_config"] | kwargs)


def _deserialized(encoder):
    """The encoder of a saved config.

    Raises: WeightsError: its class is not known here, or cannot be built of this config. (Keras
        would print the whole network's config.)
    """
    name = encoder.get("registered_name") or encoder.get("class_name")
    try:
        return keras.saving.deserialize_keras_object(encoder)
    except TypeError as error:
        if "Could not locate class" in str(error):
            raise WeightsError(
                f"The encoder's class {name!r} is not known to this process. Import the module "
                "that defines it, with `@keras.saving.register_keras_serializable()`, before "
                "loading."
            ) from None
        while "could not be deserialized" in str(error) and error.__context__ is not None:
            error = error.__context__
        raise WeightsError(
            f"The encoder {name!r} cannot be built from its config: {reason_of(error)}. Its "
            "constructor must take what `get_config` returns, with `**kwargs` for Keras's own."
        ) from error
