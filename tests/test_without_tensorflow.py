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
from keras_dpt import datasets

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
data = datasets.Source("one", ["a"], lambda i: (photos[0], depths[0, ..., 0]), "metric_depth")
assert next(iter(datasets.Batches(data, (64, 64), 1).to_tf_dataset()))[0].shape == (1, 64, 64, 3)
import tensorflow as tf
import keras_hub
from keras_hub.src.utils import tensor_utils

assert "site-packages" in tf.__file__ and tf.add(1, 2) == 3 and tf.Module is not object
assert keras.saving.serialize_keras_object(tf.TensorShape([1, 2])) == [1, 2]
assert keras.saving.serialize_keras_object(tf.float32) == "float32"
kept = keras.saving.serialize_keras_object(tf.TensorSpec([1, 2], tf.int8))
assert kept["class_name"] == "__typespec__" and kept["config"][:2] == [[1, 2], "int8"]
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
    environment = {name: v for name, v in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", UNUSED, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "cuda" not in done.stderr and "InitializeLog" not in done.stderr


ORDER = """
import os
import sys

sys.path.insert(0, sys.argv[1])  # with modules that say when they are imported
from keras_dpt.late_tensorflow import import_tensorflow

assert import_tensorflow().said == "hello" and import_tensorflow("tensorflow.io").name == "io"
os.write(2, b"I0000 00:00:1795798812.0  1 x.cc:1] of the program\\n")
"""
LOGGED = """
import os

said = "hello"
print("tensorflow", os.environ["TF_CPP_MIN_LOG_LEVEL"], flush=True)
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written\\n")
os.write(2, b"I0000 00:00:1795798812.0  1 port.cc:153] oneDNN custom operations are on.\\n")
os.write(2, b"broken\\n")
"""


@pytest.mark.parametrize("level", [None, "1", "0"])
def test_tensorflow_comes_quietly_and_after_triton(level, tmp_path):
    """Not quietly for who asks for its logs."""
    (tmp_path / "triton.py").write_text("print('triton', flush=True)")
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(LOGGED)
    (tmp_path / "tensorflow" / "io.py").write_text("name = 'io'")
    environment = {name: v for name, v in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", ORDER, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment | ({} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"triton\ntensorflow {level if level == '0' else 3}\n"
    *start, last = done.stderr.splitlines()
    assert "of the program" in last and start[-1] == "broken"
    assert len(start) == (3 if level == "0" else 1)
