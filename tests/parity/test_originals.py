"""What `keras-dpt verify` compares official files with, on tiny networks of each format."""

import numpy as np
import pytest
from contracts import predict

import keras_dpt
from keras_dpt.conversion import engine
from keras_dpt.conversion.formats import FORMATS, format_of
from keras_dpt.verification import original
from keras_dpt.verification.original import TRANSFORMERS, largest_difference
from keras_dpt.weights.readers import Spec

from . import dinov2, isl_org, midas, midas_v21, originals, reference

pytest.importorskip("torch")

MAX = 5e-4  # of the output's standard deviation
MODULES = {
    dinov2: (),
    midas: ("DIM", "HEADS", "BLOCKS", "TAPS", "GRID", "SWIN", "WINDOWS", "SHIFTS", "PRETRAINED"),
    midas_v21: ("DEPTHS", "GROUPS", "LITE"),
}
ROOT = "pretrained.model."


@pytest.fixture(autouse=True)
def sizes_of_references(monkeypatch):
    """The references keep sizes in module variables, which `originals` sets: put them back."""
    for module, names in MODULES.items():
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))


def windowed(kind):
    config = {"image_size": midas.SWIN["side"], "window_size": midas.WINDOWS[0]}
    pretrained = {"pretrained_window_sizes": list(midas.PRETRAINED)}
    return config | (pretrained if kind == "swin2" else {})


def plain(grid):
    taps = {"num_heads": midas.HEADS, "out_indices": list(midas.TAPS)}
    return taps | {"position_grid": [grid] * 2}


def of_midas(kind):
    return midas.calibrated(kind, midas.tensors(midas.shapes(kind)))


def of_midas_v21(kind):
    found = midas_v21.tensors(midas_v21.shapes(kind))
    return midas_v21.calibrated(kind, found, midas.picture(64, 96, seed=9))


def of_dinov2(depther):
    found = dinov2.tensors(dinov2.shapes(depther))
    last = "decode_head.conv_depth.head.4" if depther else "depth_head.scratch.output_conv2.2"
    mistake = "no clamp" if depther else "no last ReLU"
    limits = (-1e9, 1e9) if depther else None
    found = dinov2.calibrated(
        found, lambda x: dinov2.Network(x, depther=limits, mistake=mistake), last
    )
    return {name.removeprefix("backbone."): x for name, x in found.items()}


def of_timm(kind):
    """The encoder of DeiT, with two tokens or one."""
    found = midas.tensors(midas.shapes("deit"))
    found = {n.removeprefix(ROOT): x for n, x in found.items() if n.startswith(ROOT)}
    if kind == "one token":
        del found["dist_token"]
        found["pos_embed"] = found["pos_embed"][:, 1:]
        found = {name: x for name, x in found.items() if not name.startswith("head_dist")}
    return found


