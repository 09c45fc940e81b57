"""Products of matrices in half precision."""

import keras
from keras import ops

from keras_dpt.ops.processor import computes_on_processor, multiplies_bfloat16


def matmul(x, y):
    """`keras.ops.matmul`, on JAX in a form that XLA has bfloat16 instructions for.

    On processors XLA multiplies bfloat16 with results in bfloat16 as float32, and with results in
    float32, which are rounded afterwards, twice as fast where there is AVX512_BF16.

    Args: x, y: tensors of one float dtype.
    Returns: their product, in that dtype.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    is_slow = keras.config.backend() == "jax" and dtype == "bfloat16" and multiplies_bfloat16()
    if is_slow and computes_on_processor():
        import jax.numpy as jnp

        return jnp.matmul(x, y, preferred_element_type="float32").astype(dtype)
    return ops.matmul(x, y)
