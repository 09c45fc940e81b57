"""The keras-hub preprocessors of the tasks: images by the converter, targets beside them."""

import keras

from keras_dpt import presets
from keras_dpt.hub import keras_hub
from keras_dpt.models.backbone import DPTBackbone
from keras_dpt.models.image_converter import DPTImageConverter


class _Preprocessor:
    """Mixin before a keras-hub preprocessor: finds our presets by name, without network."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # While a part of a task counts as unbuilt, JAX runs it once more, eagerly, per prediction.
        self.built = True

    @classmethod
    def from_preset(cls, preset, *args, **kwargs):
        """The preprocessor of a preset: one of ours by name, or any keras-hub preset."""
        if preset in presets.preset_names():
            kwargs.setdefault("image_converter", DPTImageConverter.from_preset(preset))
            return cls(**kwargs)
        return super().from_preset(preset, *args, **kwargs)


@keras.saving.register_keras_serializable(package="keras_dpt")
class DPTDepthPreprocessor(_Preprocessor, keras_hub.models.DepthEstimatorPreprocessor):
    """Converts images for `DPTDepth`; `fit`, `evaluate` and `predict` apply it automatically.

    Targets and sample weights are not changed: they must have the size of the images *after*
    conversion. Set `model.preprocessor.image_size` to their size, or `model.preprocessor = None` to
    pass images that are already normalised.

    Args:
        image_converter: a `DPTImageConverter`.

    Inputs: `x` images `(B, H, W, 3)`, 0 to 255; optionally `y` and `sample_weight`.
    """

    backbone_cls = DPTBackbone
    image_converter_cls = DPTImageConverter


@keras.saving.register_keras_serializable(package="keras_dpt")
class DPTSegmentationPreprocessor(_Preprocessor, keras_hub.models.ImageSegmenterPreprocessor):
    """Converts images for `DPTSegmentation`; `fit`, `evaluate` and `predict` apply it.

    Labels and sample weights are not changed: loss and metrics resize logits to the labels' size if
    it differs from that of the converted images. Set `model.preprocessor.image_size` to the size of
    your images, or `model.preprocessor = None` to pass images that are already normalised.

    Args:
        image_converter: a `DPTImageConverter`.

    Inputs: `x` images `(B, H, W, 3)`, 0 to 255; optionally `y` and `sample_weight`.
    """

    backbone_cls = DPTBackbone
    image_converter_cls = DPTImageConverter
