"""On JAX and PyTorch, TensorFlow can be absent: keras-hub does not bring it to Windows."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
import tiny

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


UNUSED = """
import sys

sys.path.insert(0, sys.argv[1])
import keras
import numpy as np
import tiny

photos, depths = np.stack(tiny.photos(4)), np.random.default_rng(0).uniform(1, 5, (4, 64, 64, 1))
model = tiny.depth(preprocessor=tiny.preprocessor())
model.backbone.trainable = False
model.compile(loss="mae")
model.predict(photos, batch_size=2, verbose=0)
model.predict_image(photos[0])
model.fit(photos, depths, batch_size=2, verbose=0)
model = type(model).from_preset(sys.argv[2])
model.predict_image(photos[0])
model.save_to_preset(sys.argv[3] + "/preset")
model.backbone.save_to_preset(sys.argv[3] + "/backbone")
model.save(sys.argv[3] + "/model.keras")
keras.saving.load_model(sys.argv[3] + "/model.keras")
assert keras.saving.serialize_keras_object(np.arange(2))["class_name"] == "__numpy__"
loaded = [name for name in sys.modules if name.startswith("tensorflow")]
print(loaded)

# And whoever wants it later has it, keras-hub's tokenizers included.
import tensorflow as tf
import keras_hub
from keras_hub.src.utils import tensor_utils

assert "site-packages" in tf.__file__ and tf.add(1, 2) == 3 and tf.Module is not object
assert keras.saving.serialize_keras_object(tf.TensorShape([1, 2])) == [1, 2]
assert keras.saving.serialize_keras_object(tf.float32) == "float32"
kept = keras.saving.serialize_keras_object(tf.TensorSpec([1, 2], tf.int8))
assert keras.saving.deserialize_keras_object(kept) == tf.TensorSpec([1, 2], tf.int8)
assert tensor_utils.tf.Tensor is tf.Tensor and tensor_utils.is_tensor_type(tf.constant(1))
assert list(keras_hub.tokenizers.ByteTokenizer()("hi")[:2]) == [104, 105]
data = tf.data.Dataset.from_tensor_slices(["bat sat pat mat rat"])
words = keras_hub.tokenizers.compute_word_piece_vocabulary(data, 13)
assert "sat" in words or "##at" in words
texts = tf.data.Dataset.from_tensor_slices(["hi"]).map(keras_hub.tokenizers.ByteTokenizer())
assert next(iter(texts)).numpy()[:2].tolist() == [104, 105]
assert model.predict(photos, verbose=0).shape == (4, 64, 64, 1)
"""


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="is TensorFlow")
def test_tensorflow_is_imported_when_somebody_needs_it(tmp_path):
    pytest.importorskip("tensorflow_text")
    tiny.depth(preprocessor=tiny.preprocessor()).save_to_preset(str(tmp_path / "preset"))
    arguments = [str(Path(__file__).parent), str(tmp_path / "preset"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", UNUSED, *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


ORDER = """
import os
import sys

sys.path.insert(0, sys.argv[1])  # with a Triton that notices what was there before it
import numpy as np

from keras_dpt import datasets

image, depth = np.zeros((32, 32, 3), "uint8"), np.ones((32, 32))
source = datasets.Source("one", ["a"], lambda i: (image, depth), "metric_depth")
assert "tensorflow" not in sys.modules
batches = datasets.Batches(source, (32, 32), 1).to_tf_dataset()
assert next(iter(batches))[0].shape == (1, 32, 32, 3)
os.write(2, b"of the program\\n")
"""


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="is TensorFlow")
def test_tensorflow_is_imported_quietly_and_after_triton(tmp_path):
    pytest.importorskip("tensorflow")
    (tmp_path / "triton.py").write_text(
        "import sys\nprint('triton', 'after' if 'tensorflow' in sys.modules else 'before')\n"
    )
    environment = {name: v for name, v in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", ORDER, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "triton before\n"
    assert done.stderr == "of the program\n"
