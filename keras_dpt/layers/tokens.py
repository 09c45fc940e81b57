"""What makes taps of the tokens inside a keras-hub backbone."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_dpt")
class FoldTokens(keras.layers.Layer):
    """Fold tokens into a map of a known grid, and hand out the tokens before them.

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
