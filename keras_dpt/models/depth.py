"""Depth estimation: the backbone, a depth head, and the way from a photo to a depth map."""

import logging
from contextlib import nullcontext

import keras
import numpy as np

from keras_dpt.errors import TrainingError
from keras_dpt.hub import keras_hub
from keras_dpt.images.resizing import resize
from keras_dpt.layers.heads import DepthHead
from keras_dpt.layers.outputs import InverseAffine, RelativeInverseDepth, ResizeLike, ScaledSigmoid
from keras_dpt.losses.depth import ScaleInvariantLogLoss, ScaleShiftInvariantLoss
from keras_dpt.maps.depth_map import UNITS, DepthMap
from keras_dpt.metrics.depth import AbsRel, Delta1
from keras_dpt.models.arguments import check_arguments
from keras_dpt.models.backbone import DPTBackbone
from keras_dpt.models.checks import check_depth_sizes
from keras_dpt.models.photos import Photos
from keras_dpt.models.predict import check_images, with_source
from keras_dpt.models.preprocessor import DPTDepthPreprocessor
from keras_dpt.models.targets import DepthsSeen
from keras_dpt.models.task import DPTTask
from keras_dpt.models.windows import blend, check_side
from keras_dpt.optimizers import depth_rates, optimizer_with_rates

logger = logging.getLogger("keras_dpt")

# For `describe_output`.
_MEANING = {
    "relative_inverse_depth": "Larger is nearer. a * value + b is 1 / metres, for an unknown a > 0 "
    "and an unknown b of each photo.",
    "metric_depth": "Metres along the optical axis, for cameras like those of the training data.",
}
_TO_PHOTO_SIZE = {
    "bicubic": "Resize to the photo's size with cv2.INTER_CUBIC, then clip to the smallest and the "
    "largest value before resizing.",
    "bilinear": "Resize to the photo's size with cv2.INTER_LINEAR.",
    "bilinear_aligned": "Resize to the photo's size linearly, centres of corner pixels onto each "
    "other (PyTorch's align_corners=True).",
}


