"""Checkpoints for tests: names and shapes of the public ones, and small ones of their layout."""

import functools
import json
import math
import re
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from safetensors.numpy import save_file

from keras_dpt.conversion.architecture import original_image
from keras_dpt.conversion.formats import isl_org
from keras_dpt.models.depth import DPTDepth
from keras_dpt.models.segmentation import DPTSegmentation
from keras_dpt.weights.readers import Spec

KEYS = Path(__file__).parent / "keys"

# The small network's widths for the official Base's. All nearly equal: JAX compiles per shape.
WIDTHS = {768: 64, 1536: 128, 2304: 192, 3072: 64, 577: 5, 1000: 3}
WIDTHS |= dict.fromkeys((96, 192, 384, 256, 128, 32), 64)
LARGE_WIDTHS = {1024: 64, 2048: 128, 3072: 192, 4096: 64, 512: 64, 256: 64, 577: 5, 150: 3}


def key_list(name):
    """`{tensor name: Spec}` of a public checkpoint: "isl_large", "hf_hybrid"..."""
    specs = {}
    for line in (KEYS / f"{name}.txt").read_text().splitlines():
        template, _, shape = line.partition(" ")  # a counter's shape is empty
        spec = Spec(tuple(map(int, filter(None, shape.split("x")))), "float32")
        last = re.search(r"\{0-(\d+)\}", template)
        for i in range(int(last[1]) + 1) if last else [0]:
            specs[template.replace(last[0], str(i)) if last else template] = spec
    return specs


def small_tensors(name="isl_base", blocks=4):
    """`{tensor name: array}` with the names of a public ViT checkpoint, cut to a few blocks."""
    rng = np.random.default_rng(0)
    widths = LARGE_WIDTHS if "large" in name else WIDTHS
    tensors = {}
    for key, spec in key_list(name).items():
        block = re.search(r"(?:blocks|encoder\.layer)\.(\d+)\.", key)
        if block is None or int(block[1]) < blocks:
            shape = [widths.get(side, side) for side in spec.shape]
            tensors[key] = rng.normal(0, 0.1, shape).astype("float32")
    return tensors


def write_hf_directory(folder, tensors=None, config=None, image=None):
    """A Hugging Face directory of a small DPT."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        small_tensors("hf_base") if tensors is None else tensors, folder / "model.safetensors"
    )
    config = {"model_type": "dpt", "num_attention_heads": 4} | (config or {})
    (folder / "config.json").write_text(json.dumps(config))
    if image is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(image))
    return folder


def variable_shapes(preset):
    """`{variable path: shape}` of a preset's network, full size, without memory for its weights."""
    return _variable_shapes(json.dumps(preset["architecture"]))


@functools.cache
def _variable_shapes(architecture):
    architecture = json.loads(architecture)
    is_depth = "num_classes" not in architecture["task_config"]
    preset = {"architecture": architecture, "image": {}}
    preset["task"] = "depth" if is_depth else "segmentation"
    preset["output"] = {"kind": "relative_inverse_depth" if is_depth else "labels"}
    task = DPTDepth if is_depth else DPTSegmentation
    compiling = mock.patch.object(task, "compile")  # an optimizer has variables of its own
    with compiling, keras.StatelessScope(initialize_variables=False):
        network = task.from_architecture(preset, dtype="float32")
        shapes = {variable.path: tuple(variable.shape) for variable in network.weights}
    # Else Keras gives them their values, gigabytes of them, with the next model that anyone builds.
    keras.utils.clear_session()
    return shapes


class FakeNetwork:
    """Stands for a network where only its way through conversion matters: quick on any backend."""

    def __init__(self, preset):
        self.preset = preset
        self.weights = [FakeVariable(*item) for item in variable_shapes(preset).items()]

    def count_params(self):
        return sum(math.prod(variable.shape) for variable in self.weights)

    def save_to_preset(self, folder):
        (Path(folder) / "config.json").write_text('{"registered_name": "keras_dpt>DPTBackbone"}')
        np.savez(Path(folder) / "fake.npz", **{v.path: v.value for v in self.weights})


class FakeVariable:
    def __init__(self, path, shape):
        self.path, self.shape, self.value = path, shape, np.zeros(shape, "float32")

    def assign(self, value):
        self.value = np.array(value)


def small_preset(name="small", sources=(), **task_config):
    """A preset whose network is that of `small_tensors`."""
    kind = {"kind": "metric_depth" if task_config else "relative_inverse_depth"}
    specs = {key: Spec(x.shape, str(x.dtype)) for key, x in small_tensors().items()}
    architecture = isl_org.DEPTH.config_from(specs)
    architecture["task_config"] |= kind | task_config
    return {
        "name": name,
        "task": "depth",
        "architecture": architecture,
        "image": original_image(architecture),
        "output": kind | {"unit": "m" if task_config else None},
        "parameters": 1,
        "weights": "complete",
        "sources": list(sources),
        "weights_license": "MIT",
        "license_evidence": "made for a test",
        "commercial_ok": True,
        "training_data": "none",
        "notes": [],
        "parity": {},
    }
