"""Networks on BEiT and on a distilled DeiT from photo to prediction, and what is done with them."""

import keras
import numpy as np
import pytest
import tiny
from contracts import check_model

import keras_dpt
from keras_dpt.evaluation import attention_maps

KINDS = {"beit": "BEiTEncoder", "deit": "ViTEncoder"}


def network(kind, **options):
    more = {"distilled": True} if kind == "deit" else {}
    encoder = tiny.encoder(KINDS[kind], **more)
    return tiny.depth(tiny.backbone(encoder), **options)


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return network(request.param, preprocessor=tiny.preprocessor((64, 64)))


def test_photos_windows_and_points(model):
    photo = tiny.photos(1, 70, 100)[0]
    depth = model.predict_image(photo)
    assert depth.values.shape == (70, 100) and np.isfinite(depth.values).all()
    wide = tiny.photos(1, 70, 140)[0]
    assert model.predict_image(wide, sliding_window=64).values.shape == (70, 140)
    known = [(r, c, 9 / (1 + depth.values[r, c])) for r, c in ((10, 10), (60, 90), (30, 50))]
    metric = depth.to_metric(known)
    assert len(keras_dpt.depth_to_points(metric, photo, fov=60).points) > 1000


def test_attention_of_any_block(model):
    maps = attention_maps(model, tiny.photos(1, 64, 96)[0], blocks=(0, 1, 2, 3))
    distilled = model.backbone.image_encoder.taps[0].num_prefix_tokens == 2
    for x in maps:
        assert x.weights.shape[2:] == (4, 6)
        total = x.weights.sum(axis=(2, 3)) + x.to_class_token
        if distilled:  # what is left goes to the distillation token
            assert (total < 1).all() and (total > 0.2).all()
        else:
            np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_attention_without_queries_is_the_table():
    """Scores are then the biases alone, at the trained size the rows of the table."""
    encoder = tiny.randomize(tiny.encoder("BEiTEncoder"))  # grid 3 x 4
    block = encoder.get_layer("block_1")
    for weight in (block.attention.qkv.kernel, block.attention.query_bias):
        weight.assign(np.zeros(weight.shape, "float32"))
    table = np.asarray(keras.ops.convert_to_numpy(block.attention.bias_table))
    found = block.attention_weights(np.zeros((1, 13, 32), "float32"), [0, 6], (3, 4))
    rows = 5 * 7
    of_class = [rows + 2] + [rows] * 12
    # Token 6 is the cell (1, 1).
    offsets = [(1 - y, 1 - x) for y in range(3) for x in range(4)]
    of_cell = [rows + 1] + [(y + 2) * 7 + x + 3 for y, x in offsets]
    for weights, chosen in zip(found, (of_class, of_cell), strict=True):
        expected = np.exp(table[chosen]).T
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.compiles_long
@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind, tmp_path):
    check_model(network(kind), [(32, 64), (48, 80)], tmp_path, float32_layers=("depth_head/conv3",))


@pytest.mark.compiles_long
@pytest.mark.parametrize("kind", KINDS)
def test_lora_freezing_and_steps(kind):
    model = network(kind)
    model.backbone.image_encoder.trainable = False
    frozen = len(model.trainable_variables)
    model.backbone.image_encoder.trainable = True
    assert len(model.trainable_variables) > frozen
    model.backbone.enable_lora(2)
    assert sum("lora" in v.path for v in model.trainable_variables) == 8  # of four blocks
    model.compile(learning_rate=1e-3, metrics=None)
    x, y = tiny.images(2, 32, 48), np.full((2, 32, 48, 1), 2.0, "float32")
    y[:, :16] = 1.0
    before = model.train_on_batch(x, y)
    for _ in range(3):
        after = model.train_on_batch(x, y)
    assert np.isfinite(after) and after < before


@pytest.mark.slow
# Keras's, for each layer without weights.
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_int8_and_saving(kind, tmp_path):
    model = network(kind, preprocessor=tiny.preprocessor((64, 64)))
    photo = tiny.photos(1, 64, 96)[0]
    expected = model.predict_image(photo).values
    model.save_to_preset(str(tmp_path / "preset"))
    loaded = keras_dpt.DPTDepth.from_preset(str(tmp_path / "preset"))
    np.testing.assert_allclose(loaded.predict_image(photo).values, expected, rtol=1e-4)
    loaded.quantize("int8")
    rounded = loaded.predict_image(photo).values
    assert 0 < np.abs(rounded - expected).mean() < 0.2 * expected.std()
