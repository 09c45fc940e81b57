import json

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import ops
from PIL import Image

from keras_dpt import DPTDepthPreprocessor, DPTImageConverter
from keras_dpt.errors import ImageError


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype="uint8")


@pytest.mark.parametrize(
    "size, expected",
    [
        # Worked examples of the original's "minimal" rule at 384.
        ((400, 600), (384, 576)),
        ((300, 451), (256, 384)),
        ((384, 384), (384, 384)),
        ((480, 640), (384, 512)),
        ((640, 480), (512, 384)),
        ((375, 1242), (384, 1280)),
        ((1, 1), (384, 384)),
        ((10, 1000), (32, 384)),  # never less than one multiple
    ],
)
def test_size_rule(size, expected):
    assert DPTImageConverter().target_size(*size) == expected


def test_size_rule_rounds_halves_to_even():
    converter = DPTImageConverter((80, 80))
    assert converter.target_size(80, 80) == (64, 64)  # 2.5 multiples, as Python and NumPy round
    assert DPTImageConverter((112, 112)).target_size(112, 112) == (128, 128)  # 3.5


def test_size_rule_without_aspect():
    converter = DPTImageConverter((384, 640), keep_aspect_ratio=False)
    for size in ((300, 451), (900, 100), (384, 640)):
        assert converter.target_size(*size) == (384, 640)


def test_size_left_alone():
    converter = DPTImageConverter(None)
    assert converter.target_size(33, 65) == (33, 65)
    x = photo(33, 65)
    np.testing.assert_allclose(ops.convert_to_numpy(converter(x)), x / 127.5 - 1, atol=1e-6)


def test_other_multiples():
    assert DPTImageConverter((518, 518), multiple_of=14).target_size(480, 640) == (518, 686)


@pytest.mark.parametrize(
    "size, expected",
    [
        # Depth Anything's at 518: the short side is 518.
        ((480, 640), (518, 686)),
        ((400, 600), (518, 784)),
        ((97, 1201), (518, 6412)),
        ((518, 518), (518, 518)),
        ((1201, 97), (6412, 518)),
    ],
)
def test_lower_bound(size, expected):
    converter = DPTImageConverter((518, 518), multiple_of=14, size_rule="lower_bound")
    assert converter.target_size(*size) == expected


def test_bounds_that_are_no_multiples():
    lower = DPTImageConverter((600, 600), multiple_of=14, size_rule="lower_bound")
    assert lower.target_size(600, 600) == (602, 602)
    lower = DPTImageConverter((620, 620), multiple_of=14, size_rule="lower_bound")
    assert lower.target_size(100, 100) == (630, 630)  # 616 is nearer, but below
    upper = DPTImageConverter((250, 250), size_rule="upper_bound")
    assert upper.target_size(100, 100) == (224, 224)  # 256 is nearer, but above


@pytest.mark.parametrize(
    "size, expected",
    [((480, 640), (288, 384)), ((640, 480), (384, 288)), ((300, 451), (256, 384))],
)
def test_upper_bound(size, expected):
    assert DPTImageConverter(size_rule="upper_bound").target_size(*size) == expected


@pytest.mark.parametrize("rule", ["lower_bound", "upper_bound"])
def test_bounds_without_aspect(rule):
    converter = DPTImageConverter((384, 640), keep_aspect_ratio=False, size_rule=rule)
    for size in ((300, 451), (900, 100), (384, 640)):
        assert converter.target_size(*size) == (384, 640)


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="`size_rule` must be one of.*Received: 'upper'"):
        DPTImageConverter(size_rule="upper")
    with pytest.raises(ValueError, match="`image_size` must be None. Received: image_size"):
        DPTImageConverter(pad=True)


