"""Everything that the scores of a model on a data set depend on, in JSON types."""

import contextlib
import dataclasses
import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version

import keras
import numpy as np

from keras_dpt.evaluation.protocols import Protocol
from keras_dpt.version import __version__

_OF_INSTANCES = ("name", "build_config", "compile_config", "shared_object_id")
_PACKAGES = ("keras", "keras-hub", "numpy", "pillow", "opencv-python-headless")


def describe(model, source) -> dict:
    """Model, weights, image geometry, data set, backend, versions."""
    converter = model.converter_of_photos()
    return {
        "model": type(model).__name__,
        "kind": getattr(model, "kind", "labels"),
        "parameters": int(model.count_params()),
        "weights_sha256": hash_of_weights(model),
        "dtype": model.backbone.dtype_policy.name,
        "image": {
            "image_size": list(converter.image_size) if converter.image_size else None,
            "keep_aspect_ratio": converter.keep_aspect_ratio,
            "multiple_of": converter.multiple_of,
            "resize": converter.resize,
            "size_rule": converter.size_rule,
            "pad": converter.pad,
            "mean": np.asarray(converter.mean, float).tolist(),
            "std": np.asarray(converter.std, float).tolist(),
        },
        "data": {
            "name": source.name,
            "kind": source.kind,
            "images": len(source),
            "ids_sha256": hashlib.sha256("\n".join(source.ids).encode()).hexdigest(),
        },
        "backend": keras.backend.backend(),
        "versions": versions(),
        "machine": platform.machine(),
    }


def hash_of_weights(model) -> str:
    """SHA-256 of all weights, in order, as float32: the same on every backend."""
    digest = hashlib.sha256()
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value), "<f4")
        digest.update(str(value.shape).encode())
        digest.update(value.data)
    return digest.hexdigest()


def fingerprint(provenance: dict, protocol: Protocol, model, source) -> str:
    """SHA-256 that identifies an evaluation, except for the content of the data."""
    config = model.get_config() if hasattr(model, "get_config") else None
    meaning = [getattr(source, name, None) for name in ("class_names", "ignore_index", "sparse")]
    content = [provenance, dataclasses.asdict(protocol), _without_names(config), meaning]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _without_names(config):
    """A config without what differs between instances, in JSON types."""
    if isinstance(config, dict):
        kept = (item for item in config.items() if item[0] not in _OF_INSTANCES)
        return {str(key): _without_names(value) for key, value in kept}
    if isinstance(config, list | tuple):
        return [_without_names(value) for value in config]
    is_plain = config is None or isinstance(config, str | int | float | bool)
    return config if is_plain else _without_names(keras.saving.serialize_keras_object(config))


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries used in a prediction."""
    found = {"python": platform.python_version(), "keras_dpt": __version__}
    for name in (*_PACKAGES, keras.backend.backend()):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
