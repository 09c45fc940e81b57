import keras
import numpy as np
import pytest
from keras import ops

from keras_dpt.ops.bicubic import resize_bicubic


def table(height=5, width=4, channels=3):
    return np.random.default_rng(0).normal(size=(1, height, width, channels)).astype("float32")


def torch_bicubic(x, size, offset, antialias=False):
    """PyTorch's in float64, as DINOv2's authors call it."""
    torch = pytest.importorskip("torch")
    y = torch.from_numpy(x.astype("float64")).permute(0, 3, 1, 2)
    options = {"mode": "bicubic", "align_corners": False, "antialias": antialias}
    if offset:
        factors = [(side + offset) / old for side, old in zip(size, x.shape[1:3], strict=True)]
        y = torch.nn.functional.interpolate(
            y, scale_factor=factors, recompute_scale_factor=False, **options
        )
    else:
        y = torch.nn.functional.interpolate(y, size=size, **options)
    return y.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("offset", [0.0, 0.1])
@pytest.mark.parametrize("size", [(8, 9), (3, 2), (5, 7), (10, 4), (4, 5), (1, 1), (37, 52)])
def test_equals_pytorchs(size, offset, antialias):
    x = table()
    if antialias and offset and (size[0] == x.shape[1] or size[1] == x.shape[2]):
        pytest.skip("PyTorch leaves an axis whose size stays as it is, whatever the offset")
    y = ops.convert_to_numpy(resize_bicubic(ops.convert_to_tensor(x), size, offset, antialias))
    np.testing.assert_allclose(y, torch_bicubic(x, size, offset, antialias), atol=3e-6)


@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_the_same_size_is_left_alone(offset):
    x = ops.convert_to_tensor(table())
    assert resize_bicubic(x, (5, 4), offset) is x


def test_the_offset_matters():
    x = ops.convert_to_tensor(table())
    with_it, without = (
        ops.convert_to_numpy(resize_bicubic(x, (5, 7), offset)) for offset in (0.1, 0.0)
    )
    assert np.abs(with_it - without).max() > 0.01


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="others know every size")
@pytest.mark.parametrize("offset, antialias", [(0.0, False), (0.1, False), (0.0, True)])
def test_sizes_known_at_run_time_only(offset, antialias):
    import tensorflow as tf

    x = table()

    @tf.function(input_signature=[tf.TensorSpec((2,), tf.int32)])
    def resized(size):
        return resize_bicubic(tf.constant(x), (size[0], size[1]), offset, antialias)

    for size in ((8, 9), (3, 2), (5, 7), (37, 52)):
        expected = torch_bicubic(x, size, offset, antialias)
        np.testing.assert_allclose(resized(tf.constant(size)).numpy(), expected, atol=2e-5)
    same = resized(tf.constant((5, 4))).numpy()
    np.testing.assert_allclose(same, x, atol=1e-6 if antialias else 0)
