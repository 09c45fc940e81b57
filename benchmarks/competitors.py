"""What is timed: our networks and those that a user would take instead, each in its own process.

`python benchmarks/competitors.py '{"library": "keras_dpt", ...}'` builds one network with random
weights, then answers requests: a line of JSON in, a line of JSON out. `contest.Competitor` is the
other end of the pipe.
"""

import json
import os
import resource
import runpy
import sys
import time
from pathlib import Path

# Width, depth and channels of each preset, in the words of transformers' `DPTConfig`.
SHAPES = {
    "dpt_base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "backbone_out_indices": [2, 5, 8, 11],
        "neck_hidden_sizes": [96, 192, 384, 768],
    },
    "dpt_large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "backbone_out_indices": [5, 11, 17, 23],
        "neck_hidden_sizes": [256, 512, 1024, 1024],
    },
    "dpt_hybrid": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "backbone_out_indices": [2, 5, 8, 11],
        "neck_hidden_sizes": [256, 512, 768, 768],
        "is_hybrid": True,
    },
}

# Those on other backbones: the arguments of `backbone_config` with its `model_type`.
BACKBONES = {
    "dpt_beit_large_512": {
        "model_type": "beit",
        "image_size": 512,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "use_relative_position_bias": True,
        "reshape_hidden_states": False,
        "out_features": ["stage6", "stage12", "stage18", "stage24"],
    },
    "dpt_swin2_tiny_256": {
        "model_type": "swinv2",
        "image_size": 256,
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
        "num_heads": [3, 6, 12, 24],
        "window_size": 16,
        "pretrained_window_sizes": [0, 0, 0, 0],
    },
    "dpt_swin2_base_384": {
        "model_type": "swinv2",
        "image_size": 384,
        "embed_dim": 128,
        "depths": [2, 2, 18, 2],
        "num_heads": [4, 8, 16, 32],
        "window_size": 24,
        "pretrained_window_sizes": [12, 12, 12, 6],
    },
}


class KerasDPT:
    """`keras_dpt.DPTDepth` on the backend that `KERAS_BACKEND` names."""

    def __init__(self, preset, dtype="float32", training=False, checkpointing=False, **_):
        import keras

        import keras_dpt
        from keras_dpt.presets import read_preset

        policy = {"bfloat16": "bfloat16", "float16": "float16"}.get(dtype, "float32")
        if training and policy != "float32":
            policy = f"mixed_{dtype}"
        self.keras = keras
        self.model = keras_dpt.DPTDepth.from_architecture(read_preset(preset), dtype=policy)
        if checkpointing:
            self.model.backbone.enable_gradient_checkpointing()
        if training:
            self.model.compile(
                keras.optimizers.Adam(1e-5), loss="mean_absolute_error", metrics=None
            )
            self.model.preprocessor = None

    def inputs(self, images):
        return images

    def predict(self, images):
        # As `predict_images` does: the images are already what the network takes.
        return self.keras.Model.predict_on_batch(self.model, images)

    def train(self, images, targets):
        return float(self.keras.Model.train_on_batch(self.model, images, targets))

    def parameters(self):
        return self.model.count_params()


class Transformers:
    """`transformers.DPTForDepthEstimation` on PyTorch, eager or compiled."""

    def __init__(self, preset, dtype="float32", training=False, compiled=False, **_):
        import torch

        self.torch = torch
        make = _depth_anything if preset.startswith("depth_anything") else _dpt
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = make(preset).to(self.device, getattr(torch, dtype))
        if self.device == "cuda":
            self.model = self.model.to(memory_format=torch.channels_last)
        self.model.train(training)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-5) if training else None
        self.call = torch.compile(self.model) if compiled else self.model

    def inputs(self, images):
        x = self.torch.from_numpy(images.transpose(0, 3, 1, 2)).contiguous()
        return x.to(self.device, self.model.dtype)

    def predict(self, images):
        with self.torch.inference_mode():
            return self.call(images).predicted_depth.float().cpu().numpy()

    def train(self, images, targets):
        self.optimizer.zero_grad()
        targets = self.torch.from_numpy(targets[..., 0]).to(self.device)
        loss = (self.call(images).predicted_depth - targets).abs().mean()
        loss.backward()
        self.optimizer.step()
        return float(loss)

    def parameters(self):
        return sum(parameter.numel() for parameter in self.model.parameters())


