"""On JAX and PyTorch, TensorFlow can be absent: keras-hub does not bring it to Windows."""

import subprocess
import sys
from pathlib import Path

import keras
import pytest

SCRIPT = """
import sys

sys.path.insert(0, sys.argv[1])
for name in ("tensorflow", "tensorflow_text", "grain"):
    sys.modules[name] = None  # whoever imports it gets an ImportError

import keras
import numpy as np
import tiny

photos, depths = np.stack(tiny.photos(4)), np.random.default_rng(0).uniform(1, 5, (4, 64, 64, 1))
model = tiny.depth(preprocessor=tiny.preprocessor())
model.backbone.trainable = False  # quicker to compile
model.compile(keras.optimizers.Adam(1e-3), "mae")
before = model.predict(photos, batch_size=2, verbose=0)
image = model.predict_image(photos[0]).values
model.fit(photos, depths, batch_size=2, validation_data=(photos, depths), verbose=0)
scores = model.evaluate(photos, depths, batch_size=2, verbose=0, return_dict=True)
after = model.predict(photos, verbose=0)
model.save(sys.argv[2])
loaded = keras.saving.load_model(sys.argv[2])

assert before.shape == (4, 64, 64, 1) and image.shape == photos.shape[1:3]
assert np.isfinite(scores["loss"]) and np.abs(after - before).max() > 0
np.testing.assert_array_equal(loaded.predict(photos, verbose=0), after)
"""


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="is TensorFlow")
def test_everything_but_tf_data_works(tmp_path):
    arguments = [str(Path(__file__).parent), str(tmp_path / "model.keras")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
