"""Dense Prediction Transformers for Keras 3: depth and segmentation on TensorFlow, JAX, PyTorch.

Importing this package imports neither Keras nor NumPy: each name is fetched when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from keras_dpt import registration
from keras_dpt.version import __version__

if TYPE_CHECKING:  # for type checkers, editors and the documentation; `_HOMES` is the same at work
    from keras_dpt import (
        datasets,
        errors,
        evaluation,
        export,
        losses,
        metrics,
        training,
        video,
    )
    from keras_dpt.conversion.convert import convert
    from keras_dpt.encoders.beit import BEiTEncoder
    from keras_dpt.encoders.dinov2 import DINOv2Encoder
    from keras_dpt.encoders.efficientnet_hybrid import EfficientNetHybridEncoder
    from keras_dpt.encoders.efficientnet_lite import EfficientNetLiteEncoder
    from keras_dpt.encoders.encoder import Encoder, Tap
    from keras_dpt.encoders.keras_hub_backbone import KerasHubEncoder
    from keras_dpt.encoders.resnet import ResNetEncoder
    from keras_dpt.encoders.swin import Swin2Encoder, SwinEncoder
    from keras_dpt.encoders.vit import ViTEncoder
    from keras_dpt.encoders.vit_hybrid import ViTHybridEncoder
    from keras_dpt.errors import (
        DataError,
        DepthError,
        EvaluationError,
        ExportError,
        ImageError,
        KerasDPTError,
        LabelError,
        TrainingError,
        VideoError,
        WeightsError,
    )
    from keras_dpt.layers.feature_fusion import FeatureFusion, ResidualConvUnit
    from keras_dpt.layers.heads import DepthHead, SegmentationHead
    from keras_dpt.layers.outputs import Clamped, InverseAffine, ScaledSigmoid
    from keras_dpt.layers.readout import ReadAdd, ReadIgnore, ReadProject
    from keras_dpt.layers.reassemble import Reassemble
    from keras_dpt.maps.alignment import align_scale_shift
    from keras_dpt.maps.depth_map import DepthMap
    from keras_dpt.maps.label_map import LabelMap
    from keras_dpt.maps.points import PointCloud, depth_to_points
    from keras_dpt.memory import keep_freed_memory
    from keras_dpt.models.backbone import DPTBackbone
    from keras_dpt.models.decoder import DPTDecoder
    from keras_dpt.models.depth import DPTDepth
    from keras_dpt.models.image_converter import DPTImageConverter
    from keras_dpt.models.preprocessor import DPTDepthPreprocessor, DPTSegmentationPreprocessor
    from keras_dpt.models.segmentation import DPTSegmentation
    from keras_dpt.presets import list_presets

__all__ = [
    "BEiTEncoder",
    "Clamped",
    "DINOv2Encoder",
    "DPTBackbone",
    "DPTDecoder",
    "DPTDepth",
    "DPTDepthPreprocessor",
    "DPTImageConverter",
    "DPTSegmentation",
    "DPTSegmentationPreprocessor",
    "DataError",
    "DepthError",
    "DepthHead",
    "DepthMap",
    "EfficientNetHybridEncoder",
    "EfficientNetLiteEncoder",
    "Encoder",
    "EvaluationError",
    "ExportError",
    "FeatureFusion",
    "ImageError",
    "InverseAffine",
    "KerasDPTError",
    "KerasHubEncoder",
    "LabelError",
    "LabelMap",
    "PointCloud",
    "ReadAdd",
    "ReadIgnore",
    "ReadProject",
    "Reassemble",
    "ResNetEncoder",
    "ScaledSigmoid",
    "SegmentationHead",
    "ResidualConvUnit",
    "Swin2Encoder",
    "SwinEncoder",
    "Tap",
    "TrainingError",
    "VideoError",
    "ViTEncoder",
    "ViTHybridEncoder",
    "WeightsError",
    "__version__",
    "align_scale_shift",
    "convert",
    "datasets",
    "depth_to_points",
    "errors",
    "evaluation",
    "export",
    "keep_freed_memory",
    "list_presets",
    "losses",
    "metrics",
    "training",
    "video",
]

# Module: the public names in it; for those named in `_MODULES`, the module itself is the name.
_HOMES = {
    "conversion.convert": ("convert",),
    "encoders.beit": ("BEiTEncoder",),
    "encoders.dinov2": ("DINOv2Encoder",),
    "encoders.efficientnet_hybrid": ("EfficientNetHybridEncoder",),
    "encoders.efficientnet_lite": ("EfficientNetLiteEncoder",),
    "encoders.encoder": ("Encoder", "Tap"),
    "encoders.keras_hub_backbone": ("KerasHubEncoder",),
    "encoders.resnet": ("ResNetEncoder",),
    "encoders.swin": ("Swin2Encoder", "SwinEncoder"),
    "encoders.vit": ("ViTEncoder",),
    "encoders.vit_hybrid": ("ViTHybridEncoder",),
    "errors": (
        "DataError",
        "DepthError",
        "EvaluationError",
        "ExportError",
        "ImageError",
        "KerasDPTError",
        "LabelError",
        "TrainingError",
        "VideoError",
        "WeightsError",
    ),
    "layers.feature_fusion": ("FeatureFusion", "ResidualConvUnit"),
    "layers.heads": ("DepthHead", "SegmentationHead"),
    "layers.outputs": ("Clamped", "InverseAffine", "ScaledSigmoid"),
    "layers.readout": ("ReadAdd", "ReadIgnore", "ReadProject"),
    "layers.reassemble": ("Reassemble",),
    "maps.alignment": ("align_scale_shift",),
    "maps.depth_map": ("DepthMap",),
    "maps.label_map": ("LabelMap",),
    "maps.points": ("PointCloud", "depth_to_points"),
    "memory": ("keep_freed_memory",),
    "models.backbone": ("DPTBackbone",),
    "models.decoder": ("DPTDecoder",),
    "models.depth": ("DPTDepth",),
    "models.image_converter": ("DPTImageConverter",),
    "models.preprocessor": ("DPTDepthPreprocessor", "DPTSegmentationPreprocessor"),
    "models.segmentation": ("DPTSegmentation",),
    "presets": ("list_presets",),
}
_MODULES = (
    "datasets",
    "errors",
    "evaluation",
    "export",
    "losses",
    "metrics",
    "training",
    "video",
)
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value  # the next time it is simply there
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


registration.when_keras_is_imported()
