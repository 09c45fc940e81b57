"""Networks of convolutions alone, ResNeXt and EfficientNet-Lite, from photo to prediction."""

import keras
import numpy as np
import pytest
import tiny
from contracts import check_model

import keras_dpt

KINDS = tiny.CONVOLUTIONAL
DECODERS = {
    "ResNetEncoder": {"fusion_projection": False, "rectified_shortcut": True},
    "EfficientNetLiteEncoder": {"fusion_channels": (8, 16, 24, 32)},
}


def network(kind, **options):
    """With the decoder that MiDaS 2.1 has, or its small version."""
    backbone = tiny.backbone(kind, **DECODERS[kind])
    return tiny.depth(backbone, head_align_corners=False, **options)


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    preprocessor = tiny.preprocessor((64, 64), size_rule="upper_bound", mean=0.45, std=0.25)
    return network(request.param, preprocessor=preprocessor)


@pytest.mark.compiles_long
def test_photos_windows_and_points(model):
    photo = tiny.photos(1, 70, 100)[0]
    depth = model.predict_image(photo)
    assert depth.values.shape == (70, 100) and np.isfinite(depth.values).all()
    wide = tiny.photos(1, 70, 140)[0]
    assert model.predict_image(wide, sliding_window=64).values.shape == (70, 140)
    known = [(r, c, 9 / (1 + depth.values[r, c])) for r, c in ((10, 10), (60, 90), (30, 50))]
    metric = depth.to_metric(known)
    assert len(keras_dpt.depth_to_points(metric, photo, fov=60).points) > 1000


@pytest.mark.compiles_long
@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind, tmp_path):
    check_model(network(kind), [(32, 64), (64, 96)], tmp_path, float32_layers=("depth_head/conv3",))


@pytest.mark.compiles_long
@pytest.mark.parametrize("kind", KINDS)
def test_steps_with_frozen_norms(kind):
    model = network(kind)
    encoder = model.backbone.image_encoder
    encoder.freeze_norms()
    norms = [x for x in encoder._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
    before = [keras.ops.convert_to_numpy(v) for norm in norms for v in norm.variables]
    model.compile(learning_rate=1e-3, metrics=None)
    x, y = tiny.images(2, 32, 64), np.full((2, 32, 64, 1), 2.0, "float32")
    y[:, :16] = 1.0
    first = model.train_on_batch(x, y)
    for _ in range(3):
        last = model.train_on_batch(x, y)
    assert np.isfinite(last) and last < first
    after = [keras.ops.convert_to_numpy(v) for norm in norms for v in norm.variables]
    assert len(norms) > 10
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_no_attention_to_adapt(kind):
    model = network(kind)
    count = len(model.trainable_variables)
    with pytest.raises(ValueError, match="No layer to adapt: this encoder has no default"):
        model.backbone.enable_lora(2)
    assert len(model.trainable_variables) == count


@pytest.mark.compiles_long
def test_saving(model, tmp_path):
    photo = tiny.photos(1, 64, 96)[0]
    expected = model.predict_image(photo).values
    model.save_to_preset(str(tmp_path / "preset"))
    loaded = keras_dpt.DPTDepth.from_preset(str(tmp_path / "preset"))
    np.testing.assert_allclose(loaded.predict_image(photo).values, expected, rtol=1e-4)
