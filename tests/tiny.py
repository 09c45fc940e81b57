"""Tiny networks, width 32 and 4 blocks, with all the parts of the real ones."""

import inspect

import keras
import numpy as np

import keras_dpt
from keras_dpt.encoders import ENCODERS

# A new encoder is tested once it has a line here; a test says so if it has none.
ENCODER_CONFIGS = {
    "ViTEncoder": {"out_indices": (0, 1, 2, 3)},
    "ViTHybridEncoder": {
        "out_indices": (1, 3),
        "stem_channels": 8,
        "stage_channels": (16, 24, 32),
        "stage_depths": (1, 2, 1),
        "num_groups": 2,
    },
    "EfficientNetHybridEncoder": {
        "out_indices": (1, 3),
        "stem_channels": 8,
        "stage_channels": (6, 8, 12, 10, 14, 16, 18),
        "stage_depths": (1, 2, 1, 1, 1, 2, 1),
    },
    "BEiTEncoder": {"out_indices": (0, 1, 2, 3)},
    "DINOv2Encoder": {"out_indices": (0, 1, 2, 3), "num_register_tokens": 2},
    "SwinEncoder": {"embed_dim": 8, "depths": (1,) * 4, "num_heads": (1, 2, 2, 4)},
    "Swin2Encoder": {"embed_dim": 8, "depths": (1,) * 4, "num_heads": (1, 2, 2, 4)},
}
ENCODER_CONFIGS["ResNetEncoder"] = {
    "stem_channels": 8,
    "stage_channels": (16, 16, 24, 32),
    "bottleneck_channels": (8, 8, 16, 16),
    "stage_depths": (1,) * 4,
    "groups": 4,
}
ENCODER_CONFIGS["EfficientNetLiteEncoder"] = {
    "stem_channels": 8,
    "stage_channels": (6, 8, 12, 10, 14, 16, 18),
    "stage_depths": (1,) * 7,
}
for _name in ("SwinEncoder", "Swin2Encoder"):
    ENCODER_CONFIGS[_name] |= {"window_size": 4, "image_size": 64}
# Those that take images of any size, and those of them whose tokens have positions of their own.
ANY_SIZE = [name for name in ENCODER_CONFIGS if "image_size" not in ENCODER_CONFIGS[name]]
CONVOLUTIONAL = ("ResNetEncoder", "EfficientNetLiteEncoder")
WITH_TOKENS = [name for name in ANY_SIZE if name not in CONVOLUTIONAL]
WITH_POSITIONS = [name for name in WITH_TOKENS if name != "BEiTEncoder"]


def encoder(name="ViTEncoder", **overrides):
    """An encoder of the class `name` in `ENCODERS`."""
    config = {"num_layers": 4, "hidden_dim": 32, "num_heads": 2, "mlp_dim": 48}
    config |= {"position_grid": (3, 4)}
    known = inspect.signature(ENCODERS[name].__init__).parameters
    config = {key: value for key, value in config.items() if key in known}
    return ENCODERS[name](**config | ENCODER_CONFIGS[name] | overrides)


def backbone(image_encoder="ViTEncoder", **overrides):
    """A `DPTBackbone` around an encoder, given or named."""
    if isinstance(image_encoder, str):
        image_encoder = encoder(image_encoder, dtype=overrides.get("dtype"))
    widths = zip(image_encoder.taps, (8, 12, 16, 20), strict=True)
    config = {
        "reassemble_channels": [w if tap.reassemble else tap.channels for tap, w in widths],
        "fusion_channels": 16,
    }
    return keras_dpt.DPTBackbone(image_encoder, **config | overrides)


def preprocessor(image_size=(64, 64), **overrides):
    """A `DPTDepthPreprocessor` that aims at `image_size`."""
    return keras_dpt.DPTDepthPreprocessor(keras_dpt.DPTImageConverter(image_size, **overrides))


def depth(network="ViTEncoder", **overrides):
    """A `DPTDepth` on a backbone, given or named by its encoder, with random weights."""
    if isinstance(network, str):
        network = backbone(network)
    model = keras_dpt.DPTDepth(network, **{"head_channels": (12, 8)} | overrides)
    return randomize(model)


def preset(folder, task, network="ViTEncoder"):
    """The path of a saved preset of `task`, depth or segmentation of three classes, in `folder`."""
    converter = keras_dpt.DPTImageConverter((64, 64))
    if task is keras_dpt.DPTDepth:
        model = depth(network, preprocessor=keras_dpt.DPTDepthPreprocessor(converter))
    else:
        preprocessor = keras_dpt.DPTSegmentationPreprocessor(converter)
        model = randomize(keras_dpt.DPTSegmentation(backbone(network), 3, preprocessor))
    path = str(folder / "tiny_preset")
    model.save_to_preset(path)
    return path


def randomize(layer, seed=0):
    """Give a built layer or model the same weights on every backend, all of them in use.

    Biases are positive and the head's kernel too, so that no ReLU shuts for good.
    """
    rng = np.random.default_rng(seed)
    for variable in layer.variables:
        name, shape = variable.path.rpartition("/")[-1], tuple(variable.shape)
        if "seed" in name or not keras.backend.is_float_dtype(variable.dtype):
            continue
        if name == "kernel":
            value = rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape)
            value = np.abs(value) if shape[-1] == 1 else value
        elif name in ("gamma", "moving_variance"):
            value = rng.uniform(0.6, 1.4, shape)
        elif name in ("bias", "beta"):
            value = rng.uniform(0, 0.3, shape)
        else:
            value = rng.normal(0, 0.3, shape)
        variable.assign(value.astype("float32"))
    return layer


def run(model, x):
    """The network's output for images that are ready for it, past any preprocessor."""
    return np.asarray(keras.Model.predict_on_batch(model, x))


def images(batch=2, height=64, width=64, seed=0):
    """`(batch, height, width, 3)` float32 in [-1, 1], ready for a network."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (batch, height, width, 3)).astype("float32")


def photos(batch=2, height=64, width=64, seed=0):
    """`(batch, height, width, 3)` uint8: smooth, as photos are, so that resizing changes little."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 32
    phase = rng.uniform(0, 6, (batch, 1, 1, 3))
    waves = np.sin(x[None, ..., None] + phase) + np.cos(y[None, ..., None] - phase)
    return np.round(127.5 + 60 * waves).astype("uint8")
