import io
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from keras_dpt.errors import ImageError, KerasDPTError
from keras_dpt.images.pixels import as_integers
from keras_dpt.images.reading import find_images, read_image, without_pillow_warnings, write_picture
from keras_dpt.images.resizing import RESIZE_METHODS, resize


@pytest.fixture
def photo():
    """(6, 9, 3) uint8, different in every pixel and channel."""
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def error_of(source):
    with pytest.raises(ImageError) as caught:
        read_image(source)
    assert isinstance(caught.value, KerasDPTError) and isinstance(caught.value, ValueError)
    return str(caught.value)


# --- reading files ---


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "gif"])
def test_rgb_files(tmp_path, photo, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(photo).save(path)
    for source in (path, str(path)):
        image = read_image(source)
        assert image.dtype == np.uint8 and image.flags.c_contiguous and image.flags.writeable
        assert np.array_equal(image, photo)


def test_jpeg_is_rgb_not_bgr(tmp_path):
    Image.new("RGB", (16, 8), (250, 10, 60)).save(tmp_path / "red.jpg", quality=95)
    image = read_image(tmp_path / "red.jpg")
    assert image.shape == (8, 16, 3)
    assert np.abs(image.astype(int) - [250, 10, 60]).max() <= 4


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert read_image(tmp_path / "dot.png").tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    "mode, color, expected",
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 0), (77, 77, 77)),
        ("RGBA", (200, 100, 50, 0), (200, 100, 50)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("YCbCr", (255, 128, 128), (255, 255, 255)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("RGBX", (9, 8, 7, 0), (9, 8, 7)),
        ("La", (77, 255), (77, 77, 77)),
    ],
)
def test_pil_modes(mode, color, expected):
    image = read_image(Image.new(mode, (3, 2), color))
    assert image.shape == (2, 3, 3) and image.dtype == np.uint8
    assert (image == expected).all()


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "cyan.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "cyan.jpg").astype(int) - [0, 255, 255]).max() <= 4


def test_palette_with_transparency_keeps_colours_and_does_not_warn(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "palette.png", transparency=b"\x80\x00")
    assert (read_image(tmp_path / "palette.png") == (10, 200, 30)).all()


def test_16_bit_grey(tmp_path):
    grey = np.array([[0, 257, 65535], [1, 1000, 128 * 257]], np.uint16)
    expected = np.repeat((grey / 257)[..., None], 3, axis=-1)
    for suffix in ("png", "tif", "pgm"):
        path = tmp_path / f"grey.{suffix}"
        if suffix == "pgm":
            path.write_bytes(b"P5\n3 2\n65535\n" + grey.astype(">u2").tobytes())
        else:
            Image.fromarray(grey).save(path)
        image = read_image(path)
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, expected, atol=1e-4)
    np.testing.assert_allclose(read_image(Image.fromarray(grey)), expected, atol=1e-4)


def test_16_bit_colour_png(tmp_path):
    cv2 = pytest.importorskip("cv2")
    rgb = np.random.default_rng(1).integers(0, 65536, (5, 4, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), rgb[..., ::-1])
    assert np.abs(read_image(tmp_path / "deep.png") - rgb / 257).max() <= 1


def test_32_bit_modes():
    whole = np.array([[0, 255], [7, 90]], np.int32)
    assert read_image(Image.fromarray(whole))[..., 1].tolist() == whole.tolist()
    assert "0..255" in error_of(Image.fromarray(whole + 300))
    unit = np.array([[0, 1], [0.5, 0.25]], np.float32)
    np.testing.assert_allclose(read_image(Image.fromarray(unit))[..., 2], unit * 255)
    assert "must hold 0 to 1. Received: 0 to 200" in error_of(Image.fromarray(unit * 200))
    assert "must hold 0 to 1" in error_of(Image.fromarray(unit * np.float32("nan")))


