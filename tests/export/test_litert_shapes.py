"""LiteRT's interpreter is not trusted with a second shape; a pretended one shows what is asked."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from keras_dpt.export import load_exported, runtimes


class Interpreter:
    """Doubles its input; like the real one, wrong once its input has grown."""

    made = 0

    def __init__(self, model_path, num_threads):
        Interpreter.made += 1
        self.shapes = [(1, 32, 32, 3)]

    def get_input_details(self):
        return [{"index": 0, "shape": np.array(self.shapes[-1])}]

    def get_output_details(self):
        return [{"index": 1}]

    def resize_tensor_input(self, index, shape, strict):
        self.shapes.append(shape)

    def allocate_tensors(self):
        pass

    def set_tensor(self, index, images):
        assert images.shape == self.shapes[-1]
        self.images = images

    def invoke(self):
        self.output = 2 * self.images if len(self.shapes) <= 2 else self.images

    def get_tensor(self, index):
        return self.output


@pytest.fixture
def run(monkeypatch, tmp_path):
    module = SimpleNamespace(Interpreter=Interpreter)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", SimpleNamespace(interpreter=module))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    monkeypatch.setattr(runtimes, "check_packages", lambda *_: None)
    monkeypatch.setattr(Interpreter, "made", 0)
    (tmp_path / "network.tflite").touch()
    return load_exported(tmp_path / "network.tflite", "litert")


def test_each_shape_has_an_interpreter_of_its_own(run):
    for shape in ((1, 32, 64, 3), (2, 32, 64, 3), (1, 64, 64, 3)):
        images = np.ones(shape, "float32")
        np.testing.assert_array_equal(run(images), 2 * images)
    assert Interpreter.made == 3


def test_a_shape_that_comes_again_at_once_keeps_its_interpreter(run):
    images = np.ones((1, 32, 32, 3), "float32")
    for _ in range(3):
        run(images)
    assert Interpreter.made == 1
