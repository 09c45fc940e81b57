"""Any keras-hub image backbone as an encoder."""

import math

import keras
import numpy as np
from keras import ops

from keras_dpt.encoders.checks import Tap, check_taps
from keras_dpt.encoders.encoder import Encoder, freeze_layers_too, named_taps
from keras_dpt.hub import keras_hub

_PROBE = 256  # pixels: a side on which strides up to 32 can be read
# DINOv2 and DINOv3: a token used in pretraining only; and positions that keras-hub recomputes from
# other weights when a file is loaded, so that trained values would be lost.
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
        image_input = _image_input(backbone)
        named = _outputs_of(backbone)
        outputs = list(_default_outputs(backbone, named) if outputs is None else outputs)
        if len(outputs) != 4 or any(name not in named for name in outputs):
            raise ValueError(
                f"`outputs` must name four outputs of {type(backbone).__name__}. Received: "
                f"{outputs}. It has: {', '.join(named)}."
            )

        # === Layers and functional model ===
        strides, num_prefix_tokens = _grids(backbone, named, outputs)
        extractor = keras.Model(image_input, _tensors(backbone, named, outputs), name="features")
        image = keras.Input(image_input.shape[1:], name="images")
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


def _image_input(backbone):
    """The backbone's input tensor `(B, H, W, 3)`.

    Raises: ValueError: its inputs are not that.
    """
    inputs = backbone.input
    inputs = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[-1] != 3:
        raise ValueError(
            f"{type(backbone).__name__} is not a backbone for images (B, H, W, 3). Its inputs: "
            f"{[tuple(x.shape) for x in inputs]}."
        )
    return inputs[0]


def _outputs_of(backbone):
    """What can be tapped, in order: `{name: Keras tensor, or the number of a block}`."""
    if pyramid := getattr(backbone, "pyramid_outputs", None):
        return dict(pyramid)
    if owner := _nested_blocks(backbone):
        return {f"block_{i}": i for i in range(len(owner.encoder_layers))}
    if blocks := getattr(backbone, "encoder_layers", None):  # by number: names may differ next time
        return {f"block_{i}": block.output for i, block in enumerate(blocks)}
    return {layer.name: layer.output for layer in backbone.layers[1:]}


def _nested_blocks(backbone):
    """The layer whose `encoder_layers` are transformer blocks, or `None`."""
    owners = [x for x in backbone.layers if getattr(x, "encoder_layers", None)]
    return owners[0] if owners else None


def _tensors(backbone, named, outputs):
    """Keras tensors of outputs by name."""
    if isinstance(named[outputs[0]], int):
        owner = _nested_blocks(backbone)
        return TappedBlocks(owner.encoder_layers, [named[x] for x in outputs])(owner.input)
    return [named[name] for name in outputs]


