"""The contract of encoders: any stride, any prefix tokens, stages and tokens, any grid."""

import keras
import numpy as np
import pytest
import tiny
from contracts import check_graph, predict

import keras_dpt
from keras_dpt import Encoder, Tap
from keras_dpt.encoders.encoder import named_taps


@keras.saving.register_keras_serializable(package="tests")
class Pooled(Encoder):
    """Features of any description: means over cells, and prefix tokens that are means of all."""

    def __init__(self, taps, required=None, image_shape=(None, None, 3), dtype=None, **kwargs):
        self_taps = tuple(Tap(**tap) if isinstance(tap, dict) else tap for tap in taps)
        image = keras.Input(image_shape)
        maps, prefixes = [], []
        for n, tap in enumerate(self_taps, 1):
            x = keras.layers.AveragePooling2D(tap.stride, padding="same", dtype=dtype)(image)
            maps.append(keras.layers.Dense(tap.channels, dtype=dtype, name=f"map_{n}")(x))
            tokens = None
            if tap.num_prefix_tokens:
                x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(image)
                width = tap.num_prefix_tokens * tap.channels
                x = keras.layers.Dense(width, dtype=dtype, name=f"prefix_{n}")(x)
                shape = (tap.num_prefix_tokens, tap.channels)
                tokens = keras.layers.Reshape(shape, dtype=dtype)(x)
            prefixes.append(tokens)
        super().__init__(image, named_taps(maps, prefixes), dtype=dtype, **kwargs)
        self.described, self.required, self.image_shape = self_taps, required, image_shape

    @property
    def taps(self):
        return self.described

    @property
    def required_multiple(self):
        return self.required or super().required_multiple

    def get_config(self):
        taps = [vars(tap) for tap in self.described]
        config = {"taps": taps, "required": self.required, "image_shape": self.image_shape}
        return super().get_config() | config


def tokens(stride, prefix=1):
    return [Tap(12, stride, num_prefix_tokens=prefix)] * 4


def stages(*strides):
    return [Tap(6 + n, stride, reassemble=False) for n, stride in enumerate(strides)]


KINDS = {
    "patch 14": (tokens(14), 14),
    "patch 8": (tokens(8), 8),
    "no prefix token": (tokens(16, 0), 16),
    "two prefix tokens": (tokens(16, 2), 16),
    "five prefix tokens": (tokens(14, 5), 14),
    "a pyramid": (stages(4, 8, 16, 32), 32),
    "a pyramid, projected": ([Tap(6, s) for s in (4, 8, 16, 32)], 32),
    "stages and tokens": (stages(4, 8) + tokens(16)[:2], 16),
    "three stages, one map of tokens": (stages(4, 8, 16) + tokens(16, 0)[:1], 16),
}


def depth(taps, **options):
    widths = [8 if tap.reassemble else tap.channels for tap in taps]
    backbone = keras_dpt.DPTBackbone(
        Pooled(taps), reassemble_channels=widths, fusion_channels=8, **options
    )
    return tiny.randomize(keras_dpt.DPTDepth(backbone, head_channels=(8, 4)))


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_of_the_size_of_the_image(kind):
    taps, multiple = KINDS[kind]
    model = depth(taps)
    assert model.backbone.image_encoder.required_multiple == multiple
    for size in ((3 * multiple, 5 * multiple), (4 * multiple, 2 * multiple)):
        x = (tiny.images(1, *size),)
        assert predict(model, x).shape == (1, *size, 1)
    height, width = 3 * multiple, 5 * multiple
    with pytest.raises(ValueError, match=f"multiples of {multiple}. Received: {height - 1} x"):
        model(tiny.images(1, height - 1, width))


