"""Repositories of full size as on the Hugging Face hub, with random weights.

transformers' own classes say which names, shapes and `config.json` they have, but for Depth
Anything, whose names are the authors' renamed.
"""

import json
from pathlib import Path

import numpy as np
from parity import dinov2

from .authors_files import depth_anything, dpt_of_2021
from .calibration import CLASSES, calibrated

LAST = "head.head.4"


def write(preset, source, seed, folder):
    """Write `config.json` and the file of a preset's source into a folder.

    Raises: KeyError: there is no maker for the format.
    """
    folder = Path(folder)
    _FORMATS[source["format"]](preset, seed, folder)
    if source["file"] == "pytorch_model.bin":
        import torch
        from safetensors.torch import load_file

        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        with open(folder / source["file"], "wb") as file:
            torch.save(tensors, file)


def _dpt(preset, seed, folder):
    dpt_of_2021(preset, seed).save_pretrained(folder)


def _depth_anything(preset, seed, folder):
    from parity.dinov2_hub import hub_names
    from safetensors.numpy import save_file

    encoder, backbone = (preset["architecture"][f"{x}_config"] for x in ("encoder", "backbone"))
    config = {
        "model_type": "depth_anything",
        "architectures": ["DepthAnythingForDepthEstimation"],
        "backbone_config": _dinov2(encoder),
        "reassemble_hidden_size": encoder["hidden_dim"],
        "neck_hidden_sizes": backbone["reassemble_channels"],
        "fusion_hidden_size": backbone["fusion_channels"],
    }
    if highest := preset["architecture"]["task_config"].get("max_depth"):
        config |= {"depth_estimation_type": "metric", "max_depth": highest}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = hub_names(depth_anything(preset, seed))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _dinov2(encoder):
    return {
        "model_type": "dinov2",
        "hidden_size": encoder["hidden_dim"],
        "num_attention_heads": encoder["num_heads"],
        "num_hidden_layers": encoder["num_layers"],
        "image_size": encoder["patch_size"] * encoder["position_grid"][0],
        "patch_size": encoder["patch_size"],
        "out_indices": [tap + 1 for tap in encoder["out_indices"]],
        "reshape_hidden_states": False,
        "apply_layernorm": encoder["apply_final_norm"],
    }


def _depther(preset, seed, folder):
    highest = preset["architecture"]["task_config"]["output_layer"]["config"]["max_depth"]
    backbone = _dinov2(preset["architecture"]["encoder_config"])
    more = {"add_projection": True, "use_bias_in_fusion_residual": False}
    _on_backbone(preset, backbone, more, seed, folder, mean=0.5 * highest, std=0.3 * highest)


def _beit(preset, seed, folder):
    encoder = preset["architecture"]["encoder_config"]
    backbone = {
        "model_type": "beit",
        "hidden_size": encoder["hidden_dim"],
        "num_attention_heads": encoder["num_heads"],
        "num_hidden_layers": encoder["num_layers"],
        "intermediate_size": encoder["mlp_dim"],
        "image_size": 16 * encoder["position_grid"][0],
        "patch_size": 16,
        "out_features": [f"stage{tap + 1}" for tap in encoder["out_indices"]],
        "use_relative_position_bias": True,
        "reshape_hidden_states": False,
    }
    _on_backbone(preset, backbone, {}, seed, folder)


def _swin2(preset, seed, folder):
    encoder = preset["architecture"]["encoder_config"]
    names = ("embed_dim", "depths", "num_heads", "image_size", "window_size")
    backbone = {name: encoder[name] for name in (*names, "pretrained_window_sizes")}
    backbone |= {"model_type": "swinv2", "out_features": [f"stage{n}" for n in (1, 2, 3, 4)]}
    _on_backbone(preset, backbone, {}, seed, folder)


def _on_backbone(preset, backbone, more, seed, folder, **spread):
    """transformers' DPT on a backbone with a config of its own."""
    import torch
    import transformers

    architecture = preset["architecture"]
    kind = transformers.CONFIG_MAPPING[backbone.pop("model_type")]
    config = transformers.DPTConfig(
        backbone_config=kind(**backbone),
        is_hybrid=False,
        readout_type="project",
        neck_hidden_sizes=architecture["backbone_config"]["reassemble_channels"],
        fusion_hidden_size=architecture["backbone_config"]["fusion_channels"],
        neck_ignore_stages=[],
        **{"add_projection": False} | more,
    )
    network = transformers.DPTForDepthEstimation(config).eval()
    found = drawn({name: tuple(x.shape) for name, x in network.state_dict().items()}, seed)
    side = backbone["image_size"]
    image = torch.from_numpy(_picture(side, seed))

    def raw(tensors):
        _load(network, tensors)
        with torch.no_grad():
            return network(image).predicted_depth.numpy()

    _load(network, calibrated(found, LAST, raw, **spread))
    network.save_pretrained(folder)


def _picture(side, seed):
    pixels = np.random.default_rng(seed).uniform(-1.5, 1.5, (1, 3, 16, 16)).astype("float32")
    return pixels.repeat(-(-side // 16), 2).repeat(-(-side // 16), 3)[..., :side, :side].copy()


def _load(network, tensors):
    import torch

    network.load_state_dict({name: torch.from_numpy(x) for name, x in tensors.items()})


def drawn(shapes, seed):
    """Random tensors by transformers' names; LayerScale and the sharpness of heads far from 1."""
    found = dinov2.tensors(shapes, seed)
    for number, (name, shape) in enumerate(shapes.items()):
        rng = np.random.default_rng([seed, number])
        if "lambda_" in name:
            value = rng.uniform(0.2, 1.8, shape) * rng.choice([-1, 1], shape)
        elif name.endswith("logit_scale"):
            value = rng.uniform(1, 3, shape)
        elif name.endswith("relative_position_bias_table"):
            value = rng.normal(0, 1, shape)
        else:
            continue
        found[name] = value.astype("float32")
    return found


def _classifier(preset, seed, folder):
    """transformers' ViT with an ImageNet classifier."""
    import transformers

    encoder = preset["architecture"]["encoder_config"]
    network = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=encoder["hidden_dim"],
            num_hidden_layers=encoder["num_layers"],
            num_attention_heads=encoder["num_heads"],
            intermediate_size=encoder["mlp_dim"],
            image_size=16 * encoder["position_grid"][0],
            num_labels=CLASSES,
        )
    )
    _load(network, drawn({n: tuple(x.shape) for n, x in network.state_dict().items()}, seed))
    network.save_pretrained(folder)


_FORMATS = {
    "hf_dpt": _dpt,
    "hf_dpt_segmentation": _dpt,
    "hf_depth_anything": _depth_anything,
    "hf_dinov2_depther": _depther,
    "hf_dpt_beit": _beit,
    "hf_dpt_swinv2": _swin2,
    "hf_vit": _classifier,
}
FORMATS = tuple(_FORMATS)
