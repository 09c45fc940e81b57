"""Files and objects that look like images and are none: the advice is true."""

import logging

import numpy as np
import pytest
from PIL import Image

from keras_dpt.errors import DepthError, ImageError, LabelError
from keras_dpt.images.reading import find_images, read_image
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (LFS, "Git LFS pointer, not the file itself. Fetch it: git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "It is a web page"),
        (b"\xef\xbb\xbf<HTML><body>404", "It is a web page"),
        (b'<?xml version="1.0"?><Error>', "a server's error message"),
        (b'<?xml version="1.0"?>\n<svg width="2">', "vector drawing"),
        (b'{"message": "Not Found"}', "JSON"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.*pillow-heif"),
        (b"%PDF-1.7", "PDF"),
        (b"what is this", "Convert it to PNG or JPEG"),
    ],
)
def test_files_that_are_something_else(content, advice, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"photo.jpg is not an image .*{advice}") as caught:
        read_image(path)
    assert advice.startswith("Convert") or "Convert it" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["npy", "pfm", "png"])
def test_depth_and_label_files_that_are_something_else(suffix, tmp_path):
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(LFS)
    kind = None if suffix == "png" else "metric_depth"
    with pytest.raises(DepthError, match="git lfs pull"):
        DepthMap.load(path, kind)
    if suffix != "pfm":
        with pytest.raises(LabelError, match="git lfs pull"):
            LabelMap.load(path, ["a"])


def test_closed_images_are_called_closed(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.zeros((4, 4, 3), "uint8")).save(path)
    closed = Image.open(path)
    closed.close()
    with Image.open(path) as left:
        pass
    made = Image.fromarray(np.zeros((4, 4, 3), "uint8"))
    made.close()
    for image in (closed, left, made):
        with pytest.raises(ImageError, match="was closed before its pixels were read") as caught:
            read_image(image)
        assert "damaged" not in str(caught.value)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), "uint8")
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with Image.open(path) as cut, pytest.raises(ImageError, match="damaged or cut off"):
        read_image(cut)


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.array([[0, 127.5], [254, 64]], ml_dtypes.bfloat16)
    np.testing.assert_array_equal(read_image(values)[..., 0], [[0, 127.5], [254, 64]])


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    values = torch.tensor([[0, 127.5], [254, 64]])
    expected = [[0, 127.5], [254, 64]]
    np.testing.assert_array_equal(read_image(values.bfloat16())[..., 0], expected)
    with pytest.raises(ImageError, match=r"Detach it first: tensor.detach\(\)"):
        read_image(values.requires_grad_())
    with pytest.raises(ImageError, match=r"Move it to the CPU first: tensor.cpu\(\)"):
        read_image(torch.zeros(4, 4, device="meta"))


# --- Left out of folders ---


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    for name in ("b.HEIC", "sub/c.heif", "d.CR2", "e.svg", "notes.txt", "f.json"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize("what", [".", "**"])
def test_images_left_out_are_named_with_the_reason(folder, what, caplog):
    given = folder if what == "." else folder / "**"
    with caplog.at_level(logging.WARNING, "keras_dpt"):
        assert find_images([given]) == [folder / "a.png"]
    (record,) = caplog.records
    message = record.getMessage()
    assert f"{folder / 'b.HEIC'}, {folder / 'sub/c.heif'}: HEIC is read after" in message
    assert "d.CR2: raw files" in message and "e.svg: vector" in message
    assert "notes" not in message and "json" not in message


def test_a_folder_of_nothing_else(folder):
    (folder / "a.png").unlink()
    with pytest.raises(ImageError, match="holds no image.*Left out .*b.HEIC.*pillow-heif"):
        find_images([folder])


def test_many_are_counted(tmp_path, caplog):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    for i in range(9):
        (tmp_path / f"{i}.heic").write_bytes(b"x")
    find_images([tmp_path])
    assert "4.heic and 4 more: HEIC" in caplog.text


def test_heic_is_found_once_a_plugin_reads_it(folder, monkeypatch, caplog):
    monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")
    assert find_images([folder]) == [folder / "a.png", folder / "b.HEIC"]
    assert "b.HEIC" not in caplog.text and "c.heif" in caplog.text
