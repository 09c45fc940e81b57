"""Semantic segmentation: the backbone, a head per class, and the way from a photo to labels."""

import threading
from contextlib import contextmanager
from functools import partial

import keras
import numpy as np
from keras import ops

from keras_dpt.errors import LabelError, TrainingError
from keras_dpt.hub import keras_hub
from keras_dpt.layers.heads import SegmentationHead
from keras_dpt.losses.segmentation import SegmentationLoss
from keras_dpt.maps.label_map import (
    LabelMap,
    check_class_names,
    check_ignore_index,
    check_palette,
    default_palette,
)
from keras_dpt.metrics.segmentation import MeanIoU, PixelAccuracy
from keras_dpt.models.arguments import check_arguments
from keras_dpt.models.backbone import DPTBackbone
from keras_dpt.models.label_checks import check_labels, checked_labels, class_table
from keras_dpt.models.labelling import label_pixels, linear_weights, resized_tiles
from keras_dpt.models.photos import Photos
from keras_dpt.models.predict import check_images, with_source
from keras_dpt.models.preprocessor import DPTSegmentationPreprocessor
from keras_dpt.models.rebuilding import rebuilt
from keras_dpt.models.targets import LabelsSeen
from keras_dpt.models.task import DPTTask
from keras_dpt.models.windows import check_side, windows
from keras_dpt.ops.labels import class_ids, of_known_rank, per_pixel
from keras_dpt.ops.resize import resize_like
from keras_dpt.presets import preset_names

# Multi-scale inference of the paper, together with flipping.
LARGEST_SCALE = 16  # memory grows with its square
PAPER_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)

# `model`: which one is taking a training step of its own in this thread.
_training = threading.local()


