"""Dense layers on TensorFlow."""


def dense(inputs, kernel, bias, activation):
    """Product of `(..., C)` with `(C, D)`: `(..., D)`."""
    import tensorflow as tf

    inputs, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel)
    x = tf.matmul(tf.reshape(inputs, (-1, inputs.shape[-1])), kernel)
    x = x if bias is None else tf.nn.bias_add(x, tf.convert_to_tensor(bias))
    # Between product and activation there is no reshape, so that TensorFlow can join them.
    x = x if activation is None else activation(x)
    outputs = tf.reshape(x, tf.concat([tf.shape(inputs)[:-1], kernel.shape[1:]], 0))
    outputs.set_shape([*inputs.shape[:-1], kernel.shape[1]])
    return outputs
