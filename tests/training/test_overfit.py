import os
from pathlib import Path

import pytest

from keras_dpt import DPTDepth, datasets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("DATA" not in os.environ, reason="make test-slow DATA=folder"),
]


def test_eight_pictures_are_learnt_by_heart():
    """From the embedded preset's weights: aligned error far below what it has on new pictures."""
    source = datasets.nyuv2(Path(os.environ["DATA"]) / "nyuv2", "val").subset(slice(0, 320, 40))
    batches = datasets.Batches(source, (64, 96), 8, augment=False)
    model = DPTDepth.from_preset("dpt_mini_nyuv2")
    model.preprocessor.image_size = (64, 96)
    model.compile(learning_rate=5e-4)
    before = model.evaluate(batches, return_dict=True, verbose=0)
    model.fit(batches, epochs=80, verbose=0)
    after = model.evaluate(batches, return_dict=True, verbose=0)
    assert before["abs_rel"] > 0.12
    assert after["abs_rel"] < 0.06
