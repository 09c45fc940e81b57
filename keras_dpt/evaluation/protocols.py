"""Protocols as data: which images and pixels are measured, in which units, and how averaged.

protocol = keras_dpt.evaluation.PROTOCOLS["nyu_eigen"]
dataclasses.replace(protocol, name="mine", counts=())      # one of your own
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation.crops import CROPS
from keras_dpt.evaluation.depth_errors import ALIGNMENTS

DEPTH_METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "d1", "d2", "d3")
# Heading in tables, and whether smaller is better.
METRICS = {
    "abs_rel": ("AbsRel", True),
    "sq_rel": ("SqRel (m)", True),
    "rmse": ("RMSE (m)", True),
    "rmse_log": ("RMSElog", True),
    "log10": ("log10", True),
    "silog": ("SILog", True),
    "d1": ("δ < 1.25", False),
    "d2": ("δ < 1.25²", False),
    "d3": ("δ < 1.25³", False),
    "d1_above": ("δ > 1.25", True),
    "d2_above": ("δ > 1.25²", True),
    "d3_above": ("δ > 1.25³", True),
    "nrmse": ("RMSE / std", True),
    "nmae": ("MAE / dev", True),
    "boundary_f1": ("boundary F1", False),
    "boundary_precision": ("boundary precision", False),
    "boundary_recall": ("boundary recall", False),
    "whdr": ("WHDR", True),
    "mean_iou": ("mIoU", False),
    "pixel_accuracy": ("pixAcc", False),
}
TARGETS = ("metric_depth", "relative_inverse_depth", "labels", "ordinal")
# Of the paper's segmentation results, together with flipping.
PAPER_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
_KITTI_SIZES = ((365, 376), (1224, 1242))


@dataclass(frozen=True)
class Group:
    """Images of a set that are reported separately: those whose id starts with `prefix`."""

    prefix: str
    max_depth: float | None = None


@dataclass(frozen=True)
class Protocol:
    """How a model is measured on a data set.

    Args:
        name: of the result.
        data: which images, in words.
        target: kind of the ground truth: "metric_depth" (metres), "relative_inverse_depth"
            (disparity up to scale and shift), "labels", or "ordinal" (pairs of points, see
            `depth_errors.whdr`).
        metrics: names of reported metrics; the first ranks images.
        reader: function of `keras_dpt.datasets` that reads the set, for the command line.
        split: argument of the reader; `None` if it takes none.
        counts: allowed numbers of images; empty for any.
        sizes: `((lowest, highest) height, (lowest, highest) width)` of its images; `None` for any.
        input_crop: part of the image that is input of the network, a name in `crops.CROPS`; nothing
            outside is measured.
        crop: part of the image that is measured, also a name.
        min_depth, max_depth: metres; ground truth must be strictly between, and predictions are
            clipped to them. `max_depth=None`: no limit, except for aligned predictions, which may
            be beyond infinity: they are clipped to the farthest known pixel of the image.
        alignment: "none"; "least_squares", scale and shift in inverse depth; "median_scale", a
            factor on metres. Fitted per image, over the measured pixels.
        space: "depth" or, for `relative_inverse_depth`, "disparity": where errors are measured.
        prediction_size: "truth": predictions are resized to the size of the ground truth.
        averaging: "image": the mean of the images' values; "pixel": over all pixels at once.
        scales, flip: of segmentation: average over these scales and horizontal flips.
        num_classes: classes of labels.
        groups: images reported separately; the mean over groups is then reported as well.
        reference: source of the protocol.

    Raises: EvaluationError: (a ValueError) a value that is not one of these.
    """

    name: str
    data: str
    target: str
    metrics: tuple[str, ...]
    reader: str = "folder"
    split: str | None = None
    counts: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    input_crop: str = "none"
    crop: str = "none"
    min_depth: float = 1e-3
    max_depth: float | None = None
    alignment: str = "none"
    space: str = "depth"
    prediction_size: str = "truth"
    averaging: str = "image"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    num_classes: int | None = None
    groups: tuple[Group, ...] = field(default=())
    reference: str = ""

    def __post_init__(self):
        for name, known in {
            "target": TARGETS,
            "input_crop": CROPS,
            "crop": CROPS,
            "alignment": ALIGNMENTS,
            "space": ("depth", "disparity"),
            "prediction_size": ("truth",),
            "averaging": ("image", "pixel"),
        }.items():
            if getattr(self, name) not in known:
                raise EvaluationError(
                    f"{name} must be one of {', '.join(known)}. Received: {getattr(self, name)!r}."
                )
        unknown = set(self.metrics) - set(METRICS)
        if unknown or not self.metrics:
            raise EvaluationError(f"metrics: unknown or none: {', '.join(sorted(unknown))}.")

    def check_kind(self, source) -> None:
        """Raise an EvaluationError unless a data set has the kind of target that is measured."""
        if source.kind != self.target:
            raise EvaluationError(
                f"{self.name} measures {self.target}, but {source.name} has {source.kind}."
            )

    def check_count(self, source) -> None:
        """Raise an EvaluationError unless a data set has the right number of images."""
        if self.counts and len(source) not in self.counts:
            counts = " or ".join(map(str, self.counts))
            raise EvaluationError(
                f"{self.name} means {counts} images ({self.data}); {source.name} has "
                f"{len(source)}. A result on these would not be comparable: choose the protocol of "
                "your images, or pass unnamed=True (--unnamed on the command line)."
            )

    def check_size(self, image_id: str, size: Sequence[int]) -> None:
        """Raise an EvaluationError unless an image has a size that the protocol knows."""
        if self.sizes is None:
            return
        if not all(low <= n <= high for n, (low, high) in zip(size, self.sizes, strict=True)):
            (h0, h1), (w0, w1) = self.sizes
            expected = f"{h0} x {w0}" + (f" to {h1} x {w1}" if (h0, w0) != (h1, w1) else "")
            raise EvaluationError(
                f"{self.name} means images of {expected} (height x width), but {image_id} is "
                f"{size[0]} x {size[1]}. Crops and numbers would not be comparable: use the "
                "original images, or pass unnamed=True (--unnamed on the command line)."
            )

    def check_model(self, model) -> None:
        """Raise an EvaluationError unless a model predicts what is measured."""
        kind = getattr(model, "kind", "labels")
        if (kind == "labels") != (self.target == "labels"):
            raise EvaluationError(f"{self.name} measures {self.target}; the model predicts {kind}.")
        if self.target == "metric_depth" and kind != "metric_depth" and not self.aligned:
            raise EvaluationError(
                f"{self.name} compares metres, which a {kind} model does not predict. Use a metric "
                "preset, or a protocol that aligns by least squares, such as zero_shot_nyu."
            )
        if kind == "labels" and self.num_classes not in (None, model.num_classes):
            raise EvaluationError(
                f"{self.name} has {self.num_classes} classes, the model {model.num_classes}."
            )

    @property
    def aligned(self) -> bool:
        """Whether scale and shift are fitted, as relative models need."""
        return self.alignment == "least_squares"

    def group_of(self, image_id: str) -> Group | None:
        """The group of an image; `None` if there are no groups.

        Raises: EvaluationError: there are groups, and the image belongs to none.
        """
        name = os.path.basename(image_id)
        for group in self.groups:
            if name.startswith(group.prefix):
                return group
        if self.groups:
            prefixes = ", ".join(group.prefix for group in self.groups)
            raise EvaluationError(f"{self.name}: {image_id} starts with none of {prefixes}.")
        return None

    def depth_limit(self, image_id: str) -> float | None:
        """`max_depth` for an image: that of its group, if it has one."""
        group = self.group_of(image_id)
        return self.max_depth if group is None or group.max_depth is None else group.max_depth


def get_protocol(protocol: "str | Protocol") -> Protocol:
    """A protocol, by name or unchanged. Raises EvaluationError, with all names, if unknown."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise EvaluationError(
            f"There is no protocol {protocol!r}. Protocols: {', '.join(sorted(PROTOCOLS))}."
        )
    return PROTOCOLS[protocol]


