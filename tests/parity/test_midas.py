"""MiDaS 3.1's and DeiT's networks: against float64 references and against transformers."""

import json

import keras
import numpy as np
import pytest
from contracts import predict

import keras_dpt
from keras_dpt.conversion import engine
from keras_dpt.conversion.formats import format_of
from keras_dpt.weights.readers import Spec

from . import midas as reference

pytest.importorskip("torch")

MAX, RMS = 5e-4, 5e-5  # of the output's standard deviation
# Native, odd, larger, smaller: grids 4 x 4, 3 x 5, 6 x 8 and 2 x 3.
PLAIN = [(64, 64), (48, 80), (96, 128), (32, 48)]
SQUARE = [(reference.SWIN["side"],) * 2]
SIZES = {"beit": PLAIN, "deit": PLAIN, "swin2": SQUARE, "swin": SQUARE}
WINDOWS = {"image_size": reference.SWIN["side"], "window_size": reference.WINDOWS[0]}
UNTOLD = {
    "beit": {"num_heads": reference.HEADS, "out_indices": reference.TAPS},
    "deit": {
        "num_heads": reference.HEADS,
        "out_indices": reference.TAPS,
        "position_grid": (reference.GRID,) * 2,
    },
    "swin2": WINDOWS | {"pretrained_window_sizes": reference.PRETRAINED},
    "swin": WINDOWS,
}


def build(tensors, untold):
    """A `DPTDepth` of these tensors, in the format that they are of."""
    specs = {name: Spec(x.shape, "float32") for name, x in tensors.items()}
    layout = format_of(specs)
    architecture = layout.config_from(specs)
    architecture["encoder_config"] |= untold
    preset = {"architecture": architecture, "image": layout.image_from(architecture)}
    preset |= {"task": "depth", "output": {"kind": "relative_inverse_depth"}}
    model = keras_dpt.DPTDepth.from_architecture(preset, dtype="float32")
    variables = {variable.path: variable for variable in model.weights}
    found = {path: tuple(variable.shape) for path, variable in variables.items()}
    engine.assign(engine.plan(found, layout, specs), tensors.__getitem__, variables)
    return model


@pytest.fixture(scope="module")
def cases():
    """`(tensors, model)` by kind, each made once."""
    made = {}

    def case(kind):
        if kind not in made:
            found = reference.calibrated(kind, reference.tensors(reference.shapes(kind)))
            made[kind] = found, build(found, UNTOLD[kind])
        return made[kind]

    return case


def errors(a, b):
    """Largest and root-mean-square difference, in standard deviations of `b`."""
    difference = (a - b) / b.std()
    return np.abs(difference).max(), np.sqrt(np.mean(difference**2))


@pytest.mark.parametrize(("kind", "size"), [(k, s) for k in SIZES for s in SIZES[k]])
def test_parity(cases, kind, size):
    found, model = cases(kind)
    x = reference.picture(*size)
    output, expected = predict(model, (x,))[..., 0], reference.Network(kind, found)(x)
    assert output.shape == expected.shape == (2, *size)
    assert expected.std() > 0.1
    largest, rms = errors(output, expected)
    assert largest < MAX and rms < RMS


@pytest.mark.compiles_long
@pytest.mark.parametrize(
    ("kind", "mistake"), [(k, m) for k in SIZES for m in reference.MISTAKES[k]]
)
def test_mistakes_would_be_noticed(cases, kind, mistake):
    found, model = cases(kind)
    x = reference.picture(*SIZES[kind][min(1, len(SIZES[kind]) - 1)])
    wrong = reference.Network(kind, found, mistake)(x)
    largest, rms = errors(predict(model, (x,))[..., 0], wrong)
    assert largest > 2 * MAX or rms > 2 * RMS


# --- transformers ---


def hub_config(backbone):
    return {
        "model_type": "dpt",
        "backbone_config": backbone,
        "readout_type": "project",
        "neck_hidden_sizes": list(reference.WIDTHS),
        "fusion_hidden_size": 24,
        "add_projection": False,
        "neck_ignore_stages": [],
    }


