"""Pictures of one measured image."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_dpt.datasets import Sample
from keras_dpt.evaluation import PROTOCOLS
from keras_dpt.evaluation.drawing import error_picture, panels
from keras_dpt.evaluation.measure import Measured, measure
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap

GREY = (205, 205, 205)
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (20, 30, 3)).astype("uint8")
TRUTH = RNG.uniform(1, 9, (20, 30)).astype("float32")
VALID = RNG.uniform(size=TRUTH.shape) < 0.8
SAMPLE = Sample(PHOTO, TRUTH, VALID)
MODEL = SimpleNamespace()


def pixels(pictures):
    return {name: np.asarray(picture) for name, picture in pictures.items()}


def test_errors_from_dark_to_bright():
    error = np.array([[0.0, 0.25, 0.5, 9.0, np.nan]])
    drawn = np.asarray(error_picture(Measured("counted", error=error)))
    values = np.array([[0.0, 0.25, 0.5, 0.5]], "float32")
    colors = DepthMap(values, "relative_inverse_depth").colorize("magma", 0.0, 0.5)
    np.testing.assert_array_equal(drawn[:, :4], np.asarray(colors))
    assert tuple(drawn[0, 4]) == GREY
    half = np.asarray(error_picture(Measured("counted", error=error), limit=0.25))
    np.testing.assert_array_equal(half[0, 1], drawn[0, 2])


@pytest.mark.parametrize("space", ["depth", "disparity"])
def test_truth_and_prediction_share_their_colours(space):
    protocol = PROTOCOLS["metric_depth" if space == "depth" else "aligned_disparity"]
    kind = "metric_depth" if space == "depth" else "relative_inverse_depth"
    predicted = TRUTH * RNG.uniform(0.5, 1.5, TRUTH.shape).astype("float32")
    measured = measure(protocol, SAMPLE, DepthMap(predicted, kind))
    drawn = pixels(panels(SAMPLE, measured, MODEL, space))
    assert list(drawn) == ["photo", "truth", "prediction", "error"]
    np.testing.assert_array_equal(drawn["photo"], PHOTO)
    low, high = np.percentile(TRUTH[VALID].astype("float64"), (2, 98))
    truth = np.asarray(DepthMap(TRUTH, kind).colorize(vmin=low, vmax=high))
    np.testing.assert_array_equal(drawn["truth"], np.where(VALID[..., None], truth, GREY))
    shown = DepthMap(measured.prediction.astype("float32"), kind).colorize(vmin=low, vmax=high)
    np.testing.assert_array_equal(drawn["prediction"], np.asarray(shown))
    np.testing.assert_array_equal(drawn["error"], np.asarray(error_picture(measured)))


def test_depth_is_the_default_and_a_part_that_was_not_shown_is_grey():
    measured = measure(PROTOCOLS["metric_depth"], SAMPLE, DepthMap(TRUTH, "metric_depth"))
    prediction = measured.prediction.copy()
    prediction[:5] = np.nan
    measured = Measured(
        "counted", truth=measured.truth, prediction=prediction, error=measured.error
    )
    default = pixels(panels(SAMPLE, measured, MODEL))
    for name, picture in pixels(panels(SAMPLE, measured, MODEL, "depth")).items():
        np.testing.assert_array_equal(default[name], picture)
    assert (default["prediction"][:5] == GREY).all()
    np.testing.assert_array_equal(
        default["prediction"][5:][VALID[5:]], default["truth"][5:][VALID[5:]]
    )


def test_a_constant_truth_has_a_colour_between():
    truth = np.full((4, 5), 3.0)
    measured = Measured("counted", truth=truth, prediction=2 * truth, error=np.ones((4, 5)))
    sample = Sample(PHOTO[:4, :5], truth, np.ones((4, 5), bool))
    drawn = pixels(panels(sample, measured, MODEL))
    flat = DepthMap(truth.astype("float32"), "metric_depth")
    expected = flat.colorize(vmin=3 * 0.9 - 1e-6, vmax=3 * 1.1 + 1e-6)
    np.testing.assert_array_equal(drawn["truth"], np.asarray(expected))


def test_labels_have_the_models_colours():
    palette = ((0, 0, 0), (250, 0, 0), (0, 0, 250))
    model = SimpleNamespace(class_names=("a", "b", "c"), palette=palette, ignore_index=255)
    truth = np.array([[0, 1, 2, 255, 1]])
    sample = Sample(PHOTO[:1, :5], truth, truth != 255)
    predicted = LabelMap(np.array([[0, 2, 2, 1, 1]]), model.class_names)
    measured = measure(PROTOCOLS["labels"], sample, predicted)
    drawn = pixels(panels(sample, measured, model))
    assert list(drawn) == ["photo", "truth", "prediction", "error"]
    black, red, blue = palette
    right, wrong = (232, 240, 236), (196, 44, 58)
    expected = {
        "truth": [black, red, blue, GREY, red],
        "prediction": [black, blue, blue, red, red],
        "error": [right, wrong, right, GREY, right],
    }
    for name, colors in expected.items():
        assert [tuple(color) for color in drawn[name][0]] == colors


def test_only_the_photo_of_what_was_not_measured():
    drawn = panels(SAMPLE, Measured("no_truth"), MODEL)
    assert list(drawn) == ["photo"]
