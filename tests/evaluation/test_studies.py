import contextlib
import copy
import json
from types import SimpleNamespace
from unittest import mock

import keras
import numpy as np
import pytest
import tiny
from PIL import Image

import keras_dpt
from keras_dpt import cli, presets
from keras_dpt.datasets import Source
from keras_dpt.errors import EvaluationError, TrainingError
from keras_dpt.evaluation import PROTOCOLS, studies
from keras_dpt.maps.depth_map import DepthMap

SIZE = (32, 32)


def planes(count=4):
    images = tiny.photos(count, *SIZE)
    ramp = np.linspace(1, 3, SIZE[0] * SIZE[1]).reshape(SIZE).astype("float32")
    ids = [str(i) for i in range(count)]
    return Source("planes", ids, lambda i: (images[i], ramp * (1 + i)), "metric_depth")


def tiny_preset(encoder="ViTHybridEncoder"):
    """A preset whose network is that of the other tests."""
    preset = presets.read_preset("dpt_mini_nyuv2")
    architecture = preset["architecture"]
    config = {"num_layers": 4, "hidden_dim": 32, "num_heads": 2, "mlp_dim": 48}
    config |= {"position_grid": [2, 2]} | tiny.ENCODER_CONFIGS[encoder]
    widths = {"ViTHybridEncoder": [16, 24, 16, 20]}.get(encoder, [8, 12, 16, 20])
    architecture |= {"encoder": encoder, "encoder_config": config}
    architecture["backbone_config"] |= {"reassemble_channels": widths, "fusion_channels": 16}
    architecture["task_config"]["head_channels"] = [12, 8]
    preset["image"]["image_size"] = list(SIZE)
    return preset


class Sharper:
    """A model whose prediction is the better the larger the image: sizes are all it looks at."""

    kind = "relative_inverse_depth"
    weights = ()

    class backbone:
        size_multiple = 32
        input = keras.Input((None, None, 3))
        dtype_policy = keras.dtype_policies.DTypePolicy("float32")

    def __init__(self):
        self.preprocessor = keras_dpt.DPTImageConverter(SIZE)

    def converter_of_photos(self):
        return self.preprocessor

    def count_params(self):
        return 0

    def predict_images(self, images, batch_size):
        noise = np.random.default_rng(0).normal(0, 3 / self.preprocessor.image_size[0], SIZE)
        plane = 1 / np.linspace(1, 3, SIZE[0] * SIZE[1]).reshape(SIZE)
        return [DepthMap(plane + noise, self.kind) for _ in images]


def test_resolution(tmp_path):
    model = Sharper()
    study = studies.resolution_study(model, planes(2), "aligned_depth", factors=(1.0, 1.9))
    assert tuple(model.preprocessor.image_size) == SIZE
    first, second = study.rows
    assert (first["image"], second["image"]) == ("32x32", "64x64")
    assert first["change"] == 0
    expected = 100 * (second["abs_rel"] / first["abs_rel"] - 1)
    assert second["change"] == pytest.approx(expected) and expected < -20
    studies.plot(study, tmp_path / "study.png")
    with Image.open(tmp_path / "study.png") as picture:
        assert picture.size == (832, 520)


@pytest.mark.slow
def test_readouts_are_trained_and_measured(tmp_path):
    source, preset = planes(), tiny_preset()
    before = copy.deepcopy(preset)
    study = studies.training_study(
        "readout", preset, source, source, "aligned_depth", epochs=1, batch_size=2, verbose=0
    )
    assert preset == before
    assert [row["variant"] for row in study.rows] == ["ignore", "add", "project"]
    assert study.rows[0]["parameters"] == study.rows[1]["parameters"]
    # Two products of 32 x 32 and a bias, for each of the two taps with a class token.
    assert study.rows[2]["parameters"] - study.rows[0]["parameters"] == 2 * (2 * 32 * 32 + 32)
    assert all(np.isfinite(row["abs_rel"]) for row in study.rows)
    assert study.about["train_images"] == 4 and study.about["backend"] == keras.backend.backend()
    study.save(tmp_path / "study.json")
    assert json.loads((tmp_path / "study.json").read_text())["rows"] == study.rows
    studies.plot(study, tmp_path / "study.png")
    lines = study.markdown().splitlines()
    assert lines[0].startswith("| variant | parameters | abs_rel |") and len(lines) == 5