@pytest.mark.parametrize(
    "size, rows", [((70, 98), (20, 10, 5, 3)), ((518, 518), (148, 74, 37, 19))]
)
def test_levels_of_patch_14(size, rows):
    """Odd grids: each fusion takes the size of the next level's map, the last one doubles."""
    backbone = depth(tokens(14)).backbone
    heights = {n: x.shape[1] for n, x in backbone(keras.Input((*size, 3))).items()}
    assert heights == {"P1": 2 * rows[0], "P2": rows[0], "P3": rows[1], "P4": rows[2]}
    entering = [backbone.get_layer(f"reassemble_{n}") for n in (1, 2, 3, 4)]
    cells = keras.Input((size[0] // 14, size[1] // 14, 12))
    assert [layer(cells).shape[1] for layer in entering] == list(rows)


def test_a_level_beyond_the_factors_is_refused():
    taps = [Tap(12, 16, 1), Tap(12, 16, 1), Tap(12, 24), Tap(12, 16, 1)]
    with pytest.raises(ValueError, match="Tap 3, of stride 24, cannot be reassembled to level 3"):
        depth(taps)


@pytest.mark.parametrize("readout", ["project", "add"])
def test_a_readout_needs_prefix_tokens(readout):
    with pytest.raises(ValueError, match='readout="ignore"'):
        depth(tokens(16, 0), readout=readout)
    names = [layer.name for layer in depth(tokens(16, 0), readout="ignore").backbone.layers]
    assert not [name for name in names if name.startswith("read_")]


def test_only_the_first_prefix_token_is_read():
    """The class token; distillation and register tokens have done their work in the encoder."""
    model = depth(tokens(16, 3))
    x = (tiny.images(1, 32, 48),)
    before = predict(model, x)
    dense = [layer for layer in model.backbone.image_encoder.layers if "prefix" in layer.name]
    for layer in dense:
        bias = np.zeros(36, "float32")
        bias[12:] = 5
        layer.bias.assign(layer.bias + bias)
    np.testing.assert_array_equal(predict(model, x), before)
    for layer in dense:
        layer.bias.assign(layer.bias + 5)
    assert np.abs(predict(model, x) - before).max() > 1e-3


@pytest.mark.parametrize("kind", ["patch 14", "stages and tokens"])
def test_model_contract(kind):
    taps, multiple = KINDS[kind]
    check_graph(depth(taps), [(3 * multiple, 2 * multiple), (multiple, 5 * multiple)])


@pytest.mark.parametrize(
    "kind",
    [
        "patch 14",
        *(
            pytest.param(kind, marks=pytest.mark.compiles_long)
            for kind in ("a pyramid", "stages and tokens")
        ),
    ],
)
def test_fit_learns(kind):
    taps, multiple = KINDS[kind]
    model = depth(taps)
    model.preprocessor = tiny.preprocessor((2 * multiple, 3 * multiple), multiple_of=multiple)
    model.compile(keras.optimizers.Adam(1e-3), "mse", metrics=None)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (4, 2 * multiple, 3 * multiple, 3)).astype("uint8")
    y = x[..., :1] / 255.0
    losses = model.fit(x, y, batch_size=4, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    photo = rng.integers(0, 256, (50, 81, 3)).astype("uint8")
    assert model.predict_image(photo).values.shape == (50, 81)


@pytest.mark.parametrize(
    "options",
    [
        {"fusion_size": "double"},
        {"fusion_projection": False, "rectified_shortcut": True},
        {"fusion_bias": False},
        {"fusion_channels": (4, 8, 12, 16)},
    ],
    ids=str,
)
def test_other_decoders(options, tmp_path):
    taps = tokens(14)
    widths = {"reassemble_channels": (4, 6, 8, 10)}
    backbone = keras_dpt.DPTBackbone(Pooled(taps), **{"fusion_channels": 8} | widths | options)
    head = {"head_projection_channels": 6, "head_size": "double", "head_align_corners": False}
    model = keras_dpt.DPTDepth(
        backbone, head_channels=(8, 4), output_layer=keras_dpt.Clamped(0.01, 10, 0.001), **head
    )
    tiny.randomize(model)
    x = (tiny.images(1, 42, 70),)
    before = predict(model, x)
    assert before.shape == (1, 42, 70, 1) and model.kind == "metric_depth"
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(predict(again, x), before)


def test_doubling_stretches_the_next_map():
    taps = tokens(14)
    backbone = keras_dpt.DPTBackbone(Pooled(taps), fusion_size="double", fusion_channels=8)
    heights = {n: x.shape[1] for n, x in backbone(keras.Input((70, 98, 3))).items()}
    assert heights == {"P4": 6, "P3": 12, "P2": 24, "P1": 48}


def test_decoder_on_features_of_ones_own(tmp_path):
    """`DPTDecoder` is the decoder of `DPTBackbone`, weight for weight."""
    taps = stages(4, 8) + tokens(16)[:2]
    model = depth(taps)
    backbone = model.backbone
    decoder = keras_dpt.DPTDecoder(
        taps, reassemble_channels=backbone.reassemble_channels, fusion_channels=8
    )
    ours = {variable.path: variable for variable in decoder.variables}
    theirs = {variable.path: variable for variable in backbone.variables}
    assert set(ours) <= set(theirs)
    for path, variable in ours.items():
        variable.assign(theirs[path])
    x = tiny.images(2, 48, 80)
    features = backbone.image_encoder(x)
    for level, values in decoder(features).items():
        reference = keras.ops.convert_to_numpy(backbone(x)[level])
        np.testing.assert_allclose(keras.ops.convert_to_numpy(values), reference, atol=1e-6)
    decoder.save(tmp_path / "decoder.keras")
    again = keras.models.load_model(tmp_path / "decoder.keras")
    assert again.get_config() == decoder.get_config()


def test_policy_of_sizes():
    assert depth(tokens(16)).backbone.size_multiple == 32  # 16 works, 32 is the original's
    assert depth(tokens(14)).backbone.size_multiple == 14
    assert depth(stages(4, 8, 16, 32)).backbone.size_multiple == 32
    converter = depth(tokens(14)).converter_of_photos()
    assert converter.target_size(400, 600)[0] % 14 == 0
