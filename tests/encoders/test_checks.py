"""An encoder that is not what the decoder needs is named where it is given, not further down."""

import keras
import pytest
import tiny

from keras_dpt import DPTBackbone, DPTDecoder, DPTDepth, Encoder, Tap
from keras_dpt.errors import WeightsError

STRIDES = (4, 8, 16, 32)
TAPS = tuple(Tap(3, stride, reassemble=False) for stride in STRIDES)


@keras.saving.register_keras_serializable(package="test_checks")
class Means(Encoder):
    """Means of cells; `taps_of` and `outputs` are what a test gets wrong."""

    def __init__(self, taps_of=TAPS, outputs=None, strides=STRIDES, **kwargs):
        image = keras.Input((None, None, 3))
        maps = {
            f"stage{n}": keras.layers.AveragePooling2D(stride)(image)
            for n, stride in enumerate(strides, 1)
        }
        super().__init__(image, outputs(image, maps) if outputs else maps, **kwargs)
        self.taps_of = taps_of

    @property
    def taps(self):
        return self.taps_of

    def get_config(self):
        return super().get_config()


def with_prefix(image, maps):
    mean = keras.layers.Reshape((1, 3))(keras.layers.GlobalAveragePooling2D()(image))
    return maps | {f"prefix{n}": mean for n in (1, 2, 3, 4)}


def prefixed(count):
    return [Tap(3, stride, count) for stride in STRIDES]


@pytest.mark.parametrize(
    "encoder, message",
    [
        ({"taps_of": TAPS[:3]}, "must be four `keras_dpt.Tap`s, finest first. Received: 3 of Tap"),
        ({"taps_of": [(3, 4)] * 4}, "Received: 4 of tuple"),
        ({"taps_of": TAPS[::-1]}, r"finest first. Received: strides \[32, 16, 8, 4\]"),
        ({"taps_of": [Tap(3, None)] * 4}, "`stride` of a tap must be a whole number .* None"),
        ({"outputs": lambda image, maps: list(maps.values())}, "must be a dict with stage1"),
        ({"outputs": lambda image, maps: {"p1": maps["stage1"]}}, r"Received: \['p1'\]"),
        ({"taps_of": [Tap(5, stride) for stride in STRIDES]}, "'stage1' of Means .* C = 5"),
        ({"taps_of": prefixed(1)}, "must be a dict with stage1, prefix1"),
        ({"taps_of": prefixed(2), "outputs": with_prefix}, "'prefix1' of Means .* P = 2"),
        ({"outputs": with_prefix}, "has outputs prefix1, .* `num_prefix_tokens`"),
    ],
)
def test_what_the_taps_promise_is_there(encoder, message):
    with pytest.raises(ValueError, match=message):
        DPTBackbone(Means(**encoder), fusion_channels=4)


def test_strides_are_those_of_the_maps():
    backbone = DPTBackbone(Means([Tap(3, s) for s in (2, 4, 8, 16)]), fusion_channels=4)
    with pytest.raises(ValueError, match="Tap 1 of Means has stride 2, .* is 16 x 24"):
        backbone(tiny.images(1, 64, 96))
    backbone = DPTBackbone(Means(), fusion_channels=4)
    assert backbone(tiny.images(1, 64, 96))["P1"].shape == (1, 32, 48, 4)


def test_an_encoder_without_taps_is_not_taken_for_one_of_keras_hub():
    class NoTaps(Means):
        taps = property(lambda self: self.taps_it_does_not_have)

    with pytest.raises(TypeError, match="NoTaps must have `taps`, four"):
        DPTBackbone(NoTaps())
    with pytest.raises(TypeError, match="Received: Means, a class: give an instance"):
        DPTBackbone(Means)


def test_taps_of_a_decoder():
    with pytest.raises(ValueError, match="Received: 3 of Tap"):
        DPTDecoder(TAPS[:3])
    for widths in (8.0, "8", 0, (8, 8)):
        with pytest.raises(ValueError, match="`fusion_channels` must be one width or four"):
            DPTDecoder(TAPS, fusion_channels=widths)
    with pytest.raises(ValueError, match="`reassemble_channels` must be four widths"):
        DPTDecoder(prefixed(0), reassemble_channels=8)


def test_lora_names_layers_that_can_be_adapted():
    with pytest.raises(ValueError) as error:
        DPTBackbone(Means(), fusion_channels=4).enable_lora(2)
    assert "to adapt: ['qkv']" in str(error.value) and "fusion_input_1" in str(error.value)
    assert "means" not in str(error.value)  # the encoder as a whole


@pytest.mark.parametrize("load", ["preset", "file"])
def test_a_class_that_is_not_known_when_a_model_is_loaded(load, tmp_path, monkeypatch):
    class Gone(Means):
        pass

    def loaded():
        if load == "file":
            return keras.saving.load_model(tmp_path / "model.keras")
        return DPTDepth.from_preset(str(tmp_path / "preset"))

    with keras.saving.custom_object_scope({"Gone": Gone}):
        model = DPTDepth(DPTBackbone(Gone(), fusion_channels=4), head_channels=(4, 4))
        model.save(tmp_path / "model.keras")
        model.save_to_preset(str(tmp_path / "preset"))
    with pytest.raises(WeightsError, match="class 'Gone' is not known to this process. Import"):
        loaded()


@keras.saving.register_keras_serializable(package="test_checks")
class Strict(Means):
    def __init__(self):
        super().__init__()


def test_a_constructor_that_does_not_take_its_config():
    config = DPTBackbone(Strict(), fusion_channels=4).get_config()
    with pytest.raises(WeightsError, match="'test_checks>Strict' cannot be built .*kwargs"):
        DPTBackbone.from_config(config)


def test_an_architecture_of_an_unknown_encoder():
    architecture = {"encoder": "Mine", "encoder_config": {}, "backbone_config": {}}
    with pytest.raises(ValueError, match=r'no encoder \'Mine\'.*ENCODERS\["Mine"\] = Mine'):
        DPTBackbone.from_architecture({"architecture": architecture})
    with pytest.raises(WeightsError, match="Means cannot be inferred .* `config_from_shapes"):
        Means.config_from_shapes({})
