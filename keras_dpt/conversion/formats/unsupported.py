"""Checkpoints of relatives that cannot be converted, so that messages name them.

Remove a format's line when it becomes supported.
"""

from collections.abc import Callable
from dataclasses import dataclass

from keras_dpt.conversion.engine import has


@dataclass(frozen=True)
class Unsupported:
    """A network that is known by sight.

    Attributes:
        name: what it is, as in "This is NAME, which is not supported."
        matches: function of tensor names.
        owns: function of a `config.json`'s content.
    """

    name: str
    matches: Callable = lambda names: False
    owns: Callable = lambda config: False


def _model_type(*types):
    return lambda config: config.get("model_type") in types


def _dpt_on(*types):
    """A function of a `config.json`: whether it is of a DPT on one of these backbones."""

    def owns(config):
        backbone = config.get("backbone_config") or {}
        return config.get("model_type") == "dpt" and backbone.get("model_type") in types

    return owns


def _is_any_dpt(config):
    return config.get("model_type") == "dpt"


_AUTHORS = r"pretrained\.model\."
_NECK = r"neck\."

# The first match names the checkpoint, so more specific ones come first.
UNSUPPORTED = (
    Unsupported(
        "Depth Anything 3",
        has(r"(model\.)?(da3\.)?backbone\.pretrained\.", r"(model\.)?(da3\.)?head\."),
        lambda config: str(config.get("model_name", "")).startswith("da3"),
    ),
    Unsupported(
        "ZoeDepth",
        has(r"(metric_head\.)?(conditional_log_binomial|attractors)\."),
        _model_type("zoedepth"),
    ),
    Unsupported("Prompt Depth Anything", owns=_model_type("prompt_depth_anything")),
    Unsupported("Depth Pro", owns=_model_type("depth_pro")),
    Unsupported(
        "a DPT with a LeViT encoder (MiDaS 3.1)",
        has(_AUTHORS + r"blocks\.\d+\.m\.", r"scratch\."),
    ),
    Unsupported(
        "a DPT with a Next-ViT encoder (MiDaS 3.1)",
        has(_AUTHORS + r"features\.\d+\.", r"scratch\."),
    ),
    Unsupported(
        "a DPT with a DINOv2 encoder with registers, in Hugging Face's layout",
        owns=_dpt_on("dinov2_with_registers"),
    ),
    Unsupported("a DPT with a Swin encoder in Hugging Face's layout", owns=_dpt_on("swin")),
    Unsupported(
        "a DPT with another encoder than ViT, in Hugging Face's layout",
        has(r"backbone\.", _NECK),
        _is_any_dpt,
    ),
    Unsupported("a DINOv2 encoder without a decoder", has(r"blocks\.\d+\.(\d+\.)?ls\d\.")),
    Unsupported("a BEiT encoder without a decoder", has(r"blocks\.\d+\.(gamma_|attn\.q_bias)")),
)