_DPT = "Ranftl et al. 2021 (arXiv 2103.13413)"
_MIDAS = "Ranftl et al. 2020 (arXiv 1907.01341), section 6"
_EIGEN = "Eigen et al. 2014 (arXiv 1406.2283)"


def _zero_shot(name, data, metric, **fields):
    """A column of Table 1 of the DPT paper: aligned in inverse depth, measured in depth."""
    return Protocol(
        f"zero_shot_{name}",
        data,
        "metric_depth",
        (metric, *(m for m in DEPTH_METRICS if m != metric)),
        alignment="least_squares",
        reference=f"{_DPT}, Table 1; {_MIDAS}",
        **fields,
    )


def _labels(name, data, **fields):
    return Protocol(
        name, data, "labels", ("mean_iou", "pixel_accuracy"), averaging="pixel", **fields
    )


def _multiscale(protocol, name):
    return replace(protocol, name=name, scales=PAPER_SCALES, flip=True)


_KITTI = Protocol(
    "kitti_eigen_garg",
    "KITTI raw, Eigen's test split; 652 of its 697 images have improved ground truth",
    "metric_depth",
    DEPTH_METRICS,
    reader="kitti",
    split="test",
    counts=(697, 652),
    sizes=_KITTI_SIZES,
    input_crop="kitti_benchmark",
    crop="garg",
    max_depth=80.0,
    reference=f"{_DPT}, Table 3; {_EIGEN}; crop: Garg et al. 2016 (arXiv 1603.04992)",
)
_ADE20K = _labels(
    "ade20k",
    "ADE20K, validation images of the 2016 scene parsing challenge",
    reader="ade20k",
    split="validation",
    counts=(2000,),
    num_classes=150,
    reference=f"{_DPT}, Table 4; Zhou et al. 2017",
)
_PASCAL = _labels(
    "pascal_context",
    "Pascal Context, validation images, 59 classes without background",
    reader="pascal_context",
    split="val",
    counts=(5105, 5104),
    num_classes=59,
    reference=f"{_DPT}, Table 5; Mottaghi et al. 2014",
)
_INDOOR, _OUTDOOR = 10.0, 80.0

