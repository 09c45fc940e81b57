"""The command line, run in this process with a tiny network in place of the embedded weights."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_dpt import cli, files
from keras_dpt.encoders.vit import ViTEncoder
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap
from keras_dpt.models.backbone import DPTBackbone
from keras_dpt.models.depth import DPTDepth
from keras_dpt.models.image_converter import DPTImageConverter
from keras_dpt.models.preprocessor import DPTDepthPreprocessor, DPTSegmentationPreprocessor
from keras_dpt.models.segmentation import DPTSegmentation

ROOT = Path(__file__).parent.parent


def tiny_backbone():
    encoder = ViTEncoder(4, 16, 2, 32, position_grid=(2, 2), out_indices=(0, 1, 2, 3))
    return DPTBackbone(encoder, reassemble_channels=(8, 8, 8, 8), fusion_channels=8)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    model = DPTDepth(
        tiny_backbone(),
        DPTDepthPreprocessor(DPTImageConverter(image_size=(32, 32))),
        head_channels=(8, 4),
    )
    # Random heads are often zero everywhere after their ReLU; a bias keeps this one alive.
    model.head.conv3.bias.assign([1.0])
    folder = tmp_path_factory.mktemp("preset") / "tiny"
    model.save_to_preset(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def segmentation_preset(tmp_path_factory):
    model = DPTSegmentation(
        tiny_backbone(),
        3,
        DPTSegmentationPreprocessor(DPTImageConverter(image_size=(32, 32))),
        class_names=("road", "car", "sky"),
        auxiliary=False,
    )
    folder = tmp_path_factory.mktemp("preset") / "tiny_segmentation"
    model.save_to_preset(str(folder))
    return str(folder)


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, size in (("a.jpg", (40, 60)), ("b.png", (64, 48)), ("more/a.jpg", (33, 35))):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_depth_writes_every_format_for_every_photo(preset, photos, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    formats = ["png", "color", "npy", "pfm"]
    code = cli.main(
        ["depth", str(photos), "-o", str(out), "--preset", preset, "--format", *formats]
    )
    assert code == 0
    assert "3 of 3 images" in capsys.readouterr().out
    stems = {"a": (40, 60), "b": (64, 48), "a_2": (33, 35)}
    expected = {
        f"{stem}_{end}"
        for stem in stems
        for end in ("color.png", "depth.png", "depth.npy", "depth.pfm")
    }
    assert {path.name for path in out.iterdir()} == expected
    for stem, size in stems.items():
        values = np.load(out / f"{stem}_depth.npy")
        assert values.shape == size and values.dtype == np.float32
        stored = DepthMap.load(out / f"{stem}_depth.png")
        assert stored.kind == "relative_inverse_depth"
        np.testing.assert_allclose(stored.values, values, atol=np.ptp(values) / 65535)
        with Image.open(out / f"{stem}_color.png") as picture:
            assert picture.size == size[::-1]


@pytest.mark.parametrize(
    "options", [[], ["--multi-scale"], ["--sliding-window", "40"]], ids=lambda x: "".join(x[:1])
)
def test_segment(options, segmentation_preset, photos, tmp_path, capsys):
    out = tmp_path / "out"
    formats = ["png", "overlay", "color", "npy"]
    command = ["segment", str(photos / "a.jpg"), "-o", str(out), "--preset", segmentation_preset]
    assert cli.main([*command, "--format", *formats, *options]) == 0
    assert "1 of 1 images" in capsys.readouterr().out
    ends = ("labels.png", "overlay.png", "color.png", "labels.npy")
    assert {path.name for path in out.iterdir()} == {f"a_{end}" for end in ends}
    stored = LabelMap.load(out / "a_labels.png")
    assert stored.class_names == ("road", "car", "sky")
    np.testing.assert_array_equal(stored.labels, np.load(out / "a_labels.npy"))
    with Image.open(out / "a_overlay.png") as picture:
        assert picture.width > 60 and picture.height >= 40  # the legend on its right


@pytest.mark.parametrize("command, other", [("depth", "segment"), ("segment", "depth")])
def test_presets_of_another_task_are_refused(
    command, other, preset, segmentation_preset, photos, tmp_path, capsys
):
    name = preset if command == "segment" else segmentation_preset
    assert cli.main([command, str(photos), "-o", str(tmp_path / "out"), "--preset", name]) == 2
    assert f"is for `keras-dpt {other}`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.compiles_long
def test_unreadable_images_are_skipped_and_said(preset, photos, tmp_path, capsys):
    (photos / "text.jpg").write_text("not an image")
    (photos / "empty.png").touch()
    out = tmp_path / "out"
    code = cli.main(["depth", str(photos), "-o", str(out), "--preset", preset, "--format", "npy"])
    captured = capsys.readouterr()
    assert code == 1
    assert len(list(out.iterdir())) == 3
    assert "text.jpg" in captured.err and "empty.png" in captured.err
    assert "Traceback" not in captured.err
    assert "3 of 5 images" in captured.out


@pytest.mark.compiles_long
def test_a_result_that_cannot_be_written_does_not_stop_the_rest(preset, photos, tmp_path, capsys):
    long = "x" * 250  # with _depth.png after it no system takes it
    shutil.copy(photos / "b.png", photos / f"{long}.png")
    out = tmp_path / "out"
    command = ["depth", str(photos), "-o", str(out), "--preset", preset, "--batch-size", "1"]
    assert cli.main([*command, "--format", "npy"]) == 1
    captured = capsys.readouterr()
    assert "3 of 4 images" in captured.out
    assert f"skipped: Cannot write {out / long}_depth.npy: File name too long" in captured.err
    assert sorted(path.name for path in out.iterdir()) == [
        "a_2_depth.npy",
        "a_depth.npy",
        "b_depth.npy",
    ]


@pytest.mark.compiles_long
def test_a_full_disk_stops_at_once(preset, photos, tmp_path, capsys, monkeypatch):
    def replace(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", replace)
    out = tmp_path / "out"
    command = ["depth", str(photos), "-o", str(out), "--preset", preset, "--batch-size", "1"]
    assert cli.main([*command, "--format", "npy"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("keras-dpt: Cannot write") and error.count("No space left") == 1
    assert not out.exists()


@pytest.mark.compiles_long
def test_16_bit_pictures_are_read_as_python_reads_them(preset, photos, tmp_path):
    grey = np.random.default_rng(1).integers(0, 65536, (40, 60), dtype=np.uint16)
    Image.fromarray(grey).save(photos / "deep.png")
    command = ["depth", str(photos / "deep.png"), "-o", str(tmp_path / "out"), "--preset", preset]
    assert cli.main([*command, "--format", "npy"]) == 0
    expected = DPTDepth.from_preset(preset).predict_image(photos / "deep.png")
    assert expected.source == photos / "deep.png"
    values = np.load(tmp_path / "out" / "deep_depth.npy")
    np.testing.assert_allclose(values, expected.values, atol=1e-4 * np.ptp(values))


@pytest.mark.compiles_long
def test_results_beside_the_photos_are_no_photos(preset, photos):
    command = ["depth", str(photos), "-o", str(photos), "--preset", preset]
    for _ in range(2):
        assert cli.main(command) == 0
    names = {path.name for path in photos.glob("*.png")}
    stems = ("a", "b", "a_2")
    assert names == {"b.png"} | {f"{s}_{end}.png" for s in stems for end in ("depth", "color")}


def test_nothing_readable_exits_with_2(preset, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_text("not an image")
    assert cli.main(["depth", str(broken), "-o", str(tmp_path / "out"), "--preset", preset]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.compiles_long
def test_second_run_leaves_its_own_results_alone(preset, photos, capsys):
    command = ["depth", str(photos), "-o", str(photos / "out"), "--preset", preset]
    assert cli.main(command) == 0
    before = sorted(path.name for path in (photos / "out").iterdir())
    assert cli.main(command) == 0
    assert sorted(path.name for path in (photos / "out").iterdir()) == before
    assert "3 of 3" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["depth", "nowhere/*.jpg", "-o", "{tmp}/out"], ["nowhere/*.jpg"]),
        (
            ["depth", "{photo}", "-o", "{tmp}/out", "--preset", "dpt_larg"],
            ["dpt_larg", "dpt_large"],
        ),
        (["depth", "{photo}", "-o", "{tmp}/out", "--batch-size", "0"], ["batch"]),
        (["depth", "{photo}", "-o", "{tmp}/out", "--colormap", "infrno"], ["inferno"]),
        (["depth", "{photo}", "-o", "{photo}/out"], ["out", "is a file; results need a folder"]),
        (["depth", "{photo}", "-o", "{photo}"], ["is a file; results need a folder"]),
        (["convert", "{tmp}/missing.pt", "{tmp}/preset"], ["missing.pt"]),
    ],
)
def test_errors_are_one_message(arguments, words, preset, photos, tmp_path, capsys):
    filled = [a.format(tmp=tmp_path, photo=photos / "a.jpg") for a in arguments]
    if filled[0] == "depth" and "--preset" not in filled:
        filled += ["--preset", preset]
    assert cli.main(filled) == 2
    error = capsys.readouterr().err
    assert error.startswith("keras-dpt: ") and "Traceback" not in error
    for word in words:
        assert word in error
    assert not (tmp_path / "preset").exists()


@pytest.mark.parametrize("photo", [".", "..", "/", "{tmp}", "{tmp}/none.jpg"])
@pytest.mark.parametrize("preset", [[], ["--depth", "{tmp}/none.npy"]])
def test_points_of_no_file_are_one_message(photo, preset, tmp_path, capsys, monkeypatch):
    """A folder has no stem that the result could be called by."""
    monkeypatch.chdir(tmp_path)
    photo, *preset = (a.format(tmp=tmp_path) for a in (photo, *preset))
    assert cli.main(["points", photo, *preset]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"keras-dpt: {photo}") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_exception(tmp_path):
    with pytest.raises(Exception, match="missing.pt"):
        cli.main(["convert", str(tmp_path / "missing.pt"), str(tmp_path / "out"), "--debug"])


def test_presets_prints_the_table(capsys):
    assert cli.main(["presets"]) == 0
    out = capsys.readouterr().out
    for name in ("dpt_base", "dpt_hybrid_kitti", "dpt_large", "dpt_mini_nyuv2"):
        assert name in out


def test_version_and_missing_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out.startswith("keras-dpt ")
    with pytest.raises(SystemExit) as stop:
        cli.main([])
    assert stop.value.code == 2


def test_a_preset_survives_a_move(preset, tmp_path, photos):
    moved = tmp_path / "moved"
    shutil.copytree(preset, moved)
    code = cli.main(
        ["depth", str(photos / "a.jpg"), "-o", str(tmp_path / "o"), "--preset", str(moved)]
    )
    assert code == 0


AT_ONCE = """
import sys
from keras_dpt.cli import main