def _dpt(preset):
    """transformers' DPT of a preset's shape."""
    from transformers import AutoConfig, DPTConfig, DPTForDepthEstimation

    if preset not in BACKBONES:
        shape = {"image_size": 384, "patch_size": 16} | SHAPES[preset]
    else:
        arguments = dict(BACKBONES[preset])
        if width := arguments.get("embed_dim"):
            arguments["out_features"] = [f"stage{n}" for n in (1, 2, 3, 4)]
            widths = [width * 2**n for n in range(4)]
        else:
            widths = SHAPES["dpt_large"]["neck_hidden_sizes"]
        backbone = AutoConfig.for_model(**arguments)
        shape = {"backbone_config": backbone, "neck_hidden_sizes": widths}
    return DPTForDepthEstimation(DPTConfig(fusion_hidden_size=256, **shape))


def _depth_anything(preset):
    """transformers' Depth Anything of a preset's shape."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    encoder, decoder, head = _depth_anything_shape(preset)
    backbone = Dinov2Config(
        hidden_size=encoder["hidden_dim"],
        num_hidden_layers=encoder["num_layers"],
        num_attention_heads=encoder["num_heads"],
        image_size=518,
        patch_size=14,
        out_features=[f"stage{n + 1}" for n in encoder["out_indices"]],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    return DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            backbone_config=backbone,
            reassemble_hidden_size=encoder["hidden_dim"],
            neck_hidden_sizes=decoder["reassemble_channels"],
            fusion_hidden_size=decoder["fusion_channels"],
            head_hidden_size=head["head_channels"][1],
        )
    )


def _depth_anything_shape(preset):
    from keras_dpt.presets import read_preset  # the JSON alone

    architecture = read_preset(preset)["architecture"]
    return [architecture[f"{part}_config"] for part in ("encoder", "backbone", "task")]


class KerasHubDepthAnything:
    """keras-hub's Depth Anything of a preset's shape, built for one size of image."""

    def __init__(self, preset, size, dtype="float32", **_):
        import keras
        import keras_hub

        shape, decoder, head = _depth_anything_shape(preset)
        encoder = keras_hub.models.DINOV2Backbone(
            14,
            shape["num_layers"],
            shape["hidden_dim"],
            shape["num_heads"],
            shape["mlp_dim"],
            num_register_tokens=0,
            position_embedding_shape=(518, 518),
            image_shape=(*size, 3),
            dtype=dtype,
        )
        self.keras = keras
        self.model = keras_hub.models.DepthAnythingBackbone(
            encoder,
            patch_size=14,
            backbone_hidden_dim=shape["hidden_dim"],
            reassemble_factors=[4, 2, 1, 0.5],
            neck_hidden_dims=decoder["reassemble_channels"],
            fusion_hidden_dim=decoder["fusion_channels"],
            head_hidden_dim=head["head_channels"][1],
            head_in_index=-1,
            feature_keys=[f"stage{n + 1}" for n in shape["out_indices"]],
            dtype=dtype,
        )

    inputs = KerasDPT.inputs
    predict = KerasDPT.predict
    parameters = KerasDPT.parameters


class KerasHubDecoder:
    """keras-hub's DPT decoder, that of DepthAnything, behind the cheapest encoder that fits it."""

    def __init__(self, **_):
        import keras
        import keras_hub

        # Four blocks on 24 x 24 tokens of width 768: the least that gives the decoder its maps.
        encoder = keras_hub.models.DINOV2Backbone(
            14, 4, 768, 12, 768, num_register_tokens=0, image_shape=(336, 336, 3)
        )
        backbone = keras_hub.models.DepthAnythingBackbone(
            encoder,
            patch_size=14,
            backbone_hidden_dim=768,
            reassemble_factors=[4, 2, 1, 0.5],
            neck_hidden_dims=[96, 192, 384, 768],
            fusion_hidden_dim=256,
            head_hidden_dim=32,
            head_in_index=-1,
            # "Stage1" in older releases of keras-hub, "stage1" in newer ones.
            feature_keys=[key for key in encoder.pyramid_outputs if key.lower() != "stem"],
        )
        self.keras, self.model = keras, backbone

    inputs = KerasDPT.inputs
    predict = KerasDPT.predict
    parameters = KerasDPT.parameters