@pytest.mark.slow
@pytest.mark.parametrize("encoder", tiny.WITH_POSITIONS)
@pytest.mark.parametrize("study", [studies.taps_variants, studies.encoder_variants])
def test_variants_can_be_built(study, encoder):
    variants = study(tiny_preset(encoder))
    assert len(variants) >= (1 if encoder == "ViTEncoder" else 2)
    for preset in variants.values():
        model = keras_dpt.DPTDepth.from_architecture(preset)
        assert type(model.backbone.image_encoder).__name__ == preset["architecture"]["encoder"]


def test_taps_of_a_full_size_encoder():
    preset = presets.read_preset("dpt_base")
    assert list(studies.taps_variants(preset)) == [
        "blocks 3, 6, 9, 12",
        "blocks 9, 10, 11, 12",
        "blocks 8, 9, 10, 12",
    ]
    hybrid = list(studies.taps_variants(presets.read_preset("dpt_hybrid")))
    assert hybrid[-2:] == ["stages 1, 2, blocks 6, 12", "stages 1, 2, blocks 11, 12"]


@pytest.mark.slow
def test_cost():
    study = studies.cost_study(["dpt_mini_nyuv2"], image_size=(32, 32), repeats=2)
    (row,) = study.rows
    assert row["parameters"] == presets.read_preset("dpt_mini_nyuv2")["parameters"]
    assert 0 < row["fastest_ms"] <= row["median_ms"]