for line in ("--help", "--version", "presets", "depth --help", "", "dept",
             "depth x -o y --fromat png", "export --format onyx -o x", "study cost --repeats many"):
    try:
        main(line.split())
    except SystemExit:
        pass
heavy = {"keras", "keras_hub", "tensorflow", "jax", "torch", "numpy", "matplotlib", "PIL"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def in_a_new_process(*arguments, **variables):
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environ = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_help_and_usage_errors_import_nothing_heavy():
    done = in_a_new_process("-c", AT_ONCE)
    assert done.returncode == 0, done.stderr
    assert "unrecognized arguments: --fromat" in done.stderr and "dpt_hybrid_kitti" in done.stdout


def test_the_package_runs_as_a_module_and_frameworks_keep_quiet(preset, photos, tmp_path):
    paths = [photos / "a.jpg", photos / "none.jpg"]
    command = ["-m", "keras_dpt", "depth", *paths, "-o", tmp_path / "out", "--preset", preset]
    done = in_a_new_process(*command)
    assert done.returncode == 1
    assert done.stdout == f"1 of 2 images written to {tmp_path / 'out'}\n"
    assert done.stderr.startswith("keras-dpt: skipped: ") and done.stderr.count("\n") == 1


NOISE = r"""
import os, sys
from keras_dpt.logs import quiet_frameworks

quiet_frameworks()
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written\n"
            b"I0000 00:00:1795798812.0  15046 port.cc:153] oneDNN custom operations are on.\n"
            b"one\nE0000 00:00:1795798812.0 15046 cuda_dnn.cc:8310] Unable to register cuDNN\n"
            b"2026-01-02 03:04:05.678901: W tensorflow/core/framework/x.cc:96] to be dropped\n"
            b"F0000 00:00:1795798812.0 15046 x.cc:1] two\nthree")
print("four", file=sys.stderr)
os.write(2, b"five")
os.abort()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="standard error is filtered by a fork")
def test_what_is_not_a_log_stays_on_the_terminal_even_at_a_crash():
    done = in_a_new_process("-c", NOISE)
    kept = ["one", "F0000 00:00:1795798812.0 15046 x.cc:1] two", "threefive"]
    assert [line for line in done.stderr.splitlines() if line != "four"] == kept
    assert "four" in done.stderr
