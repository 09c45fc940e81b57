"""Infer a network's architecture from the names and shapes of a checkpoint's tensors.

It works on the result of `engine.translate`, so on our names, whatever the source. Each number is
decided by the majority of the tensors that show it. A damaged tensor then does not change the
network, and the engine finds it by comparing the two.

An architecture is a dict as in a preset's file: `encoder` (a class name), `encoder_config`,
`backbone_config`, `task_config` (constructor arguments).
"""

import inspect

from keras_dpt.encoders.shapes import amount, number_of, vote
from keras_dpt.errors import WeightsError

# Where numbers are found: patterns of variable paths, and an axis of these variables.
REASSEMBLE_CHANNELS = {"fusion_input_{n}/kernel": 2, "reassemble_{n}/projection/": -1}
FUSION_CHANNELS = {r"fusion_input_\d/kernel": -1, r"fusion_\d/": -1}
NUM_CLASSES = {"(segmentation|auxiliary)_head/conv2/": -1}
HEAD_CHANNELS = {"depth_head/conv{n}/": -1, "depth_head/conv{next}/kernel": 2}

# What no tensor shows: taken from a preset, a Hugging Face config or the defaults of the source.
# (The grid of positions shows if it is square; other grids are found when shapes are compared.)
UNTOLD = frozenset(
    {
        "num_heads",
        "position_grid",
        "out_indices",
        "layer_norm_epsilon",
        "num_groups",
        "weight_standardization",
        "position_offset",
        "apply_final_norm",
    }
)


def read_architecture(shapes, encoders, readout="ignore", **untold):
    """The complete architecture of a depth or segmentation network.

    Args:
        shapes: `{variable path: shape}`.
        encoders: see `read_encoder`.
        readout: mode if the readout has no weights: "ignore" or "add".
        **untold: arguments that no tensor shows, see `read_encoder`.

    Raises: WeightsError: the tensors are not sufficient.
    """
    encoder, config = read_encoder(shapes, encoders, **untold)
    stages = range(4) if encoder.has_stages_only else config.get("out_stages", ())
    widths = [encoder.stage_widths(config)[stage] for stage in stages]
    readouts = number_of(shapes, r"read_(\d)/(token/kernel|readout/kernel|readout/bias)")
    norms = amount(shapes, r"fusion_\d/residual_unit\d/norm")
    biases = amount(shapes, r"fusion_\d/residual_unit\d/conv./bias")
    return {
        "encoder": encoder.__name__,
        "encoder_config": config,
        "backbone_config": {
            "readout": "project" if readouts else readout,
            "reassemble_channels": widths
            + [vote(shapes, REASSEMBLE_CHANNELS, n) for n in range(len(widths) + 1, 5)],
            "fusion_channels": vote(shapes, FUSION_CHANNELS),
            "use_batch_norm": norms > biases,
        },
        "task_config": _read_head(shapes),
    }


def _read_head(shapes):
    """Constructor arguments of the task: of `DPTSegmentation` if there are classes."""
    if not amount(shapes, "segmentation_head/"):
        channels = [vote(shapes, HEAD_CHANNELS, n) for n in (1, 2)]
        return {"head_channels": channels, "kind": "relative_inverse_depth"}
    return {
        "num_classes": vote(shapes, NUM_CLASSES),
        "auxiliary": amount(shapes, "auxiliary_head/") > 0,
    }


def read_encoder(shapes, encoders, **untold):
    """Class and constructor arguments of the encoder.

    Args:
        shapes: `{variable path: shape}`.
        encoders: candidate classes; the first that recognises the shapes is used.
        **untold: arguments that no tensor shows; each class gets those that it has.

    Raises: WeightsError: the tensors are not sufficient.
    """
    for encoder in encoders:
        own = inspect.signature(encoder.__init__).parameters
        known = {name: value for name, value in untold.items() if name in own}
        config = encoder.config_from_shapes(shapes, **known)
        if config is not None:
            return encoder, config
    names = " or ".join(encoder.__name__ for encoder in encoders)
    raise WeightsError(f"Unsupported or incomplete checkpoint: no tensors of a {names} in it.")


def original_image(architecture, hf_image=None):
    """Image geometry of the authors' scripts for this network, as `DPTImageConverter` arguments."""
    return {
        "image_size": native_size(architecture),
        "keep_aspect_ratio": True,
        "multiple_of": 32,
        "resize": "bicubic",
        "mean": 0.5,
        "std": 0.5,
    }


def native_size(architecture):
    """`[height, width]` in pixels of the stored positions, or the only size."""
    config = architecture["encoder_config"]
    if "image_size" in config:
        return [config["image_size"]] * 2
    return [side * config.get("patch_size", 16) for side in config["position_grid"]]


def differences(told, wanted, untold=frozenset()):
    """Differences of two architectures, except `UNTOLD` and `untold`: a line for each."""
    lines = []
    for part, value in told.items():
        pairs = value.items() if isinstance(value, dict) else ()
        if not isinstance(value, dict) and value != wanted[part]:
            lines.append(f"{part}: {value} in the checkpoint, {wanted[part]} in the preset")
        for key, ours in pairs:
            theirs = wanted[part].get(key)
            if key == "readout" and "project" not in (ours, theirs):
                continue
            if key not in UNTOLD | untold | {"kind"} and ours != theirs:
                lines.append(f"{part}.{key}: {ours} in the checkpoint, {theirs} in the preset")
    return lines
