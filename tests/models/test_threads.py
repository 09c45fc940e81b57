"""Predictions from many threads are those of one."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny

import keras_dpt

SIZES = [(48, 64), (64, 48), (40, 40)]


@pytest.fixture(scope="module")
def photos():
    """32 photos of three sizes."""
    return [tiny.photos(1, *SIZES[i % 3], seed=i)[0] for i in range(32)]


def fresh(task):
    if task == "depth":
        return tiny.depth(preprocessor=tiny.preprocessor((32, 32)))
    preprocessor = keras_dpt.DPTSegmentationPreprocessor(keras_dpt.DPTImageConverter((32, 32)))
    return tiny.randomize(keras_dpt.DPTSegmentation(tiny.backbone(), 3, preprocessor))


def in_threads(work, items, count=4):
    """Results of `work`, all threads starting with their first item at once."""
    start = threading.Barrier(count)

    def share(first):
        start.wait()
        return [work(item) for item in items[first::count]]

    with ThreadPoolExecutor(count) as threads:
        shares = list(threads.map(share, range(count)))
    return [shares[i % count][i // count] for i in range(len(items))]


@pytest.mark.parametrize("task", ["depth", "segmentation"])
def test_predict_image_and_the_race_to_compile(task, photos):
    model = fresh(task)  # the first calls come from all threads
    results = in_threads(model.predict_image, photos)
    for result, photo in zip(results, photos, strict=True):
        assert result.shape == photo.shape[:2]
        np.testing.assert_allclose(result, model.predict_image(photo), rtol=1e-5, atol=1e-5)


def test_predict_images(photos):
    model = fresh("depth")
    groups = [photos[i : i + 4] for i in range(0, 32, 4)]
    results = in_threads(lambda group: model.predict_images(group, batch_size=2), groups)
    for group, maps in zip(groups, results, strict=True):
        for ours, theirs in zip(maps, model.predict_images(group, batch_size=2), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_predict(photos):
    model = fresh("depth")
    batches = [np.stack(photos[i : i + 7 : 3]) for i in range(0, 24, 2)]
    results = in_threads(lambda x: model.predict(x, batch_size=2, verbose=0), batches)
    for batch, result in zip(batches, results, strict=True):
        expected = model.predict(batch, batch_size=2, verbose=0)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_tasks_that_share_a_backbone(photos):
    relative = fresh("depth")
    config = relative.get_config() | {"backbone": relative.backbone}
    config |= {"preprocessor": relative.preprocessor}
    config |= {"kind": "metric_depth", "scale": 0.01, "shift": 0.1}
    metric = keras_dpt.DPTDepth(**config)
    metric.head.set_weights(relative.head.get_weights())
    models = [relative, metric]
    work = list(zip(models * 8, photos[:16], strict=True))
    results = in_threads(lambda pair: pair[0].predict_image(pair[1]), work)
    for (model, photo), result in zip(work, results, strict=True):
        np.testing.assert_allclose(result, model.predict_image(photo), rtol=1e-5, atol=1e-5)
