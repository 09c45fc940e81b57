"""Networks on DINOv2 from photo to prediction: sides are multiples of 14 everywhere."""

import numpy as np
import pytest
import tiny
from contracts import predict

import keras_dpt
from keras_dpt.evaluation import attention_maps
from keras_dpt.models.windows import check_side

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.fixture(scope="module")
def bounded():
    """As Depth Anything's metric presets: sides of at least 56."""
    options = {"multiple_of": 14, "size_rule": "lower_bound"} | IMAGENET
    return tiny.depth(
        "DINOv2Encoder",
        preprocessor=tiny.preprocessor((56, 56), **options),
        max_depth=20,
        output_resize="bilinear_aligned",
    )


@pytest.fixture(scope="module")
def padded():
    """As DINOv2's depth heads: photos keep their size."""
    return tiny.depth(
        "DINOv2Encoder",
        preprocessor=tiny.preprocessor(None, multiple_of=14, pad=True, **IMAGENET),
        output_layer=keras_dpt.Clamped(0.001, 10.0, 0.001, dtype="float32"),
        head_size="double",
        output_resize="bilinear",
    )


def test_batches_of_mixed_sizes(bounded):
    photos = [tiny.photos(1, *size)[0] for size in ((60, 80), (61, 47), (60, 80))]
    maps = bounded.predict_images(photos)
    assert [x.values.shape for x in maps] == [(60, 80), (61, 47), (60, 80)]
    for photo, depth in zip(photos, maps, strict=True):
        assert depth.values.min() > 0 and depth.values.max() < 20
        alone = bounded.predict_image(photo)
        np.testing.assert_allclose(depth.values, alone.values, rtol=1e-4)


def test_a_padded_photo_is_stretched_back(padded):
    photo = tiny.photos(1, 45, 59)[0]
    depth = padded.predict_image(photo)
    assert depth.values.shape == (45, 59)
    converted = padded.converter_of_photos().convert(photo)
    assert converted.shape == (56, 70, 3)
    whole = predict(padded, (converted[None],))[0]
    np.testing.assert_array_equal(depth.values, padded.postprocess(whole, (45, 59)).values)
    # Not cropped: rows and columns of the padded map, by another way of resizing.
    rows, columns = (_linear(56, 45), _linear(70, 59))
    np.testing.assert_allclose(depth.values, rows @ whole[..., 0] @ columns.T, rtol=1e-4)


def _linear(size, new_size):
    """Linear interpolation from `size` to `new_size` pixels as a matrix; half-pixel centres."""
    source = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    return np.stack([np.interp(source, np.arange(size), row) for row in np.eye(size)], axis=1)


def test_windows(bounded):
    photo = tiny.photos(1, 100, 140)[0]
    depth = bounded.predict_image(photo, sliding_window=56)
    assert depth.values.shape == (100, 140) and np.isfinite(depth.values).all()
    check_side(14, bounded.backbone.size_multiple)
    with pytest.raises(ValueError, match="at least 14"):
        bounded.predict_image(photo, sliding_window=13)


def test_points(bounded):
    photo = tiny.photos(1, 60, 80)[0]
    cloud = keras_dpt.depth_to_points(bounded.predict_image(photo), photo, fov=60)
    assert len(cloud.points) > 1000 and np.isfinite(cloud.points).all()


def test_attention_of_any_block(bounded):
    photo = tiny.photos(1, 56, 84)[0]
    maps = attention_maps(bounded, photo, blocks=(0, 1, 2, 3))
    assert [x.block for x in maps] == [0, 1, 2, 3]
    for x in maps:
        assert x.weights.shape[2:] == (4, 6)
        # What is left goes to the two register tokens.
        total = x.weights.sum(axis=(2, 3)) + x.to_class_token
        assert (total < 1).all() and (total > 0.2).all()


def test_a_saved_one_predicts_the_same(padded, tmp_path):
    padded.save_to_preset(str(tmp_path))
    loaded = keras_dpt.DPTDepth.from_preset(str(tmp_path))
    photo = tiny.photos(1, 45, 59)[0]
    expected = padded.predict_image(photo).values
    np.testing.assert_allclose(loaded.predict_image(photo).values, expected, rtol=1e-5)
    assert loaded.output_layer.max_depth == 10 and loaded.kind == "metric_depth"


def test_lora_and_a_step(bounded):
    network = tiny.depth("DINOv2Encoder", max_depth=5)
    network.backbone.image_encoder.trainable = True
    network.backbone.enable_lora(2)
    assert any("lora" in v.path for v in network.trainable_variables)
    network.compile(learning_rate=1e-3, metrics=None)
    x, y = tiny.images(2, 28, 42), np.full((2, 28, 42, 1), 2.0, "float32")
    before = network.train_on_batch(x, y)
    for _ in range(3):
        after = network.train_on_batch(x, y)
    assert np.isfinite(after) and after < before