def test_a_dark_16_bit_image_can_be_passed_on():
    """What is read can be given to whatever reads images, though all its values are below 1."""
    dark = read_image(np.array([[0, 3, 200]], np.uint16))
    assert "Multiply" in error_of(dark)
    np.testing.assert_array_equal(read_image(as_integers(dark)), dark)
    bright = read_image(np.array([[7, 255]], np.uint8))
    assert as_integers(bright) is bright


def test_lab_is_refused():
    assert "RGB" in error_of(Image.new("LAB", (2, 2)))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    path = tmp_path / f"moving.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(path) as image:
        assert image.n_frames == 3
    assert (read_image(path) == (255, 0, 0)).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, photo, orientation, suffix):
    # How a camera stores the upright photo, by the EXIF standard: 1 to 8 name the corner of the
    # scene where the stored rows and columns begin.
    stored = {
        1: photo,
        2: photo[:, ::-1],
        3: photo[::-1, ::-1],
        4: photo[::-1],
        5: photo.transpose(1, 0, 2),
        6: photo.transpose(1, 0, 2)[::-1],
        7: photo.transpose(1, 0, 2)[::-1, ::-1],
        8: photo.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, lossless=True)
    assert np.array_equal(read_image(path), photo)
    with Image.open(path) as image:
        assert np.array_equal(read_image(image), photo)


def test_broken_exif_does_not_matter(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "odd.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(read_image(tmp_path / "odd.png"), photo)


def test_unreadable_files(tmp_path, photo):
    folder = tmp_path / "folder.jpg"
    folder.mkdir()
    assert str(folder) in error_of(folder) and "folder" in error_of(folder)

    missing = tmp_path / "missing.jpg"
    assert str(missing) in error_of(missing) and "No such file" in error_of(missing)
    assert "cannot be read" in error_of("a\0b.jpg")
    assert "download it first" in error_of("https://example.org/a.jpg")
    assert "cannot be read" in error_of(tmp_path / ("x" * 300 + ".jpg"))

    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert str(empty) in error_of(empty) and "0 bytes" in error_of(empty)

    text = tmp_path / "text.jpg"
    text.write_text("not a picture\n" * 100)
    assert str(text) in error_of(text) and "not an image" in error_of(text)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp"])
def test_truncated_files(tmp_path, suffix):
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert str(path) in error_of(path)
    assert error_of(path).count("\n") == 0


def test_file_without_permission(tmp_path, monkeypatch):
    path = tmp_path / "private.png"
    Image.new("L", (2, 2)).save(path)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", refuse)
    assert error_of(path) == f"{path} cannot be read: Permission denied."


@pytest.mark.parametrize("width, height", [(3000, 2000), (12000, 9000)])
def test_big_pictures(tmp_path, width, height):
    path = tmp_path / "big.jpg"
    image = Image.new("L", (width, height), 40)
    image.putpixel((width - 1, height - 1), 255)
    image.save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = read_image(path)
    assert picture.shape == (height, width, 3)
    assert (picture[0, 0] == 40).all() and picture[-1, -1, 0] > 150


def test_bombs_are_refused(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20000, 9500)).save(path)
    message = error_of(path)
    assert str(path) in message and "190000000" in message and "MAX_IMAGE_PIXELS" in message


def test_threads_take_turns_with_the_warning_filters(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "small.png")
    done = threading.Event()

    def read():
        read_image(tmp_path / "small.png")
        done.set()

    thread = threading.Thread(target=read)
    with without_pillow_warnings():
        thread.start()
        assert not done.wait(0.3)  # else it would put our filters in place for good
    thread.join()
    assert done.is_set()


def test_pil_image_is_left_as_it_was(photo):
    image = Image.fromarray(photo).convert("RGBA")
    before = image.copy()
    read_image(image)
    assert image == before


def test_damaged_pil_image(tmp_path):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(buffer, "PNG")
    image = Image.open(io.BytesIO(buffer.getvalue()[:2000]))
    assert "damaged" in error_of(image)


# --- reading arrays ---


