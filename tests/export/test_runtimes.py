"""Files that are none, or of another format."""

import pytest

from keras_dpt.errors import ExportError
from keras_dpt.export import load_exported

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}


@pytest.mark.parametrize("form", PACKAGES)
def test_a_file_that_is_not_there_or_of_another_format_is_named(form, tmp_path):
    pytest.importorskip(PACKAGES[form])
    with pytest.raises(ExportError, match=r"There is no file .*nope"):
        load_exported(tmp_path / "nope", form)
    other = tmp_path / "other"
    other.write_bytes(b"of another format")
    with pytest.raises(ExportError, match=f"other cannot be read as {form}: "):
        load_exported(other, form)
