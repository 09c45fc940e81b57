"""One batch of training or test data: taken apart, checked and preprocessed."""

import keras
import numpy as np
from keras import ops

from keras_dpt.errors import ImageError, TrainingError
from keras_dpt.images.masked import filled, refuse_masked, weights_of_known
from keras_dpt.models.data import as_array, in_graph, is_graph_tensor, only_value
from keras_dpt.models.image_converter import check_shape
from keras_dpt.models.unknown import check_unknown

# How dictionaries name what a batch is made of, as Keras and keras-hub do.
_IMAGES, _TARGETS = ("images", "image"), ("labels", "depths", "depth", "outputs")
_WEIGHTS = ("sample_weight", *_TARGETS)


class Samples:
    """Mixin of a task: `preprocess_samples` for batches of any form, and looks at their targets.

    A task checks targets in `checked_targets(y)`, and the whole in `check_sizes(images, y)`. Masked
    targets become its `unknown_target`, if losses and metrics pass over that; else they weigh 0.
    """

    unknown_target = None

    def preprocess_samples(self, x, y=None, sample_weight=None):
        """A batch as the network and its loss take it; Keras and keras-hub call this."""
        x, y, sample_weight = self._as_arrays(x, y, sample_weight)
        if is_graph_tensor(x):
            x = self._of_known_rank(x)
            x = _checked_in_graph(x) if self.preprocessor is None else x
            y, sample_weight = self._targets_of_known_rank(y, sample_weight)
        elif self.preprocessor is None and hasattr(x, "shape"):
            _check_ready(x)
        if hasattr(y, "shape"):
            y = check_unknown(self, self.checked_targets(y), sample_weight)
        samples = super().preprocess_samples(x, y, _per_image(sample_weight))
        if hasattr(y, "shape"):
            self.check_sizes(samples[0], y)
        return samples

    def checked_targets(self, y):
        """Targets that the model can learn, or an error."""
        return y

    def check_sizes(self, images, y):
        """Raise an error if images that are ready for the network do not go with targets."""
        return  # AutoGraph does not take a function of a docstring alone

    def watched(self, seen, function=keras.utils.pack_x_y_sample_weight):
        """`function(x, y, sample_weight)`, before which `seen.add` looks at the targets."""
        if seen is None:
            return function

        def watched(x, y=None, sample_weight=None):
            targets = as_array(only_value(y, "Targets", _TARGETS))
            targets = filled(targets, self.unknown_target or 0)
            if is_graph_tensor(targets):
                y = _added_in_graph(seen, targets)
            elif targets is not None:
                seen.add(ops.convert_to_numpy(targets))
            return function(x, y, sample_weight)

        return watched

    def check_stream(self, stream):
        """Raise an ImageError for a `tf.data.Dataset` whose images are known to be none."""
        spec = getattr(stream, "element_spec", None)
        if spec is None:
            return
        x, _, _ = keras.utils.unpack_x_y_sample_weight(spec)
        shape = getattr(only_value(x, "Images", _IMAGES), "shape", None)
        if shape is not None and shape.rank is not None:
            check_shape(shape)

    def _as_arrays(self, x, y, sample_weight):
        """What dictionaries of one entry, PyTorch tensors and masked arrays hold."""
        names = (*_IMAGES, self.backbone.input.name)
        x = as_array(only_value(x, "Images", names))
        refuse_masked(x, "Images", ImageError, "Fill them first: x.filled(0).")
        weights = filled(as_array(only_value(sample_weight, "Sample weights", _WEIGHTS)), 0)
        y = as_array(only_value(y, "Targets", _TARGETS))
        if np.ma.is_masked(y) and self.unknown_target is None:
            weights = weights_of_known(y, weights)
        return x, filled(y, self.unknown_target or 0), weights

    def _of_known_rank(self, x):
        if x.shape.rank is None:
            x.set_shape((None, None, None, None if self.preprocessor else 3))
        return x

    def _targets_of_known_rank(self, y, sample_weight):
        """Targets of unknown rank as `(B, H, W, 1)`; weights must have one."""
        import tensorflow as tf

        if is_graph_tensor(y) and y.shape.rank is None:
            y = tf.numpy_function(_with_channel, [y], y.dtype)
            y.set_shape((None, None, None, 1))
        if is_graph_tensor(sample_weight) and sample_weight.shape.rank is None:
            raise TrainingError(
                "Sample weights of unknown rank: call `sample_weight.set_shape((None, None))` "
                "before they are batched, or as many `None` as they have axes."
            )
        return y, sample_weight


def _added_in_graph(seen, targets):
    return in_graph(seen.add, targets)


def _checked_in_graph(x):
    check_shape(x.shape)
    return in_graph(_check_ready, x)


def _per_image(sample_weight):
    """Weights `(B, 1)`, `(B, 1, 1)` and so on as `(B,)`; others as they are."""
    shape = getattr(sample_weight, "shape", None)
    if shape is None or len(shape) < 2 or any(side != 1 for side in shape[1:]):
        return sample_weight
    if hasattr(sample_weight, "reshape"):
        return sample_weight.reshape(-1)
    import tensorflow as tf

    return tf.reshape(sample_weight, [-1])


def _with_channel(targets):
    if targets.ndim == 4 and targets.shape[-1] != 1:
        raise TrainingError(
            f"Targets of unknown rank must be maps of one channel. Received: {targets.shape}. Call "
            "`y.set_shape((None, None, None))` for others before they are batched."
        )
    return targets[..., None] if targets.ndim == 3 else targets


def _check_ready(x):
    """Raise an ImageError unless `x` can be given to the network as it is."""
    check_shape(x.shape)
    values = ops.convert_to_numpy(x)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError(
            f"Images of shape {tuple(values.shape)}: {np.count_nonzero(~np.isfinite(values))} of "
            f"{values.size} values are NaN or infinite. Replace them."
        )