def test_arrays(photo):
    assert np.array_equal(read_image(photo), photo)
    assert np.array_equal(read_image(np.dstack([photo, photo[..., 0]])), photo)
    grey = photo[..., 0]
    for array in (grey, grey[..., None]):
        assert np.array_equal(read_image(array), np.dstack([grey] * 3))
    assert np.array_equal(read_image(photo.astype(np.int64)), photo)
    flipped = read_image(photo[:, ::-1, ::-1])
    assert flipped.flags.c_contiguous and np.array_equal(flipped, photo[:, ::-1, ::-1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_arrays(dtype):
    image = read_image(np.array([[0, 127.5, 255]], dtype))
    assert image.dtype == np.float32
    assert image[0, :, 0].tolist() == [0, 127.5, 255]


def test_overshoot_of_floats_is_clipped():
    assert read_image(np.array([[-30.5, 2, 300]]))[0, :, 0].tolist() == [0, 2, 255]


@pytest.mark.parametrize("dtype", [np.uint16, ">u2"])
def test_uint16_arrays(dtype):
    image = read_image(np.array([[0, 257, 65535]], dtype))
    assert image.dtype == np.float32
    assert image[0, :, 1].tolist() == [0, 1, 255]


def test_bool_array():
    assert read_image(np.array([[True, False]]))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    "array, says",
    [
        (np.full((2, 2), 0.5), "from 0 to 255, as in files. Received: 0.5 to 0.5. Multiply"),
        (np.full((2, 2), -0.5), "-0.5"),
        (np.array([[-2.1, 2.6]]), "undo any other normalisation"),
        (np.array([[0.0, 65535.0]]), "uint16, which is scaled"),
        (np.array([[0.5, np.nan]]), "1 of 2 values are NaN"),
        (np.array([[0.5, np.inf]]), "NaN or infinite"),
        (np.full((2, 2), 256), "256"),
        (np.full((2, 2), -1, np.int8), "-1"),
        (np.zeros(5), r"(H, W)"),
        (np.zeros((1, 4, 4, 3)), "as a list"),
        (np.zeros((3, 8, 8)), "transpose"),
        (np.zeros((8, 8, 2)), "(8, 8, 2)"),
        (np.zeros((0, 8, 3)), "no pixels"),
        (np.zeros((2, 2), complex), "complex"),
        (np.array([["a"]]), "<U1"),
        ([[0, 1], [1, 0]], "list"),
        (None, "NoneType"),
        (b"\x89PNG", "bytes"),
    ],
)
def test_arrays_that_are_no_pictures(array, says):
    message = error_of(array)
    assert says in message and message.count("\n") == 0


def test_array_likes_that_fail_to_convert():
    class OnTheGpu:
        def __array__(self, dtype=None, copy=None):
            raise TypeError("can't convert cuda tensor")

    assert "cuda" in error_of(OnTheGpu())


# --- finding files ---


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ["b.JPG", "a.png", "sub/c.tiff", "sub/deeper/d.webp", "x[1].png", "notes.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in [".hidden.png", ".cache/e.png", "empty/readme.md"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*paths):
    return [path.as_posix() for path in find_images(paths)]


def test_folders_are_searched_in_depth(tree):
    everything = ["a.png", "b.JPG", "sub/c.tiff", "sub/deeper/d.webp", "x[1].png"]
    assert found(".") == everything
    assert find_images(str(tree)) == [tree / name for name in everything]


def test_patterns(tree):
    assert found("*") == ["a.png", "b.JPG", "sub/c.tiff", "sub/deeper/d.webp", "x[1].png"]
    assert found("[ab].*") == ["a.png", "b.JPG"]
    assert found("**/*.w?bp") == ["sub/deeper/d.webp"]
    assert found("x[1].png") == ["x[1].png"]  # a file of that name comes before the pattern


def test_named_files_are_kept_and_listed_once(tree):
    assert found("notes.txt", "b.JPG", "missing.jpg") == ["notes.txt", "b.JPG", "missing.jpg"]
    assert found("b.JPG", "./b.JPG", ".", str(tree / "a.png"))[:2] == ["b.JPG", "a.png"]
    assert len(found(".", ".")) == 5
    assert found(".hidden.png") == [".hidden.png"]


@pytest.mark.parametrize("nothing", ["empty", "*.jpeg", "notes.*", ""])
def test_nothing_found(tree, nothing):
    with pytest.raises(ImageError, match="empty" if nothing in ("empty", "") else "pattern"):
        find_images(["a.png", nothing])


def test_no_paths():
    with pytest.raises(ImageError, match="No image"):
        find_images([])


# --- resizing ---


def cubic_matrix(target, source, a):
    """Weights (target, source) of cubic interpolation, borders replicated, by definition."""
    weights = np.zeros((target, source))
    for i in range(target):
        center = (i + 0.5) * source / target - 0.5
        for j in range(int(np.floor(center)) - 1, int(np.floor(center)) + 3):
            x = abs(center - j)
            if x <= 1:
                weight = (a + 2) * x**3 - (a + 3) * x**2 + 1
            else:
                weight = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
            weights[i, min(max(j, 0), source - 1)] += weight
    return weights


SIZES = [
    ((37, 51), (64, 96)),
    ((40, 60), (23, 37)),
    ((60, 90), (32, 32)),
    ((1, 1), (5, 7)),
    ((5, 7), (1, 1)),
    ((1, 9), (4, 4)),
    ((2, 3), (33, 3)),
]


@pytest.mark.parametrize("source, target", SIZES)
@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_bicubic_is_the_kernel_of_opencv(source, target, channels):
    image = np.random.default_rng(3).uniform(0, 255, (*source, *channels)).astype(np.float32)
    rows = cubic_matrix(target[0], source[0], -0.75)
    columns = cubic_matrix(target[1], source[1], -0.75)
    expected = np.einsum("ih,hw...,jw->ij...", rows, image.astype(np.float64), columns)
    resized = resize(image, target, "bicubic")
    assert resized.dtype == np.float32 and resized.shape == (*target, *channels)
    # OpenCV without Intel's library computes positions in float32, which costs the most here.
    np.testing.assert_allclose(resized, expected, atol=2e-3)


@pytest.mark.parametrize("source, target", [*SIZES, ((48, 64), (384, 384))])
@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
def test_same_as_torch_in_float64(source, target, method):
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(4).uniform(0, 255, (*source, 3)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float64)),
        size=target,
        mode=method,
        align_corners=False,
        antialias=False,
    )[0]
    expected = expected.numpy().transpose(1, 2, 0)
    assert np.abs(resize(image, target, method) - expected).max() <= 1e-3


