"""Biases of queries and values without one of keys, as in BEiT and Swin Transformer V2."""

from keras import ops


class QueryValueBias:
    """Mixin before an `Attention` without `qkv_bias`: its queries and values have biases.

    A bias of the keys would shift all scores of a query alike, so there is none. The attention
    calls `build_query_value_bias` in `build`.
    """

    def build_query_value_bias(self):
        self.query_bias, self.value_bias = (
            self.add_weight(shape=(self.hidden_dim,), initializer="zeros", name=name)
            for name in ("query_bias", "value_bias")
        )

    def project(self, x):
        query, value = map(ops.convert_to_tensor, (self.query_bias, self.value_bias))
        bias = ops.concatenate([query, ops.zeros_like(query), value], axis=0)
        bias = ops.reshape(bias, (3, self.num_heads, -1))
        qkv = super().project(x)
        return qkv + ops.cast(bias, qkv.dtype)
