"""Pixels to network input: the size rule of DPT and the only mean and standard deviation."""

import sys

import keras
import numpy as np
from keras import ops

from keras_dpt import presets
from keras_dpt.errors import ImageError
from keras_dpt.hub import keras_hub
from keras_dpt.images.pixels import pixel_values
from keras_dpt.images.resizing import RESIZE_METHODS, resize
from keras_dpt.images.size_rules import SIZE_RULES, padded_size, resized_size
from keras_dpt.models.backbone import DPTBackbone
from keras_dpt.models.sizes import checked_size


@keras.saving.register_keras_serializable(package="keras_dpt")
class DPTImageConverter(keras_hub.layers.ImageConverter):
    """Resize images to a size that the network takes, and normalise them.

    The same NumPy code runs eagerly and inside `tf.data`, so both give the same numbers.

    Args:
        image_size: `(height, width)` to aim for, or one number for both; `None` keeps the size.
        keep_aspect_ratio: scale both sides by the same factor, one of the two that reach
            `image_size` (see `size_rule`); otherwise scale each side by its own.
        multiple_of: sides are rounded to the nearest multiple of this.
        resize: "bicubic" (OpenCV's, a = -0.75, no antialiasing, as the original's scripts), or
            "bicubic_antialias" or "bilinear_antialias" (Pillow's on 8-bit pixels, as
            transformers' processor).
        size_rule: which of the two factors. "minimal": the one closer to 1. "lower_bound": the
            larger one, and sides that would be rounded below `image_size` are rounded up, so that
            both reach it, as in Depth Anything. "upper_bound": the smaller one, and sides that
            would be above `image_size` are rounded down, as in MiDaS.
        pad: pad images with zeros to multiples, after normalisation, instead of resizing them, as
            DINOv2's depth heads do; only without `image_size`.
        mean, std: pixels, divided by 255, become `(x - mean) / std`. Numbers, or one per channel.

    Inputs: `(H, W, 3)` or `(B, H, W, 3)`, 0 to 255, integer or float;
        see `keras_dpt.images.pixels.pixel_values` for the rules.
    Returns: float32 of the same rank.
    Raises: ImageError: (a ValueError) other shapes, or values such as floats from 0 to 1.
    Source: isl-org/DPT `dpt/transforms.py`, `Resize` and `NormalizeImage`; facebookresearch/dinov2
        `CenterPadding`.
    """

    backbone_cls = DPTBackbone  # by it keras-hub finds the image converter of a preset

    def __init__(
        self,
        image_size=(384, 384),
        keep_aspect_ratio=True,
        multiple_of=32,
        resize="bicubic",
        mean=0.5,
        std=0.5,
        size_rule="minimal",
        pad=False,
        **kwargs,
    ):
        if size_rule not in SIZE_RULES:
            raise ValueError(f"`size_rule` must be one of {SIZE_RULES}. Received: {size_rule!r}.")
        if pad and image_size is not None:
            raise ValueError(
                "`pad` leaves images at their own size, so `image_size` must be None. Received: "
                f"image_size={image_size}."
            )
        if resize not in RESIZE_METHODS:
            raise ValueError(f"`resize` must be one of {RESIZE_METHODS}. Received: {resize!r}.")
        for name in (
            "scale",
            "offset",
            "interpolation",
            "antialias",
            "crop_to_aspect_ratio",
            "pad_to_aspect_ratio",
            "bounding_box_format",
            "data_format",
        ):
            kwargs.pop(name, None)  # the base class's words for what is said above
        super().__init__(image_size=checked_size(image_size), data_format="channels_last", **kwargs)
        self.resizing.built = True  # it only keeps `image_size` and is never called
        self.keep_aspect_ratio = keep_aspect_ratio
        self.multiple_of = multiple_of
        self.resize = resize
        self.mean = mean
        self.std = std
        self.size_rule = size_rule
        self.pad = pad

    @property
    def multiple_of(self):
        """Sides are rounded to multiples of this. Can be set."""
        return self._multiple_of

    @multiple_of.setter
    def multiple_of(self, value):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < 1:
            raise ValueError(f"`multiple_of` must be a whole number above 0. Received: {value!r}.")
        self._multiple_of = value

    @property
    def mean(self):
        """Subtracted from pixels scaled to 0 to 1. Can be set."""
        return self._mean

    @mean.setter
    def mean(self, value):
        _check_numbers("mean", value)
        self._mean = value

    @property
    def std(self):
        """Divides pixels after the mean is subtracted. Can be set."""
        return self._std

    @std.setter
    def std(self, value):
        _check_numbers("std", value, above=0)
        self._std = value

    @property
    def image_size(self):
        """The `(height, width)` to aim for, or `None`. Can be set."""
        return super().image_size

    @image_size.setter
    def image_size(self, value):
        self.resizing.height, self.resizing.width = checked_size(value) or (None, None)

    def target_size(self, height, width, scale=1.0):
        """The `(height, width)` that an image of `height` x `width` pixels is resized to.

        `scale` multiplies it before it is rounded to multiples.
        """
        if self.pad:
            return padded_size((height, width), self.multiple_of, scale)
        return resized_size(
            (height, width),
            self.image_size,
            self.keep_aspect_ratio,
            self.multiple_of,
            self.size_rule,
            scale,
        )

    def convert(self, image, scale=1.0):
        """Resize and normalise one `(H, W, 3)` NumPy image; returns float32 `(h, w, 3)`."""
        target = self.target_size(*image.shape[:2], scale)
        size = target
        if self.pad:
            size = tuple(max(1, round(scale * side)) for side in image.shape[:2])
        image = np.asarray(resize(image, size, self.resize), "float32") / 255
        image = (image - np.asarray(self.mean, "float32")) / np.asarray(self.std, "float32")
        if size == target:
            return image
        before = [(whole - side) // 2 for whole, side in zip(target, size, strict=True)]
        after = [t - s - b for t, s, b in zip(target, size, before, strict=True)]
        return np.pad(image, (*zip(before, after, strict=True), (0, 0)))

    def call(self, inputs):
        if _is_traced(inputs):
            return self._call_in_graph(inputs)
        if isinstance(inputs, list | tuple):
            images = [self._pixels(_numpy(x)) for x in inputs]
        else:
            images = self._pixels(_numpy(inputs))
        if isinstance(images, list) or images.ndim == 4:
            return ops.convert_to_tensor(np.stack([self.convert(x) for x in images]))
        return ops.convert_to_tensor(self.convert(images))

    def _call_in_graph(self, inputs):
        import tensorflow as tf

        def convert(x):
            x = self._pixels(x)
            return np.stack([self.convert(y) for y in x]) if x.ndim == 4 else self.convert(x)

        outputs = tf.numpy_function(convert, [inputs], tf.float32)
        if inputs.shape.rank is None:
            return outputs
        static = inputs.shape.as_list()
        check_shape(static)
        size = (None, None) if None in static[-3:-1] else self.target_size(*static[-3:-1])
        outputs.set_shape([*static[:-3], *size, 3])
        return outputs

    def _pixels(self, images):
        check_shape(images.shape)
        return pixel_values(images, f"images of shape {images.shape} and dtype {images.dtype}")

    @classmethod
    def from_preset(cls, preset, **kwargs):
        """The converter of a preset: one of ours by name, without network, or any keras-hub preset.

        Args: preset: name, directory or handle. **kwargs: override constructor arguments.
        """
        if preset in presets.preset_names():
            return cls(**presets.read_preset(preset)["image"] | kwargs)
        return super().from_preset(preset, **kwargs)

    def get_config(self):
        config = super().get_config()
        for name in (
            "scale",
            "offset",
            "interpolation",
            "antialias",
            "crop_to_aspect_ratio",
            "pad_to_aspect_ratio",
            "bounding_box_format",
        ):
            config.pop(name)
        return config | {
            "keep_aspect_ratio": self.keep_aspect_ratio,
            "multiple_of": self.multiple_of,
            "resize": self.resize,
            "mean": self.mean,
            "std": self.std,
            "size_rule": self.size_rule,
            "pad": self.pad,
        }


def check_shape(shape):
    """Raise an ImageError unless `shape` is `(H, W, 3)` or `(B, H, W, 3)`; `None` is unknown."""
    shape = tuple(shape)
    if len(shape) in (3, 4) and shape[-1] in (3, None):
        return
    hint = ""
    if len(shape) in (3, 4):
        hints = {4: " Leave alpha out: `x[..., :3]`.", 1: " Repeat grey: `np.repeat(x, 3, -1)`."}
        hint = hints.get(shape[-1], "")
        if shape[-3] in (1, 3, 4) and not hint:
            hint = " Move the channels last: `np.moveaxis(x, -3, -1)`."
    raise ImageError(
        f"Images must be (height, width, 3) or (batch, height, width, 3). Received: {shape}.{hint}"
    )


def _check_numbers(name, value, above=-np.inf):
    """Raise a ValueError unless `value` is a finite number above `above`, or three of them."""
    array = np.asarray(value)
    if (
        array.dtype.kind not in "fiu"
        or array.shape not in ((), (1,), (3,))
        or not (np.isfinite(array).all() and (array > above).all())
    ):
        what = "finite numbers" if above == -np.inf else f"finite numbers above {above}"
        raise ValueError(f"`{name}` must be one or three {what}. Received: {value!r}.")


def _is_traced(x):
    """Whether it is a tensor of a graph that TensorFlow makes, for `tf.data` or `tf.function`."""
    tensorflow = sys.modules["tensorflow"] if type(x).__module__.startswith("tensorflow") else None
    return tensorflow is not None and tensorflow.is_symbolic_tensor(x)


def _numpy(x):
    return x if isinstance(x, np.ndarray) else ops.convert_to_numpy(x)