@pytest.mark.parametrize("source, target", SIZES)
@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,)])
def test_bicubic_antialias_is_within_a_grey_level_of_torch(source, target, channels):
    torch = pytest.importorskip("torch")
    # Mid greys: Pillow clips to 0..255 between its two passes, which this test is not about.
    image = np.random.default_rng(5).integers(64, 192, (*source, *channels), dtype=np.uint8)
    flat = image.reshape(*source, -1).transpose(2, 0, 1)[None].astype(np.float64)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(flat), size=target, mode="bicubic", align_corners=False, antialias=True
    )
    expected = expected[0].numpy().transpose(1, 2, 0).reshape(*target, *channels)
    resized = resize(image, target, "bicubic_antialias")
    assert resized.dtype == np.uint8
    # Pillow rounds to whole grey levels after each of its two passes.
    assert np.abs(resized - expected).max() <= 1.6


def test_bicubic_antialias_rounds_and_clips_floats():
    image = np.array([[-3.0, 0.4], [254.6, 300.0]])
    assert resize(image, (2, 2), "bicubic_antialias").tolist() == [[0, 0], [255, 255]]


def test_only_antialias_averages_when_shrinking():
    stripes = np.tile(np.array([0, 0, 0, 255], np.uint8), (4, 20))
    assert np.ptp(resize(stripes, (4, 10), "bicubic_antialias").astype(int)[:, 2:-2]) < 40
    assert np.ptp(resize(stripes[:, 1:], (4, 26), "bicubic")) > 60