def _default_outputs(backbone, named):
    """Names of four outputs: one map for each of strides 4 to 32, or four blocks of tokens."""
    if getattr(backbone, "pyramid_outputs", None):
        maps = [name for name, x in named.items() if len(x.shape) == 4]
        if maps:
            strides = [_stride_of_map(backbone, named[name]) for name in maps]
            last = {stride: name for name, stride in zip(maps, strides, strict=True)}
            if {4, 8, 16, 32} <= last.keys():
                return [last[stride] for stride in (4, 8, 16, 32)]
            return maps[-4:]
    blocks = [name for name in named if name.startswith(("block_", "stage"))]
    if hasattr(backbone, "window_size") and len(blocks) == 4:
        # Swin's stages end with merging, so the map at stride 4 is the one before the first.
        return [list(named)[list(named).index(blocks[0]) - 1], blocks[0], blocks[1], blocks[3]]
    return [blocks[len(blocks) * quarter // 4 - 1] for quarter in (1, 2, 3, 4)] if blocks else []


def _stride_of_map(backbone, x):
    """Input pixels per cell of a map `(B, h, w, C)`."""
    image = _image_input(backbone)
    if None not in (image.shape[1], x.shape[1]):
        return round(image.shape[1] / x.shape[1])
    return round(_PROBE / keras.Model(image, x).compute_output_shape((1, _PROBE, _PROBE, 3))[1])


def _grids(backbone, named, outputs):
    """The stride of each output, and its number of tokens before those of the grid.

    Raises: ValueError: an output that is neither tokens of a known grid nor a map.
    """
    image, strides, num_prefix_tokens = _image_input(backbone), [], None
    for name in outputs:
        x = named[name] if not isinstance(named[name], int) else _nested_blocks(backbone).input
        if len(x.shape) == 4:
            strides.append(_stride_of_map(backbone, x))
            continue
        stride = _patch_size(backbone)
        if len(x.shape) != 3 or stride is None or None in image.shape[1:3]:
            raise ValueError(
                f"{name!r}, of shape {tuple(x.shape)}, of {type(backbone).__name__} is neither "
                "tokens (B, T, C) of a known grid nor a map (B, h, w, C)."
            )
        if num_prefix_tokens is None:
            num_prefix_tokens = _count_prefix_tokens(backbone, named, outputs, stride)
        if hasattr(backbone, "window_size"):  # tokens of later stages have larger cells
            while x.shape[1] < math.prod(side // stride for side in image.shape[1:3]):
                stride *= 2
        strides.append(stride)
    return strides, num_prefix_tokens or 0


def _patch_size(backbone):
    patch = getattr(backbone, "patch_size", None)
    return patch[0] if isinstance(patch, list | tuple) else patch


def _count_prefix_tokens(backbone, named, outputs, stride):
    """Run the first layers, because output shapes of keras-hub's layers can be wrong."""
    image = _image_input(backbone)
    first = next(iter(named.values()))
    if isinstance(first, int):
        first = _nested_blocks(backbone).input
    elif blocks := getattr(backbone, "encoder_layers", None):
        first = blocks[0].input
    tokens = keras.Model(image, first)(np.zeros((1, *image.shape[1:]), "float32"))
    return tokens.shape[1] - math.prod(side // stride for side in image.shape[1:3])


@keras.saving.register_keras_serializable(package="keras_dpt")
class FoldTokens(keras.layers.Layer):
    """Fold tokens into a map of a known grid, and return the tokens before them.

    Args: grid: `(rows, columns)`. num_prefix_tokens: P, tokens before those of the grid.

    Inputs: `(B, P + rows * columns, C)`.
    Returns: map `(B, rows, columns, C)` and prefix tokens `(B, P, C)`.
    """

    def __init__(self, grid, num_prefix_tokens, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.num_prefix_tokens = num_prefix_tokens

    def call(self, x):
        tokens = x[:, self.num_prefix_tokens :]
        return ops.reshape(tokens, (-1, *self.grid, x.shape[-1])), x[:, : self.num_prefix_tokens]

    def compute_output_shape(self, shape):
        batch, _, width = shape
        return (batch, *self.grid, width), (batch, self.num_prefix_tokens, width)

    def get_config(self):
        return super().get_config() | {
            "grid": self.grid,
            "num_prefix_tokens": self.num_prefix_tokens,
        }


class TappedBlocks(keras.layers.Layer):
    """The blocks of a transformer whose backbone runs them inside one layer, up to the last tap.

    Args: blocks: its layers. indices: of the tapped ones, ascending.

    Inputs: `(B, T, C)`. Returns: list of the tapped blocks' outputs, of the same shape.
    """

    def __init__(self, blocks, indices, **kwargs):
        super().__init__(**kwargs)
        self.indices = list(indices)
        self.blocks = list(blocks)[: self.indices[-1] + 1]

    def build(self, shape):
        self.built = True  # the backbone has built its blocks

    def call(self, x):
        outputs = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            x = x[0] if isinstance(x, list | tuple) else x  # DeiT's give attention scores, too
            if i in self.indices:
                outputs.append(x)
        return outputs

    def compute_output_shape(self, shape):
        return [shape] * len(self.indices)
