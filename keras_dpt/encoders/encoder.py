"""The base class of encoders: four feature maps, finest first, and their description."""

import math

from keras import ops

from keras_dpt.encoders.checks import Tap, check_strides
from keras_dpt.errors import WeightsError
from keras_dpt.hub import keras_hub
from keras_dpt.ops.sides import check_sides, check_size, one_size_only, untouched


class Encoder(keras_hub.models.Backbone):
    """Base class of encoders: a functional model from an image to a dict of four maps.

    To write one, build a functional model whose outputs are `stage1` ... `stage4`, maps
    `(B, h, w, C)`, finest first, and, for taps with prefix tokens, `prefixN` `(B, P, C)`
    (`named_taps` makes that dict), and describe them in `taps`. Only the encoder knows its grid, so
    it alone folds tokens into maps. The decoder reads nothing but `taps`.

    Attributes:
        taps: four `Tap`s, in the order of the outputs.
        required_multiple: image sides must be multiples of it; the encoder rejects others.
        size_multiple: sides are rounded to multiples of it wherever this package chooses a size:
            image converters, training stages, studies, export. See `size_multiple`.
        fine_tuning_rate: learning rate of its pretrained weights, `compile`'s default for depth.

    Inputs: `(B, H, W, 3)` float, normalised as the weights expect.
    Raises: ValueError: at call, sides that are not multiples of `required_multiple`, or maps of
        other strides than `taps` have.

    Example: `keras_dpt.ViTEncoder` is one; guides/extending shows how to add another.
    """

    taps: tuple[Tap, ...]
    fine_tuning_rate = 1e-5  # the DPT paper's
    # Whether all taps are maps of stages, of the widths that a static `stage_widths(config)` gives
    # for constructor arguments: a checkpoint without one of the decoder's tensors then shows them.
    has_stages_only = False

    @property
    def unit(self):
        """Stride of the pyramid's third level: that of the tokens, or 16 without tokens."""
        return pyramid_unit(self.taps)

    @property
    def required_multiple(self):
        """Image sides must be multiples of this: the largest stride of a map."""
        return max(tap.stride for tap in self.taps)

    @property
    def size_multiple(self):
        """Sides are rounded to multiples of this wherever this package chooses a size.

        With strides that are powers of two it gives the coarsest pyramid level whole cells, as in
        the original: 32 for stride 16, although multiples of 16 work. For other encoders it is
        `required_multiple`: 14 for DINOv2, as in its own code.
        """
        required, unit = self.required_multiple, self.unit
        return math.lcm(required, 2 * unit) if unit & (unit - 1) == 0 else required

    @property
    def fixed_size(self):
        """`(height, width)` of images if the encoder takes one size only, else `None`."""
        return None

    @classmethod
    def config_from_shapes(cls, shapes, **untold):
        """Constructor arguments, inferred from the shapes of a checkpoint's tensors.

        Args:
            shapes: `{variable path: shape}` of the whole network, see
                `keras_dpt.conversion.architecture`.
            **untold: arguments of the class that shapes do not determine, if known.

        Returns: a dict, or `None` if these are not the shapes of such an encoder.
        Raises: WeightsError: the shapes are not sufficient, or the class does not define this.
        """
        raise WeightsError(
            f"{cls.__name__} cannot be inferred from a checkpoint: it needs a class method "
            "`config_from_shapes(shapes, **untold)` that returns its arguments."
        )

    def default_lora_layer_names(self):
        """Layers that `enable_lora(rank)` adapts: the fused query, key, value projections."""
        return ["qkv"]

    def attention_blocks(self):
        """Transformer blocks in order, for `keras_dpt.evaluation.attention_maps`; none by default.

        Each has `attention_weights(x, queries)`, see `keras_dpt.layers.transformer`.
        """
        return ()

    def recomputed_layers(self):
        """Layers that gradient checkpointing computes twice: its transformer blocks.

        See `keras_dpt.DPTBackbone.enable_gradient_checkpointing`.
        """
        return self.attention_blocks()

    def freeze_norms(self):
        """Freeze batch normalisations, if any, because batches are small in fine-tuning.

        Their statistics and factors then stay those of the pretrained weights, in training too.
        """

    def call(self, inputs, **kwargs):
        images = inputs[0] if isinstance(inputs, list | tuple) else inputs
        check_size(ops.shape(images), self.fixed_size)
        check_sides(ops.shape(images), self.required_multiple, self.size_multiple)
        outputs = super().call(inputs, **kwargs)
        try:
            check_strides(outputs, self.taps, tuple(images.shape[1:3]), type(self).__name__)
        except ValueError as error:
            raise untouched(str(error)) from None
        return outputs


def fixed_shape(encoder, image_shape):
    """`image_shape`, with the encoder's size if that is fixed.

    Raises: ValueError: `image_shape` has another size.
    """
    if encoder.fixed_size is None:
        return tuple(image_shape)
    for side, fixed in zip(image_shape, encoder.fixed_size, strict=False):
        if side not in (None, fixed):
            raise ValueError(
                f"{one_size_only(type(encoder).__name__, encoder.fixed_size)} Received: "
                f"image_shape={tuple(image_shape)}."
            )
    return (*encoder.fixed_size, 3)


def pyramid_unit(taps):
    """Stride (unit) of the third of four pyramid levels: unit / 4, unit / 2, unit, unit * 2.

    Args: taps: the encoder's four `Tap`s.
    Returns: the one stride of the taps that are reassembled, or else of those with prefix tokens;
        16 if there is none.
    """
    reassembled = {tap.stride for tap in taps if tap.reassemble}
    with_prefix = {tap.stride for tap in taps if tap.num_prefix_tokens}
    for strides in (reassembled, with_prefix):
        if len(strides) == 1:
            return strides.pop()
    return 16


def named_taps(maps, prefixes):
    """The outputs of an encoder: `stageN` for each map, `prefixN` for each prefix not `None`."""
    outputs = {f"stage{n}": x for n, x in enumerate(maps, 1)}
    return outputs | {f"prefix{n}": x for n, x in enumerate(prefixes, 1) if x is not None}


def freeze_layers_too(model):
    """Freeze a new model whose config has `trainable=False`.

    Keras sets the flag before the model has layers, so these would stay trainable.
    """
    if not model.trainable:
        for layer in model.layers:
            layer.trainable = False
