"""The original networks: transformers' where it reads the same file, else the tests' references."""

import importlib
import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np

from keras_dpt.errors import WeightsError

# Formats of files that transformers loads, and the class that it loads them with.
TRANSFORMERS = {
    "hf_depth_anything": "AutoModelForDepthEstimation",
    "hf_dinov2_depther": "AutoModelForDepthEstimation",
    "hf_dpt": "AutoModelForDepthEstimation",
    "hf_dpt_beit": "AutoModelForDepthEstimation",
    "hf_dpt_segmentation": "AutoModelForSemanticSegmentation",
    "hf_dpt_swinv2": "AutoModelForDepthEstimation",
}
# Parts that these networks build and never use, or that count training steps.
_UNUSED = (
    r"neck\.fusion_stage\.layers\.0\.residual_layer1\.|.*num_batches_tracked$|.*mask_token$"
    r"|.*pooler\."
)


def reference_of(preset, source):
    """What a file's network can be compared with on this machine.

    Args: preset: as from `keras_dpt.presets.read_preset`. source: one of its `sources`.
    Returns: name and version, such as "transformers 5.24.0", and `None`; or `None` and why not.
    """
    name = source["format"]
    if name in TRANSFORMERS:
        if importlib.util.find_spec("torch") is None:
            return None, "torch is not installed"
        try:
            return f"transformers {importlib.metadata.version('transformers')}", None
        except importlib.metadata.PackageNotFoundError:
            return None, "transformers is not installed"
    module = _tests()
    if module is None:
        return None, "the references for it are in tests/parity of a checkout, not in a wheel"
    if name not in module.FORMATS:
        return None, f"tests/parity has no reference for the format {name}"
    if importlib.util.find_spec("torch") is None:
        return None, "torch is not installed"
    return "tests/parity", None


def takes_squares_only(preset, source):
    """Whether the comparison is at the stored positions' own square size.

    transformers resizes positions otherwise than the authors, and its DPT takes squares only; Swin
    has no other size.
    """
    fixed = "image_size" in preset["architecture"]["encoder_config"]
    return fixed or source["format"] in TRANSFORMERS


def answers(preset, source, path, images):
    """What the original network makes of images, computed in float64.

    Args:
        preset, source: as for `reference_of`.
        path: of the weights; for transformers its folder has `config.json`.
        images: list of `(H, W, 3)` float32, normalised and of sizes that the network takes.

    Returns: a list of arrays `(H, W)`, logits `(H, W, C)`, or, for encoders alone, lists of maps.
    Raises: WeightsError: transformers does not find all weights in the file.
    """
    if source["format"] in TRANSFORMERS:
        return _by_transformers(preset, source, path, images)
    from keras_dpt.weights.readers import Checkpoint

    checkpoint = Checkpoint(path)
    tensors = {name: checkpoint.read(name) for name in checkpoint.specs}
    return _tests().answers(preset, source["format"], tensors, images)


def _by_transformers(preset, source, path, images):
    import torch
    import transformers

    encoder = preset["architecture"]["encoder_config"]
    transformers.utils.logging.disable_progress_bar()
    folder = Path(path).parent
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    # Intel's files say 1e-12 where the networks were trained with 1e-6; presets follow training.
    for part in (config, getattr(config, "backbone_config", None)):
        if getattr(part, "layer_norm_eps", None) is not None:
            part.layer_norm_eps = encoder.get("layer_norm_epsilon", part.layer_norm_eps)
    network, found = getattr(transformers, TRANSFORMERS[source["format"]]).from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        output_loading_info=True,
        dtype=torch.float64,
        use_safetensors=source["file"].endswith(".safetensors"),
    )
    lacking = [x for x in found["missing_keys"] if not re.match(_UNUSED, x)]
    if lacking or found["mismatched_keys"]:
        names = ", ".join(map(str, [*lacking, *found["mismatched_keys"]][:4]))
        raise WeightsError(
            f"transformers {transformers.__version__} finds no weights for {names} in {path}, so "
            "it is no reference. Try another version of it."
        )
    if encoder.get("weight_standardization") == "std":
        _standardize_as_trained(network)
    network.eval()
    outputs = []
    for image in images:
        x = torch.from_numpy(image.transpose(2, 0, 1)[None].astype("float64"))
        with torch.no_grad():
            output = network(x)
            if preset["task"] == "segmentation":
                outputs.append(output.logits[0].permute(1, 2, 0).numpy())
                continue
            y = output.predicted_depth
            if source["format"] == "hf_dinov2_depther":
                y = _in_metres(y, preset, image.shape[:2])
            outputs.append(y[0].numpy())
    return outputs


def _standardize_as_trained(network):
    """Weight standardisation of the authors' training, `(w - mean) / (std + 1e-5)`.

    transformers divides by the root of `var + 1e-8`, which moves the output by a thousandth of its
    standard deviation.
    """
    import torch

    def forward(self, x):
        std, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) / (std + 1e-5)
        x = x if self.pad is None else self.pad(x)
        return torch.nn.functional.conv2d(x, weight, self.bias, self.stride, self.padding)

    for module in network.modules():
        if type(module).__name__ == "WeightStandardizedConv2d":
            module.forward = forward.__get__(module)


def _in_metres(y, preset, size):
    """What the authors' depther does after its head and transformers leaves out."""
    import torch

    layer = preset["architecture"]["task_config"]["output_layer"]["config"]
    y = (y + layer["offset"]).clamp(layer["min_depth"], layer["max_depth"])
    y = torch.nn.functional.interpolate(y[:, None], size, mode="bilinear", align_corners=False)
    return y[:, 0]


def largest_difference(ours, theirs):
    """Largest difference in standard deviations of the reference's output.

    Args: ours, theirs: for each image an array, or a list of four maps, each with its own spread.
    Returns: `float`, infinite for NaN or a reference that is constant.
    Raises: WeightsError: the outputs have other shapes than the reference's.
    """
    ours, theirs = (
        list(zip(*(x if isinstance(x, list) else [x] for x in images), strict=True))
        for images in (ours, theirs)
    )
    largest = 0.0
    for a, b in zip(ours, theirs, strict=True):
        shapes = [x.shape for x in a], [x.shape for x in b]
        if shapes[0] != shapes[1]:
            raise WeightsError(f"Outputs of {shapes[0]}, but the original's are {shapes[1]}.")
        spread = np.concatenate([x.ravel() for x in b]).std()
        worst = max(np.abs(x - y).max() for x, y in zip(a, b, strict=True))
        found = float(worst / spread) if spread > 0 else float("nan")
        largest = max(largest, found if np.isfinite(found) else float("inf"))
    return largest


def _tests():
    """`tests/parity/originals.py` of the checkout that this package is in, or `None`."""
    folder = Path(__file__).resolve().parents[2] / "tests"
    if not (folder / "parity" / "originals.py").is_file():
        return None
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return importlib.import_module("parity.originals")
