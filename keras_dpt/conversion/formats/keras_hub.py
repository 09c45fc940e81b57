"""Preset directories of keras-hub's Depth Anything, by the paths of its variables."""

import json

import keras
import numpy as np

from keras_dpt.conversion.architecture import read_architecture
from keras_dpt.conversion.engine import CheckpointFormat, Rule, as_it_is, has
from keras_dpt.conversion.formats.depth_anything import NO_MASK, NO_SKIP, hub_image
from keras_dpt.encoders.dinov2 import DINOv2Encoder
from keras_dpt.errors import WeightsError
from keras_dpt.hub import keras_hub
from keras_dpt.weights.download import sha256_of
from keras_dpt.weights.readers import Spec, weight_files

REGISTERED_NAME = "keras_hub>DepthAnythingBackbone"


def joined(*tensors):
    """Queries, keys and values, `(D, N, D / N)` or `(N, D / N)` each, as one dense layer's."""
    return np.concatenate([x.reshape((*x.shape[:-2], -1)) for x in tensors], axis=-1)


def of_all_heads(tensor):
    """The output projection `(N, D / N, D)` as a dense layer's: `(D, D)`."""
    return tensor.reshape((-1, tensor.shape[-1]))


def _leaves(layer, theirs, *leaves):
    return tuple(Rule(f"{layer}/{leaf}", (f"{theirs}/{leaf}",), as_it_is) for leaf in leaves)


def _weights(layer, theirs):
    return _leaves(layer, theirs, "kernel", "bias")


BLOCK = "encoder/layers_{i}"
ATTENTION = BLOCK + "/attention/attention"
PARTS = ("query", "key", "value")
UNIT = "neck/fusion_stage_{4-n}/residual_layer{m}/convolution{k}"
RULES = (
    Rule("position_embedding/class_token", ("embeddings/cls_token",), as_it_is),
    Rule("position_embedding/position_embedding", ("embeddings/position_embeddings",), as_it_is),
    *_weights("patch_embedding/projection", "embeddings/patch_embeddings/projection"),
    *_leaves("block_{i}/norm1", BLOCK + "/norm1", "gamma", "beta"),
    *(
        Rule(f"block_{{i}}/attention/qkv/{x}", tuple(f"{ATTENTION}/{p}/{x}" for p in PARTS), joined)
        for x in ("kernel", "bias")
    ),
    Rule(
        "block_{i}/attention/projection/kernel",
        (ATTENTION + "/attention_output/kernel",),
        of_all_heads,
    ),
    *_leaves("block_{i}/attention/projection", ATTENTION + "/attention_output", "bias"),
    Rule("block_{i}/scale{m}/gamma", (BLOCK + "/layer_scale{m}/lambda1",), as_it_is),
    *_leaves("block_{i}/norm2", BLOCK + "/norm2", "gamma", "beta"),
    *_weights("block_{i}/mlp/dense1", BLOCK + "/mlp/fc1"),
    *_weights("block_{i}/mlp/dense2", BLOCK + "/mlp/fc2"),
    *_leaves("norm", "layernorm", "gamma", "beta"),
    *_weights("reassemble_{n}/projection", "neck/reassemble_stage_{n-1}/projection"),
    *_weights("reassemble_{n}/resize", "neck/reassemble_stage_{n-1}/resize"),
    *_leaves("fusion_input_{n}", "neck/convs_{n-1}", "kernel"),
    *_weights("fusion_{n}/residual_unit{m}/conv{k}", UNIT),
    *_weights("fusion_{n}/projection", "neck/fusion_stage_{4-n}/projection"),
    *_weights("depth_head/conv{k}", "head/conv{k}"),
)

is_keras_hub = has(r"embeddings/", r"encoder/layers_\d+/", r"neck/")


def matches(specs, hf_config=None):
    """Whether these are the variables of keras-hub's `DepthAnythingBackbone`."""
    return is_keras_hub(specs)


def owns(config):
    """Whether this is the `config.json` of keras-hub's `DepthAnythingBackbone`."""
    return config.get("registered_name") == REGISTERED_NAME


def read(shapes, encoders, hf_config=None):
    """The architecture that the shapes and keras-hub's `config.json` show.

    Raises: WeightsError: it has a setting that is not supported.
    """
    config = hf_config["config"]
    backbone = config["image_encoder"]["config"]
    for settings, key, value in (
        (config, "reassemble_factors", [4, 2, 1, 0.5]),
        (config, "head_in_index", -1),
        (backbone, "use_swiglu_ffn", False),
        (backbone, "num_register_tokens", 0),
    ):
        if settings.get(key, value) != value:
            raise WeightsError(
                f"config.json says {key} = {settings[key]!r}; only {value!r} is supported."
            )
    return read_architecture(
        shapes,
        encoders,
        num_heads=backbone["num_heads"],
        out_indices=[int(key.removeprefix("stage")) - 1 for key in config["feature_keys"]],
        layer_norm_epsilon=1e-6,
        position_offset=0.0,
        apply_final_norm=backbone.get("apply_layernorm", True),
    )


class KerasHubCheckpoint:
    """A preset directory of keras-hub, opened as a `keras_dpt.weights.readers.Checkpoint` is."""

    hf_image = None

    def __init__(self, path):
        self.path = path
        self.files = weight_files(path)
        self.hf_config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        try:
            network = keras_hub.models.DepthAnythingBackbone.from_preset(str(path))
        except Exception as error:  # of Keras, HDF5, keras-hub
            raise WeightsError(f"keras-hub cannot load {path}: {error}") from error
        # Layers of a loaded encoder have its name before their own.
        prefix = network.image_encoder.name + "_"
        self._variables = {v.path.removeprefix(prefix): v for v in network.weights}
        self.specs = {
            name: Spec(tuple(variable.shape), "float32")
            for name, variable in self._variables.items()
        }

    def read(self, name):
        """The variable of this path as a float32 array."""
        return keras.ops.convert_to_numpy(self._variables[name]).astype("float32")

    def sha256(self):
        """Hex digest of the weight file."""
        return sha256_of(self.files[0])


FORMAT = CheckpointFormat(
    name="keras_hub_depth_anything",
    task="depth",
    encoders=(DINOv2Encoder,),
    matches=matches,
    rules=RULES,
    ignore={
        r"embeddings/mask_token$": NO_MASK,
        r"embeddings/interpolated_position_embeddings$": "positions for one size of images",
        r"neck/fusion_stage_0/residual_layer1/": NO_SKIP,
    },
    read=read,
    image_from=hub_image,
    owns=owns,
    ambiguous=True,
)
