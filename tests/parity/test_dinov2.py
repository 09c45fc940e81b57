"""Depth Anything and DINOv2's depthers: against float64 references and against transformers."""

import json
import zlib
from collections import namedtuple

import keras
import numpy as np
import pytest
import tiny  # noqa: F401 - sets nothing, but fails early without the test folder on the path
from contracts import predict
from safetensors.numpy import save_file

import keras_dpt
from keras_dpt.conversion import engine
from keras_dpt.conversion.formats import FORMATS, format_of
from keras_dpt.weights.readers import Spec

from . import dinov2 as reference

pytest.importorskip("torch")

NATIVE, ODD, EVEN = (56, 56), (42, 70), (56, 84)  # grids 4 x 4 (the stored one), 3 x 5 and 4 x 6
SIZES = (NATIVE, ODD, EVEN)
MAX, RMS = 5e-4, 5e-5  # of the output's standard deviation
LAST = {False: "depth_head.scratch.output_conv2.2", True: "decode_head.conv_depth.head.4"}
Case = namedtuple("Case", "tensors options model")


def build(tensors, **configs):
    """A `DPTDepth` of these tensors, in the format that they are of, settings replaced."""
    specs = {name: Spec(x.shape, "float32") for name, x in tensors.items()}
    layout = format_of(specs)
    architecture = layout.config_from(specs)
    for part, values in configs.items():
        architecture[part] |= values
    if "max_depth" in architecture["task_config"] or "output_layer" in architecture["task_config"]:
        architecture["task_config"]["kind"] = "metric_depth"
    preset = {"architecture": architecture, "image": layout.image_from(architecture)}
    preset |= {"task": "depth", "output": {"kind": architecture["task_config"]["kind"]}}
    model = keras_dpt.DPTDepth.from_architecture(preset, dtype="float32")
    variables = {variable.path: variable for variable in model.weights}
    found = {path: tuple(variable.shape) for path, variable in variables.items()}
    engine.assign(engine.plan(found, layout, specs), tensors.__getitem__, variables)
    return model


def encoder_config(taps="v2", **more):
    config = {"num_heads": reference.HEADS, "position_grid": (reference.GRID,) * 2}
    return config | {"out_indices": reference.TAPS[taps]} | more


@pytest.fixture(scope="module")
def cases():
    """Networks by name, each made once."""
    made = {}

    def case(name):
        if name not in made:
            made[name] = make(name)
        return made[name]

    return case


def make(name):
    depther = name in ("nyu", "kitti")
    raw = {"max_depth": None} | ({"depther": (-1e9, 1e9)} if depther else {})
    found = reference.tensors(
        reference.shapes(
            depther,
            swiglu=name == "giant",
            registers=3 if name == "registers" else 0,
        )
    )
    mistake = "no clamp" if depther else "no last ReLU"
    found = reference.calibrated(
        found, lambda x: reference.Network(x, **raw, mistake=mistake), LAST[depther]
    )
    options, task = {}, {}
    if name == "v1":
        options["taps"] = reference.TAPS["v1"]
    elif name == "metric":
        options["max_depth"] = task["max_depth"] = 20.0
    elif depther:
        # Half a standard deviation of the reference is above the highest depth.
        options["depther"] = (0.001, 2.0)
        task["output_layer"] = keras_dpt.Clamped(0.001, 2.0, 0.001, dtype="float32")
    config = encoder_config("v1" if name == "v1" else "v2")
    return Case(found, options, build(found, encoder_config=config, task_config=task))


def ours(case, size):
    x = reference.picture(*size)
    return x, predict(case.model, (x,))[..., 0]


def errors(a, b):
    """Largest and root-mean-square difference, in standard deviations of `b`."""
    difference = (a - b) / b.std()
    return np.abs(difference).max(), np.sqrt(np.mean(difference**2))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["v2", "v1", "metric", "giant", "registers", "nyu"])
def test_parity(cases, name, size):
    case = cases(name)
    x, output = ours(case, size)
    expected = reference.Network(case.tensors, **case.options)(x)
    assert output.shape == expected.shape == (2, *size)
    assert expected.std() > 0.1
    largest, rms = errors(output, expected)
    assert largest < MAX and rms < RMS


# Where one shows: the native grid has no resized positions, even grids no odd sizes in fusion.
ONLY_ODD = ("fusion by doubling", "fusion to the skip's size")
ONLY_EVEN = ("level 4 padded as SAME",)


