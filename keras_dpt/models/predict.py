"""Predictions for photos of any sizes, at those sizes."""

import dataclasses
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import keras
import numpy as np

from keras_dpt.errors import ImageError
from keras_dpt.models.image_converter import DPTImageConverter
from keras_dpt.models.members import lacking
from keras_dpt.models.photos import Photos, ahead, read_in_groups
from keras_dpt.models.sizes import check_size_of_network
from keras_dpt.ops.alone import is_shared, outputs_alone

# Of each network that predicts; by its backbone, which several tasks may share.
_locks = weakref.WeakKeyDictionary()
_locks_are_made = threading.Lock()


class PredictImages:
    """Mixin of a task: takes photos, returns the results of its `postprocess(output, size)`."""

    def postprocess(self, output, size):
        """The result for one image of `size` from the network's output, which a task defines."""
        raise lacking(type(self), "postprocess")

    def predict_image(self, image, **options):
        """Predict for one photo.

        Args:
            image: path, PIL image, or array `(H, W)`, `(H, W, 3)` or `(H, W, 4)`, 8 or 16 bit or
                float from 0 to 255; see `keras_dpt.images.pixels.pixel_values` for the rules.
            **options: further arguments of `predict_images`.

        Returns:
            One result, as `predict_images` returns for each photo.

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
            List of predictions of the photos' sizes, in the order of `images`. Memory grows with
            the predictions; at most 0.5 GiB of photos are held at once.

        Raises:
            keras_dpt.ImageError: an image cannot be read; nothing is predicted then.
        """
        if type(self).postprocess is PredictImages.postprocess:
            raise lacking(type(self), "postprocess")  # before the network runs
        check_images(images, batch_size)
        converter = self.converter_of_photos()
        photos = Photos(images)
        sizes = photos.sizes
        shapes = [(*converter.target_size(*size), 3) for size in sizes]
        batches = self._batches(shapes, batch_size)
        order = [i for batch in batches for i in batch]
        predictions = [None] * len(photos)
        with ThreadPoolExecutor(1) as resizer:
            # It is ahead of the network by two batches: all of them would be too much to hold.
            inputs = ahead(
                resizer, lambda i: converter.convert(photos.take(i)), order, 2 * batch_size
            )
            for i, output in self._outputs_of_batches(batches, lambda _: next(inputs)):
                predictions[i] = with_source(self.postprocess(output, sizes[i]), images[i])
        return predictions

    def predict_stream(self, images, batch_size=4, errors="raise", **options):
        """Predict for any number of photos, one after the other, in bounded memory.

            for depth in model.predict_stream(Path("photos").glob("*.jpg")):
                depth.save(f"depth/{depth.source.stem}.png")

        Args:
            images: iterable of what `predict_image` takes. It is read a little ahead: `4 *
                batch_size` photos or 60 megapixels, whichever is less, are predicted together and
                at most three more are decoded.
            batch_size: the most images that go through the network at once.
            errors: what happens if an image cannot be read. "raise": its `ImageError` is raised
                when its turn comes. "return": the error is yielded in its place, and the iteration
                continues.
            **options: further arguments of `predict_images`.

        Returns:
            Iterator over predictions of the photos' sizes, in the order of `images`.

        Raises:
            TypeError, ValueError: an argument cannot be used; raised before anything is read.
            keras_dpt.ImageError: an image cannot be read, while iterating with `errors="raise"`.
        """
        if isinstance(images, str | bytes | os.PathLike) or not hasattr(images, "__iter__"):
            raise TypeError(
                "`predict_stream` takes an iterable of images, `predict_image` a single one. "
                f"Received: {type(images).__name__}."
            )
        if errors not in ("raise", "return"):
            raise ValueError(f"`errors` must be 'raise' or 'return'. Received: {errors!r}.")
        self.predict_images([], batch_size, **options)  # checks the options
        return self._stream(images, batch_size, errors, options)

    def _stream(self, images, batch_size, errors, options):
        for group in read_in_groups(images, 4 * batch_size):
            good = [photo for _, photo in group if not isinstance(photo, ImageError)]
            # From the end, so that what was handed out is held here no longer.
            predictions = self.predict_images(good, batch_size, **options)[::-1]
            del good
            for image, photo in group:
                if not isinstance(photo, ImageError):
                    yield with_source(predictions.pop(), image)
                elif errors == "return":
                    yield photo
                else:
                    raise photo
            group.clear()  # the reader holds it, too, while it reads the next one

    def converter_of_photos(self):
        """The preprocessor's `DPTImageConverter`, or a default one for this network."""
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
        batches = self._batches([x.shape for x in inputs], batch_size)
        return self._outputs_of_batches(batches, inputs.__getitem__)

    def _batches(self, shapes, batch_size):
        """Indices of equal shapes, in lists of at most `batch_size`; all shapes are checked."""
        check_size_of_network(self, shapes)
        return _batches(shapes, batch_size)

    def _outputs_of_batches(self, batches, get):
        """`network_outputs` of batches of indices, where `get(i)`, called in order, is input i."""
        for batch in batches:
            images = np.stack([get(i) for i in batch])
            with one_at_a_time(self):
                # Not `Task.predict_on_batch`: these images are already converted.
                outputs = (
                    outputs_alone(self, images)
                    if is_shared(self)
                    else keras.Model.predict_on_batch(self, images)
                )
            yield from zip(batch, np.asarray(outputs), strict=True)


def one_at_a_time(task):
    """A context in which no other thread predicts with this network, where that would go wrong.

    On JAX, Keras gives the network's state to each compiled step and takes it back afterwards; in
    between, it is deleted. On OpenVINO a compiled network has room for one request.
    """
    if keras.config.backend() not in ("jax", "openvino"):
        return nullcontext()
    with _locks_are_made:
        return _locks.setdefault(task.backbone, threading.RLock())


def check_images(images, batch_size):
    """Raise TypeError or ValueError for what `predict_images` cannot take."""
    if not isinstance(images, list | tuple):
        raise TypeError(
            "`predict_images` takes a list of images, `predict_image` a single one. Received: "
            f"{type(images).__name__}."
        )
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}.")


def with_source(prediction, image):
    """The prediction, told the name of its picture if it came from a file."""
    if not isinstance(image, str | os.PathLike) or not hasattr(prediction, "source"):
        return prediction  # a task of one's own may return a plain array
    return dataclasses.replace(prediction, source=image)


def _batches(shapes, batch_size):
    """Indices of equal shapes, in lists of at most `batch_size`."""
    buckets = {}
    for i, shape in enumerate(shapes):
        buckets.setdefault(shape, []).append(i)
    return [
        bucket[start : start + batch_size]
        for bucket in buckets.values()
        for start in range(0, len(bucket), batch_size)
    ]
