from types import SimpleNamespace
from unittest import mock

import keras
import numpy as np
import pytest
import tiny
from contracts import arrays

import keras_dpt
from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation import attention_maps, draw_attention
from keras_dpt.evaluation.attention import AttentionMap
from keras_dpt.maps.depth_map import DepthMap

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


@pytest.mark.compiles_long
def test_every_place_of_an_image(model):
    photo = tiny.photos(1, 32, 64)[0]
    points = [((row + 0.5) / 2, (column + 0.5) / 4) for row in range(2) for column in range(4)]
    points += [(0.0, 0.0), (1.0, 1.0), (0.499, 0.501)]
    (attention,) = attention_maps(model, photo, points, blocks=[3])
    assert attention.block == 3
    assert attention.points == (None, *points[:8], points[0], points[7], points[2])
    (block,), (x,) = (parts[-1:] for parts in inputs_of_blocks(model, photo))
    whole = full_attention(block, x)
    for query, token in enumerate([0, *range(1, 9), 1, 8, 3]):
        patches = attention.weights[query].reshape(2, -1)
        np.testing.assert_allclose(patches, whole[:, token, 1:], atol=1e-5)


@pytest.mark.compiles_long
def test_two_corners_by_default(maps, model):
    default = attention_maps(model, tiny.photos(1, 32, 64)[0])
    assert [attention.block for attention in default] == [attention.block for attention in maps]
    assert default[0].points == (None, (0.25, 0.875), (0.75, 0.125))


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", ["BEiTEncoder", "DINOv2Encoder"])
def test_encoders_with_other_blocks(name):
    """Of BEiT, which also take the grid, and with tokens of registers."""
    encoder = tiny.randomize(tiny.encoder(name, num_layers=5, out_indices=(0, 1, 2, 4)))
    sides = 2 * encoder.unit, 3 * encoder.unit
    converter = keras_dpt.DPTImageConverter(sides, multiple_of=encoder.unit)
    backbone = SimpleNamespace(image_encoder=encoder)
    model = SimpleNamespace(backbone=backbone, converter_of_photos=lambda: converter)
    photo = tiny.photos(1, *sides)[0]
    (attention,) = attention_maps(model, photo, [(0.9, 0.5)], blocks=[1])
    assert [tapped.block for tapped in attention_maps(model, photo)] == [0, 1, 2, 4]
    block = encoder.attention_blocks()[1]
    inner = keras.Model(encoder.input, block.input)
    x = inner.predict_on_batch(converter.convert(photo)[None])
    x = x[0] if isinstance(x, list | tuple) else x
    prefix = x.shape[1] - 6
    assert prefix == (1 if name == "BEiTEncoder" else 3)
    expected = np.asarray(block.attention_weights(x, [0, prefix + 4], (2, 3)))
    np.testing.assert_allclose(attention.to_class_token, expected[..., 0], atol=1e-6)
    patches = attention.weights.reshape(*expected.shape[:2], -1)
    np.testing.assert_allclose(patches, expected[..., prefix:], atol=1e-6)
    np.testing.assert_allclose(expected.sum(axis=-1), 1, atol=1e-5)


def test_an_encoder_without_attention_is_named():
    encoder = SimpleNamespace(attention_blocks=lambda: ())
    model = SimpleNamespace(backbone=SimpleNamespace(image_encoder=encoder))
    with pytest.raises(EvaluationError, match="whole image.*Received: SimpleNamespace"):
        attention_maps(model, tiny.photos(1, 32, 64)[0])


@pytest.mark.parametrize("blocks", [[4], [-1], [1.0], ["1"]])
def test_blocks_that_do_not_exist_are_refused(blocks, model):
    with pytest.raises(EvaluationError, match="from 0 to 3. Received: "):
        attention_maps(model, tiny.photos(1, 32, 64)[0], blocks=blocks)


def drawn_by_hand(photo, weights):
    """A grey photo under the colours of weights of its own size."""
    top = np.percentile(weights, 98)
    colors = DepthMap(weights, "relative_inverse_depth").colorize("inferno", 0.0, top)
    share = 0.15 + 0.65 * np.minimum(weights / top, 1)[..., None]
    grey = 0.7 * photo.astype("float32").mean(axis=-1, keepdims=True)
    return (1 - share) * grey + share * np.asarray(colors)


def test_a_drawing_by_hand(monkeypatch):
    """Captions, maps and rings, each in its place."""
    photo = np.random.default_rng(0).integers(0, 256, (20, 40, 3)).astype("uint8")
    weights = np.random.default_rng(1).uniform(0, 1, (2, 2, 3, 20, 40)).astype("float32")
    points = None, (0.25, 0.5)
    blocks = zip((1, 5), weights, strict=True)
    maps = [AttentionMap(i, points, x, x[..., 0, 0]) for i, x in blocks]
    calls = mock.Mock()
    with monkeypatch.context() as context:
        context.setattr("keras_dpt.evaluation.attention.ImageDraw.Draw", lambda _: calls)
        sheet = draw_attention(photo, maps, width=40)
    assert sheet.size == (2 * 46 + 6, 2 * 48 + 6) and sheet.getpixel((0, 0)) == (255, 255, 255)
    pixels = np.asarray(sheet).astype(int)
    for column, left in enumerate((6, 52)):
        for row, top in enumerate((28, 76)):
            expected = drawn_by_hand(photo, weights[column, row].mean(axis=0))
            found = pixels[top : top + 20, left : left + 40]
            assert np.abs(found - expected).max() < 1.01  # what is behind the point is cut off
    ink, blue = (40, 40, 40), (20, 110, 220)
    texts, rings = [], []
    for left, block in ((6, 2), (52, 6)):
        texts += [mock.call((left, 6), f"block {block}, class token", fill=ink)]
        texts += [mock.call((left, 54), f"block {block}, marked point", fill=ink)]
        x, y = left + 20, 76 + 5
        rings += [mock.call((x - 6, y - 6, x + 6, y + 6), outline="white", width=3)]
        rings += [mock.call((x - 7, y - 7, x + 7, y + 7), outline=blue, width=2)]
    assert calls.text.call_args_list == texts and calls.ellipse.call_args_list == rings


def test_weights_that_are_zero_are_drawn_dark():
    photo = np.full((20, 40, 3), 100, "uint8")
    nothing = np.zeros((1, 1, 2, 4), "float32")
    sheet = draw_attention(photo, [AttentionMap(0, (None,), nothing, nothing[..., 0, 0])])
    assert sheet.size == (320 + 12, 160 + 28 + 6)
    inside = np.asarray(sheet)[30:180, 10:320]
    dark = np.array(DepthMap(nothing[0, 0], "relative_inverse_depth").colorize("inferno", 0.0, 1.0))
    expected = 0.85 * 0.7 * 100 + 0.15 * dark[0, 0]
    assert np.abs(inside - expected).max() < 1.01


def test_a_large_photo_is_made_small_without_patterns():
    stripes = np.zeros((60, 120, 3), "uint8")
    stripes[:, ::3] = 240
    nothing = np.zeros((1, 1, 2, 4), "float32")
    sheet = draw_attention(stripes, [AttentionMap(0, (None,), nothing, nothing[..., 0, 0])], 20)
    inside = np.asarray(sheet).astype(float)[6 + 22 + 1 : 6 + 22 + 9, 8:24, 0]
    assert np.ptp(inside) <= 12 and inside.mean() == pytest.approx(0.85 * 0.7 * 80, abs=3)


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
