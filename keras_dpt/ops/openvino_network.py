"""Networks on OpenVINO: compiled for one image of a size, in the precision of their layers."""

from collections import OrderedDict

import keras
import numpy as np
from keras import ops

# Sizes whose compiled networks are kept, which takes memory.
KEPT = 4
# OpenVINO's names. Without one it computes in half precision wherever the CPU has it.
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class CompiledNetwork:
    """A model of one image input as OpenVINO runs it.

    Keras's own way to `predict` on this backend leaves the precision to OpenVINO, keeps one size
    only, and goes on with the old weights when a model is given others.
    """

    def __init__(self):
        self._values = []
        self._compiled = OrderedDict()

    def run(self, model, images):
        """Outputs of `model`, NumPy arrays, for images `(B, H, W, 3)`.

        Images go through one by one: on CPUs batches gain next to nothing, and each size of a
        batch would need a compiled network of its own.
        """
        images = ops.convert_to_numpy(images)
        compiled, structure = self._for_size(model, images)
        each = [list(compiled(images[i : i + 1]).to_tuple()) for i in range(len(images))]
        outputs = [np.concatenate(parts) for parts in zip(*each, strict=True)]
        return keras.tree.pack_sequence_as(structure, outputs)

    def _for_size(self, model, images):
        values = [variable.value for variable in model.variables]
        known = len(values) == len(self._values)
        if not (known and all(a is b for a, b in zip(values, self._values, strict=True))):
            self._compiled.clear()
            self._values = values
        key = images.shape[1:], images.dtype.str
        if key not in self._compiled:
            self._compiled[key] = _compile(model, images)
        self._compiled.move_to_end(key)
        while len(self._compiled) > KEPT:
            self._compiled.popitem(last=False)
        return self._compiled[key]


def _compile(model, images):
    """The network for one image of such a size, and the structure of its outputs."""
    import openvino
    import openvino.opset13 as opset

    image = opset.parameter([1, *images.shape[1:]], openvino.Type(images.dtype))
    tensor = type(ops.convert_to_tensor(np.zeros(1, "float32")))
    outputs = model(tensor(image.output(0)), training=False)
    results = [opset.result(x.output) for x in keras.tree.flatten(outputs)]
    network = openvino.Model(results, [image])
    options = {"INFERENCE_PRECISION_HINT": precision(model)}
    return openvino.compile_model(network, "CPU", options), outputs


def precision(model):
    """What OpenVINO calls the precision of a model's layers: "f32", or a half one if any has it."""
    dtypes = {layer.compute_dtype for layer in model._flatten_layers()}
    return next((_PRECISIONS[d] for d in ("bfloat16", "float16") if d in dtypes), "f32")
