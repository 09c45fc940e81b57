"""The data sets themselves, against what is known of them; `DATA` names their folder."""

import os
from pathlib import Path

import numpy as np
import pytest

from keras_dpt import datasets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("DATA" not in os.environ, reason="make test-slow DATA=folder"),
]


@pytest.fixture(scope="module")
def root():
    return Path(os.environ["DATA"])


def test_nyuv2(root):
    assert len(datasets.nyuv2(root / "nyuv2", "train")) == 795
    source = datasets.nyuv2(root / "nyuv2", "val")
    assert len(source) == 329 and datasets.check(source.subset(slice(None, None, 20))) == {}
    # The training set's median as the answer for every pixel scores 0.429.
    errors = [np.abs(2.57 - s.target[s.valid]) / s.target[s.valid] for s in source]
    assert np.mean([error.mean() for error in errors]) == pytest.approx(0.429, abs=0.002)
    labels = datasets.nyuv2(root / "nyuv2", "val", target="labels").subset(slice(None, None, 8))
    assert np.mean([s.valid.mean() for s in labels]) == pytest.approx(0.82, abs=0.03)


def test_camvid(root):
    assert len(datasets.camvid(root / "camvid", "train")) == 367
    source = datasets.camvid(root / "camvid", "val")
    assert len(source) == 163
    counts = sum(np.bincount(s.target[s.valid], minlength=11) for s in source)
    shares = [0.14, 0.23, 0.007, 0.25, 0.08, 0.19, 0.008, 0.02, 0.05, 0.008, 0.016]
    np.testing.assert_allclose(counts / counts.sum(), shares, atol=0.012)


def test_cross_checks(root):
    source = datasets.depth_misc(root / "depth_misc")
    assert len(source) == 55 and datasets.check(source) == {}
    laser = [i for i, name in enumerate(source.ids) if name.startswith("kitti_obj")]
    known = np.mean([s.valid.mean() for s in source.subset(laser)])
    assert len(laser) == 5 and known == pytest.approx(0.22, abs=0.03)
    stereo = datasets.middlebury(root / "middlebury")
    assert len(stereo) == 7 and datasets.check(stereo) == {}


def test_mixed_batches(root):
    sources = [datasets.nyuv2(root / "nyuv2", "train"), datasets.depth_misc(root / "depth_misc")]
    sources.append(datasets.middlebury(root / "middlebury"))
    for image, target, weight in datasets.Batches(sources, (96, 128), 8, steps_per_epoch=12):
        assert np.isfinite(image).all() and np.isfinite(target).all()
        assert (target[..., 0][weight > 0] > 0).all() and (target[..., 0][weight == 0] == 0).all()
        assert weight.mean() > 0.5
