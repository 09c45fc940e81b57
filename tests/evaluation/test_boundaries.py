"""Scores of edges, by hand and against a slow definition."""

import numpy as np
import pytest

from keras_dpt import DepthMap
from keras_dpt.datasets import Sample
from keras_dpt.errors import DepthError
from keras_dpt.evaluation import boundary_scores, get_protocol
from keras_dpt.evaluation.boundaries import THRESHOLDS
from keras_dpt.evaluation.measure import measure

STEP = np.ones((4, 6))
STEP[:, 3:] = 2.0


def by_definition(prediction, truth, valid):
    """The scores, pixel by pixel."""
    weighted = np.zeros(3)
    for t in THRESHOLDS:
        precisions, recalls = [], []
        for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            counts = {"both": 0, "ours": 0, "theirs": 0}
            for row, column in np.ndindex(truth.shape):
                other = row + down, column + right
                if not (0 <= other[0] < truth.shape[0] and 0 <= other[1] < truth.shape[1]):
                    continue
                if not (valid[row, column] and valid[other]):
                    continue
                ours = prediction[other] / prediction[row, column] > t
                theirs = truth[other] / truth[row, column] > t
                counts["ours"] += ours
                counts["theirs"] += theirs
                counts["both"] += ours and theirs
            precisions.append(counts["both"] / max(counts["ours"], 1))
            recalls.append(counts["both"] / max(counts["theirs"], 1))
        p, r = np.mean(precisions), np.mean(recalls)
        weighted += t * np.array([p, r, 2 * p * r / (p + r) if p + r else 0])
    return weighted / THRESHOLDS.sum()


def test_like_the_definition_on_drawn_maps():
    rng = np.random.default_rng(5)
    truth = np.exp(rng.normal(0, 0.2, (9, 11)))
    prediction = truth * np.exp(rng.normal(0, 0.1, truth.shape))
    valid = rng.random(truth.shape) < 0.8
    scores = boundary_scores(np.where(valid, prediction, np.nan), truth, valid)
    expected = by_definition(prediction, truth, valid)
    assert list(scores.values()) == pytest.approx(expected, abs=1e-12)
    assert 0.05 < scores["boundary_f1"] < 0.95


def test_depth_and_inverse_depth_score_the_same():
    rng = np.random.default_rng(6)
    maps = np.exp(rng.normal(0, 0.3, (2, 8, 8)))
    assert boundary_scores(*maps) == pytest.approx(boundary_scores(*(1 / maps)))


def test_an_edge_one_pixel_beside_scores_nothing():
    perfect = boundary_scores(STEP, STEP)
    # One of the four sides has the edge: each is a quarter of the mean.
    assert perfect == pytest.approx(dict.fromkeys(perfect, 0.25))
    assert boundary_scores(np.roll(STEP, 1, axis=1)[:, 1:], STEP[:, 1:])["boundary_f1"] == 0


def test_truth_without_edges():
    flat = np.ones((4, 6))
    assert set(boundary_scores(flat, flat).values()) == {1.0}
    assert set(boundary_scores(STEP, flat).values()) == {0.0}


def test_middlebury_measures_edges_of_the_aligned_map_where_truth_is_known():
    rng = np.random.default_rng(7)
    truth = rng.uniform(10, 20, (9, 11)).astype("float32")
    predicted = 0.1 * truth - 0.4 + rng.normal(0, 0.02, truth.shape)
    valid = rng.random(truth.shape) < 0.8
    hidden = np.where(valid, truth, 900)  # would be an edge
    image = np.zeros((*truth.shape, 3), np.uint8)
    sample = Sample(image, hidden.astype("float32"), valid)
    map_ = DepthMap(predicted.astype("float32"), "relative_inverse_depth")
    values = measure(get_protocol("middlebury"), sample, map_).values
    scale, shift = np.polyfit(map_.values[valid], truth[valid], 1)
    aligned = np.maximum(scale * map_.values + shift, truth[valid].min())
    expected = by_definition(aligned, truth, valid)
    names = "boundary_precision", "boundary_recall", "boundary_f1"
    assert [values[name] for name in names] == pytest.approx(expected, abs=1e-6)
    assert 0.1 < expected[2] < 0.99


@pytest.mark.parametrize(
    ("prediction", "truth", "word"),
    [
        (np.ones((2, 3)), np.ones((3, 2)), "Received: (2, 3), (3, 2)"),
        (np.zeros((2, 3)), np.ones((2, 3)), "above 0"),
        (np.ones(4), np.ones(4), "(H, W)"),
    ],
)
def test_what_cannot_be_compared_is_refused(prediction, truth, word):
    with pytest.raises(DepthError) as error:
        boundary_scores(prediction, truth)
    assert word in str(error.value)
