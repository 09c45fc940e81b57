"""What an encoder is to the decoder: four taps, finest first, and how wide each is."""

from dataclasses import dataclass

import keras_hub


@dataclass(frozen=True)
class Tap:
    """One of the four places where the decoder listens.

    Attributes:
        channels: width of the map.
        has_prefix: whether the map was folded from tokens and prefix tokens come with it. Such a
            map is read and reassembled; one of a convolutional stage goes to fusion as it is.
    """

    channels: int
    has_prefix: bool


class Encoder(keras_hub.models.Backbone):
    """Base class: a functional model from an image to a dict of maps.

    Its outputs are `stage1` ... `stage4`, maps `(B, h, w, C)`, and, for taps with prefix tokens,
    `prefixN`, `(B, P, C)`. Subclasses have `taps`, four `Tap`s, in that order. Only the encoder
    knows the grid, so it alone folds tokens into maps.
    """

    taps: tuple[Tap, ...]

    def default_lora_layer_names(self):
        """Layers that `enable_lora(rank)` adapts: the fused query, key, value projections."""
        return ["qkv"]

    def freeze_norms(self):
        """Stop batch normalisations, if there are any: fine-tuning's batches are small.

        Their averages and factors then stay as ImageNet left them, in training too.
        """


def named_taps(maps, prefixes):
    """The outputs of an encoder: `stageN` for each map, `prefixN` for each prefix not `None`."""
    outputs = {f"stage{n}": x for n, x in enumerate(maps, 1)}
    return outputs | {f"prefix{n}": x for n, x in enumerate(prefixes, 1) if x is not None}


def freeze_layers_too(model):
    """Freeze all of a new model if `trainable=False` was an argument, as a saved config has it.

    Keras sets the flag before the model knows its layers, so they would learn on.
    """
    if not model.trainable:
        for layer in model.layers:
            layer.trainable = False
