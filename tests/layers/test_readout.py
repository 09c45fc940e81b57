import math

import numpy as np
import pytest
import tiny
from contracts import arrays, check_layer
from keras import ops

from keras_dpt.layers.readout import ReadAdd, ReadIgnore, ReadProject, make_readout

from .reference import weights


def tokens(height, width, prefixes=1, dim=8):
    rng = np.random.default_rng(height)
    return (
        rng.normal(size=(2, height, width, dim)).astype("float32"),
        rng.normal(size=(2, prefixes, dim)).astype("float32"),
    )


@pytest.mark.parametrize("mode", ["project", "add", "ignore"])
def test_contract(mode, tmp_path):
    layer = make_readout(mode, 8)
    layer(*tokens(4, 6))
    check_layer(tiny.randomize(layer), [tokens(4, 6), tokens(3, 5)], tmp_path)


def test_project_is_one_matrix_on_token_and_class_token():
    layer = ReadProject(8)
    layer.build((None, None, None, 8), (None, 1, 8))
    w = weights(tiny.randomize(layer))
    x, prefix = tokens(3, 4)
    class_token = np.broadcast_to(prefix[:, None], x.shape)
    matrix = np.concatenate([w["token/kernel"], w["readout/kernel"]])
    y = np.concatenate([x, class_token], axis=-1) @ matrix + w["readout/bias"]
    expected = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    np.testing.assert_allclose(arrays(layer(x, prefix)), expected, atol=1e-5)


def test_add():
    x, prefix = tokens(3, 4)
    np.testing.assert_array_equal(arrays(ReadAdd()(x, prefix)), x + prefix[:, :, None])


def test_ignore():
    x, prefix = tokens(3, 4)
    np.testing.assert_array_equal(arrays(ReadIgnore()(x, np.full_like(prefix, np.nan))), x)


@pytest.mark.parametrize("mode", ["project", "add"])
def test_only_the_first_prefix_is_the_class_token(mode):
    layer = make_readout(mode, 8)
    x, prefix = tokens(3, 4, prefixes=3)
    expected = arrays(layer(x, prefix[:, :1]))
    np.testing.assert_allclose(arrays(layer(x, prefix)), expected, atol=1e-6)


def test_unknown_mode():
    with pytest.raises(ValueError, match="one of .*project.*Received: 'cat'"):
        make_readout("cat", 8)


def test_class_token_of_one_image_stays_there():
    layer = make_readout("project", 8)
    x, prefix = tokens(3, 4)
    alone = [arrays(layer(x[i : i + 1], prefix[i : i + 1])) for i in range(2)]
    together = arrays(layer(ops.convert_to_tensor(x), ops.convert_to_tensor(prefix)))
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)
