"""DPT as transformers computes it, at any size, in float32 and float64, on random weights.

transformers' own DPT takes square pictures only. `forward` runs its modules one by one and hands
them the true token grid, which its decoder accepts; at the native square size the result is the
untouched model's own, bit for bit (`test_reference.py`). All sides must be multiples of 32.

The tables and the random draws need numpy alone, so that a TensorFlow or JAX process can make the
very same weights without importing torch. `python reference.py JOBS.json` is the worker that
computes outputs in a process of its own (`references.py` calls it).
"""

import dataclasses
import json
import os
import sys
import zlib
from pathlib import Path

import numpy as np

PATCH = 16
LAST_LAYER = ("head.head.4.weight", "head.head.4.bias")
# What the last layer is scaled to on a probe picture: about what the official weights answer.
OUTPUT_MEAN, OUTPUT_STD = 1000.0, 500.0


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One DPT, in the words of our constructors.

    `stem_channels` 0: no ResNet; `num_classes` 0: depth instead of segmentation.
    """

    hidden_dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    out_indices: tuple[int, ...]
    reassemble_channels: tuple[int, int, int, int]
    fusion_channels: int = 256
    position_grid: tuple[int, int] = (24, 24)
    readout: str = "project"
    use_batch_norm: bool = False
    layer_norm_epsilon: float = 1e-6
    stem_channels: int = 0
    stage_channels: tuple[int, ...] = ()
    stage_depths: tuple[int, ...] = ()
    out_stages: tuple[int, ...] = ()
    num_groups: int = 32
    weight_standardization: str = "variance"
    num_classes: int = 0

    @property
    def is_hybrid(self):
        return self.stem_channels > 0

    @property
    def head_channels(self):
        """Widths inside the depth head; transformers fixes both."""
        return (self.fusion_channels // 2, 32)


_RESNET = {
    "stem_channels": 64,
    "stage_channels": (256, 512, 1024),
    "stage_depths": (3, 4, 9),
    "out_stages": (0, 1),
}
_TINY_RESNET = {
    "stem_channels": 16,
    "stage_channels": (32, 64, 96),
    "stage_depths": (1, 2, 2),
    "out_stages": (0, 1),
    "num_groups": 4,
}
_TINY = {"fusion_channels": 24, "position_grid": (4, 4)}

KINDS = {
    "base": Architecture(768, 12, 12, 3072, (2, 5, 8, 11), (96, 192, 384, 768)),
    "large": Architecture(1024, 24, 16, 4096, (5, 11, 17, 23), (256, 512, 1024, 1024)),
    "hybrid": Architecture(768, 12, 12, 3072, (8, 11), (256, 512, 768, 768), **_RESNET),
    # Five blocks, so that one of them lies between taps; four heads of 8.
    "tiny": Architecture(32, 5, 4, 80, (0, 1, 3, 4), (12, 16, 20, 28), **_TINY),
    "tiny_hybrid": Architecture(32, 4, 4, 80, (1, 3), (32, 64, 20, 28), **_TINY, **_TINY_RESNET),
}


def architecture(kind, **options):
    """Return the `Architecture` named `kind`, some of its fields replaced by `options`."""
    return dataclasses.replace(KINDS[kind], **options)


def random_tensors(shapes, seed):
    """Draw every tensor of a Hugging Face state dict; no parameter is left at 0 or 1.

    Each tensor has its own generator, seeded by `seed` and its name: order and company do not
    matter. Weights keep the variance of what passes through them, biases and embeddings are
    large enough to be missed, ResNet kernels have channels of very different scale and a mean
    that is not 0 (weight standardisation has to undo both).

    Args: shapes: name -> shape. seed: int.
    Returns: name -> float32 array (int64 for counters).
    """
    return {name: _draw(name, tuple(shape), seed) for name, shape in shapes.items()}


def _draw(name, shape, seed):
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name.endswith("num_batches_tracked"):
        return np.array(rng.integers(1, 1000), dtype="int64")
    if name.endswith("running_var"):
        return rng.uniform(0.5, 2.0, shape).astype("float32")
    if len(shape) == 1 and name.endswith("weight"):
        # The last norm of a residual branch is drawn smaller, training starts it at 0. With ones a
        # random ResNet is chaotic: a change of 1e-4 in the picture grows 70-fold, and so would
        # rounding, in any implementation.
        mean = 0.3 if ".bit." in name and name.endswith("norm3.weight") else 1.0
        return (mean * rng.uniform(0.5, 1.5, shape)).astype("float32")
    normal = rng.standard_normal(shape, dtype="float32")
    if len(shape) == 1:
        return normal * np.float32(0.2)
    if len(shape) == 3:  # class token, position embeddings
        return normal * np.float32(0.5)
    if ".bit." in name:
        scale = 10 ** rng.uniform(-2.3, -1.3, (shape[0], 1, 1, 1))
        offset = 0.5 * rng.standard_normal((shape[0], 1, 1, 1))
        return (scale * (normal + offset)).astype("float32")
    transposed = name.endswith("resize.weight") and shape[-1] in (2, 4)
    fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
    return normal * np.float32(fan_in**-0.5)


def random_picture(height, width, batch=1, seed=0):
    """Return `(batch, height, width, 3)` float32 within [-1, 1]: blocks, patches and grain."""
    rng = np.random.default_rng([seed, height, width])
    picture = np.zeros((batch, height, width, 3))
    for block, weight in ((32, 0.5), (8, 0.3), (1, 0.2)):
        noise = rng.uniform(-1, 1, (batch, height // block, width // block, 3))
        picture += weight * noise.repeat(block, axis=1).repeat(block, axis=2)
    return picture.astype("float32")


def make_reference(kind, seed=0, **options):
    """Build one of transformers' DPTs with random weights, in eval mode.

    Args: kind: a key of `KINDS`. seed: of the weights. options: fields of `Architecture`.
    Returns: a torch module, its `Architecture` in `.architecture`.
    """
    import torch
    from transformers import DPTConfig, DPTForDepthEstimation, DPTForSemanticSegmentation
    from transformers.models.bit.modeling_bit import WeightStandardizedConv2d
    from transformers.models.dpt.modeling_dpt import DPTNeck

    arch = architecture(kind, **options)
    task = DPTForSemanticSegmentation if arch.num_classes else DPTForDepthEstimation
    settings = {
        "hidden_size": arch.hidden_dim,
        "num_hidden_layers": arch.num_layers,
        "num_attention_heads": arch.num_heads,
        "intermediate_size": arch.mlp_dim,
        "layer_norm_eps": arch.layer_norm_epsilon,
        "image_size": [PATCH * side for side in arch.position_grid],
        "patch_size": PATCH,
        "neck_hidden_sizes": arch.reassemble_channels,
        "fusion_hidden_size": arch.fusion_channels,
        "use_batch_norm_in_fusion_residual": arch.use_batch_norm,
        "readout_type": arch.readout,
        "backbone_out_indices": arch.out_indices,
        "num_labels": arch.num_classes or 2,
    }
    if arch.is_hybrid:
        resnet = {
            "model_type": "bit",
            "global_padding": "same",
            "layer_type": "bottleneck",
            "embedding_dynamic_padding": True,
            "out_features": ["stage1", "stage2", "stage3"],
            "embedding_size": arch.stem_channels,
            "hidden_sizes": arch.stage_channels,
            "depths": arch.stage_depths,
            "num_groups": arch.num_groups,
        }
        config = DPTConfig(
            **settings
            | {
                "is_hybrid": True,
                "backbone_config": resnet,
                "backbone_featmap_shape": (1, arch.stage_channels[-1], *arch.position_grid),
                # transformers skips the first two, whatever they are.
                "backbone_out_indices": (0, 0, *arch.out_indices)[-4:],
                "reassemble_factors": (1, 1, 1, 0.5),
                "readout_type": "project",
            }
        )
        model = task(config)
        if not arch.out_stages:  # four block taps, as in the original's `use_vit_only`
            model.neck = DPTNeck(DPTConfig(**settings))
    else:
        model = task(DPTConfig(**settings))
    if arch.weight_standardization == "std":
        for module in model.modules():
            if isinstance(module, WeightStandardizedConv2d):
                module.__class__ = _standardized_by_std(WeightStandardizedConv2d)
    model.architecture = arch
    model.eval()

    tensors = random_tensors({n: tuple(t.shape) for n, t in model.state_dict().items()}, seed)
    _load(model, tensors)
    if arch.num_classes:
        return model
    # Scale the last layer so that its ReLU cuts little, yet something, and metric heads get
    # values of the size that their constants expect.
    model.head.head[5] = torch.nn.Identity()
    probe = forward(model, random_picture(160, 224, seed=seed + 1))
    model.head.head[5] = torch.nn.ReLU()
    gain = OUTPUT_STD / probe.std()
    weight, bias = LAST_LAYER
    tensors[bias] = (gain * (tensors[bias] - probe.mean()) + OUTPUT_MEAN).astype("float32")
    tensors[weight] = (gain * tensors[weight]).astype("float32")
    _load(model, tensors)
    return model


def _load(model, tensors):
    import torch

    model.load_state_dict({name: torch.from_numpy(np.array(t)) for name, t in tensors.items()})


def _standardized_by_std(base):
    """Return the convolution of timm 0.4.5: `(w - mean) / (std + 1e-5)`, population std."""
    import torch

    class StdConv2d(base):
        def forward(self, x):
            std, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
            weight = (self.weight - mean) / (std + 1e-5)
            x = x if self.pad is None else self.pad(x)
            return torch.nn.functional.conv2d(x, weight, None, self.stride, self.padding)

    return StdConv2d


def state_dict(model):
    """Return the state dict of a reference as name -> numpy array, Hugging Face names."""
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def forward(model, pixels, dtype="float32", pyramid=False):
    """Run a reference; everything, resizing included, is computed in `dtype`.

    Args: model: from `make_reference`; left in `dtype` (a way back to float32 loses nothing).
        pixels: `(B, H, W, 3)` float32, H and W multiples of 32. dtype: "float32" or "float64".
        pyramid: also return the fused maps.
    Returns: depth `(B, H, W)` array, the head's output after its ReLU, or logits `(B, H, W, C)`;
        with `pyramid` a pair of it and `{"P1": (B, H / 2, W / 2, C), ..., "P4": (B, H / 16, W / 16,
        C)}`, where segmentation models add "auxiliary": their second head on P2.
    """
    import torch

    arch = model.architecture
    model.to(getattr(torch, dtype))
    grid = pixels.shape[1] // PATCH, pixels.shape[2] // PATCH
    x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(dtype))
    embeddings = model.dpt.embeddings
    with torch.no_grad():
        if arch.is_hybrid:
            stages = embeddings.backbone(x).feature_maps
            taps = [stages[index] for index in arch.out_stages]
            tokens = embeddings.projection(stages[-1]).flatten(2).transpose(1, 2)
        else:
            taps = []
            tokens = embeddings.patch_embeddings(x)
        tokens = torch.cat((embeddings.cls_token.expand(len(x), -1, -1), tokens), dim=1)
        tokens = tokens + _positions(embeddings.position_embeddings, arch.position_grid, grid)
        for index, block in enumerate(model.dpt.encoder.layer):
            tokens = block(tokens)
            if index in arch.out_indices:
                taps.append(tokens)
        fused = model.neck(taps, *grid)
        output = model.head(fused)
        levels = {f"P{4 - i}": x for i, x in enumerate(fused)}
        if arch.num_classes:
            output = output.permute(0, 2, 3, 1)
            levels["auxiliary"] = model.auxiliary_head(levels["P2"])
    if not pyramid:
        return output.numpy()
    return output.numpy(), {name: x.permute(0, 2, 3, 1).numpy() for name, x in levels.items()}


def _positions(table, stored, wanted):
    """Resize a position table from grid to grid: bilinear, half-pixel centres, no antialias."""
    import torch

    grid = table[:, 1:].reshape(1, *stored, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, wanted, mode="bilinear", align_corners=False)
    return torch.cat((table[:, :1], grid.flatten(2).transpose(1, 2)), dim=1)


def some_classes(output):
    """Every fifth class of many, so that answers take megabytes; depth as it is."""
    return output[..., ::5] if output.ndim == 4 and output.shape[-1] > 100 else output


def _work(job):
    """Compute one model at some sizes; write an `.npz` for each."""
    import torch

    # Threads cost tiny models more than they bring, above all on a busy machine.
    torch.set_num_threads(1 if "tiny" in job["kind"] else os.cpu_count())
    model = make_reference(job["kind"], job["seed"], **job["options"])
    tensors = model.state_dict()
    last = () if model.architecture.num_classes else LAST_LAYER
    common = {name: tensors[name].numpy().copy() for name in last}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for size in job["sizes"]:
        pixels = random_picture(size["height"], size["width"], job["batch"], job["seed"])
        arrays = dict(common, shapes=json.dumps(shapes))
        arrays["float32"] = some_classes(forward(model, pixels, "float32"))
        output, levels = forward(model, pixels, "float64", pyramid=True)
        arrays["float64"] = some_classes(output)
        if job["pyramid"]:
            arrays |= levels
        path = Path(size["path"])
        partial = path.with_name(f"{path.stem}.{os.getpid()}.npz")
        np.savez(partial, **arrays)
        partial.replace(path)


if __name__ == "__main__":
    for each in json.loads(Path(sys.argv[1]).read_text()):
        _work(each)
