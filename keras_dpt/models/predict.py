"""From photos of any sizes to predictions of their sizes."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from keras_dpt.images.reading import read_image
from keras_dpt.models.image_converter import DPTImageConverter


class PredictImages:
    """Mixin of a task: photos in, what its `postprocess(output, size)` makes of outputs back."""

    def predict_image(self, image, **options):
        """Predict for one photo.

        Args:
            image: path, PIL image, or array `(H, W)`, `(H, W, 3)` or `(H, W, 4)`, 8 or 16 bit or
                float from 0 to 255; `keras_dpt.images.pixels.pixel_values` is the rule.
            **options: what `predict_images` takes beside images.

        Returns:
            What `predict_images` gives for one photo.

        Raises:
            keras_dpt.ImageError: the image cannot be read or has values out of range.
        """
        return self.predict_images([image], **{"batch_size": 1} | options)[0]

    def predict_images(self, images, batch_size=4):
        """Predict for photos of any sizes; those that get the same input size share batches.

        Args:
            images: list of what `predict_image` takes.
            batch_size: the most images that go through the network at once.

        Returns:
            List of predictions of the photos' sizes, in the order of `images`.

        Raises:
            keras_dpt.ImageError: an image cannot be read; nothing is predicted then.
        """
        check_images(images, batch_size)
        converter = self.converter_of_photos()
        photos = [read_image(image) for image in images]
        sizes = [photo.shape[:2] for photo in photos]
        shapes = [(*converter.target_size(*size), 3) for size in sizes]
        predictions = [None] * len(photos)
        with ThreadPoolExecutor(1) as resizer:  # it is ahead of the network
            inputs = [resizer.submit(converter.convert, photo) for photo in photos]
            for i, output in self._outputs_of_batches(
                shapes, lambda i: inputs[i].result(), batch_size
            ):
                predictions[i] = with_source(self.postprocess(output, sizes[i]), images[i])
        return predictions

    def converter_of_photos(self):
        """The preprocessor's `DPTImageConverter`, or one with sizes that the network takes."""
        converter = getattr(self.preprocessor, "image_converter", None)
        if converter is not None:
            return converter
        fixed, multiple = self.backbone.image_encoder.fixed_size, self.backbone.size_multiple
        if fixed is None:
            return DPTImageConverter(multiple_of=multiple)
        return DPTImageConverter(fixed, keep_aspect_ratio=False, multiple_of=1)

    def network_outputs(self, inputs, batch_size):
        """Run images that are ready for the network, in batches of equal shapes.

        Args:
            inputs: list of `(h, w, 3)` float arrays.
            batch_size: the most that go through the network at once.

        Yields: index into `inputs` and the output for it, `(h, w, C)`, batch by batch.
        """
        return self._outputs_of_batches([x.shape for x in inputs], inputs.__getitem__, batch_size)

    def _outputs_of_batches(self, shapes, get, batch_size):
        """`network_outputs` of inputs of these shapes, where `get(i)` is number i."""
        for batch in _batches(shapes, batch_size):
            # Not `Task.predict_on_batch`: these images are already converted.
            outputs = keras.Model.predict_on_batch(self, np.stack([get(i) for i in batch]))
            yield from zip(batch, np.asarray(outputs), strict=True)


def check_images(images, batch_size):
    """Raise TypeError or ValueError for what `predict_images` cannot take."""
    if not isinstance(images, list | tuple):
        raise TypeError(
            "`predict_images` takes a list of images, `predict_image` a single one; received "
            f"{type(images).__name__}."
        )
    if batch_size < 1:
        raise ValueError(f"`batch_size` has to be at least 1; received {batch_size}.")


def with_source(prediction, image):
    """The prediction, told the name of its picture if it came from a file."""
    is_file = isinstance(image, str | os.PathLike)
    return dataclasses.replace(prediction, source=image) if is_file else prediction


def _batches(shapes, batch_size):
    """Indices of equal shapes, in lists of at most `batch_size`."""
    buckets = {}
    for i, shape in enumerate(shapes):
        buckets.setdefault(shape, []).append(i)
    for bucket in buckets.values():
        for start in range(0, len(bucket), batch_size):
            yield bucket[start : start + batch_size]
