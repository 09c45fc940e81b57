"""One writer per backend and format, around Keras's exporters."""

import logging
import warnings
from contextlib import contextmanager

import keras

from keras_dpt.export.onnx_files import name_axes_and_output
from keras_dpt.export.torch_onnx import write_onnx_by_torch
from keras_dpt.late_tensorflow import import_tensorflow
from keras_dpt.ops.attention import all_heads_at_once


def write(model, form, path, shape):
    """Write a model to a file.

    Args:
        model: a `DPTDepth` or `DPTSegmentation`.
        form: a `Format` that the current backend can write.
        path: of the file; its folder exists and is otherwise empty.
        shape: of the input, `(B, H, W, 3)`, with `None` for free axes.
    """
    with _quiet(), all_heads_at_once():
        _WRITERS[keras.backend.backend(), form.name](model, form, path, shape)


def _by_keras(model, form, path, shape, **options):
    signature = [keras.InputSpec(shape=shape, dtype="float32", name=form.input_name)]
    model.export(str(path), format=form.name, input_signature=signature, verbose=False, **options)


def _onnx(model, form, path, shape):
    _by_keras(model, form, path, shape)
    name_axes_and_output(path, shape, form.output_name)


def _litert(model, form, path, shape):
    tf = import_tensorflow()

    # Otherwise unsupported operations become TensorFlow's, which LiteRT's interpreters do not
    # run.
    own = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    _by_keras(model, form, path, shape, target_spec=own)


def _openvino(model, form, path, shape):
    import openvino

    _by_keras(model, form, path, shape)
    # OpenVINO treats checks of sizes inside the graph as additional outputs.
    network = openvino.Core().read_model(str(path))
    network = openvino.Model([network.output(0)], network.get_parameters(), "keras_dpt")
    _write_openvino(network, form, path.with_name("checked.xml"))
    for suffix in (".bin", ".xml"):
        path.with_name(f"checked{suffix}").replace(path.with_suffix(suffix))


def _openvino_from_torch(model, form, path, shape):
    import openvino

    # Keras traces the network for OpenVINO, which fixes all sizes and fails with shapes that are
    # tensors.
    onnx = path.with_suffix(".onnx")
    write_onnx_by_torch(model, onnx, shape, form.input_name, form.output_name)
    _write_openvino(openvino.convert_model(str(onnx)), form, path)
    onnx.unlink()


def _write_openvino(network, form, path):
    import openvino

    network.input(0).tensor.set_names({form.input_name})
    network.output(0).tensor.set_names({form.output_name})
    openvino.serialize(network, str(path))


def _onnx_by_torch(model, form, path, shape):
    write_onnx_by_torch(model, path, shape, form.input_name, form.output_name)


_WRITERS = {
    ("tensorflow", "onnx"): _onnx,
    ("tensorflow", "tf_saved_model"): _by_keras,
    ("tensorflow", "litert"): _litert,
    ("tensorflow", "openvino"): _openvino,
    ("torch", "onnx"): _onnx_by_torch,
    ("torch", "openvino"): _openvino_from_torch,
}


@contextmanager
def _quiet():
    """Silence warnings of converters about each other's versions, but no errors."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
