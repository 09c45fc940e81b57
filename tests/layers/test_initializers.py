import keras
import numpy as np
import pytest
from keras import ops

from keras_dpt.layers.beit import ClassToken
from keras_dpt.layers.dinov2 import SwiGLU
from keras_dpt.layers.efficientnet import ConvNorm
from keras_dpt.layers.feature_fusion import FeatureFusion, ResidualConvUnit
from keras_dpt.layers.heads import DepthHead, SegmentationHead
from keras_dpt.layers.initializers import (
    HostTruncatedNormal,
    HostVarianceScaling,
    decoder_initializer,
    default_initializer,
)
from keras_dpt.layers.readout import ReadProject
from keras_dpt.layers.reassemble import Reassemble
from keras_dpt.layers.resnet import SymmetricConvNorm
from keras_dpt.layers.resnet_v2 import WeightStandardizedConv2D
from keras_dpt.layers.swin import PatchMerging
from keras_dpt.layers.transformer import MLP, Attention, PatchEmbedding, PositionEmbedding
from keras_dpt.layers.window_attention import CosineWindowAttention


@pytest.mark.parametrize(
    "ours, keras_own",
    [
        (default_initializer(), keras.initializers.GlorotUniform(1)),
        (decoder_initializer(), keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", 1)),
        (HostTruncatedNormal(stddev=0.02), keras.initializers.TruncatedNormal(0, 0.02, seed=1)),
    ],
    ids=["default", "decoder", "truncated"],
)
def test_distribution_is_that_of_keras(ours, keras_own):
    shape = (3, 3, 64, 32)
    a, b = (ops.convert_to_numpy(x(shape)) for x in (ours, keras_own))
    assert a.dtype == "float32" and a.shape == shape
    # 18,432 draws: means within four standard errors, spreads and extremes within a few per cent.
    assert abs(a.mean()) < 4 * b.std() / a.size**0.5
    assert a.std() == pytest.approx(b.std(), rel=0.03)
    assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=0.03)


def test_same_seed_same_values():
    for make in (HostVarianceScaling, HostTruncatedNormal):
        one, two, other = make(seed=1), make.from_config(make(seed=1).get_config()), make(seed=2)
        np.testing.assert_array_equal(one((4, 5)), two((4, 5)))
        assert np.any(ops.convert_to_numpy(one((4, 5))) != ops.convert_to_numpy(other((4, 5))))


def test_global_seed_is_obeyed():
    keras.utils.set_random_seed(3)
    one = default_initializer()((4, 5))
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(default_initializer()((4, 5)), one)


def test_half_precision():
    assert keras.backend.standardize_dtype(default_initializer()((4, 5), "bfloat16").dtype) == (
        "bfloat16"
    )


DENSE = 2.0, "fan_out"  # before a ReLU: ResNet's and EfficientNet's
GLOROT, TORCH = (1.0, "fan_avg"), (1 / 3, "fan_in")
STARTS = [
    (lambda: PatchEmbedding(8, 4), {"projection": GLOROT}),
    (lambda: Attention(8, 2), {"qkv": GLOROT, "projection": GLOROT}),
    (lambda: MLP(8, 12), {"dense1": GLOROT, "dense2": GLOROT}),
    (lambda: SwiGLU(8, 12), {"dense1": GLOROT, "dense2": GLOROT}),
    (lambda: ReadProject(8), {"token": GLOROT, "readout": GLOROT}),
    (lambda: Reassemble(8, 2), {"projection": GLOROT, "resize": GLOROT}),
    (lambda: Reassemble(8, 0.5), {"projection": GLOROT, "resize": GLOROT}),
    (lambda: PatchMerging(8), {"reduction": GLOROT}),
    (lambda: CosineWindowAttention(8, 2, 3), {"offsets1": GLOROT, "offsets2": GLOROT}),
    (lambda: ResidualConvUnit(8), {"conv1": TORCH, "conv2": TORCH}),
    (lambda: FeatureFusion(8), {"projection": TORCH}),
    (lambda: DepthHead((8, 4), projection_channels=8), {"conv1": TORCH, "conv2": TORCH}),
    (lambda: DepthHead((8, 4), projection_channels=8), {"projection": TORCH}),
    (lambda: SegmentationHead(3, 8), {"conv1": TORCH, "conv2": GLOROT}),
    (lambda: SymmetricConvNorm(8), {"conv": DENSE}),
    (lambda: ConvNorm(8), {"conv": DENSE}),
    (lambda: WeightStandardizedConv2D(8, 3), {"": GLOROT}),
]


@pytest.mark.parametrize(("make", "starts"), STARTS)
def test_where_kernels_start(make, starts):
    """By our initializers, which take no compilation on JAX, and with the sources' variances."""
    layer = make()
    for name, start in starts.items():
        initializer = (getattr(layer, name) if name else layer).kernel_initializer
        assert type(initializer) is HostVarianceScaling
        assert (initializer.scale, initializer.mode) == start


def test_where_the_rest_starts():
    assert ConvNorm(None, 3).conv.depthwise_initializer.mode == "fan_in"
    conv3 = DepthHead((8, 4)).conv3
    assert conv3.kernel_initializer.stddev == 0.02
    assert type(conv3.bias_initializer) is keras.initializers.Ones
    assert type(DepthHead((8, 4), None).conv3.bias_initializer) is keras.initializers.Zeros
    for layer in (ClassToken(), PositionEmbedding((9, 9), distilled=True)):
        layer.build((None, 9, 9, 512))
        for variable in layer.weights:
            spread = ops.convert_to_numpy(variable.value).std()
            # 0.02, cut at two of them.
            assert spread == pytest.approx(0.0176, rel=0.15), variable.path
