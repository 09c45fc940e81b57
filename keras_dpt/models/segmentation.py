"""Semantic segmentation: the backbone, a head per class, and the way from a photo to labels."""

from functools import partial

import keras

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
from keras_dpt.models.label_checks import check_labels, checked_labels
from keras_dpt.models.labelling import label_pixels
from keras_dpt.models.looks import PAPER_SCALES, SeveralLooks  # noqa: F401 - of this module
from keras_dpt.models.preprocessor import DPTSegmentationPreprocessor
from keras_dpt.models.rebuilding import rebuilt
from keras_dpt.models.targets import LabelsSeen
from keras_dpt.models.task import DPTTask
from keras_dpt.models.two_heads import TrainsTwoHeads
from keras_dpt.presets import preset_names


@keras.saving.register_keras_serializable(package="keras_dpt")
class DPTSegmentation(TrainsTwoHeads, SeveralLooks, DPTTask, keras_hub.models.ImageSegmenter):
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

    def targets_seen(self):
        """What looks at the labels of a training."""
        return LabelsSeen(self.class_names, self.ignore_index)

    def checked_targets(self, y):
        is_ours = isinstance(getattr(self, "loss", None), SegmentationLoss)
        check = partial(check_labels, num_classes=self.num_classes, ignore_index=self.ignore_index)
        return checked_labels(y, check, is_ours)

    def postprocess(self, output, size):
        """Make a `LabelMap` of `size` `(height, width)` from one image's logits `(h, w, C)`."""
        return self.label_map(*label_pixels(output, size))

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

    def label_map(self, labels, confidence):
        """The `LabelMap` of class ids and their probabilities, both `(H, W)`."""
        return LabelMap(
            labels, self.class_names, self.palette, confidence, ignore_index=self.ignore_index
        )
