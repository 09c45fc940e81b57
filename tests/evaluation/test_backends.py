"""The embedded preset gives the same table on the three backends."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tiny
from PIL import Image

CODE = "import sys; from keras_dpt import cli; from keras_dpt.cli import evaluate; "
CODE += "cli.COMMANDS = (evaluate,); sys.exit(cli.main())"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_same_table_to_three_digits(backend, tmp_path, reference):
    result = measured(backend, reference["data"], tmp_path)
    expected = reference["result"]
    assert result["provenance"]["weights_sha256"] == expected["provenance"]["weights_sha256"]
    assert [i["crc32"] for i in result["images"]] == [i["crc32"] for i in expected["images"]]
    for name, value in expected["summary"]["metrics"].items():
        assert result["summary"]["metrics"][name] == pytest.approx(value, rel=5e-4, abs=5e-4), name


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Photos with known depth, and what TensorFlow makes of them."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "rgb").mkdir()
    (folder / "depth").mkdir()
    rows = np.linspace(4000, 1200, 120)[:, None]
    for i, photo in enumerate(tiny.photos(3, 120, 160)):
        Image.fromarray(photo).save(folder / f"rgb/{i}.png")
        depth = rows * np.linspace(1, 1 + i / 4, 160)
        cv2.imwrite(str(folder / f"depth/{i}.png"), depth.astype("uint16"))
    return {"data": folder, "result": measured("tensorflow", folder, folder)}


def measured(backend, data, out):
    argv = ["evaluate", "--preset", "dpt_mini_nyuv2", "--protocol", "aligned_depth"]
    argv += ["--data", str(data), "-o", str(out), "--no-report"]
    environment = os.environ | {"KERAS_BACKEND": backend}
    subprocess.run([sys.executable, "-c", CODE, *argv], env=environment, check=True)
    return json.loads((out / "dpt_mini_nyuv2_aligned_depth.json").read_text())
