import functools

import keras
import numpy as np
import pytest
from contracts import differentiable
from keras import ops

from keras_dpt.ops.resize import resize_bilinear

SIZES = [
    # (from height, width), (to height, width)
    ((2, 3), (4, 6)),
    ((5, 7), (10, 14)),
    ((7, 5), (13, 10)),  # an odd grid, one side not doubled
    ((8, 9), (3, 4)),
    ((1, 4), (3, 1)),
    ((24, 24), (22, 76)),  # ViT positions for KITTI
    ((96, 65), (192, 130)),  # in bands, the last of which is cut
    ((100, 70), (133, 64)),
]


def maps(height, width, channels=3, batch=2):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, (batch, height, width, channels)).astype("float32")


def resize(x, size, align_corners):
    return ops.convert_to_numpy(resize_bilinear(ops.convert_to_tensor(x), size, align_corners))


def torch_resize(x, size, align_corners, dtype="float64"):
    torch = pytest.importorskip("torch")
    y = torch.nn.functional.interpolate(
        torch.from_numpy(x.astype(dtype)).permute(0, 3, 1, 2),
        size,
        mode="bilinear",
        align_corners=align_corners,
    )
    return y.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    "values, align_corners, expected",
    [
        ([0, 10], True, [0, 5, 10]),
        ([0, 2, 6], True, [0, 1, 2, 4, 6]),
        ([1, 2, 3, 4], True, [1, 4]),
        ([3, 9], True, [3]),
        ([7], True, [7, 7, 7]),
        ([0, 10], False, [0, 2.5, 7.5, 10]),
        ([0, 1, 2, 3], False, [0.5, 2.5]),  # no antialiasing: every other pair is averaged
        ([0, 3, 6], False, [3]),
        ([7], False, [7, 7, 7]),
    ],
)
def test_by_hand(values, align_corners, expected):
    values, expected = np.array(values, "float32"), np.array(expected, "float32")
    x = values[:, None] + 100 * values[None, :]  # both axes at once
    result = resize(x[None, :, :, None], (len(expected), len(expected)), align_corners)
    np.testing.assert_allclose(result[0, :, :, 0], expected[:, None] + 100 * expected, rtol=1e-6)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("source, target", SIZES)
def test_equals_float64(source, target, align_corners):
    x = maps(*source)
    expected = torch_resize(x, target, align_corners)
    result = resize(x, target, align_corners)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=0, atol=5e-7)


def test_more_exact_than_float32_steps():
    x = maps(192, 12, channels=1, batch=1)
    exact = torch_resize(x, (384, 24), True)
    error = np.abs(resize(x, (384, 24), True) - exact).max()
    assert error < 5e-7
    assert error < np.abs(torch_resize(x, (384, 24), True, "float32") - exact).max() / 10


@pytest.mark.parametrize("align_corners", [True, False])
def test_same_size_changes_nothing(align_corners):
    x = maps(5, 6)
    np.testing.assert_array_equal(resize(x, (5, 6), align_corners), x)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_keeps_half_precision(dtype):
    x = maps(4, 6)
    result = resize_bilinear(ops.cast(ops.convert_to_tensor(x), dtype), (8, 12), True)
    assert keras.backend.standardize_dtype(result.dtype) == dtype
    result = ops.convert_to_numpy(ops.cast(result, "float32"))
    np.testing.assert_allclose(result, resize(x, (8, 12), True), atol=2e-2)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("source, target", [SIZES[2], SIZES[3]])
def test_gradient(source, target, align_corners):
    # Resizing is linear: the gradient of <weights, resize(x)> at any point gives the same product
    # with any other x as <weights, resize(other x)>.
    weights = np.random.default_rng(1).normal(size=(2, *target, 3)).astype("float32")

    def product(x):
        return ops.sum(ops.multiply(resize_bilinear(x, target, align_corners), weights))

    _, gradient = differentiable(product)(maps(*source))
    other = np.random.default_rng(2).normal(size=(2, *source, 3)).astype("float32")
    expected = np.sum(weights.astype("float64") * torch_resize(other, target, align_corners))
    np.testing.assert_allclose(np.sum(gradient.astype("float64") * other), expected, rtol=1e-5)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="only TensorFlow has such sizes")
@pytest.mark.parametrize("unknown", [(None, 70), (70, None)])
def test_one_side_known_at_run_time(unknown):
    import tensorflow as tf

    @functools.partial(tf.function, input_signature=[tf.TensorSpec((None, *unknown, 3))])
    def double(x):
        _, height, width, _ = ops.shape(x)
        return resize_bilinear(x, (2 * height, 2 * width), align_corners=True)

    x = maps(70, 70)
    np.testing.assert_allclose(double(x), torch_resize(x, (140, 140), True), atol=5e-7)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="only TensorFlow has such sizes")
@pytest.mark.parametrize("align_corners", [True, False])
def test_sizes_known_at_run_time(align_corners):
    import tensorflow as tf

    @functools.partial(
        tf.function,
        input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((2,), "int32")],
    )
    def dynamic(x, size):
        return resize_bilinear(x, (size[0], size[1]), align_corners)

    for source, target in [*SIZES, ((4, 4), (4, 4))]:
        x = maps(*source)
        result = dynamic(x, target).numpy()
        np.testing.assert_allclose(result, resize(x, target, align_corners), rtol=0, atol=5e-7)
