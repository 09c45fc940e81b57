"""Dense Prediction Transformers for Keras 3: depth and segmentation on TensorFlow, JAX, PyTorch."""

from keras_dpt import datasets, losses, metrics
from keras_dpt.conversion.convert import convert
from keras_dpt.encoders.efficientnet_hybrid import EfficientNetHybridEncoder
from keras_dpt.encoders.encoder import Encoder, Tap
from keras_dpt.encoders.keras_hub_backbone import KerasHubEncoder
from keras_dpt.encoders.vit import ViTEncoder
from keras_dpt.encoders.vit_hybrid import ViTHybridEncoder
from keras_dpt.errors import (
    DataError,
    DepthError,
    ImageError,
    KerasDPTError,
    LabelError,
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
from keras_dpt.version import __version__

__all__ = [
    "Clamped",
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
    "Encoder",
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
    "ScaledSigmoid",
    "SegmentationHead",
    "ResidualConvUnit",
    "Tap",
    "VideoError",
    "ViTEncoder",
    "ViTHybridEncoder",
    "WeightsError",
    "__version__",
    "align_scale_shift",
    "convert",
    "datasets",
    "depth_to_points",
    "keep_freed_memory",
    "list_presets",
    "losses",
    "metrics",
]
