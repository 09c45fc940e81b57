"""Steps of prediction, with stand-ins for networks: quick on any backend."""

from types import SimpleNamespace

import numpy as np

from keras_dpt import DPTSegmentation
from keras_dpt.errors import ImageError
from keras_dpt.models.predict import PredictImages


class Means(PredictImages):
    """Its prediction is the photo's mean."""

    def predict_images(self, images, batch_size=1, **options):
        return [image.mean() for image in images]


def test_a_stream_keeps_the_order_of_its_images():
    photos = [np.full((2, 2, 3), value, "uint8") for value in (3, 1, 2, 9, 7, 8)]
    assert list(Means().predict_stream(photos, batch_size=1)) == [3, 1, 2, 9, 7, 8]


def test_an_image_that_cannot_be_read_keeps_its_place():
    photos = [np.full((2, 2, 3), 3, "uint8"), np.zeros(2), np.full((2, 2, 3), 1, "uint8")]
    first, error, last = Means().predict_stream(photos, errors="return")
    assert (first, last) == (3, 1) and isinstance(error, ImageError)


def test_a_label_map_has_what_the_model_knows_of_its_labels():
    model = SimpleNamespace(class_names=("a", "b"), palette=((1, 2, 3), (4, 5, 6)), ignore_index=7)
    found = DPTSegmentation.label_map(model, np.array([[0, 1]]), np.array([[0.75, 0.5]], "float32"))
    assert found.class_names == model.class_names and found.palette == model.palette
    assert found.ignore_index == 7
    np.testing.assert_array_equal(found.labels, [[0, 1]])
    np.testing.assert_array_equal(found.confidence, [[0.75, 0.5]])