BEIT = {
    "model_type": "beit",
    "hidden_size": reference.DIM,
    "num_attention_heads": reference.HEADS,
    "num_hidden_layers": reference.BLOCKS,
    "intermediate_size": 80,
    "image_size": 16 * reference.GRID,
    "patch_size": 16,
    "out_features": [f"stage{tap + 1}" for tap in reference.TAPS],
    "use_relative_position_bias": True,
    "reshape_hidden_states": False,
}


def hub_model(folder, config):
    """transformers' network with random weights, saved with the names of files on the hub."""
    import torch

    transformers = pytest.importorskip("transformers")
    settings = {k: v for k, v in config.items() if k != "model_type"}
    network = transformers.DPTForDepthEstimation(
        transformers.DPTConfig(**settings | {"is_hybrid": False})
    )
    shapes = {name: tuple(x.shape) for name, x in network.state_dict().items()}
    drawn = reference.tensors(shapes)
    for name, shape in shapes.items():
        rng = np.random.default_rng(len(name))
        if "lambda_" in name:
            drawn[name] = rng.uniform(-1.8, 1.8, shape).astype("float32")
    network.load_state_dict({name: torch.from_numpy(x) for name, x in drawn.items()})
    network.eval()
    network.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return network


def hub_outputs(network, x):
    import torch

    with torch.no_grad():
        y = torch.from_numpy(x.transpose(0, 3, 1, 2).astype("float64"))
        return network.double()(y).predicted_depth.numpy()


def test_transformers_beit(tmp_path):
    theirs = hub_model(tmp_path / "hub", hub_config(BEIT))
    model = keras_dpt.DPTDepth.from_preset(str(tmp_path / "hub"))
    encoder = model.backbone.image_encoder
    assert isinstance(encoder, keras_dpt.BEiTEncoder)
    assert encoder.out_indices == reference.TAPS and encoder.layer_norm_epsilon == 1e-12
    assert not model.preprocessor.image_converter.keep_aspect_ratio
    for size in ((64, 64), (96, 128)):
        x = reference.picture(*size)
        expected = hub_outputs(theirs, x)
        assert expected.std() > 0.01
        largest, rms = errors(predict(model, (x,))[..., 0], expected)
        assert largest < MAX and rms < RMS, size


SWIN2 = {
    "model_type": "swinv2",
    "embed_dim": reference.SWIN["dim"],
    "depths": list(reference.SWIN["depths"]),
    "num_heads": list(reference.SWIN["heads"]),
    "image_size": reference.SWIN["side"],
    "window_size": reference.WINDOWS[0],
    "pretrained_window_sizes": list(reference.PRETRAINED),
    "patch_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def test_transformers_swin2(tmp_path):
    config = hub_config(SWIN2) | {"neck_hidden_sizes": [16, 32, 64, 128]}
    theirs = hub_model(tmp_path / "hub", config)
    model = keras_dpt.DPTDepth.from_preset(str(tmp_path / "hub"))
    encoder = model.backbone.image_encoder
    assert isinstance(encoder, keras_dpt.Swin2Encoder)
    assert encoder.pretrained_window_sizes == reference.PRETRAINED
    x = reference.picture(*SQUARE[0])
    expected = hub_outputs(theirs, x)
    assert expected.std() > 0.01
    largest, rms = errors(predict(model, (x,))[..., 0], expected)
    assert largest < MAX and rms < RMS
    photo = np.zeros((40, 60, 3), "uint8")
    assert model.predict_image(photo).values.shape == (40, 60)  # squashed
    model.preprocessor.image_size = (64, 64)
    with pytest.raises(ValueError, match="for images of 128 x 128 .* makes 64 x 64 of this one"):
        model.predict_image(photo)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="others know every size")
def test_sizes_known_at_run_time_only(cases):
    import tensorflow as tf

    found, model = cases("beit")
    spec = tf.TensorSpec((None, None, None, 3), tf.float32)
    run = tf.function(lambda x: model(x, training=False), input_signature=[spec])
    for size in PLAIN:
        x = reference.picture(*size)
        largest, rms = errors(
            run(tf.constant(x)).numpy()[..., 0], reference.Network("beit", found)(x)
        )
        assert largest < MAX and rms < RMS, size
