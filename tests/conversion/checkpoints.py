"""Checkpoints for tests: the names and shapes of the public ones, and small ones of their layout."""

import json
import re
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from safetensors.numpy import save_file

from keras_dpt.conversion.engine import Spec
from keras_dpt.models.depth import DPTDepth

# The small network's widths for the official Base's. All nearly equal: JAX compiles per shape.
WIDTHS = {768: 64, 1536: 128, 2304: 192, 3072: 64, 577: 5, 1000: 3}
WIDTHS |= dict.fromkeys((96, 192, 384, 256, 128, 32), 64)


def key_list(name):
    """`{tensor name: Spec}` of a public checkpoint: "isl_large", "hf_hybrid"..."""
    specs = {}
    for line in (Path(__file__).parent / "keys" / f"{name}.txt").read_text().splitlines():
        template, shape = line.split(" ")
        spec = Spec(tuple(map(int, shape.split("x"))), "float32")
        last = re.search(r"\{0-(\d+)\}", template)
        for i in range(int(last[1]) + 1) if last else [0]:
            specs[template.replace(last[0], str(i)) if last else template] = spec
    return specs


def small_tensors(name="isl_base", blocks=4):
    """`{tensor name: array}` with the names of a public ViT checkpoint, cut to a few blocks."""
    rng = np.random.default_rng(0)
    tensors = {}
    for key, spec in key_list(name).items():
        block = re.search(r"(?:blocks|encoder\.layer)\.(\d+)\.", key)
        if block is None or int(block[1]) < blocks:
            shape = [WIDTHS.get(side, side) for side in spec.shape]
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
    compiling = mock.patch.object(DPTDepth, "compile")  # an optimizer has variables of its own
    with compiling, keras.StatelessScope(initialize_variables=False):
        network = DPTDepth.from_architecture(preset, dtype="float32")
        return {variable.path: tuple(variable.shape) for variable in network.weights}
