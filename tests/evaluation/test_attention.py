from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tiny
from contracts import arrays

import keras_dpt
from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation import attention_maps, draw_attention

SLOW = pytest.param("ViTHybridEncoder", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["ViTEncoder", SLOW])
def model(request):
    """As much of a model as has to do with attention; decoders take long to build."""
    encoder = tiny.randomize(tiny.encoder(request.param))
    converter = keras_dpt.DPTImageConverter((32, 64))
    return SimpleNamespace(
        backbone=SimpleNamespace(image_encoder=encoder), converter_of_photos=lambda: converter
    )


@pytest.mark.slow
def test_inside_a_whole_model():
    model = tiny.depth(preprocessor=tiny.preprocessor((32, 64)))
    photo, image = tiny.photos(1, 32, 64)[0], tiny.images(1, 32, 64)
    before = arrays(keras.Model.predict_on_batch(model, image))
    assert len(attention_maps(model, photo)) == 4
    np.testing.assert_array_equal(arrays(keras.Model.predict_on_batch(model, image)), before)


@pytest.fixture(scope="module")
def maps(model):
    return attention_maps(model, tiny.photos(1, 32, 64)[0], points=[(0.9, 0.1)])


def full_attention(block, x):
    """The whole matrix of a block with the input `(T, D)`, head by head: `(N, T, T)` float64."""
    norm, qkv = block.norm1, block.attention.qkv
    gamma, beta, kernel, bias = (
        arrays(w.value).astype("float64") for w in (norm.gamma, norm.beta, qkv.kernel, qkv.bias)
    )
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + norm.epsilon)
    query, key, _ = np.split((x * gamma + beta) @ kernel + bias, 3, axis=1)
    matrices = []
    for q, k in zip(np.split(query, 2, axis=1), np.split(key, 2, axis=1), strict=True):
        scores = np.exp(q @ k.T / np.sqrt(16))
        matrices.append(scores / scores.sum(axis=1, keepdims=True))
    return np.stack(matrices)


def inputs_of_blocks(model, photo):
    """What comes into each tapped block, as the network itself computes it."""
    encoder = model.backbone.image_encoder
    blocks = [encoder.get_layer(f"block_{i}") for i in encoder.out_indices]
    image = model.converter_of_photos().convert(photo)[None]
    inner = keras.Model(encoder.input, [block.input for block in blocks])
    return blocks, [x[0].astype("float64") for x in inner.predict_on_batch(image)]


def test_equals_the_whole_matrix(model, maps):
    encoder = model.backbone.image_encoder
    assert [attention.block for attention in maps] == list(encoder.out_indices)
    blocks, inputs = inputs_of_blocks(model, tiny.photos(1, 32, 64)[0])
    for attention, block, x in zip(maps, blocks, inputs, strict=True):
        whole = full_attention(block, x)
        assert attention.weights.shape == (2, 2, 2, 4)
        assert attention.points == (None, (0.75, 0.125))
        for query, token in enumerate((0, 1 + 4)):  # the class token; second row, first column
            patches = attention.weights[query].reshape(2, -1)
            np.testing.assert_allclose(patches, whole[:, token, 1:], atol=1e-5)
            to_class_token = attention.to_class_token[query]
            np.testing.assert_allclose(to_class_token, whole[:, token, 0], atol=1e-5)
    # The network is left as it was: no layer got a second place in a graph.
    assert all(len(block._inbound_nodes) == 1 for block in blocks)


def test_drawing(maps):
    photo = tiny.photos(1, 32, 64)[0]
    sheet = draw_attention(photo, maps, width=64)
    assert sheet.size == (len(maps) * 70 + 6, 2 * (32 + 28) + 6)
    colors = np.asarray(sheet).reshape(-1, 3)
    assert len(np.unique(colors, axis=0)) > 100


def test_points_outside_are_refused(model):
    with pytest.raises(EvaluationError, match="from 0 to 1"):
        attention_maps(model, tiny.photos(1, 32, 64)[0], points=[(1.2, 0.5)])
    with pytest.raises(keras_dpt.ImageError):
        attention_maps(model, "nowhere.jpg")