@pytest.mark.parametrize("size", [(33, 65), (28, 42), (27, 29)])
def test_padding_is_centred_and_after_normalisation(size):
    converter = DPTImageConverter(None, multiple_of=14, pad=True, mean=0.3, std=0.2)
    x = photo(*size)
    y = ops.convert_to_numpy(converter(x))
    target = tuple(-(-side // 14) * 14 for side in size)
    assert y.shape == (*target, 3) == (*converter.target_size(*size), 3)
    top, left = ((whole - side) // 2 for whole, side in zip(target, size, strict=True))
    inner = y[top : top + size[0], left : left + size[1]]
    np.testing.assert_allclose(inner, (x / 255 - 0.3) / 0.2, atol=1e-5)
    assert np.count_nonzero(y) == np.count_nonzero(inner)


def test_rules_are_in_the_config():
    for options in ({"size_rule": "lower_bound"}, {"pad": True, "image_size": None}):
        converter = DPTImageConverter(**options)
        again = DPTImageConverter.from_config(converter.get_config())
        assert again.target_size(47, 71) == converter.target_size(47, 71)
        assert (again.size_rule, again.pad) == (converter.size_rule, converter.pad)


def test_mean_and_std():
    x = photo(64, 64)
    y = ops.convert_to_numpy(DPTImageConverter((64, 64))(x))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, (x / 255 - 0.5) / 0.5, atol=1e-6)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    y = ops.convert_to_numpy(DPTImageConverter((64, 64), mean=mean, std=std)(x))
    np.testing.assert_allclose(y, (x / 255 - mean) / std, atol=1e-5)


@pytest.mark.parametrize("size", [(100, 150), (30, 45)])
def test_bicubic_antialias_is_pillows(size):
    x = photo(*size)
    converter = DPTImageConverter((64, 96), resize="bicubic_antialias")
    expected = np.asarray(Image.fromarray(x).resize((96, 64), Image.Resampling.BICUBIC))
    result = ops.convert_to_numpy(converter(x))
    np.testing.assert_allclose(result, expected / 127.5 - 1, atol=1e-6)


def test_bicubic_is_opencvs_without_antialiasing():
    import cv2

    x = photo(100, 150)
    expected = cv2.resize(x.astype("float32"), (96, 64), interpolation=cv2.INTER_CUBIC)
    result = ops.convert_to_numpy(DPTImageConverter((64, 96))(x))
    np.testing.assert_allclose(result, expected / 127.5 - 1, atol=1e-5)
    assert np.abs(result).max() > 1  # it overshoots, and nothing clips it


@pytest.mark.parametrize("resize", ["bicubic", "bicubic_antialias"])
def test_same_in_tf_data(resize):
    converter = DPTImageConverter((64, 64), resize=resize)
    batch = np.stack([photo(48, 80, seed) for seed in range(3)])
    eager = ops.convert_to_numpy(converter(batch))
    assert eager.shape == (3, 32, 64, 3)
    dataset = tf.data.Dataset.from_tensor_slices(batch)
    one_by_one = np.stack(list(dataset.map(converter).as_numpy_iterator()))
    np.testing.assert_array_equal(one_by_one, eager)
    (batched,) = dataset.batch(3).map(converter).as_numpy_iterator()
    np.testing.assert_array_equal(batched, eager)


def test_static_shapes_in_tf_data():
    dataset = tf.data.Dataset.from_tensor_slices(np.stack([photo(48, 80)])).map(
        DPTImageConverter((64, 64))
    )
    assert tuple(dataset.element_spec.shape) == (32, 64, 3)
    dataset = tf.data.Dataset.from_generator(
        lambda: iter([photo(48, 80)]), output_signature=tf.TensorSpec((None, None, 3), tf.uint8)
    ).map(DPTImageConverter((64, 64)))
    assert dataset.element_spec.shape.as_list() == [None, None, 3]
    (only,) = dataset.as_numpy_iterator()
    assert only.shape == (32, 64, 3)


def test_kinds_of_input():
    converter = DPTImageConverter((64, 64))
    x = tiny.photos(2, 48, 80)
    expected = ops.convert_to_numpy(converter(x))
    for same in (x.astype("float32"), x.astype("int32"), ops.convert_to_tensor(x), list(x)):
        np.testing.assert_array_equal(ops.convert_to_numpy(converter(same)), expected)
    np.testing.assert_array_equal(ops.convert_to_numpy(converter(x[0])), expected[0])
    assert ops.is_tensor(converter(x))


def test_floats_from_0_to_1_are_refused():
    converter = DPTImageConverter((64, 64))
    for x in (photo(64, 64) / 255, np.stack([photo(64, 64)]).astype("float32") / 255):
        with pytest.raises(ImageError, match="must go from 0 to 255.* Received: 0 to 1. Multiply"):
            converter(x)
    dataset = tf.data.Dataset.from_tensors(photo(64, 64) / 255).map(converter)
    with pytest.raises(tf.errors.OpError, match="must go from 0 to 255"):
        list(dataset)
    black = ops.convert_to_numpy(converter(np.zeros((64, 64, 3), "float32")))
    np.testing.assert_array_equal(black, -1)  # black is black in any range


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((2, 64, 64, 4), "Leave alpha out"),
        ((64, 64, 1), "Repeat grey"),
        ((2, 3, 64, 64), "Move the channels last"),
        ((64, 64), r"Received: \(64, 64\)"),
    ],
)
def test_shapes_that_are_no_images(shape, hint):
    x = np.full(shape, 9, "uint8")
    with pytest.raises(ImageError, match=f"height, width, 3.*{hint}"):
        DPTImageConverter((64, 64))(x)
    # TensorFlow puts its own error around what is raised in a pipeline.
    with pytest.raises(Exception, match=f"(?s)height, width, 3.*{hint}"):
        tf.data.Dataset.from_tensors(x).map(DPTImageConverter((64, 64)))