@keras.saving.register_keras_serializable(package="keras_dpt")
class DPTSegmentation(DPTTask, keras_hub.models.ImageSegmenter):
    """Semantic segmentation with a Dense Prediction Transformer.

    During training, a second head of the same structure predicts the classes from an earlier map,
    and its loss is added with a small weight; at inference it is not run. Its input is `P2`, the
    result of the penultimate fusion block, as in the paper. (The original code has such a head but
    never runs it; transformers runs it on `P1`, the result of the last block. Both maps have the
    same width, so the head's official weights fit either way.)

    Args:
        backbone: a `DPTBackbone`; the paper's has `use_batch_norm=True`.
        num_classes: number of classes.
        preprocessor: a `DPTSegmentationPreprocessor`; `None` if images are already resized and
            normalised.
        auxiliary: whether to build the second head.
        auxiliary_weight: weight of its loss.
        dropout: share of values dropped before each head's last convolution, in training.
        class_names: one name per class; "class 0" and so on if omitted.
        palette: one RGB colour, 0 to 255, per class; `label_map.default_palette` if omitted.
        ignore_index: label of pixels whose class is unknown; losses and metrics ignore them.

    Inputs: `(B, H, W, 3)` float, normalised by the preprocessor; sides multiples of the encoder's
        `required_multiple`; any size on the same model.
    Returns: logits `(B, H, W, num_classes)` float32, also with `training=True`, so that the model
        can be part of another. The auxiliary head is trained only by this model's own `fit` and
        `train_on_batch`; in your own training loop, call `both_logits`. `predict_image` and
        `predict_images` take photos instead and return `LabelMap`s of the photos' sizes.
    Raises: LabelError: (a ValueError) `num_classes` is missing, or names, colours or `ignore_index`
        do not fit it.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), sections 3 and 4.2.

    Example:

    ```python
    import keras_dpt

    model = keras_dpt.DPTSegmentation.from_preset("dpt_mini_camvid")
    labels = model.predict_image("street.jpg")
    labels.overlay("street.jpg").save("overlay.png")
    ```
    """

    backbone_cls = DPTBackbone
    preprocessor_cls = DPTSegmentationPreprocessor
    task_name = "segmentation"
    kinds = ("labels",)
    learns = "labels"  # which target of `keras_dpt.datasets.Batches`
    result_cls = LabelMap
    command = "segment"
    assumption = "Its classes get no names"

    def __init__(
        self,
        backbone,
        num_classes=None,
        preprocessor=None,
        auxiliary=True,
        auxiliary_weight=0.2,
        dropout=0.1,
        class_names=None,
        palette=None,
        ignore_index=255,
        **kwargs,
    ):
        check_arguments(self, kwargs)
        if not isinstance(num_classes, int) or num_classes < 1:
            raise LabelError(
                f"`num_classes` must be the number of classes. Received: {num_classes}."
            )
        check_ignore_index(ignore_index, num_classes)
        if class_names is None:
            class_names = [f"class {i}" for i in range(num_classes)]
        if len(class_names) != num_classes:
            raise LabelError(f"{len(class_names)} class_names for {num_classes} classes.")
        if palette is None:
            palette = default_palette(num_classes)

        # === Config, first: `Task.__init__` already compiles ===
        self.num_classes = num_classes
        self.auxiliary = auxiliary
        self.auxiliary_weight = auxiliary_weight
        self.dropout = dropout
        self.class_names = check_class_names(class_names)
        self.palette = check_palette(palette, num_classes)
        self.ignore_index = ignore_index

        # === Layers ===
        def head(name, level, **kwargs):
            return SegmentationHead(
                num_classes,
                backbone.output[level].shape[-1],
                dropout,
                dtype=backbone.dtype_policy,
                name=name,
                **kwargs,
            )

        self.backbone = backbone
        backbone.is_part_of_task = True
        self.preprocessor = preprocessor
        self.head = head("segmentation_head", "P1")

        # === Functional model ===
        outputs = self.head(backbone(backbone.input)["P1"], size_like=backbone.input)
        keras_hub.models.Task.__init__(self, inputs=backbone.input, outputs=outputs, **kwargs)

        # Beside the functional model, so that inference knows nothing of it.
        if auxiliary:
            self.auxiliary_head = head("auxiliary_head", "P2", factor=1)
            self.auxiliary_head.build(backbone.output["P2"].shape)

    def call(self, inputs, training=None, **kwargs):
        if training and self.auxiliary and getattr(_training, "model", None) is self:
            return self.both_logits(inputs, training=True)
        logits = super().call(inputs, training=training, **kwargs)
        if training and self.auxiliary:
            # In another model's training the auxiliary head gets gradients of 0, which change
            # nothing, instead of none, of which Keras would warn.
            weights = self.auxiliary_head.trainable_variables
            logits += ops.cast(
                0.0 * sum(ops.sum(ops.cast(w, "float32")) for w in weights), "float32"
            )
        return logits

    def both_logits(self, inputs, training=True):
        """The predictions of both heads, for your own training loop.

        Returns: dict of "logits", `(B, H, W, num_classes)`, and "auxiliary",
            `(B, H / 4, W / 4, num_classes)`, as `compute_loss` takes it for `y_pred`.
        """
        pyramid = self.backbone(inputs, training=training)
        return {
            "logits": self.head(pyramid["P1"], size_like=inputs, training=training),
            "auxiliary": self.auxiliary_head(pyramid["P2"], training=training),
        }

    def train_step(self, *args, **kwargs):
        outer, _training.model = getattr(_training, "model", None), self
        try:
            return super().train_step(*args, **kwargs)
        finally:
            _training.model = outer

    def compile(
        self,
        optimizer="auto",
        loss="auto",
        *,
        metrics="auto",
        learning_rate=None,
        steps=None,
        **kwargs,
    ):
        """Configure training, with the paper's defaults.

        Args:
            optimizer: "auto" is SGD with momentum 0.9.
            loss: "auto" is `SegmentationLoss`. In any case, the auxiliary head's loss is added with
                `auxiliary_weight`.
            metrics: "auto" is `MeanIoU` and `PixelAccuracy`.
            learning_rate: of the automatic optimizer, 0.002 by default. It falls to 0 over `steps`
                as (1 - step / steps) ** 0.9, or is constant if `steps` is not given.
            steps: total number of training batches.
            **kwargs: as in `keras.Model.compile`.

        Raises: TrainingError: (a ValueError) `learning_rate` together with an optimizer.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            rate = 0.002 if learning_rate is None else learning_rate
            if steps is not None:
                rate = keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0, power=0.9)
            optimizer = keras.optimizers.SGD(rate, momentum=0.9)
        elif learning_rate is not None:
            raise TrainingError(
                "`learning_rate` is for the automatic optimizer: give one of both. Received also "
                f"optimizer={optimizer!r}."
            )
        self._compile(optimizer, loss, metrics, **kwargs)

    @property
    def unknown_target(self):
        return self.ignore_index

    def default_loss(self):
        return SegmentationLoss(self.ignore_index)

    def default_metrics(self):
        return [MeanIoU(self.num_classes, self.ignore_index), PixelAccuracy(self.ignore_index)]

    def describe_output(self):
        return super().describe_output() | {
            "kind": "logits",
            "meaning": "One score per class; the largest wins, softmax over the last axis gives "
            "probabilities.",
            "to_photo_size": "Resize to the photo's size with cv2.INTER_CUBIC, then take the class "
            "of the largest score at each pixel.",
            "class_names": list(self.class_names),
            "palette": [list(map(int, color)) for color in self.palette],
        }

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        y = of_known_rank(y)
        if training and self._class_weights is not None:
            ids = class_ids(y, self.ignore_index)
            weights = ops.take(
                ops.convert_to_tensor(self._class_weights), ops.clip(ids, 0, self.num_classes - 1)
            )
            if sample_weight is not None:
                weights = weights * per_pixel(sample_weight, ids)
            sample_weight = weights
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        loss = super().compute_loss(x, y, y_pred["logits"], sample_weight, training)
        auxiliary = resize_like(y_pred["auxiliary"], y)
        auxiliary_loss = super().compute_loss(x, y, auxiliary, sample_weight, training)
        for extra in self.losses:  # regularisation, which both have: once is enough
            auxiliary_loss = auxiliary_loss - ops.sum(extra)
        return loss + self.auxiliary_weight * auxiliary_loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        y_pred = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def targets_seen(self):
        """What looks at the labels of a training."""
        return LabelsSeen(self.class_names, self.ignore_index)

    _class_weights = None  # of the training that goes on

    @contextmanager
    def weighing_classes(self, class_weight):
        """In this context a pixel's loss is multiplied by its class's weight, in training."""
        if class_weight is None:
            yield
            return
        self._class_weights = class_table(class_weight, self.num_classes)
        self.train_function = None  # the weights are part of what is compiled
        try:
            yield
        finally:
            self._class_weights = None
            self.train_function = None

    def checked_targets(self, y):
        is_ours = isinstance(getattr(self, "loss", None), SegmentationLoss)
        check = partial(check_labels, num_classes=self.num_classes, ignore_index=self.ignore_index)
        return checked_labels(y, check, is_ours)

    def predict_images(self, images, batch_size=4, scales=(1.0,), flip=False, sliding_window=None):
        """Label photos of any sizes; those with the same input size share batches.

        The paper's scores use `scales=PAPER_SCALES, flip=True`: the class probabilities of twelve
        predictions of each photo are averaged.

        Args:
            images: list of images, each as for `predict_image`.
            batch_size: the largest number of images in a batch.
            scales: sizes at which to predict each photo, relative to the preprocessor's.
            flip: whether to predict the mirrored photo, too.
            sliding_window: cut the photo into windows of this side, in pixels of the photo, and
                predict each like a separate photo. This keeps detail that shrinking a large photo
                would lose, and needs memory for one window only. Windows overlap by at least a
                third; each pixel is labelled by the window whose centre is nearest.

        Returns:
            List of `LabelMap`s of the photos' sizes, in the order of `images`.

        Raises:
            keras_dpt.ImageError: an image cannot be read. Nothing is predicted then.
        """
        scales = (scales,) if isinstance(scales, int | float) else tuple(scales)
        if not scales or not all(0 < scale <= LARGEST_SCALE for scale in scales):
            raise ValueError(
                f"`scales` must be numbers above 0, at most {LARGEST_SCALE}. Received: {scales}."
            )
        check_side(sliding_window, self.backbone.size_multiple)
        if scales == (1.0,) and not flip and sliding_window is None:
            return super().predict_images(images, batch_size)
        check_images(images, batch_size)
        looks = (self._look(x, batch_size, scales, flip, sliding_window) for x in Photos(images))
        return [with_source(look, image) for look, image in zip(looks, images, strict=True)]

    def postprocess(self, output, size):
        """Make a `LabelMap` of `size` `(height, width)` from one image's logits `(h, w, C)`."""
        return self._label_map(*label_pixels(output, size))

    def get_config(self):
        return super().get_config() | {
            "num_classes": self.num_classes,
            "auxiliary": self.auxiliary,
            "auxiliary_weight": self.auxiliary_weight,
            "dropout": self.dropout,
            "class_names": self.class_names,
            "palette": self.palette,
            "ignore_index": self.ignore_index,
        }

    @classmethod
    def from_preset(cls, preset, load_weights=True, num_classes=None, **kwargs):
        """Load a model; see `keras_dpt.DPTBackbone.from_preset` for what `preset` can be.

        Args:
            preset: a segmentation preset, or one of another task, whose backbone is used.
            load_weights: `False` builds the architecture with fresh weights.
            num_classes: number of your own classes: the last convolution of both heads is
                re-initialised, all other weights are the preset's. Required if the preset is of
                another task.
            **kwargs: override constructor arguments, such as `class_names`; `dtype` sets the dtype
                policy of all layers.
        """
        if num_classes is not None:
            kwargs["num_classes"] = num_classes
        return super().from_preset(preset, load_weights, **kwargs)

    @classmethod
    def _loaded(cls, preset, load_weights=True, num_classes=None, **kwargs):
        from keras_dpt.models.tasks import task_of

        task = task_of(preset)
        is_another = task is not None and task.task_name != cls.task_name
        if num_classes is None:
            if is_another:
                raise LabelError(
                    f"{preset!r} is a preset for {task.task_name}, without a segmentation head. "
                    "Pass num_classes=, the number of your classes, to train one, or take a "
                    f"segmentation preset: {', '.join(preset_names('segmentation'))}."
                )
            return super()._loaded(preset, load_weights, **kwargs)
        if not load_weights or is_another:
            return super()._loaded(preset, load_weights, num_classes=num_classes, **kwargs)
        # keras-hub, told of `num_classes`, would leave out all weights of both heads.
        own = {"num_classes": num_classes, "class_names": None, "palette": None}
        own |= {key: kwargs.pop(key) for key in ("class_names", "palette") if key in kwargs}
        own |= {"compile": kwargs.pop("compile")} if "compile" in kwargs else {}
        try:
            model = super()._loaded(preset, **kwargs)
        except LabelError:  # a hub's, of another task: it knows no number of classes
            return super()._loaded(preset, num_classes=num_classes, **kwargs | own)
        return rebuilt(type(model), model, own, fresh=("conv2",))

    @classmethod
    def arguments_from(cls, preset, given):
        arguments = dict(preset["architecture"]["task_config"])
        if given.get("num_classes", arguments["num_classes"]) == arguments["num_classes"]:
            names = ("class_names", "palette")
            arguments |= {key: preset["output"][key] for key in names if key in preset["output"]}
        return arguments

    def _label_map(self, labels, confidence):
        return LabelMap(
            labels, self.class_names, self.palette, confidence, ignore_index=self.ignore_index
        )

    def _look(self, pixels, batch_size, scales, flip, side):
        """`LabelMap` of one photo `(H, W, 3)`, from several looks at it."""
        labels = confidence = None
        rows, columns = (windows(length, side) for length in pixels.shape[:2])
        for row, row_core in rows:
            for column, column_core in columns:
                window = pixels[row, column]
                scores = self._log_probabilities(window, batch_size, scales, flip)
                found, sure = label_pixels(scores, window.shape[:2])
                if labels is None:
                    labels = np.empty(pixels.shape[:2], found.dtype)
                    confidence = np.empty(pixels.shape[:2], "float32")
                inside = (
                    slice(row_core.start - row.start, row_core.stop - row.start),
                    slice(column_core.start - column.start, column_core.stop - column.start),
                )
                labels[row_core, column_core] = found[inside]
                confidence[row_core, column_core] = sure[inside]
        return self._label_map(labels, confidence)

    def _log_probabilities(self, pixels, batch_size, scales, flip):
        """Logarithm of class probabilities, averaged over looks: `(h, w, C)` of the largest one."""
        converter = self.converter_of_photos()
        total = None
        for scale in sorted(scales, reverse=True):
            image = converter.convert(pixels, scale)
            looks = [image, image[:, ::-1]] if flip else [image]
            for i, output in self.network_outputs(looks, batch_size):
                output = _softmax(output[:, ::-1] if i else output)
                if total is None:
                    total = output
                elif total.shape == output.shape:
                    total += output
                else:
                    for tile in resized_tiles(output, total.shape[:2], linear_weights):
                        total[tile[0], tile[1]] += tile[2]
        total /= len(scales) * (2 if flip else 1)
        return np.log(np.maximum(total, 1e-30, out=total), out=total)


def _softmax(logits):
    """Class probabilities of logits `(h, w, C)`, float32."""
    values = np.exp(logits - logits.max(axis=-1, keepdims=True))
    values /= values.sum(axis=-1, keepdims=True)
    return values
