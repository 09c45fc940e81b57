"""keras-hub, without TensorFlow as long as only another backend is at work.

keras-hub imports TensorFlow wherever it is installed, which costs a process on JAX or PyTorch
seconds and about 600 MB, for tokenizers that no image needs; Keras imports it to save a model, in
case that a config holds a shape or a dtype of TensorFlow's. So while keras-hub is imported here,
both get stand-ins that import the real modules when something of theirs is used. Nothing else meets
the stand-ins: `import tensorflow` is what it always was.
"""

import importlib
import importlib.util
import os
import sys
import tempfile
import types
from contextlib import contextmanager, nullcontext
from pathlib import Path

import keras
import numpy as np

from keras_dpt.late_tensorflow import import_tensorflow

# Modules that keras-hub imports at once, outer ones first.
_MODULES = (
    "tensorflow",
    "tensorflow_text",
    "tensorflow_text.tools",
    "tensorflow_text.tools.wordpiece_vocab",
    "tensorflow_text.tools.wordpiece_vocab.wordpiece_tokenizer_learner_lib",
)


class _NoTensor:
    """Of what class TensorFlow's tensors are while there can be none."""


# What keras-hub asks of TensorFlow when it is imported and when it preprocesses images, and Keras
# when it saves, and what is true until TensorFlow is imported. keras-hub derives a tokenizer's
# cache from `Module` so that SavedModels track it, and from `object` where there is no TensorFlow.
_ANSWERS = {
    "DType": _NoTensor,
    "Module": object,
    "RaggedTensor": _NoTensor,
    "Tensor": _NoTensor,
    "TensorShape": _NoTensor,
    "TypeSpec": _NoTensor,
    "device": lambda name: nullcontext(),
    "executing_eagerly": lambda: True,
    "string": "no dtype",
}


class _Postponed(types.ModuleType):
    """Stands for a module that is imported when an attribute of it is first needed."""

    def __getattr__(self, name):
        is_known = self.__name__ == "tensorflow" and name in _ANSWERS
        if is_known and sys.modules.get("tensorflow", self) is self:
            return _ANSWERS[name]
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self):
        for name in [name for name, module in sys.modules.items() if type(module) is _Postponed]:
            del sys.modules[name]  # else it would import itself
        return import_tensorflow(self.__name__)


@contextmanager
def _postponed():
    """Within it, modules that only TensorFlow's users need are stand-ins when imported."""
    # Names of the same packages only, as they are: with one half imported nothing is saved.
    is_wanted = keras.backend.backend() == "tensorflow" or "tensorflow" in sys.modules
    names = () if is_wanted or not _is_whole("tensorflow") else _MODULES
    if len(names) > 1 and not _is_whole("tensorflow_text"):
        names = names[:1]
    for name in names:
        module = sys.modules[name] = _Postponed(name)
        outer, _, last = name.rpartition(".")
        if outer:
            module.__package__ = outer
            sys.modules[outer].__dict__[last] = module
            sys.modules[outer].__dict__["__path__"] = []
    try:
        yield
    finally:
        for name in names:
            if type(sys.modules.get(name)) is _Postponed:
                del sys.modules[name]


def _is_whole(name):
    """Whether a package is installed; what `pip uninstall` left of one isn't."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


class _Schemes:
    """What TensorFlow's file systems are called, asked of it for names that could be of one."""

    def __init__(self, registered):
        self._registered = registered

    def __contains__(self, scheme):
        return scheme not in (None, "hf", "kaggle", "modelscope") and scheme in self._registered()


def _ask_tensorflow_less():
    """keras-hub asks it for its file systems whenever a file of a preset is opened."""
    preset_utils = importlib.import_module("keras_hub.src.utils.preset_utils")
    registered = getattr(preset_utils, "tf_registered_schemes", None)
    if registered is not None:
        preset_utils.tf_registered_schemes = lambda: _Schemes(registered)


@contextmanager
def _somewhere_to_live():
    """Within it there is a home folder: kagglehub asks for one on import, and has to get it."""
    try:
        Path.home()
    except RuntimeError:  # neither HOME nor an entry of the user's, as in some containers
        os.environ["HOME"] = tempfile.gettempdir()
        try:
            yield
        finally:
            del os.environ["HOME"]
    else:
        yield


if "keras_hub" in sys.modules:
    import keras_hub
else:
    with _postponed(), _somewhere_to_live():
        import keras_hub

        # Keras asks for TensorFlow when it first serializes what isn't a plain value.
        keras.saving.serialize_keras_object(np.float32(0))

    _ask_tensorflow_less()

__all__ = ["keras_hub"]