def test_values_follow_the_rule_of_files():
    converter = DPTImageConverter(None)
    x = photo(64, 64)
    expected = ops.convert_to_numpy(converter(x))
    for other in (x.astype("int64"), x.astype("float32"), x.astype("uint16") * 257):
        np.testing.assert_allclose(ops.convert_to_numpy(converter(other)), expected, atol=1e-6)
    x = x.astype("float32")
    x[3, 3] = np.nan
    with pytest.raises(ImageError, match="3 of 12288 values are NaN"):
        converter(x)


def test_a_size_of_one_number():
    converter = DPTImageConverter(96)
    assert converter.image_size == (96, 96)
    converter.image_size = 128
    assert converter.get_config()["image_size"] == (128, 128)
    for wrong in ((1, 2, 3), 0, "128", (64, None), 64.5):
        with pytest.raises(ValueError, match="`image_size` must be .height, width"):
            converter.image_size = wrong


def test_unknown_resize():
    with pytest.raises(ValueError, match="`resize` must be .*Received: 'lanczos'"):
        DPTImageConverter(resize="lanczos")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "image_size": (352, 1216),
            "keep_aspect_ratio": False,
            "multiple_of": 16,
            "resize": "bicubic_antialias",
            "mean": (0.4, 0.5, 0.6),
            "std": [0.2, 0.3, 0.4],
        },
        {"image_size": None},
    ],
)
def test_config(options):
    converter = DPTImageConverter(**options)
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(converter)))
    rebuilt = keras.saving.deserialize_keras_object(stored)
    assert type(rebuilt) is DPTImageConverter
    assert rebuilt.target_size(100, 300) == converter.target_size(100, 300)
    x = photo(100, 300)
    np.testing.assert_array_equal(rebuilt.convert(x), converter.convert(x))
    assert (
        DPTImageConverter.from_config(converter.get_config()).get_config() == converter.get_config()
    )
    # The base class's words for the same things would contradict ours.
    assert not {"scale", "offset", "interpolation", "crop_to_aspect_ratio"} & set(
        converter.get_config()
    )


def test_image_size_can_be_set():
    converter = DPTImageConverter((384, 384))
    converter.image_size = (64, 64)
    assert ops.convert_to_numpy(converter(photo(48, 80))).shape == (32, 64, 3)


def test_saved_as_a_preset(tmp_path):
    converter = DPTImageConverter((96, 128), mean=0.3)
    converter.save_to_preset(str(tmp_path))
    stored = json.loads((tmp_path / "image_converter.json").read_text())
    assert keras.saving.deserialize_keras_object(stored).get_config() == converter.get_config()
    assert issubclass(DPTImageConverter, keras_hub.layers.ImageConverter)


def test_preprocessor_leaves_targets_alone():
    preprocessor = DPTDepthPreprocessor(DPTImageConverter((64, 64)))
    x, y, weight = tiny.photos(2, 48, 80), np.ones((2, 32, 64, 1)), np.ones((2, 32, 64))
    converted, same_y, same_weight = preprocessor(x, y, weight)
    assert tuple(converted.shape) == (2, 32, 64, 3)
    np.testing.assert_array_equal(ops.convert_to_numpy(same_y), y)
    np.testing.assert_array_equal(ops.convert_to_numpy(same_weight), weight)


@pytest.mark.parametrize(
    "name, values",
    [
        ("mean", [float("nan"), float("inf"), "grey", [0.5, 0.5], None]),
        ("std", [0, -1, float("nan"), [0.5, 0, 0.5], None]),
        ("multiple_of", [0, -32, 1.5, None, True]),
    ],
)
def test_numbers_that_make_no_sense(name, values):
    converter = DPTImageConverter()
    for value in values:
        with pytest.raises(ValueError, match=f"`{name}` must be .* Received: "):
            DPTImageConverter(**{name: value})
        with pytest.raises(ValueError, match=f"`{name}` must be "):
            setattr(converter, name, value)
    assert (converter.mean, converter.std, converter.multiple_of) == (0.5, 0.5, 32)