@pytest.mark.parametrize("place", ["Python", "command"])
def test_the_cost_of_a_network_at_a_size_that_it_does_not_take(
    place, tmp_path, capsys, monkeypatch
):
    preset = tiny_preset("Swin2Encoder")
    encoder = tiny.encoder("Swin2Encoder")
    widths = [tap.channels for tap in encoder.taps]
    backbone = {"reassemble_channels": widths, "readout": "ignore"}
    preset["architecture"]["backbone_config"] |= backbone
    preset["architecture"]["encoder_config"] = tiny.ENCODER_CONFIGS["Swin2Encoder"]
    monkeypatch.setattr(presets, "read_preset", lambda name: preset)
    message = (
        "dpt_swin2_tiny_256 takes images of 64 x 64 (height x width) only. Received: "
        "image_size=(96, 64). Compare it at its own size, or omit it."
    )
    if place == "Python":
        with pytest.raises(EvaluationError) as caught:
            studies.cost_study(["dpt_swin2_tiny_256"], image_size=(96, 64))
        assert str(caught.value) == message
        return
    command = ["study", "cost", "--preset", "dpt_swin2_tiny_256", "--image-size", "96", "64"]
    assert cli.main([*command, "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"keras-dpt: {message}\n"
    assert not (tmp_path / "out").exists()


def test_refusals():
    with pytest.raises(EvaluationError, match="readout, taps, encoders. Received: 'size'"):
        studies.training_study("size", "dpt_mini_nyuv2", None, None, "aligned_depth")
    for study, name in (
        (studies.taps_variants, "dpt_swin2_tiny_256"),
        (studies.encoder_variants, "dpt_beit_base_384"),
        (studies.readout_variants, "midas_v21"),
    ):
        with pytest.raises(EvaluationError, match=f"This study is for presets on .*{name}"):
            study(presets.read_preset(name))


# ---- variants -----------------------------------------------------------------------------------


def taps_of(variants):
    """`{name: (encoder, taps, stages, widths)}`."""
    found = {}
    for name, preset in variants.items():
        architecture = preset["architecture"]
        config = architecture["encoder_config"]
        widths = architecture["backbone_config"]["reassemble_channels"]
        encoder, stages = architecture["encoder"], config.get("out_stages")
        found[name] = encoder, list(config["out_indices"]), stages, widths
    return found


def test_taps_by_hand():
    widths = [96, 192, 384, 768]
    assert taps_of(studies.taps_variants(presets.read_preset("dpt_base"))) == {
        "blocks 3, 6, 9, 12": ("ViTEncoder", [2, 5, 8, 11], None, widths),
        "blocks 9, 10, 11, 12": ("ViTEncoder", [8, 9, 10, 11], None, widths),
        "blocks 8, 9, 10, 12": ("ViTEncoder", [7, 8, 9, 11], None, widths),
    }
    hybrid = presets.read_preset("dpt_hybrid")
    of_stages = [256, 512, *hybrid["architecture"]["backbone_config"]["reassemble_channels"][2:]]
    found = taps_of(studies.taps_variants(hybrid))
    assert found["blocks 3, 6, 9, 12"][1:3] == ([2, 5, 8, 11], [])
    for name, taps in (("6, 12", [5, 11]), ("11, 12", [10, 11])):
        expected = ("ViTHybridEncoder", taps, [0, 1], of_stages)
        assert found[f"stages 1, 2, blocks {name}"] == expected


def test_taps_of_an_odd_number_of_blocks():
    preset = tiny_preset("ViTEncoder")
    preset["architecture"]["encoder_config"]["num_layers"] = 13
    assert [taps for _, taps, *_ in taps_of(studies.taps_variants(preset)).values()] == [
        [2, 5, 9, 12],
        [9, 10, 11, 12],
        [7, 9, 10, 12],
    ]


def test_a_short_network_has_no_taps_twice():
    preset = tiny_preset("ViTEncoder")
    assert [taps for _, taps, *_ in taps_of(studies.taps_variants(preset)).values()] == [
        [0, 1, 2, 3]
    ]


def test_encoders_by_hand():
    preset = presets.read_preset("dpt_base")
    before = copy.deepcopy(preset)
    variants = studies.encoder_variants(preset)
    assert preset == before
    assert taps_of(variants) == {
        "ViTEncoder": ("ViTEncoder", [2, 5, 8, 11], None, [96, 192, 384, 768]),
        "ViTHybridEncoder": ("ViTHybridEncoder", [5, 11], [0, 1], [256, 512, 384, 768]),
    }
    plain, hybrid = (v["architecture"]["encoder_config"] for v in variants.values())
    shared = {"num_layers": 12, "hidden_dim": 768, "num_heads": 12, "mlp_dim": 3072}
    shared["position_grid"] = [24, 24]
    assert plain == shared | {"out_indices": [2, 5, 8, 11], "patch_size": 16}
    taps = {"out_indices": [5, 11], "out_stages": [0, 1], "stage_channels": [256, 512, 1024]}
    assert hybrid == shared | taps


def test_a_hybrid_keeps_its_stages_beside_a_plain_encoder():
    preset = tiny_preset("ViTHybridEncoder")
    config = preset["architecture"]["encoder_config"]
    variants = studies.encoder_variants(preset)
    assert list(variants) == ["ViTEncoder", "ViTHybridEncoder"]
    plain, hybrid = (v["architecture"]["encoder_config"] for v in variants.values())
    assert "stage_channels" not in plain and plain["out_indices"] == [0, 1, 2, 3]
    assert hybrid == config | {"out_indices": [1, 3], "out_stages": [0, 1]}


def test_readouts_by_hand():
    preset = tiny_preset("ViTEncoder")
    variants = studies.readout_variants(preset)
    assert list(variants) == ["ignore", "add", "project"]
    for mode, variant in variants.items():
        assert variant["architecture"]["backbone_config"].pop("readout") == mode
        expected = copy.deepcopy(preset)
        expected["architecture"]["backbone_config"].pop("readout", None)
        assert variant == expected


# ---- training and cost, with networks that cost nothing ----------------------------------------


class Network:
    """As much of a task as the studies of variants use."""

    learns = "inverse_depth"

    class backbone:
        size_multiple = 32

        class image_encoder:
            fixed_size = None

    def __init__(self, config, dtype):
        self.config, self.dtype, self.calls = config, dtype, []
        self.preprocessor = keras_dpt.DPTImageConverter(SIZE)

    def count_params(self):
        return np.int64(1234)

    def compile(self, **options):
        self.calls.append(("compile", options))

    def fit(self, data, **options):
        self.calls.append(("fit", data, options))


@pytest.fixture
def networks(monkeypatch):
    """The networks that a study makes, in their order."""
    made = []

    def from_architecture(config, dtype=None):
        made.append(Network(config, dtype))
        return made[-1]

    tasks = {"depth": mock.Mock(from_architecture=from_architecture)}
    monkeypatch.setattr(studies, "task_named", tasks.__getitem__)
    monkeypatch.setattr(keras.backend, "clear_session", lambda: None)  # it takes a second
    return made


@pytest.fixture
def clock(monkeypatch):
    """Sets how many seconds pass from one look at the clock to the next."""

    def set_clock(*intervals):
        times = np.cumsum([100.0, *intervals]).tolist()
        monkeypatch.setattr(studies.time, "perf_counter", lambda: times.pop(0))

    return set_clock


def test_each_variant_is_trained_and_evaluated(networks, clock, monkeypatch):
    trained, evaluated, seeds = [], [], []

    def evaluate(model, *arguments, **options):
        evaluated.append((model, arguments, options))
        metrics = dict.fromkeys(PROTOCOLS["aligned_depth"].metrics, 0.1 * len(evaluated))
        return SimpleNamespace(metrics=metrics, records=[{}] * 3)

    monkeypatch.setattr(studies, "_train", lambda *arguments: trained.append(arguments))
    monkeypatch.setattr(studies, "evaluate", evaluate)
    monkeypatch.setattr(keras.utils, "set_random_seed", seeds.append)
    clock(2.06, 1, 3.0, 1, 4.0)
    preset, train, val = tiny_preset(), planes(5), planes(6)
    study = studies.training_study(
        "readout",
        preset,
        train,
        val,
        "aligned_depth",
        epochs=7,
        batch_size=3,
        learning_rate=0.25,
        limit=3,
        seed=11,
        dtype="mixed_bfloat16",
        verbose=1,
    )
    assert seeds == [11] * 3 and [m.dtype for m in networks] == ["mixed_bfloat16"] * 3
    assert [m.config for m in networks] == list(studies.readout_variants(preset).values())
    assert trained == [(model, train, 7, 3, 0.25, 11, 1) for model in networks]
    protocol = PROTOCOLS["aligned_depth"]
    options = {"limit": 3, "unnamed": True}
    assert evaluated == [(model, (val, protocol), options) for model in networks]
    assert study.rows == [
        {
            "variant": variant,
            "parameters": 1234,
            "abs_rel": 0.1 * n,
            "sq_rel": 0.1 * n,
            "rmse": 0.1 * n,
            "train_seconds": seconds,
        }
        for n, variant, seconds in ((1, "ignore", 2.1), (2, "add", 3.0), (3, "project", 4.0))
    ]
    about = {key: study.about[key] for key in study.about if key != "versions"}
    assert about == {
        "preset": "dpt_mini_nyuv2",
        "protocol": "aligned_depth",
        "train": "planes",
        "train_images": 5,
        "val": "planes",
        "val_images": 3,
        "epochs": 7,
        "batch_size": 3,
        "learning_rate": 0.25,
        "seed": 11,
        "dtype": "mixed_bfloat16",
        "backend": keras.backend.backend(),
    }
    assert study.about["versions"]["keras"] == keras.__version__
    assert (study.name, study.source) == ("readout", "Ranftl et al. 2021, Table 7")
    assert [type(row["parameters"]) for row in study.rows] == [int] * 3


def test_a_backend_that_does_not_train(monkeypatch):
    monkeypatch.setattr("keras_dpt.ops.training.keras.config.backend", lambda: "openvino")
    with pytest.raises(TrainingError, match="^This study needs"):
        studies.training_study("taps", "dpt_base", planes(), planes(), "aligned_depth")


def test_the_defaults_of_a_training_study(networks, monkeypatch):
    trained = []
    result = SimpleNamespace(metrics=dict.fromkeys(PROTOCOLS["aligned_depth"].metrics, 0.1))
    result.records = []
    monkeypatch.setattr(studies, "_train", lambda *arguments: trained.append(arguments[2:]))
    monkeypatch.setattr(studies, "evaluate", lambda *_, **__: result)
    study = studies.training_study("taps", "dpt_base", planes(), planes(), "aligned_depth")
    assert trained == [(3, 8, 5e-4, 0, 2)] * 3 and study.about["preset"] == "dpt_base"


@pytest.mark.parametrize("learns", ["inverse_depth", "labels"])
def test_how_a_variant_is_trained(learns, monkeypatch):
    """With a linear head only where the loss is blind to shifts."""
    calls = []

    @contextlib.contextmanager
    def linear_head(model):
        calls.append("linear")
        yield
        calls.append("back")

    def lift_outputs(model, images):
        calls.append(len(images))

    monkeypatch.setattr("keras_dpt.training.linear_head", linear_head)
    monkeypatch.setattr("keras_dpt.training.lift_outputs", lift_outputs)
    monkeypatch.setattr("keras_dpt.datasets.Batches", lambda *a, **o: (a, o))
    source, model = planes(3), Network(None, None)
    model.learns = learns
    studies._train(model, source, 4, 8, 0.25, 11, 1)
    (_, compiled), (_, data, fitted) = model.calls
    optimizer = compiled.pop("optimizer")
    assert compiled == {"metrics": None} and isinstance(optimizer, keras.optimizers.Adam)
    assert float(optimizer.learning_rate) == 0.25 and optimizer.clipnorm == 1.0
    assert data == ((source, SIZE, 3), {"target": learns, "seed": 11})
    assert fitted == {"epochs": 4, "verbose": 1}
    assert calls == (["linear", 3, "back"] if learns == "inverse_depth" else [])


def test_cost_is_the_time_after_warming_up(networks, clock, monkeypatch):
    shapes = []
    monkeypatch.setattr(keras.Model, "predict_on_batch", lambda _, x: shapes.append(x.shape))
    clock(9, 1, 9, 1, 0.0101, 1, 0.02, 1, 0.06)
    study = studies.cost_study(["dpt_base"], image_size=(40, 79), repeats=3, dtype="float16")
    assert study.rows == [
        {"variant": "dpt_base", "parameters": 1234, "median_ms": 20.0, "fastest_ms": 10.1}
    ]
    assert shapes == [(1, 32, 64, 3)] * 5
    about = {"image": "40x79", "repeats": 3, "dtype": "float16"}
    assert about.items() <= study.about.items() and networks[0].dtype == "float16"
    assert (study.name, study.source) == ("cost", "Ranftl et al. 2021, Table 9")


def test_the_defaults_of_the_cost_study(networks, monkeypatch):
    shapes = []
    monkeypatch.setattr(keras.Model, "predict_on_batch", lambda _, x: shapes.append(x.shape))
    study = studies.cost_study(["dpt_base", "dpt_large"])
    assert shapes == [(1, 384, 384, 3)] * 24
    assert [row["variant"] for row in study.rows] == ["dpt_base", "dpt_large"]
    studies.cost_study(["dpt_base"], image_size=(4, 4), repeats=1)
    assert shapes[-1] == (1, 32, 32, 3)


# ---- results -------------------------------------------------------------------------------------


def test_resolution_by_hand(monkeypatch):
    """A loss is positive, whether small or large numbers are good."""
    results, options = [0.2, 0.3, 0.1], []

    def evaluate(model, source, protocol, **given):
        options.append((tuple(model.preprocessor.image_size), given))
        metrics = dict.fromkeys(protocol.metrics, results[len(options) - 1])
        return SimpleNamespace(metrics=metrics, records=[{}, {}])

    monkeypatch.setattr(studies, "evaluate", evaluate)
    model, given = Sharper(), {"limit": 2, "batch_size": 3, "progress": True}
    model.preprocessor.image_size = (64, 96)
    study = studies.resolution_study(model, planes(2), "aligned_depth", (1.0, 1.5, 0.1), **given)
    assert options == [
        (size, {"unnamed": True} | given) for size in ((64, 96), (96, 128), (32, 32))
    ]
    assert [row["change"] for row in study.rows] == pytest.approx([0, 50, -50])
    assert study.rows[1] == {
        "variant": "1.5x",
        "factor": 1.5,
        "image": "96x128",
        "abs_rel": 0.3,
        "sq_rel": 0.3,
        "rmse": 0.3,
        "change": study.rows[1]["change"],
    }
    expected = {"protocol": "aligned_depth", "data": "planes", "images": 2}
    assert expected.items() <= study.about.items()
    assert study.about["backend"] == keras.backend.backend() and study.about["versions"]
    assert (study.name, study.source) == ("resolution", "Ranftl et al. 2021, Figure 4")
    assert tuple(model.preprocessor.image_size) == (64, 96)
    options.clear()
    study = studies.resolution_study(model, planes(2), "labels", (1.0, 1.5, 2.0))
    assert [row["change"] for row in study.rows] == pytest.approx([0, -50, 50])
    assert options[0][1] == {"limit": None, "unnamed": True, "batch_size": 4, "progress": False}


def test_the_size_is_restored_after_an_error(monkeypatch):
    monkeypatch.setattr(studies, "evaluate", mock.Mock(side_effect=KeyboardInterrupt))
    model = Sharper()
    with pytest.raises(KeyboardInterrupt):
        studies.resolution_study(model, planes(2), "aligned_depth", (2.0,))
    assert tuple(model.preprocessor.image_size) == SIZE


@pytest.mark.parametrize("which", ["no size", "one size"])
def test_models_without_another_resolution(which):
    model = Sharper()
    if which == "no size":
        model.preprocessor.image_size = None
    else:
        model.backbone = SimpleNamespace(input=keras.Input((64, 96, 3)))
    message = "does not resize" if which == "no size" else "64 x 96.* There is no other resolution"
    with pytest.raises(EvaluationError, match=message):
        studies.resolution_study(model, planes(2), "aligned_depth")


ROWS = [
    {"variant": "a", "parameters": 1234567, "abs_rel": 0.12345, "note": "x"},
    {"variant": "b", "parameters": 7, "abs_rel": -1234.5, "note": None},
]


def test_a_study_as_text_and_as_a_file(tmp_path):
    study = studies.Study("readout", "a table", ROWS, {"seed": 1})
    assert study.markdown() == (
        "| variant | parameters | abs_rel | note |\n"
        "|---|---:|---:|---:|\n"
        "| a | 1,234,567 | 0.123 | x |\n"
        "| b | 7 | -1234 | None |\n"
    )
    study.save(tmp_path / "study.json")
    saved = json.loads((tmp_path / "study.json").read_text())
    about = {"study": "readout", "source": "a table", "about": {"seed": 1}}
    assert saved == about | {"rows": ROWS}
    with pytest.raises(ValueError, match="JSON"):
        studies.Study("cost", "", [{"variant": float("nan")}]).save(tmp_path / "nan.json")


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """`drawn(study)` is the only axes of its plot."""
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))

    def draw(study):
        studies.plot(study, tmp_path / "study.png")
        (axes,) = figures.pop().axes
        return axes

    return draw