class KerasDPTDecoder:
    """Our decoder behind the same cheap encoder: four blocks on 24 x 24 tokens of width 768."""

    def __init__(self, **_):
        import keras

        import keras_dpt
        from keras_dpt.encoders import ViTEncoder

        encoder = ViTEncoder(4, 768, 12, 768, patch_size=14, out_indices=(0, 1, 2, 3))
        backbone = keras_dpt.DPTBackbone(
            encoder, readout="ignore", reassemble_channels=(96, 192, 384, 768), fusion_channels=256
        )
        self.keras, self.model = keras, keras_dpt.DPTDepth(backbone)

    inputs = KerasDPT.inputs
    predict = KerasDPT.predict
    parameters = KerasDPT.parameters


class Exported:
    """A file that `keras_dpt.export` wrote, in its runtime. `options` are OpenVINO's."""

    def __init__(self, path, format, runtime_threads, options=None, **_):
        from keras_dpt.export import load_exported

        self.predict = load_exported(path, format, runtime_threads, options)

    def inputs(self, images):
        return images

    def parameters(self):
        return 0  # a file does not say


LIBRARIES = {
    "exported": Exported,
    "keras_dpt": KerasDPT,
    "transformers": Transformers,
    "keras_dpt_decoder": KerasDPTDecoder,
    "keras_hub": KerasHubDepthAnything,
    "keras_hub_decoder": KerasHubDecoder,
}


def import_library(library):
    """Import what the competitor will need, so that its memory can be told from the network's."""
    import importlib

    importlib.import_module(
        {"transformers": "transformers.models.dpt.modeling_dpt"}.get(library, "keras_dpt")
    )


def peak_memory():
    """Most bytes of memory this process has ever held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def flops(competitor, images):
    """Floating-point operations of one prediction: twice the products of all linear layers."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter knows no fused attention of CPUs, but its plain form.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        competitor.predict(images)
    return counter.get_total_flops()


def answer(competitor, request):
    import numpy as np

    rng = np.random.default_rng(0)
    shape = (request["batch"], *request["size"])
    images = competitor.inputs(rng.uniform(-1, 1, (*shape, 3)).astype("float32"))
    if request["do"] == "flops":
        return {"flops": flops(competitor, images)}
    work, arguments = competitor.predict, [images]
    if request["do"] == "train":
        work = competitor.train
        arguments.append(rng.uniform(0, 2, (*shape, 1)).astype("float32"))
    times = []
    for _ in range(request.get("times", 1)):
        started = time.perf_counter()
        work(*arguments)
        times.append(time.perf_counter() - started)
    return {"seconds": times, "peak_memory": peak_memory()}


def serve():
    # What libraries print must not get between the answers.
    replies, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)
    options = json.loads(sys.argv[1])
    library = options.pop("library")
    import_library(library)
    if options.pop("keep_memory", False):
        # Of the file, as the package would bring the other libraries into transformers' process.
        module = runpy.run_path(Path(__file__).parents[1] / "keras_dpt" / "memory.py")
        module["keep_freed_memory"]()
    ready = {"import_memory": peak_memory()}
    competitor = LIBRARIES[library](**options)
    ready["parameters"] = int(competitor.parameters())
    print(json.dumps(ready), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(competitor, json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    serve()
