"""The head of a network that starts from random weights, without its backbone."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_dpt.layers import heads
from keras_dpt.training import lift_outputs, linear_head


class Model:
    """A depth head alone: photos of one size, scaled, are its input."""

    def __init__(self):
        self.head = heads.DepthHead((6, 4))
        self.train_function = self.test_function = self.predict_function = "compiled"
        self.batches = []
        self.head(np.zeros((1, 4, 4, 3), "float32"))
        rng = np.random.default_rng(0)
        for variable in self.head.trainable_variables:
            variable.assign(rng.normal(0, 0.5, tuple(variable.shape)).astype("float32"))

    def predict_images(self, images, batch_size):
        self.batches.append((len(images), batch_size))
        values = keras.ops.convert_to_numpy(self.head(np.stack(images).astype("float32") / 255))
        # Not a `DepthMap`, which refuses values below 0.
        return [SimpleNamespace(values=x[..., 0]) for x in values]


PHOTOS = list(np.random.default_rng(1).integers(0, 256, (19, 4, 4, 3)).astype("uint8"))


def outputs(model, photos=PHOTOS):
    return np.stack([x.values for x in model.predict_images(photos, 16)])


@pytest.fixture
def model():
    return Model()


def test_the_activation_is_linear_inside_only(model):
    conv = model.head.conv3
    before = conv.activation
    with pytest.raises(KeyError), linear_head(model):
        assert conv.activation is keras.activations.linear
        assert model.train_function is model.test_function is model.predict_function is None
        model.train_function = model.test_function = model.predict_function = "compiled"
        raise KeyError
    assert conv.activation is before is keras.activations.relu
    assert model.train_function is model.test_function is model.predict_function is None


@pytest.mark.compiles_long
def test_outputs_are_scaled_and_lifted(model):
    with linear_head(model):
        model.head.conv3.bias.assign([-3.0])
        before = outputs(model)
        model.batches.clear()
        scale, lift = lift_outputs(model, iter(PHOTOS))
        after = outputs(model)
    assert model.batches[:2] == [(16, 16), (3, 16)]
    spread = np.median(np.ptp(before, axis=(1, 2)))
    assert before.min() < 0 and scale == pytest.approx(50 / spread, rel=1e-4)
    assert lift == pytest.approx(-scale * before.min(), rel=1e-4)
    np.testing.assert_allclose(after, scale * before + lift, rtol=1e-3, atol=1e-3)
    assert after.min() == pytest.approx(0, abs=1e-3)


@pytest.mark.compiles_long
def test_outputs_above_zero_are_not_lifted(model):
    with linear_head(model):
        model.head.conv3.bias.assign([1e3])
        before = outputs(model)
        scale, lift = lift_outputs(model, PHOTOS)
        assert lift == 0 and before.min() > 0
        np.testing.assert_allclose(outputs(model), scale * before, rtol=1e-3)


def test_the_three_convolutions_share_the_factor(model):
    """Alone, the last one would have weights of another magnitude than the others."""
    kernels = [conv.get_weights()[0] for conv in convolutions(model)]
    with linear_head(model):
        scale, _ = lift_outputs(model, PHOTOS)
    for before, conv in zip(kernels, convolutions(model), strict=True):
        np.testing.assert_allclose(conv.get_weights()[0], before * scale ** (1 / 3), rtol=1e-5)


def convolutions(model):
    return model.head.conv1, model.head.conv2, model.head.conv3
