"""Run an exported file in its runtime."""

import os
from pathlib import Path

from keras_dpt.errors import ExportError
from keras_dpt.export.formats import check_packages, find_format
from keras_dpt.export.parity import first_line
from keras_dpt.late_tensorflow import import_tensorflow

# By default, OpenVINO computes in bfloat16 if the CPU can.
OPENVINO_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


def load_exported(path, format, threads=None, options=None):
    """Load a file written by `export_model`.

    Args:
        path: the file, or the folder of a SavedModel.
        format: "onnx", "tf_saved_model", "litert" or "openvino".
        threads: most threads of the runtime; `None` for its default. TensorFlow has its own
            settings.
        options: of OpenVINO's CPU plugin; by default it computes in float32.

    Returns: function of images `(B, H, W, 3)` float32 that returns the network's output, both NumPy
        arrays.
    Raises: keras_dpt.ExportError: (a ValueError) unknown format, its runtime is not installed or
        cannot read the file, or there is none.
    """
    form = find_format(format)
    check_packages([form.runtime], f"Running {form.name} files")
    path = os.fspath(Path(path))
    if not os.path.exists(path):
        raise ExportError(f"There is no file {path}.")
    try:
        if form.name == "openvino":
            return _openvino(path, threads, OPENVINO_FLOAT32 if options is None else options)
        return {"onnx": _onnx, "tf_saved_model": _saved_model, "litert": _litert}[form.name](
            path, threads
        )
    except Exception as error:  # each runtime has its own
        raise ExportError(
            f"{path} cannot be read as {form.name}: {first_line(error)}. Is it of another format?"
        ) from error


def _onnx(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4  # errors are raised all the same
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _openvino(path, threads, options):
    import openvino

    options = options | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
    network = openvino.Core().compile_model(path, "CPU", options)
    return lambda images: network(images)[0]


def _litert(path, threads):
    from ai_edge_litert.interpreter import Interpreter

    # The first one is made here, since it says what is wrong with the file.
    interpreter, shape = Interpreter(model_path=path, num_threads=threads), ()

    def run(images):
        nonlocal interpreter, shape
        if images.shape != shape:
            # A new one for each shape: 2.3.0's can be wrong after its input has grown.
            if shape != ():
                interpreter = Interpreter(model_path=path, num_threads=threads)
            shape = None
            source = interpreter.get_input_details()[0]
            if tuple(source["shape"]) != images.shape:
                interpreter.resize_tensor_input(source["index"], images.shape, strict=True)
            interpreter.allocate_tensors()
            shape = images.shape
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


def _saved_model(path, threads):
    tf = import_tensorflow()

    network = tf.saved_model.load(path)
    return lambda images: network.serve(images).numpy()