def test_bicubic_overshoots_unclipped():
    edge = np.repeat(np.array([[0, 255]], np.uint8), 4, axis=1)
    resized = resize(edge, (1, 40), "bicubic")
    assert resized.min() < -5 and resized.max() > 260


@pytest.mark.parametrize("method", RESIZE_METHODS)
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_same_size_changes_nothing_and_copies(method, shape):
    image = np.random.default_rng(6).integers(0, 256, shape, dtype=np.uint8)
    if not method.endswith("_antialias"):
        image = image.astype(np.float32) + np.float32(0.37)
    resized = resize(image, (5, 7), method)
    assert np.array_equal(resized, image)
    resized += 1
    assert not np.array_equal(resized, image)


def test_nearest():
    row = np.array([[10, 20, 30, 40]], np.int16)
    assert resize(row, (1, 2), "nearest").tolist() == [[20, 40]]
    assert resize(row, (2, 8), "nearest").tolist() == [[10, 10, 20, 20, 30, 30, 40, 40]] * 2
    assert resize(row, (1, 3), "nearest").tolist() == [[10, 30, 40]]
    assert resize(row, (1, 3), "nearest").dtype == np.int16


def test_bilinear():
    resized = resize(np.array([[0, 100]], np.uint8), (1, 4), "bilinear")
    assert resized.tolist() == [[0, 25, 75, 100]]


@pytest.mark.parametrize("size", [(9, 13), (3, 4), (1, 1), (5, 21), (40, 7)])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 7)])
def test_bilinear_aligned_is_pytorchs(size, shape):
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(6).normal(size=shape).astype(np.float32)
    x = torch.from_numpy(image.astype(np.float64).reshape(*shape[:2], -1)).permute(2, 0, 1)[None]
    y = torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=True)
    expected = y[0].permute(1, 2, 0).numpy().reshape(*size, *shape[2:])
    resized = resize(image, size, "bilinear_aligned")
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("method", RESIZE_METHODS)
def test_views_are_fine(method, dtype):
    image = np.random.default_rng(7).integers(0, 256, (9, 8, 3)).astype(dtype)
    view = image[::-1, :, ::-1]
    assert np.array_equal(resize(view, (4, 5), method), resize(view.copy(), (4, 5), method))


@pytest.mark.parametrize(
    "shape, size, method, says",
    [
        ((4, 4), (2, 2), "lanczos", "bicubic_antialias"),
        ((4,), (2, 2), "bicubic", "(4,)"),
        ((4, 0), (2, 2), "bicubic", "(4, 0)"),
        ((4, 4), (0, 2), "bicubic", "(0, 2)"),
    ],
)
def test_resize_errors(shape, size, method, says):
    with pytest.raises(ValueError) as caught:
        resize(np.zeros(shape), size, method)
    assert says in str(caught.value)


def test_pictures_are_written_whole_or_not_at_all(tmp_path, photo, monkeypatch):
    picture, path = Image.fromarray(photo), tmp_path / "new.png"
    write_picture(picture, path)
    assert np.array_equal(read_image(path), photo)
    with pytest.raises(ImageError, match="no folder"):
        write_picture(picture, tmp_path / "absent" / "new.png")

    def full(self, file, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    path.unlink()
    with pytest.raises(ImageError, match="No space left"):
        write_picture(picture, path)
    assert not list(tmp_path.iterdir())


def test_programs_are_not_run(tmp_path, monkeypatch):
    """Whatever its name says: Pillow hands PostScript to Ghostscript."""
    from PIL import EpsImagePlugin

    path = tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("it was run"))
    with pytest.raises(ImageError, match="photo.png is a PostScript program"):
        read_image(path)
