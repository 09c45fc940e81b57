"""Any keras-hub image backbone as an encoder."""

import keras

from keras_dpt.encoders.checks import Tap, check_taps
from keras_dpt.encoders.encoder import Encoder, freeze_layers_too, named_taps
from keras_dpt.encoders.keras_hub_outputs import (
    default_outputs,
    grids,
    image_input,
    outputs_of,
    tensors,
)
from keras_dpt.hub import keras_hub
from keras_dpt.layers.tokens import FoldTokens

# Of DINOv2 and DINOv3: a token for pretraining only; and positions that keras-hub computes again
# from other weights when a file is loaded, so that what they had learned would be lost.
_NOT_TRAINED = ("mask_token", "interpolated_position_embeddings")
# Names of the query and value projections in keras-hub's backbones.
_LORA_NAMES = ("query", "value", "q_proj", "v_proj", "attention_qkv")


@keras.saving.register_keras_serializable(package="keras_dpt")
class KerasHubEncoder(Encoder):
    """A keras-hub image backbone, tapped at four places.

    `DPTBackbone(image_encoder=backbone)` creates one. Outputs of rank 3 are tokens: those of the
    grid are folded into maps, those before it are prefix tokens. Outputs of rank 4 are maps, which
    go to fusion unchanged. Only the tapped part of the backbone is kept.

    Args:
        backbone: a `keras_hub.models.Backbone` with weights, such as
            `keras_hub.models.DINOV3Backbone.from_preset(...)`.
        outputs: names of the four taps, finest first: keys of the backbone's `pyramid_outputs`, or
            names of layers or of the blocks of its transformer. By default the maps at strides 4,
            8, 16 and 32, or four blocks spread evenly, the last one included.
        dtype: must be the dtype policy of the backbone, which is the default.

    Inputs: `(B, H, W, 3)` float, normalised as the backbone's weights expect; of the backbone's
        `image_shape` where that fixes a size.
    Returns: see `keras_dpt.Encoder`.
    Raises: ValueError: outputs that do not exist, are not four, or are neither tokens nor maps.
    """

    def __init__(self, backbone, outputs=None, dtype=None, **kwargs):
        if isinstance(backbone, dict):
            backbone = keras.saving.deserialize_keras_object(backbone)
        source = image_input(backbone)
        named = outputs_of(backbone)
        outputs = list(default_outputs(backbone, named) if outputs is None else outputs)
        if len(outputs) != 4 or any(name not in named for name in outputs):
            raise ValueError(
                f"`outputs` must name four outputs of {type(backbone).__name__}. Received: "
                f"{outputs}. It has: {', '.join(named)}."
            )

        # === Layers and functional model ===
        strides, num_prefix_tokens = grids(backbone, named, outputs)
        extractor = keras.Model(source, tensors(backbone, named, outputs), name="features")
        image = keras.Input(source.shape[1:], name="images")
        maps, prefixes, taps = [], [], []
        for n, (x, stride) in enumerate(zip(extractor(image), strides, strict=True), 1):
            is_tokens, count, prefix = len(x.shape) == 3, 0, None
            if is_tokens:
                grid = tuple(side // stride for side in image.shape[1:3])
                count = num_prefix_tokens if stride == min(strides) else 0
                x, prefix = FoldTokens(grid, count, name=f"fold_{n}")(x)
            maps.append(x)
            prefixes.append(prefix if count else None)
            taps.append(Tap(x.shape[-1], stride, count, reassemble=is_tokens))
        super().__init__(image, named_taps(maps, prefixes), **kwargs)
        freeze_layers_too(self)
        for variable in extractor.weights:
            if variable.name in _NOT_TRAINED:
                variable.trainable = False

        # === Config ===
        self.outputs_of = outputs
        self._taps = tuple(taps)
        self._backbone_config = keras.saving.serialize_keras_object(backbone)
        self.image_shape = tuple(image.shape[1:])

    @property
    def taps(self):
        return self._taps

    @property
    def fixed_size(self):
        return None if None in self.image_shape[:2] else self.image_shape[:2]

    def default_lora_layer_names(self):
        """The backbone's projections to queries and values."""
        there = {layer.name for layer in self._flatten_layers()}
        return [name for name in _LORA_NAMES if name in there]

    def freeze_norms(self):
        for layer in self._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False

    def get_config(self):
        # Not the base class's dtype: the backbone's config has it.
        return {
            "name": self.name,
            "trainable": self.trainable,
            "backbone": self._backbone_config,
            "outputs": list(self.outputs_of),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        backbone = config["backbone"]
        if isinstance(backbone, dict) and config.get("dtype") is not None:
            backbone = backbone | {"config": backbone["config"] | {"dtype": config["dtype"]}}
        return cls(**config | {"backbone": backbone})


def as_encoder(image_encoder):
    """An `Encoder`: as given, or made from a keras-hub backbone or the handle of its preset.

    Raises: TypeError: anything else, or an encoder without `taps`.
    """
    if isinstance(image_encoder, str):
        image_encoder = keras_hub.models.Backbone.from_preset(image_encoder)
    if isinstance(image_encoder, Encoder):
        try:
            check_taps(image_encoder.taps)
        except AttributeError as error:
            raise TypeError(
                f"{type(image_encoder).__name__} must have `taps`, four `keras_dpt.Tap`s that "
                f"describe its outputs. Received: {error}."
            ) from error
        return image_encoder
    if isinstance(image_encoder, keras_hub.models.Backbone):
        return KerasHubEncoder(image_encoder)
    is_class = isinstance(image_encoder, type)
    name = (image_encoder if is_class else type(image_encoder)).__name__
    raise TypeError(
        "`image_encoder` must be a keras_dpt.Encoder, a keras_hub.models.Backbone for images or "
        f"the handle of its preset. Received: {name}{', a class: give an instance' * is_class}."
    )
