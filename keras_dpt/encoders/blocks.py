"""A chain of transformer blocks, of which some are tapped."""

from keras_dpt.layers.transformer import TokensToMap


def taps_of_blocks(x, patches, out_indices, run, num_prefix=1, norm=None, dtype=None):
    """Run blocks one after the other and fold what the tapped ones return back into maps.

    Args:
        x: tokens `(B, P + h * w, D)`, a Keras tensor.
        patches: any map `(B, h, w, _)` that knows the grid.
        out_indices: numbers of the tapped blocks, ascending; nothing runs after the last one.
        run: function of a block's number and its input that makes the block and returns its output.
        num_prefix: P, tokens before those of the grid.
        norm: a layer through which tapped tokens go first; `None` for none.
        dtype: of the folding layers.

    Returns: two lists, one entry per tap: maps `(B, h, w, D)` and prefix tokens `(B, P, D)`.
    """
    maps, prefixes = [], []
    for i in range(out_indices[-1] + 1):
        x = run(i, x)
        if i in out_indices:
            fold = TokensToMap(num_prefix, dtype=dtype, name=f"tap_{i}")
            tap, prefix = fold(x if norm is None else norm(x), patches)
            maps.append(tap)
            prefixes.append(prefix)
    return maps, prefixes