def size_for(mistake):
    return EVEN if mistake in ONLY_EVEN else ODD


@pytest.mark.compiles_long
@pytest.mark.parametrize("mistake", reference.MISTAKES)
def test_mistakes_would_be_noticed(cases, mistake):
    case = cases("v2")
    x, output = ours(case, size_for(mistake))
    wrong = reference.Network(case.tensors, mistake=mistake)(x)
    largest, rms = errors(output, wrong)
    assert largest > 2 * MAX or rms > 2 * RMS


@pytest.mark.compiles_long
@pytest.mark.parametrize("mistake", reference.DEPTHER_MISTAKES)
def test_mistakes_of_depthers_would_be_noticed(cases, mistake):
    case = cases("nyu")
    x, output = ours(case, size_for(mistake))
    wrong = reference.Network(case.tensors, **case.options, mistake=mistake)(x)
    largest, rms = errors(output, wrong)
    assert largest > 2 * MAX or rms > 2 * RMS


def test_epsilon_shows_in_small_activations():
    """1e-5, PyTorch's default, hides behind rounding unless what is normalised is small."""
    found = make("v2").tensors
    small = ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias")
    found = {n: x * np.float32(0.005) if n.endswith(small) else x for n, x in found.items()}
    x = reference.picture(*ODD)
    output = predict(build(found, encoder_config=encoder_config()), (x,))[..., 0]
    largest, rms = errors(output, reference.Network(found)(x))
    assert largest < MAX and rms < RMS
    largest, rms = errors(output, reference.Network(found, mistake="epsilon 1e-5")(x))
    assert largest > 4 * MAX and rms > 4 * RMS


@pytest.mark.compiles_long
def test_backbones_with_registers_resize_positions_with_antialiasing():
    """As the authors' do, without the offset; no depth head was published for them."""
    found = make("registers").tensors
    config = encoder_config(position_offset=0.0, position_antialias=True)
    model = build(found, encoder_config=config)
    for size in ((28, 42), EVEN):  # smaller than the stored grid, and larger
        x = reference.picture(*size)
        output = predict(model, (x,))[..., 0]
        largest, rms = errors(output, reference.Network(found, offset=0.0, antialias=True)(x))
        assert largest < MAX and rms < RMS, size
        largest, rms = errors(output, reference.Network(found, offset=0.0)(x))
        assert largest > 2 * MAX, size


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="others know every size")
@pytest.mark.parametrize("name", ["v2", "nyu"])
def test_sizes_known_at_run_time_only(cases, name):
    import tensorflow as tf

    case = cases(name)
    spec = tf.TensorSpec((None, None, None, 3), tf.float32)
    run = tf.function(lambda x: case.model(x, training=False), input_signature=[spec])
    for size in SIZES:
        x = reference.picture(*size)
        expected = reference.Network(case.tensors, **case.options)(x)
        largest, rms = errors(run(tf.constant(x)).numpy()[..., 0], expected)
        assert largest < MAX and rms < RMS, size


# --- transformers ---


def hub_backbone(**more):
    config = {
        "model_type": "dinov2",
        "hidden_size": reference.DIM,
        "num_attention_heads": reference.HEADS,
        "num_hidden_layers": reference.BLOCKS,
        "image_size": reference.GRID * reference.PATCH,
        "patch_size": reference.PATCH,
        "out_indices": [tap + 1 for tap in reference.TAPS["v2"]],
        "reshape_hidden_states": False,
    }
    return config | more


def save_hub_model(folder, model, config):
    """A hub directory with transformers' own names of files, and random weights."""
    import torch

    state = model.state_dict()
    drawn = reference.tensors({name: tuple(x.shape) for name, x in state.items()})
    model.load_state_dict({name: torch.from_numpy(x) for name, x in drawn.items()})
    model.eval()
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return model


def hub_outputs(model, x):
    import torch

    model.double()
    with torch.no_grad():
        y = torch.from_numpy(x.transpose(0, 3, 1, 2).astype("float64"))
        return model(y).predicted_depth.numpy()