def test_a_plot_of_resolutions(drawn):
    rows = [
        {"variant": f"{f}x", "factor": f, "image": "", "rmse": f / 8, "change": 10 * f - 10}
        for f in (1.0, 1.5)
    ]
    axes = drawn(studies.Study("resolution", "", rows, {"data": "planes", "val": "others"}))
    zero, line = axes.get_lines()
    assert set(zero.get_ydata()) == {0} and line.get_marker() == "o"
    assert line.get_xydata().tolist() == [[1, 0], [1.5, 5]]
    assert [(text.get_text(), text.xy) for text in axes.texts] == [
        ("0.125", (1.0, 0.0)),
        ("0.188", (1.5, 5.0)),
    ]
    assert axes.get_title() == "resolution: planes"
    assert axes.get_xlabel() == "image size, relative to the preset's"
    assert axes.get_ylabel() == "RMSE (m): loss against 1x (%)"
    assert drawn(studies.Study("resolution", "", rows[:1])).get_title() == "resolution: "


def test_a_plot_that_cannot_be_written(tmp_path):
    (tmp_path / "study.png").mkdir()
    with pytest.raises(EvaluationError, match="study.png"):
        studies.plot(
            studies.Study("cost", "", [{"variant": "a", "rmse": 1.0}]), tmp_path / "study.png"
        )


@pytest.mark.parametrize(
    ("shown", "label", "texts"),
    [
        ("rmse", "RMSE (m)", ["8.000", "7.000"]),
        ("median_ms", "median ms per image", ["8", "7"]),
    ],
)
def test_a_plot_of_variants(drawn, shown, label, texts):
    rows = [{"variant": name, "parameters": 9, shown: x} for name, x in (("a", 7.0), ("b", 8.0))]
    axes = drawn(studies.Study("cost", "", rows, {"val": "others"} if shown == "rmse" else {}))
    assert [bar.get_width() for bar in axes.patches] == [8, 7]  # the first one on top
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["b", "a"]
    assert [text.get_text() for text in axes.texts] == texts
    assert axes.get_xlabel() == label
    assert axes.get_title() == ("cost: others" if shown == "rmse" else "cost: ")
