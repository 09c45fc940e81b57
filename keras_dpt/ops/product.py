"""Products of matrices in half precision."""

import keras
from keras import ops

from keras_dpt.ops.processor import computes_on_processor, multiplies_bfloat16


def matmul(x, y, dtype=None):
    """`keras.ops.matmul`, on JAX in a form that XLA has bfloat16 instructions for.

    On CPUs XLA multiplies bfloat16 with results in bfloat16 as float32, and with results in
    float32, which are rounded afterwards, twice as fast where there is AVX512_BF16.

    Args: x, y: tensors of one float dtype. dtype: of the result; theirs if it is missing.
    Returns: their product.
    """
    inputs_dtype = keras.backend.standardize_dtype(x.dtype)
    in_jax = keras.config.backend() == "jax" and inputs_dtype == "bfloat16"
    if in_jax and multiplies_bfloat16() and computes_on_processor():
        import jax.numpy as jnp

        x = jnp.matmul(x, y, preferred_element_type="float32")
    else:
        x = ops.matmul(x, y)
    return ops.cast(x, dtype or inputs_dtype)