_ALL = (
    Protocol(
        "nyu_eigen",
        "NYU Depth V2, the 654 labelled test frames at 480 x 640",
        "metric_depth",
        DEPTH_METRICS,
        reader="nyuv2",
        split="test",
        counts=(654,),
        sizes=((480, 480), (640, 640)),
        crop="eigen_nyu",
        max_depth=10.0,
        reference=f"{_DPT}, Table 2; {_EIGEN}",
    ),
    _KITTI,
    Protocol(
        "kitti_eigen_garg_median",
        _KITTI.data + "; a factor per image, as self-supervised methods are measured",
        "metric_depth",
        DEPTH_METRICS,
        reader="kitti",
        split="test",
        counts=_KITTI.counts,
        sizes=_KITTI_SIZES,
        input_crop="kitti_benchmark",
        crop="garg",
        max_depth=80.0,
        alignment="median_scale",
        reference="Zhou et al. 2017 (arXiv 1704.07813), section 4.2",
    ),
    Protocol(
        "zero_shot_diw",
        "Depth in the Wild, test images, a pair of points each",
        "ordinal",
        ("whdr",),
        reader="diw",
        counts=(74441,),
        reference=f"{_DPT}, Table 1; {_MIDAS}; Chen et al. 2016 (arXiv 1604.03901)",
    ),
    _zero_shot("eth3d", "ETH3D, all images with depth", "abs_rel", counts=(454,), max_depth=72.0),
    _zero_shot(
        "sintel",
        "MPI Sintel, all images with depth",
        "abs_rel",
        counts=(1064,),
        sizes=((436, 436), (1024, 1024)),
        max_depth=72.0,
    ),
    _zero_shot(
        "kitti",
        "KITTI, images of Eigen's test split that are in the depth benchmark's validation set",
        "d1_above",
        reader="kitti",
        split="test",
        counts=(161,),
        sizes=((352, 376), (1216, 1242)),
        max_depth=80.0,
    ),
    _zero_shot(
        "nyu",
        "NYU Depth V2, the 654 labelled test frames at 480 x 640",
        "d1_above",
        reader="nyuv2",
        split="test",
        counts=(654,),
        sizes=((480, 480), (640, 640)),
        max_depth=10.0,
    ),
    _zero_shot(
        "tum",
        "TUM RGB-D, dynamic scenes with people",
        "d1_above",
        counts=(1815,),
        sizes=((480, 480), (640, 640)),
        max_depth=10.0,
    ),
    _ADE20K,
    _multiscale(_ADE20K, "ade20k_multiscale"),
    _PASCAL,
    _multiscale(_PASCAL, "pascal_context_multiscale"),
    _labels(
        "camvid",
        "CamVid, the 233 test frames of the SegNet split, 11 classes",
        reader="camvid",
        split="test",
        counts=(233,),
        sizes=((360, 360), (480, 480)),
        num_classes=11,
        reference="Badrinarayanan et al. 2017 (arXiv 1511.00561), section 4.1",
    ),
    _labels(
        "camvid_val",
        "CamVid, 163 frames of two drives at 360 x 480, 11 classes",
        reader="camvid",
        split="val",
        counts=(163,),
        sizes=((360, 360), (480, 480)),
        num_classes=11,
        reference="keras_dpt, for its bundled segmentation preset",
    ),
    Protocol(
        "nyuv2_val",
        "NYU Depth V2, 329 of the 654 test frames at 240 x 320, without their white frame",
        "metric_depth",
        DEPTH_METRICS,
        reader="nyuv2",
        split="val",
        counts=(329,),
        sizes=((240, 240), (320, 320)),
        max_depth=10.0,
        alignment="least_squares",
        reference="keras_dpt, for its bundled depth preset",
    ),
    Protocol(
        "nyuv2_val_metric",
        "NYU Depth V2, 329 of the 654 test frames at 240 x 320, without their white frame",
        "metric_depth",
        DEPTH_METRICS,
        reader="nyuv2",
        split="val",
        counts=(329,),
        sizes=((240, 240), (320, 320)),
        max_depth=10.0,
        reference="keras_dpt, for its bundled depth preset",
    ),
    Protocol(
        "depth_misc",
        "55 frames of six small sets, indoors and outdoors, each reported by itself",
        "metric_depth",
        DEPTH_METRICS,
        reader="depth_misc",
        counts=(55,),
        sizes=((160, 320), (240, 320)),
        alignment="least_squares",
        groups=(
            Group("7scenes_kitchen_", _INDOOR),
            Group("icl_livingroom_", _INDOOR),
            Group("kinect_table_", _INDOOR),
            Group("iphone_desk_", _INDOOR),
            Group("kitti_obj_", _OUTDOOR),
            Group("kitti_raw_", _OUTDOOR),
        ),
        reference="keras_dpt: does a model carry over to other cameras?",
    ),
    Protocol(
        "middlebury",
        "7 Middlebury stereo pairs 2003-2014, left images 320 wide",
        "relative_inverse_depth",
        ("nrmse", "nmae", "boundary_f1", "boundary_precision", "boundary_recall"),
        reader="middlebury",
        counts=(7,),
        alignment="least_squares",
        space="disparity",
        reference=f"keras_dpt; the measure of {_MIDAS} for disparity, relative to its spread",
    ),
    Protocol(
        "aligned_depth",
        "any images with metric depth",
        "metric_depth",
        DEPTH_METRICS,
        alignment="least_squares",
        reference=_MIDAS,
    ),
    Protocol(
        "metric_depth",
        "any images with metric depth",
        "metric_depth",
        DEPTH_METRICS,
        reference=_EIGEN,
    ),
    Protocol(
        "aligned_disparity",
        "any images with disparity up to scale and shift",
        "relative_inverse_depth",
        ("nrmse", "nmae"),
        alignment="least_squares",
        space="disparity",
        reference=_MIDAS,
    ),
    _labels("labels", "any images with class labels", reference="mean over classes, all pixels"),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}
"""Every `Protocol` by its name, as `evaluate` takes it."""