def of_hugging_face():
    """transformers' ViT: the names of its DPT under another root."""
    found = {}
    for name, x in of_timm("one token").items():
        for new, old in (("query", 0), ("key", 1), ("value", 2)):
            if ".attn.qkv." in name:
                part = np.split(x, 3)[old]
                found[name.replace(".attn.qkv.", f".attention.attention.{new}.")] = part
        if ".attn.qkv." not in name:
            found[name] = x
    swaps = [
        ("blocks.", "encoder.layer."),
        (".norm1.", ".layernorm_before."),
        (".norm2.", ".layernorm_after."),
        (".attn.proj.", ".attention.output.dense."),
        (".mlp.fc1.", ".intermediate.dense."),
        (".mlp.fc2.", ".output.dense."),
        ("cls_token", "embeddings.cls_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
    ]
    renamed = {"classifier.bias": np.zeros(3, "float32")}
    for name, x in found.items():
        for old, new in swaps:
            name = name.replace(old, new)
        renamed[f"vit.{name}"] = x
    return renamed


def of_torchvision():
    found = {}
    for name, x in midas_v21.tensors(midas_v21.shapes("v21")).items():
        name = name.removeprefix("pretrained.")
        for old, new in (("layer1.0.", "conv1."), ("layer1.1.", "bn1."), ("layer1.4.", "layer1.")):
            if name.startswith(old):
                name = new + name.removeprefix(old)
        if not name.startswith("scratch."):
            found[name] = x
    return found


def of_isl_org(kind):
    network = reference.make_reference(kind)
    return isl_org.isl_state_dict(reference.state_dict(network))


TINY = reference.KINDS["tiny"]
HYBRID = reference.KINDS["tiny_hybrid"]
DINO = {"num_heads": dinov2.HEADS, "out_indices": list(dinov2.TAPS["v2"])}
DINO |= {"position_grid": [dinov2.GRID] * 2}
LIMITS = keras_dpt.Clamped(0.001, 2.0, 0.001, dtype="float32")
METRIC = {"kind": "metric_depth", "scale": 1e-4, "shift": 0.01}
CASES = {
    "isl_org": (
        lambda: of_isl_org("tiny"),
        {"num_heads": 4, "out_indices": list(TINY.out_indices), "position_grid": [4, 4]},
        METRIC,
    ),
    "isl_org_beit": (lambda: of_midas("beit"), plain(midas.GRID), {}),
    "isl_org_swin": (lambda: of_midas("swin"), windowed("swin"), {}),
    "isl_org_swin2": (lambda: of_midas("swin2"), windowed("swin2"), {}),
    "midas_v21": (lambda: of_midas_v21("v21"), {}, {}),
    "midas_v21_small": (lambda: of_midas_v21("small"), {}, {}),
    "depth_anything": (
        lambda: of_dinov2(False),
        DINO,
        {"kind": "metric_depth", "max_depth": 20.0},
    ),
    "dinov2_depther": (
        lambda: of_dinov2(True),
        DINO,
        {"kind": "metric_depth", "output_layer": LIMITS},
    ),
    "timm_vit": (lambda: of_timm("one token"), plain(midas.GRID), {}),
    "timm_vit, two tokens": (lambda: of_timm("two tokens"), plain(midas.GRID), {}),
    "hf_vit": (of_hugging_face, plain(midas.GRID), {}),
    "torchvision_resnet": (of_torchvision, {}, {}),
}
SQUARES = ("isl_org_swin", "isl_org_swin2")
# With the next to last block's map in the last one's place, all tensors still fit.
WRONG = {"out_indices": [0, 1, 2, 3]}


def made(name):
    """Tensors, architecture as in a preset, and our network or, without a decoder, our encoder."""
    tensors, encoder, task = CASES[name]
    tensors = tensors()
    specs = {n: Spec(x.shape, "float32") for n, x in tensors.items()}
    layout = format_of(specs)
    assert layout.name == name.split(",")[0]
    architecture = layout.config_from(specs)
    architecture["encoder_config"] |= encoder
    architecture["task_config"] |= task
    preset = {"architecture": architecture, "image": layout.image_from(architecture)}
    preset |= {"task": "depth", "output": {"kind": architecture["task_config"]["kind"]}}
    model = keras_dpt.DPTDepth.from_architecture(preset, dtype="float32")
    variables = {variable.path: variable for variable in model.weights}
    shapes = {path: tuple(variable.shape) for path, variable in variables.items()}
    engine.assign(engine.plan(shapes, layout, specs), tensors.__getitem__, variables)
    if "output_layer" in task:  # as it is in a preset's JSON
        config = {"min_depth": 0.001, "max_depth": 2.0, "offset": 0.001}
        architecture["task_config"]["output_layer"] = {"config": config}
    return tensors, architecture, model.backbone.image_encoder if layout.fresh else model


def ours(model, image):
    output = predict(model, (image[None],))
    if isinstance(output, dict):
        return [output[f"stage{n}"][0] for n in (1, 2, 3, 4)]
    return output[0, ..., 0]


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", CASES)
def test_the_reference_is_that_of_the_file(name):
    tensors, architecture, model = made(name)
    side = 112 if name.startswith(("depth_anything", "dinov2")) else 64
    side = architecture["encoder_config"]["image_size"] if name in SQUARES else side
    sizes = [(side, side)] if name in SQUARES else [(side, side), (side, 2 * side)]
    images = [midas.picture(112, 224)[0, :height, :width] for height, width in sizes]
    if name in SQUARES:
        images = [midas.picture(side, side)[0]]
    outputs = [ours(model, image) for image in images]
    theirs = originals.answers({"architecture": architecture}, name.split(",")[0], tensors, images)
    assert largest_difference(outputs, theirs) < MAX
    assert largest_difference([_bent(x) for x in outputs], theirs) > MAX
    if "out_indices" in architecture["encoder_config"]:
        wrong = architecture | {"encoder_config": architecture["encoder_config"] | WRONG}
        other = originals.answers({"architecture": wrong}, name.split(",")[0], tensors, images)
        assert largest_difference(outputs, other) > MAX


def _bent(output):
    """The same output but for one pixel of the last map."""
    if isinstance(output, list):
        return [*output[:-1], _bent(output[-1])]
    bent = output.copy()
    bent.flat[0] += output.std()
    return bent


def test_hybrids_and_labels():
    """The other arguments that a preset of 2021 has."""
    network = reference.make_reference("tiny_hybrid", num_classes=7, use_batch_norm=True)
    tensors = isl_org.isl_state_dict(reference.state_dict(network))
    encoder = {
        "out_indices": HYBRID.out_indices,
        "num_heads": HYBRID.num_heads,
        "position_grid": HYBRID.position_grid,
        "num_groups": HYBRID.num_groups,
        "weight_standardization": "variance",
        "layer_norm_epsilon": 1e-6,
    }
    architecture = {"encoder_config": encoder, "task_config": {"num_classes": 7}}
    architecture["backbone_config"] = {"readout": "project"}
    image = reference.random_picture(64, 96)[0]
    preset = {"architecture": architecture}
    (found,) = originals.answers(preset, "isl_org_segmentation", tensors, [image])
    expected = reference.forward(network, image[None], "float64")[0]
    assert found.shape == (64, 96, 7)
    assert largest_difference([found], [expected]) < 1e-6


def test_every_format_of_the_presets_has_a_reference():
    from keras_dpt.presets import preset_names, read_preset

    sources = [source for name in preset_names() for source in read_preset(name)["sources"]]
    formats = {source["format"] for source in sources}
    assert formats <= set(FORMATS)
    assert formats <= set(TRANSFORMERS) | set(originals.FORMATS)
    assert set(originals.FORMATS) == {name.split(",")[0] for name in CASES} | {
        "isl_org_segmentation"
    }


def test_what_no_difference_is():
    x = np.arange(6.0).reshape(2, 3)
    assert largest_difference([x], [x]) == 0
    assert largest_difference([x + x.std()], [x]) == pytest.approx(1)
    assert largest_difference([x * np.nan], [x]) == float("inf")
    assert largest_difference([x], [0 * x]) == float("inf")
    # Each of an encoder's maps by its own spread: a small one is not drowned by a large one.
    maps = [x, 1000 * x]
    assert largest_difference([[x + x.std(), 1000 * x]], [maps]) == pytest.approx(1)
    with pytest.raises(keras_dpt.WeightsError, match=r"Outputs of \[\(2, 3\)\]"):
        largest_difference([x], [x[:1]])


def hub_directory(kind, folder):
    """A directory as on the hub, of transformers' own making, and the preset's architecture."""
    import torch
    import transformers

    from . import test_dinov2, test_midas

    if kind == "hf_dpt_beit":
        test_midas.hub_model(folder, test_midas.hub_config(test_midas.BEIT))
    elif kind == "hf_dpt_swinv2":
        config = test_midas.hub_config(test_midas.SWIN2)
        test_midas.hub_model(folder, config | {"neck_hidden_sizes": [16, 32, 64, 128]})
    elif kind == "hf_dpt_segmentation":
        network = reference.make_reference("tiny", num_classes=7, use_batch_norm=True)
        network.save_pretrained(folder)
    else:
        config = {
            "model_type": "dpt",
            "backbone_config": test_dinov2.hub_backbone(apply_layernorm=False),
            "add_projection": True,
            "readout_type": "project",
            "neck_hidden_sizes": list(dinov2.WIDTHS),
            "fusion_hidden_size": 256,  # transformers writes it into the head's projection
            "use_bias_in_fusion_residual": False,
            "neck_ignore_stages": [],
        }
        settings = {k: v for k, v in config.items() if k != "model_type"} | {"is_hybrid": False}
        network = transformers.DPTForDepthEstimation(transformers.DPTConfig(**settings))
        test_dinov2.save_hub_model(folder, network, config)
        from safetensors.torch import load_file

        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    (weights,) = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    return weights


@pytest.mark.compiles_long
@pytest.mark.parametrize(
    "name", ["hf_dpt_beit", "hf_dpt_swinv2", "hf_dpt_segmentation", "hf_dinov2_depther"]
)
def test_transformers_reads_the_same_file(name, tmp_path):
    pytest.importorskip("transformers")
    path = hub_directory(name, tmp_path / "hub")
    task = "segmentation" if "segmentation" in name else "depth"
    cls = keras_dpt.DPTSegmentation if task == "segmentation" else keras_dpt.DPTDepth
    model = cls.from_preset(str(path.parent))
    encoder = model.backbone.image_encoder
    config = {"layer_norm_epsilon": encoder.layer_norm_epsilon}
    preset = {"task": task, "architecture": {"encoder_config": config, "task_config": {}}}
    side = encoder.fixed_size[0] if encoder.fixed_size else 56 if "dino" in name else 64
    if "dino" in name:  # the authors' head, which transformers leaves out
        limits = {"min_depth": 0.001, "max_depth": 2.0, "offset": 0.001}
        preset["architecture"]["task_config"]["output_layer"] = {"config": limits}
        model = rebuilt(model, keras_dpt.Clamped(0.001, 2.0, 0.001, dtype="float32"))
    image = midas.picture(side // 8 * 8, side // 8 * 8)[0][:side, :side]
    source = {"format": name, "file": path.name}
    (theirs,) = original.answers(preset, source, path, [image])
    output = predict(model, (image[None],))[0]
    output = output if task == "segmentation" else output[..., 0]
    assert theirs.std() > 0.01
    assert largest_difference([output], [theirs]) < MAX
    # Another epsilon is another network: transformers is told the preset's.
    preset["architecture"]["encoder_config"] = {"layer_norm_epsilon": 0.1}
    (wrong,) = original.answers(preset, source, path, [image])
    assert largest_difference([output], [wrong]) > MAX


def rebuilt(model, output_layer):
    """The same weights under another output layer."""
    arguments = {"head_channels": model.head_channels, "output_resize": "bilinear"}
    arguments |= {"head_projection_channels": 256, "head_size": "double"}
    other = keras_dpt.DPTDepth(
        model.backbone, kind="metric_depth", output_layer=output_layer, **arguments
    )
    other.set_weights(model.get_weights())
    return other


def test_a_file_that_transformers_cannot_fill_is_no_reference(tmp_path):
    pytest.importorskip("transformers")
    from safetensors.numpy import load_file, save_file

    path = hub_directory("hf_dpt_beit", tmp_path / "hub")
    tensors = load_file(path)
    lost = next(name for name in tensors if name.endswith("fusion_stage.layers.1.projection.bias"))
    del tensors[lost]
    save_file(tensors, path, metadata={"format": "pt"})
    preset = {"task": "depth", "architecture": {"encoder_config": {}, "task_config": {}}}
    source = {"format": "hf_dpt_beit", "file": path.name}
    with pytest.raises(keras_dpt.WeightsError, match=f"finds no weights for {lost} in .*is no ref"):
        original.answers(preset, source, path, [midas.picture(64, 64)[0]])