@keras.saving.register_keras_serializable(package="keras_dpt")
class DPTDepth(DPTTask, keras_hub.models.DepthEstimator):
    """Monocular depth estimation with a Dense Prediction Transformer.

    Args:
        backbone: a `DPTBackbone`.
        preprocessor: a `DPTDepthPreprocessor`; `None` if images are already resized and normalised.
        head_channels: widths inside the `DepthHead`.
        kind: what the output means. "relative_inverse_depth": inverse depth up to an unknown scale
            and shift, unitless, larger is nearer. "metric_depth": metres. If omitted, the output
            layer's kind, or relative without one.
        scale, shift: short for `output_layer=InverseAffine(scale, shift)`:
            `depth = 1 / (scale * x + shift)` of the head's output x.
        output_layer: for metric depth: `InverseAffine`, `ScaledSigmoid` or `Clamped` (or another
            `DepthOutput`), which converts the head's output to metres.
        max_depth: short for `output_layer=ScaledSigmoid(max_depth)`, in metres. If a preset has
            another `max_depth`, it is replaced, with a warning: the weights predict wrong metres
            until they are fine-tuned.
        head_align_corners, head_projection_channels: `align_corners` and `projection_channels` of
            the `DepthHead`, with their sources.
        head_size: "input": the head resizes its map to the image's size. "double": it doubles the
            map's sides, and the output layer's result is resized to the image's size, as in
            DINOv2's depth heads (bilinear, corners not aligned).
        output_resize: how a prediction is resized to the photo's size: "bicubic" (then clipped to
            the network's range), "bilinear", or "bilinear_aligned" (corners aligned), as in the
            scripts of DPT, Depth Anything V1 and V2.

    Inputs: `(B, H, W, 3)` float, normalised by the preprocessor; sides multiples of the encoder's
        `required_multiple`; any size on the same model.
    Returns: `(B, H, W, 1)` float32 of the given `kind`. `predict_image` and `predict_images` take
        photos instead and return `DepthMap`s of the photos' sizes.
    Raises: ValueError: an unknown `kind`, or an output layer that does not fit it.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), sections 3 and 4.1.

    Example:

    ```python
    import keras_dpt

    model = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2")
    depth = model.predict_image("photo.jpg")
    depth.colorize().save("depth.png")
    ```
    """

    backbone_cls = DPTBackbone
    preprocessor_cls = DPTDepthPreprocessor
    task_name = "depth"
    kinds = tuple(UNITS)
    result_cls = DepthMap
    command = "depth"
    assumption = "Its output is taken for relative inverse depth"

    def __init__(
        self,
        backbone,
        preprocessor=None,
        head_channels=(128, 32),
        kind=None,
        scale=None,
        shift=None,
        output_layer=None,
        head_align_corners=True,
        head_projection_channels=None,
        head_size="input",
        output_resize="bicubic",
        max_depth=None,
        **kwargs,
    ):
        output_layer = _output_layer(
            kind, scale, shift, output_layer, max_depth, dtype=backbone.dtype_policy
        )
        if head_size not in ("input", "double"):
            raise ValueError(f'`head_size` must be "input" or "double". Received: {head_size!r}.')
        if output_resize not in _TO_PHOTO_SIZE:
            raise ValueError(
                f"`output_resize` must be one of {tuple(_TO_PHOTO_SIZE)}. Received: "
                f"{output_resize!r}."
            )
        check_arguments(self, kwargs)

        # === Config, first: `Task.__init__` already compiles ===
        self.head_channels = tuple(head_channels)
        self.kind = output_layer.kind
        self.scale = getattr(output_layer, "scale", None)
        self.shift = getattr(output_layer, "shift", None)
        self.output_layer = output_layer
        self.head_align_corners = head_align_corners
        self.head_projection_channels = head_projection_channels
        self.head_size = head_size
        self.output_resize = output_resize

        # === Layers ===
        self.backbone = backbone
        backbone.is_part_of_task = True
        self.preprocessor = preprocessor
        self.head = DepthHead(
            head_channels,
            activation=output_layer.head_activation,
            align_corners=head_align_corners,
            projection_channels=head_projection_channels,
            dtype=backbone.dtype_policy,
            name="depth_head",
        )

        # === Functional model ===
        image = backbone.input
        doubles = head_size == "double"
        outputs = self.head(backbone(image)["P1"], size_like=None if doubles else image)
        if self.kind == "metric_depth":
            outputs = output_layer(outputs)
        if doubles:
            outputs = ResizeLike(dtype="float32", name="resize_to_image")(outputs, image)
        # Not `DepthEstimator.__init__`: it puts an activation of its own on the backbone's output.
        keras_hub.models.Task.__init__(self, inputs=image, outputs=outputs, **kwargs)

    @property
    def learns(self):
        """The `target` of `keras_dpt.datasets.Batches` that the model is trained on."""
        return "depth" if self.kind == "metric_depth" else "inverse_depth"

    def targets_seen(self):
        """What looks at the targets of a training."""
        return DepthsSeen(self.kind == "metric_depth")

    def weighing_classes(self, class_weight):
        """A context of `fit`. Raises: TrainingError: depth has no classes."""
        if class_weight is not None:
            raise TrainingError(
                "Depth has no classes, so `class_weight` does not apply; `sample_weight` weighs "
                f"images and pixels. Received: class_weight={class_weight!r}."
            )
        return nullcontext()

    def check_sizes(self, images, y):
        converter = getattr(self.preprocessor, "image_converter", None)
        check_depth_sizes(images.shape, y.shape, converter)

    def compile(
        self, optimizer="auto", loss="auto", *, metrics="auto", learning_rate=None, **kwargs
    ):
        """Configure training, with the paper's defaults for what the model predicts.

        Args:
            optimizer: "auto" is Adam.
            loss: "auto" is `ScaleShiftInvariantLoss` on inverse depth for relative models and
                `ScaleInvariantLogLoss` on metres for metric ones.
            metrics: "auto" is `AbsRel` and `Delta1`, after alignment for relative models.
            learning_rate: of the automatic optimizer. By default, for pretrained encoders, the
                encoder's `fine_tuning_rate` (1e-5, 5e-6 for DINOv2) as "encoder" and ten times that
                as "decoder", which also holds for the head and, without a rate for "adapters", for
                LoRA adapters. For an encoder that starts from random weights, pass one number or a
                `keras.optimizers.schedules.LearningRateSchedule` for all weights. Rules by path
                work as in `keras_dpt.training.optimizer_with_rates`.
                `model.optimizer.learning_rate` is the decoder's rate; setting it scales all rates.
            **kwargs: as in `keras.Model.compile`.

        Raises: TrainingError: (a ValueError) no rule gives a rate for a weight.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            rates = learning_rate
            if rates is None:
                rates = depth_rates(self.backbone.image_encoder.fine_tuning_rate)
            optimizer = optimizer_with_rates(rates, variables=self.trainable_variables)
        elif learning_rate is not None:
            raise TrainingError(
                "`learning_rate` is for the automatic optimizer: give one of both. Received also "
                f"optimizer={optimizer!r}."
            )
        self._compile(optimizer, loss, metrics, **kwargs)

    def default_loss(self):
        is_metric = self.kind == "metric_depth"
        return ScaleInvariantLogLoss() if is_metric else ScaleShiftInvariantLoss()

    def default_metrics(self):
        aligned = self.kind != "metric_depth"
        return [AbsRel(aligned=aligned), Delta1(aligned=aligned)]

    def predict_images(self, images, batch_size=4, sliding_window=None):
        """Estimate the depth of photos of any sizes.

        Args:
            images: list of images, each as for `predict_image`.
            batch_size: the largest number of images in a batch.
            sliding_window: side of overlapping windows, in pixels of the photo, that are predicted
                in addition to the whole photo. They add detail that shrinking a large photo would
                lose, and need memory for a few windows only. The whole photo decides what is near
                and far: each window is aligned to it by least squares in inverse depth, and windows
                are blended where they overlap.

        Returns:
            List of `DepthMap`s of the photos' sizes, in the order of `images`.

        Raises:
            keras_dpt.ImageError: an image cannot be read. Nothing is predicted then.
        """
        check_side(sliding_window, self.backbone.size_multiple)
        if sliding_window is None:
            return super().predict_images(images, batch_size)
        check_images(images, batch_size)
        maps = (self._look_closely(x, batch_size, sliding_window) for x in Photos(images))
        return [with_source(depth, image) for depth, image in zip(maps, images, strict=True)]

    def _look_closely(self, pixels, batch_size, side):
        """`DepthMap` of one photo `(H, W, 3)`, from a look at the whole and at windows of it."""
        converter = self.converter_of_photos()

        def inverse_depths(pictures):
            maps = [None] * len(pictures)
            inputs = [converter.convert(picture) for picture in pictures]
            for i, output in self.network_outputs(inputs, batch_size):
                depth = self.postprocess(output, pictures[i].shape[:2]).values
                maps[i] = self.output_layer.to_inverse_depth(depth)
            return maps

        (whole,) = inverse_depths([pixels])
        values = blend(whole, side, lambda places: inverse_depths([pixels[p] for p in places]))
        return DepthMap(self.output_layer.from_inverse_depth(values), self.kind)

    def postprocess(self, output, size):
        """Make a `DepthMap` of `size` `(height, width)` from the network's output `(h, w, 1)`.

        Bicubic resizing, as in the original's scripts, overshoots at edges, so the result is
        clipped to the range of the network's output.
        """
        output = output[..., 0]
        values = np.clip(resize(output, size, self.output_resize), output.min(), output.max())
        return DepthMap(values, self.kind)

    def get_config(self):
        # Not `DepthEstimator.get_config`: its depth range and type are not ours.
        return keras_hub.models.Task.get_config(self) | {
            "head_channels": self.head_channels,
            "kind": self.kind,
            "scale": self.scale,
            "shift": self.shift,
            "output_layer": self._own_output_layer(),
            "head_align_corners": self.head_align_corners,
            "head_projection_channels": self.head_projection_channels,
            "head_size": self.head_size,
            "output_resize": self.output_resize,
            "max_depth": None,  # the output layer has it
        }

    def _own_output_layer(self):
        """The output layer for a config; `None` where `kind`, `scale` and `shift` say it."""
        if type(self.output_layer) in (RelativeInverseDepth, InverseAffine):
            return None
        return keras.saving.serialize_keras_object(self.output_layer)

    def describe_output(self):
        return super().describe_output() | {
            "kind": self.kind,
            "unit": UNITS[self.kind],
            "meaning": _MEANING[self.kind],
            "to_photo_size": _TO_PHOTO_SIZE[self.output_resize],
        }

    @classmethod
    def output_of(cls, task_config):
        kind = task_config.get("kind") or "relative_inverse_depth"
        return {"kind": kind, "unit": UNITS[kind]}

    @classmethod
    def arguments_from(cls, preset, given):
        return {"kind": preset["output"]["kind"]} | preset["architecture"]["task_config"]


def _output_layer(kind, scale, shift, output_layer, max_depth=None, dtype=None):
    """The `DepthOutput` that these arguments of `DPTDepth` ask for.

    Raises: ValueError: they contradict each other.
    """
    if isinstance(output_layer, dict):
        output_layer = keras.saving.deserialize_keras_object(output_layer)
    if kind is not None and kind not in UNITS:
        raise ValueError(f"`kind` must be one of {tuple(UNITS)}. Received: {kind!r}.")
    has_constants = scale is not None and shift is not None
    received = f"kind={kind!r}, scale={scale}, shift={shift}, output_layer={output_layer}"
    if max_depth is not None:
        received += f", max_depth={max_depth}"
        output_layer = _with_max_depth(output_layer, max_depth, received)
    if output_layer is not None:
        if kind not in (None, output_layer.kind) or scale is not None or shift is not None:
            raise ValueError(
                f"`kind`, `scale` and `shift` contradict `output_layer`. Received: {received}."
            )
        return output_layer
    if kind == "metric_depth" or has_constants:
        if not has_constants or kind == "relative_inverse_depth":
            raise ValueError(
                "Metric depth needs both `scale` and `shift`, or an `output_layer`; for "
                f'`kind="relative_inverse_depth"` they must be None. Received: {received}.'
            )
        return InverseAffine(scale, shift, dtype="float32", name="metres")
    if scale is not None or shift is not None:
        raise ValueError(f"`scale` and `shift` are given together. Received: {received}.")
    return RelativeInverseDepth(dtype=dtype)


def _with_max_depth(output_layer, max_depth, received):
    """An output layer, by default a `ScaledSigmoid`, with another largest depth."""
    if output_layer is None:
        return ScaledSigmoid(max_depth, dtype="float32", name="metres")
    known = getattr(output_layer, "max_depth", None)
    if known is None:
        raise ValueError(f"The `output_layer` has no `max_depth`. Received: {received}.")
    if known == max_depth:
        return output_layer
    logger.warning(
        "The output layer's max_depth of %g m becomes %g m: predictions of weights that were "
        "trained with the former are wrong by that factor until they are fine-tuned.",
        known,
        max_depth,
    )
    return type(output_layer).from_config(output_layer.get_config() | {"max_depth": max_depth})
