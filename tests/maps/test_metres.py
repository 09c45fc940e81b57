"""Known distances in millimetres are noticed, not clipped."""

import numpy as np
import pytest

from keras_dpt.errors import DepthError
from keras_dpt.maps.depth_map import DepthMap

DEPTH = np.linspace(1.5, 3.0, 48 * 64).reshape(48, 64)
RELATIVE = DepthMap(1 / DEPTH, "relative_inverse_depth")
SPARSE = np.where(np.arange(48 * 64).reshape(48, 64) % 50 == 0, DEPTH, 0)


def points(factor):
    return [(r, c, factor * DEPTH[r, c]) for r, c in ((0, 0), (20, 5), (47, 63))]


@pytest.mark.parametrize(
    "known",
    [
        {"points": points(1000)},
        {"depth": 1000 * DEPTH},
        {"depth": (1000 * DEPTH).astype("uint16")},
        {"depth": 1000 * SPARSE},
        {"depth": np.where(SPARSE > 0, 1000 * SPARSE, np.nan)},
        {"depth": np.ma.masked_equal(1000 * SPARSE, 0)},
        {"depth": np.where(SPARSE > 0, 1000 * DEPTH, 2), "mask": SPARSE > 0},
    ],
)
def test_millimetres_are_refused(known):
    message = r"did you mean metres\? Received: 15\d\d.* to .*Divide millimetres by 1000 \(1\.5"
    with pytest.raises(DepthError, match=message):
        RELATIVE.to_metric(**known)


@pytest.mark.parametrize("known", [{"points": points(1)}, {"depth": DEPTH}, {"depth": SPARSE}])
def test_metres_are_taken(known, caplog):
    np.testing.assert_allclose(RELATIVE.to_metric(**known), DEPTH, rtol=1e-4)
    assert not caplog.records


def test_far_scenes_are_taken_with_max_depth(caplog):
    far = RELATIVE.to_metric(points=points(1000), max_depth=5000)
    np.testing.assert_allclose(far, 1000 * DEPTH, rtol=1e-4)


def test_a_few_beyond_and_small_millimetres_are_said(caplog):
    RELATIVE.to_metric(depth=np.where(np.arange(64) == 3, 65535, DEPTH), method="ransac")
    assert "48 of 3072 known depths are beyond max_depth, 1000 m (up to 65535)" in caplog.text
    caplog.clear()
    RELATIVE.to_metric(depth=np.rint(200 * DEPTH))
    assert "whole numbers from 300 to 600" in caplog.text


def test_a_fit_that_clips_most_of_the_map_is_said(caplog):
    metric = RELATIVE.to_metric(points=[(0, 0, 1.5), (1, 0, 40.0), (2, 0, 900.0)])
    assert (metric.values == 1000).mean() > 0.5
    assert "of the map is at max_depth, 1000 m, or behind" in caplog.text


def test_a_metric_map_of_millimetres_is_said(caplog):
    DepthMap(1000 * DEPTH, "metric_depth")
    assert "Metric depth is in metres: divide millimetres by 1000" in caplog.text
    caplog.clear()
    DepthMap(np.where(DEPTH > 2.9, 1e4, DEPTH), "metric_depth")  # sky
    assert not caplog.records


def test_the_command_line_looks_before_the_network_runs():
    from keras_dpt.cli.points import _check_known

    with pytest.raises(DepthError, match="--known: did you mean metres"):
        _check_known([(0, 0, 3000.0), (40, 63, 1500.0)], 48, 64)
    _check_known([(0, 0, 3.0), (40, 63, 1.5)], 48, 64)