@pytest.mark.parametrize(
    "kind",
    [
        "relative",
        *(pytest.param(kind, marks=pytest.mark.compiles_long) for kind in ("metric", "giant")),
    ],
)
def test_transformers_depth_anything(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    config = {
        "model_type": "depth_anything",
        "backbone_config": hub_backbone(use_swiglu_ffn=kind == "giant"),
        "reassemble_hidden_size": reference.DIM,
        "neck_hidden_sizes": list(reference.WIDTHS),
        "fusion_hidden_size": reference.FUSED,
    }
    if kind == "metric":
        config |= {"depth_estimation_type": "metric", "max_depth": 20}
    network = transformers.DepthAnythingForDepthEstimation(
        transformers.DepthAnythingConfig(**{k: v for k, v in config.items() if k != "model_type"})
    )
    theirs = save_hub_model(tmp_path / "hub", network, config)
    model = keras_dpt.DPTDepth.from_preset(str(tmp_path / "hub"))
    encoder = model.backbone.image_encoder
    assert encoder.position_offset == 0 and encoder.out_indices == reference.TAPS["v2"]
    assert model.kind == ("metric_depth" if kind == "metric" else "relative_inverse_depth")
    for size in SIZES:
        x = reference.picture(*size)
        expected = hub_outputs(theirs, x)
        largest, rms = errors(predict(model, (x,))[..., 0], expected)
        assert largest < MAX and rms < RMS, size


@pytest.mark.compiles_long
def test_transformers_dpt_on_dinov2(tmp_path):
    import torch

    transformers = pytest.importorskip("transformers")
    config = {
        "model_type": "dpt",
        "backbone_config": hub_backbone(apply_layernorm=False),
        "add_projection": True,
        "readout_type": "project",
        "neck_hidden_sizes": list(reference.WIDTHS),
        "fusion_hidden_size": 256,  # transformers writes it into the head's projection
        "use_bias_in_fusion_residual": False,
        "neck_ignore_stages": [],
    }
    settings = {k: v for k, v in config.items() if k != "model_type"}
    network = transformers.DPTForDepthEstimation(
        transformers.DPTConfig(**settings | {"is_hybrid": False})
    )
    theirs = save_hub_model(tmp_path / "hub", network, config)
    model = keras_dpt.DPTDepth.from_preset(str(tmp_path / "hub"))
    assert model.kind == "metric_depth"
    for size in SIZES:
        x = reference.picture(*size)
        maps = torch.from_numpy(hub_outputs(theirs, x))[:, None]
        expected = reference.interpolated(maps, size, False)[:, 0].numpy()
        largest, rms = errors(predict(model, (x,))[..., 0], expected)
        assert largest < MAX and rms < RMS, size


def keras_hub_network(size=112):
    """keras-hub's Depth Anything of one square size, with random weights."""
    keras_hub = pytest.importorskip("keras_hub")
    encoder = keras_hub.models.DINOV2Backbone(
        patch_size=14,
        num_layers=reference.BLOCKS,
        hidden_dim=reference.DIM,
        num_heads=reference.HEADS,
        intermediate_dim=4 * reference.DIM,
        image_shape=(size, size, 3),
        position_embedding_shape=(size, size),
        antialias_in_interpolation=False,
        apply_layernorm=True,
    )
    network = keras_hub.models.DepthAnythingBackbone(
        image_encoder=encoder,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=list(reference.WIDTHS),
        fusion_hidden_dim=reference.FUSED,
        head_hidden_dim=32,
        head_in_index=-1,
        feature_keys=[f"stage{tap + 1}" for tap in reference.TAPS["v2"]],
    )
    for variable in network.weights:
        rng = np.random.default_rng(zlib.crc32(variable.path.encode()))
        shape = tuple(variable.shape)
        if variable.path.endswith(("gamma", "lambda1")):
            value = rng.uniform(0.3, 1.7, shape)
        elif variable.path.endswith("kernel"):
            fan_in = shape[0] if len(shape) < 4 else np.prod(shape[:3])
            value = rng.normal(0, fan_in**-0.5, shape)
        else:
            value = rng.normal(0, 0.3, shape)
        variable.assign(value.astype("float32"))
    # A copy for one size, which keras-hub makes when it loads weights: here it is the same.
    stored, copied = (
        next(v for v in network.weights if v.path.endswith(f"/{name}"))
        for name in ("position_embeddings", "interpolated_position_embeddings")
    )
    copied.assign(keras.ops.convert_to_numpy(stored))
    last = next(v for v in network.weights if v.path.endswith("head/conv3/bias"))
    last.assign(last + 1.0)
    return network


@pytest.mark.compiles_long
def test_keras_hub_presets_are_converted(tmp_path, monkeypatch):
    """At its own size it computes the same; the head's activation is its task's."""
    kagglehub = pytest.importorskip("kagglehub")
    network = keras_hub_network()
    network.save_to_preset(str(tmp_path / "hub"))
    handle, asked = "keras/depth-anything/keras/depth_anything_v2_small/1", []

    def cached(name, path):
        asked.append((name, path))
        return str(tmp_path / "hub" / path)

    monkeypatch.setattr(kagglehub, "model_download", cached)
    monkeypatch.delenv("KERAS_DPT_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    model = keras_dpt.DPTDepth.from_preset(f"kaggle://{handle}")
    assert asked == [(handle, "config.json"), (handle, "model.weights.h5")]
    assert model.backbone.image_encoder.out_indices == reference.TAPS["v2"]
    x = reference.picture(112, 112)
    expected = predict(network, (x,))[..., 0]
    output = predict(model, (x,))[..., 0]
    assert expected.std() > 0.1 and (output >= 0).all()
    largest, rms = errors(output, np.maximum(expected, 0))
    assert largest < MAX and rms < RMS


@pytest.mark.compiles_long
def test_keras_hub_presets_of_twelve_blocks(tmp_path, monkeypatch):
    """On PyTorch keras-hub hands its neck the maps sorted by name, "stage12" before "stage3".

    Its maps are then those of another network. What the preset means is compared here.
    """
    monkeypatch.setattr(reference, "BLOCKS", 12)
    monkeypatch.setitem(reference.TAPS, "v2", (2, 5, 8, 11))
    network = keras_hub_network()
    network.save_to_preset(str(tmp_path / "hub"))
    model = keras_dpt.DPTDepth.from_preset(str(tmp_path / "hub"))
    assert network.feature_keys == ["stage3", "stage6", "stage9", "stage12"]
    x = reference.picture(112, 112)
    features = network.feature_extractor({"images": x})
    maps = network.neck([features[key] for key in network.feature_keys])
    expected = keras.ops.convert_to_numpy(network.head(maps))[..., 0]
    assert expected.std() > 0.1
    largest, rms = errors(predict(model, (x,))[..., 0], np.maximum(expected, 0))
    assert largest < MAX and rms < RMS


def test_every_format_on_dinov2_is_here():
    names = {n for n, f in FORMATS.items() if "DINOv2Encoder" in {e.__name__ for e in f.encoders}}
    depth_anything = {"depth_anything", "hf_depth_anything", "keras_hub_depth_anything"}
    assert names == depth_anything | {"dinov2_depther", "hf_dinov2_depther"}


def test_two_files_make_a_depther(tmp_path, monkeypatch):
    """The encoder's file has bare names, the head's is a training checkpoint."""
    import torch

    found = make("nyu").tensors
    encoder = {
        name.removeprefix("backbone."): torch.from_numpy(x)
        for name, x in found.items()
        if name.startswith("backbone.")
    }
    head = {n: torch.from_numpy(x) for n, x in found.items() if n.startswith("decode_head.")}
    folder = tmp_path / "pair"
    folder.mkdir()
    torch.save(encoder, folder / "dinov2_vits14_pretrain.pth")
    torch.save({"state_dict": head, "meta": {}}, folder / "dinov2_vits14_nyu_dpt_head.pth")
    checkpoint = keras_dpt.conversion.convert.Checkpoint(folder)
    assert len(checkpoint.files) == 2
    both = {name: checkpoint.read(name) for name in checkpoint.specs}
    task = {"output_layer": keras_dpt.Clamped(0.001, 2.0, 0.001, dtype="float32")}
    model = build(both, encoder_config=encoder_config(), task_config=task)
    x = reference.picture(*ODD)
    expected = reference.Network(found, depther=(0.001, 2.0))(x)
    largest, rms = errors(predict(model, (x,))[..., 0], expected)
    assert largest < MAX and rms < RMS
    for alone in ("dinov2_vits14_nyu_dpt_head.pth",):
        with pytest.raises(keras_dpt.WeightsError, match="without its encoder"):
            keras_dpt.convert(folder / alone, tmp_path / "out")


def test_a_file_whose_name_does_not_tell(tmp_path):
    found = make("v2").tensors
    save_file(found, tmp_path / "weights.safetensors")
    with pytest.raises(keras_dpt.WeightsError, match="do not show which network it is.*preset="):
        keras_dpt.convert(tmp_path / "weights.safetensors", tmp_path / "out")
    with pytest.raises(keras_dpt.WeightsError, match="is not of preset 'depth_anything_v2_small'"):
        keras_dpt.convert(
            tmp_path / "weights.safetensors", tmp_path / "out", preset="depth_anything_v2_small"
        )
