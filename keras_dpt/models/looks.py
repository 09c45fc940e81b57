"""Labels of a photo from several looks at it: in other sizes, mirrored, window by window."""

from numbers import Real

import numpy as np

from keras_dpt.models.labelling import label_pixels, linear_weights, resized_tiles
from keras_dpt.models.photos import Photos
from keras_dpt.models.predict import check_images, with_source
from keras_dpt.models.windows import check_side, windows

# Multi-scale inference of the paper, together with flipping.
LARGEST_SCALE = 16  # memory grows with its square
PAPER_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


class SeveralLooks:
    """Mixin of a task whose `label_map(labels, confidence)` makes the result for a photo."""

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
        numbers = all(isinstance(scale, Real) for scale in scales)
        if not scales or not numbers or not all(0 < scale <= LARGEST_SCALE for scale in scales):
            raise ValueError(
                f"`scales` must be numbers above 0, at most {LARGEST_SCALE}. Received: {scales}."
            )
        check_side(sliding_window, self.backbone.size_multiple)
        if scales == (1.0,) and not flip and sliding_window is None:
            return super().predict_images(images, batch_size)
        check_images(images, batch_size)
        looks = (self._look(x, batch_size, scales, flip, sliding_window) for x in Photos(images))
        return [with_source(look, image) for look, image in zip(looks, images, strict=True)]

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
        return self.label_map(labels, confidence)

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
