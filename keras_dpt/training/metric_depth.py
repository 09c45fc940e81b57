"""From relative to metric depth: the training set's scale and shift become part of the model."""

import numpy as np

from keras_dpt.errors import DepthError, TrainingError
from keras_dpt.images.masked import nan_if_masked
from keras_dpt.losses.depth import ScaleInvariantLogLoss
from keras_dpt.maps.alignment import align_scale_shift
from keras_dpt.maps.metres import check_metres
from keras_dpt.ops.training import check_training


def to_metric(model, data, method="least_squares", batch_size=8):
    """Make a metric model from a relative one, ready to be fine-tuned.

    As in the paper: the relative model's prediction for each training sample is aligned to the
    ground truth in inverse depth, and the averages of scale and shift over all samples become those
    of the metric model. Its weights are the relative one's; its loss, when compiled, is
    `ScaleInvariantLogLoss`. Save it like any other with `save_to_preset`.

    An output of 0 is never nearer than the farthest ground truth nor, with a negative average
    shift, beyond infinity. Where it would be, it becomes that farthest distance, and the bias of
    the head's last convolution is adjusted so that only depths beyond it change.

    Args:
        model: a `DPTDepth` of kind "relative_inverse_depth"; it shares its backbone with the
            result.
        data: a `keras_dpt.datasets.Source` of metric depth; or batches `(image, depth)` or
            `(image, depth, sample_weight)` such as `Batches(target="depth", augment=False)`:
            images `(B, H, W, 3)` from 0 to 255, depth `(B, H, W)` or `(B, H, W, 1)` in metres,
            weights like depth. Pixels are used where depth is finite and above 0, and weight is
            above 0.
        method: of the alignment, see `keras_dpt.align_scale_shift`.
        batch_size: number of images in a batch.

    Returns: a `DPTDepth` of kind "metric_depth".
    Raises: TrainingError: (a ValueError) the model is metric already; not one sample can be
        aligned; depths are so large that they must be millimetres; or larger predictions are
        farther away on average.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), section 4.1, "Fine-tuning on small datasets".
    """
    if model.kind != "relative_inverse_depth":
        raise TrainingError(f"Only relative models become metric; this one is {model.kind}.")
    fits, farthest, problem = [], 0.0, "there are no samples"
    for samples in _chunks(_samples(data), batch_size):
        known = np.concatenate([depth[valid] for _, depth, valid in samples])
        check_metres(known, name="Depth of the data", error_class=TrainingError)
        predictions = model.predict_images([image for image, _, _ in samples], batch_size)
        for prediction, (_, depth, valid) in zip(predictions, samples, strict=True):
            inverse = np.divide(1, depth, out=np.zeros(depth.shape), where=valid)
            try:
                fits.append(align_scale_shift(prediction.values, inverse, valid, method))
            except DepthError as error:  # hardly any truth, say: the others decide
                problem = str(error)
            else:
                farthest = max(farthest, float(depth[valid].max()))
    if not fits:
        raise TrainingError(f"Nothing to align the model to: {problem}")
    scale, shift = (float(x) for x in np.mean(fits, axis=0))
    if scale <= 0:
        raise TrainingError(
            f"The average scale is {scale:.3g}: what this model calls near is far in these data. "
            "Train it on them as a relative model first."
        )
    return _metric_model(model, scale, shift, farthest)


def fit_metric(model, batches, alignment_data=None, learning_rate=None, **fit_options):
    """Fine-tune a relative model to metric depth in one call: `to_metric`, then `fit`.

    Args:
        model: a `DPTDepth` of kind "relative_inverse_depth".
        batches: training data, `(image, depth in metres[, sample_weight])`, whatever `fit` takes;
            of the size `model.preprocessor.image_size`.
        alignment_data: data for `to_metric`; by default `batches`, if they are indexable. Should
            not be augmented, because stretching an image does not change its depth.
        learning_rate: as in `DPTDepth.compile`.
        **fit_options: as in `keras.Model.fit`, such as `epochs`, `validation_data`, `callbacks`.

    Returns: the trained `DPTDepth` of kind "metric_depth"; its `history` is `fit`'s. The loss was
        the root of the scale-invariant log loss with a variance focus of 0.85.
    Raises: TrainingError: (a ValueError) as in `to_metric`.
    """
    check_training("`fit_metric`")
    metric = to_metric(model, batches if alignment_data is None else alignment_data)
    metric.compile(loss=ScaleInvariantLogLoss(0.85, root=True), learning_rate=learning_rate)
    metric.fit(batches, **fit_options)
    return metric


def _metric_model(model, scale, shift, farthest):
    lift = 0.0 if 0 < shift <= 1 / farthest else shift - 1 / farthest
    config = model.get_config() | {"backbone": model.backbone, "preprocessor": model.preprocessor}
    config |= {"kind": "metric_depth", "scale": scale, "shift": shift - lift}
    metric = type(model)(**config)
    metric.head.set_weights(model.head.get_weights())
    metric.head.conv3.bias.assign_add([lift / scale])
    return metric


def _samples(data):
    """`(image uint8, depth, valid)` of each sample of a source or of batches."""
    if hasattr(data, "ids"):
        if data.kind != "metric_depth":
            raise TrainingError(f"{data.name} holds {data.kind}; metric depth is needed.")
        yield from data
        return
    for i in range(len(data)):
        images, depths, *weights = data[i]
        depths = nan_if_masked(depths).reshape(images.shape[:3])
        with np.errstate(invalid="ignore"):
            valid = np.isfinite(depths) & (depths > 0)
        if weights:
            valid &= np.asarray(weights[0]).reshape(valid.shape) > 0
        images = np.clip(np.rint(images), 0, 255).astype("uint8")
        yield from zip(images, depths, valid, strict=True)


def _chunks(samples, size):
    chunk = []
    for sample in samples:
        chunk.append(sample)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
