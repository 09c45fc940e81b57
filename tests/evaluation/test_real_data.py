"""The protocols of the embedded presets on the data they were made for."""

import os
from pathlib import Path

import numpy as np
import pytest

import keras_dpt
from keras_dpt import datasets, evaluation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("DATA" not in os.environ, reason="make test-slow DATA=folder"),
]


def test_nyuv2_val_is_what_a_few_lines_measure():
    """AbsRel and delta written out by hand against the protocol, on some frames."""
    source = datasets.nyuv2(Path(os.environ["DATA"]) / "nyuv2", "val")
    model = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2")
    result = evaluation.evaluate(model, source, "nyuv2_val", limit=8)
    scores = []
    for record in result.records:
        sample = source[source.ids.index(record["id"])]
        depth = np.rint(sample.target * 1000).astype("uint16")
        valid, truth = depth > 0, depth[depth > 0] / 1000.0
        prediction = model.predict_image(sample.image).values[valid]
        scale, shift = keras_dpt.align_scale_shift(prediction, 1 / truth)
        metres = 1 / np.maximum(scale * prediction + shift, 1 / 10.0)
        ratio = np.maximum(metres / truth, truth / metres)
        scores.append((np.mean(np.abs(metres - truth) / truth), np.mean(ratio < 1.25)))
    abs_rel, d1 = np.mean(scores, axis=0)
    assert result.metrics["abs_rel"] == pytest.approx(abs_rel, rel=1e-5)
    assert result.metrics["d1"] == pytest.approx(d1, abs=1e-4)


@pytest.mark.parametrize(
    ("protocol", "reader", "arguments", "images"),
    [
        ("nyuv2_val", datasets.nyuv2, ("val",), 329),
        ("depth_misc", datasets.depth_misc, (), 55),
        ("middlebury", datasets.middlebury, (), 7),
        ("camvid_val", datasets.camvid, ("val",), 163),
    ],
)
def test_the_sets_fit_their_protocols(protocol, reader, arguments, images):
    folder = Path(os.environ["DATA"]) / protocol.removesuffix("_val")
    source, protocol = reader(folder, *arguments), evaluation.get_protocol(protocol)
    protocol.check_kind(source)
    protocol.check_count(source)
    assert len(source) == images
    for i in range(0, images, 7):
        protocol.check_size(source.ids[i], source[i].image.shape[:2])
        protocol.group_of(source.ids[i])
