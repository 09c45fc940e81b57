"""What can be exported where, and the errors that say so; no network is built."""

import re

import pytest

from keras_dpt.cli import export as cli_export
from keras_dpt.errors import ExportError
from keras_dpt.export import formats
from keras_dpt.export.formats import FORMATS, PAIRS, REASONS

BACKENDS = ("tensorflow", "jax", "torch")
ALL = [(backend, form) for backend in BACKENDS for form in FORMATS]


def unsupported():
    for pair in ALL:
        if pair not in PAIRS:
            yield (*pair, True)
            yield (*pair, False)
        elif not PAIRS[pair].dynamic:
            yield (*pair, True)


@pytest.mark.parametrize("backend, form, dynamic", list(unsupported()))
def test_unsupported_pairs_name_pairs_that_work(backend, form, dynamic):
    with pytest.raises(ExportError) as caught:
        formats.check_pair(backend, FORMATS[form], dynamic)
    message = str(caught.value)
    assert backend in message and form in message
    named = re.findall(r"KERAS_BACKEND=(\w+)", message)
    assert named
    for other in named:
        formats.check_pair(other, FORMATS[form], dynamic)
    fixing_helps = (backend, form) in PAIRS
    assert ("--image-size" in message) == fixing_helps


def test_supported_pairs_pass():
    for (backend, form), pair in PAIRS.items():
        formats.check_pair(backend, FORMATS[form], dynamic=False)
        if pair.dynamic:
            formats.check_pair(backend, FORMATS[form], dynamic=True)


def test_every_pair_works_or_has_a_reason():
    limited = {pair for pair in ALL if pair not in PAIRS or not PAIRS[pair].dynamic}
    assert limited | {("openvino", name) for name in FORMATS} == REASONS.keys()


def test_the_command_line_knows_all_formats():
    assert tuple(FORMATS) == cli_export.FORMATS


def test_unknown_format():
    with pytest.raises(ExportError, match="onnx.*'tensorrt'"):
        formats.find_format("tensorrt")


def test_a_missing_package_names_the_extra():
    formats.check_packages(["json"], "This")
    with pytest.raises(ExportError, match=r"needs no_such_thing: pip install .*\[export\]"):
        formats.check_packages(["json", "no_such_thing"], "Export to onnx")


@pytest.mark.parametrize(
    "form, name, message",
    [
        ("onnx", "network.tflite", r"end in \.onnx"),
        ("onnx", "network", r"end in \.onnx"),
        ("litert", "network.lite", r"end in \.tflite"),
        ("openvino", "network.bin", r"end in \.xml"),
        ("tf_saved_model", "network.onnx", "name of a folder"),
        ("onnx", "nowhere/network.onnx", "no folder"),
        ("onnx", "folder.onnx", "it is a folder"),
        ("tf_saved_model", "full", "not an export"),
        ("tf_saved_model", "file", "not an export"),
        ("tf_saved_model", ".", "not an export|not a valid name"),
    ],
)
def test_places_where_no_file_can_go(form, name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=message):
        formats.check_path(FORMATS[form], type(tmp_path)(name))


def test_places_where_a_file_can_go(tmp_path):
    formats.check_path(FORMATS["onnx"], tmp_path / "new.onnx")
    (tmp_path / "old.ONNX").touch()
    formats.check_path(FORMATS["onnx"], tmp_path / "old.ONNX")
    formats.check_path(FORMATS["tf_saved_model"], tmp_path / "v1.2")
    (tmp_path / "old").mkdir()
    formats.check_path(FORMATS["tf_saved_model"], tmp_path / "old")
    (tmp_path / "old" / "saved_model.pb").touch()
    formats.check_path(FORMATS["tf_saved_model"], tmp_path / "old")
