"""Depth Anything on the Hugging Face hub: the authors' tensors under its names."""

import numpy as np


def hub_names(found):
    """The authors' tensors under transformers' names of modules (not of files)."""
    swaps = [
        ("pretrained.cls_token", "backbone.embeddings.cls_token"),
        ("pretrained.mask_token", "backbone.embeddings.mask_token"),
        ("pretrained.pos_embed", "backbone.embeddings.position_embeddings"),
        ("pretrained.patch_embed.proj", "backbone.embeddings.patch_embeddings.projection"),
        ("pretrained.blocks.", "backbone.encoder.layer."),
        ("pretrained.norm", "backbone.layernorm"),
        (".ls1.gamma", ".layer_scale1.lambda1"),
        (".ls2.gamma", ".layer_scale2.lambda1"),
        (".attn.proj", ".attention.output.dense"),
        ("depth_head.scratch.output_conv1", "head.conv1"),
        ("depth_head.scratch.output_conv2.0", "head.conv2"),
        ("depth_head.scratch.output_conv2.2", "head.conv3"),
    ]
    swaps += [
        (f"depth_head.projects.{n}", f"neck.reassemble_stage.layers.{n}.projection")
        for n in range(4)
    ]
    swaps += [
        (f"depth_head.resize_layers.{n}", f"neck.reassemble_stage.layers.{n}.resize")
        for n in (0, 1, 3)
    ]
    for n in range(1, 5):
        fusion = f"neck.fusion_stage.layers.{4 - n}"
        swaps += [
            (f"depth_head.scratch.layer{n}_rn", f"neck.convs.{n - 1}"),
            (f"depth_head.scratch.refinenet{n}.out_conv", f"{fusion}.projection"),
        ]
        swaps += [
            (
                f"depth_head.scratch.refinenet{n}.resConfUnit{unit}.conv{conv}",
                f"{fusion}.residual_layer{unit}.convolution{conv}",
            )
            for unit in (1, 2)
            for conv in (1, 2)
        ]
    renamed = {}
    for name, value in found.items():
        for old, new in swaps:
            name = name.replace(old, new)
        if ".attn.qkv" in name:
            for part, x in zip(("query", "key", "value"), np.split(value, 3), strict=True):
                renamed[name.replace(".attn.qkv", f".attention.attention.{part}")] = x
        else:
            renamed[name] = value
    return renamed
