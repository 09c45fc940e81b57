import dataclasses
import os
import stat
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from keras_dpt.errors import KerasDPTError
from keras_dpt.maps.depth_map import DepthMap

RELATIVE, METRIC = "relative_inverse_depth", "metric_depth"


def relative(shape=(20, 30), seed=0):
    values = np.random.default_rng(seed).uniform(200, 2600, shape).astype(np.float32)
    return DepthMap(values, RELATIVE)


def metric(shape=(20, 30), seed=0):
    values = np.random.default_rng(seed).uniform(0.3, 12, shape).astype(np.float32)
    return DepthMap(values, METRIC)


@contextmanager
def raises(says):
    """One KerasDPTError that is a ValueError too and whose single line contains `says`."""
    with pytest.raises(ValueError) as caught:
        yield
    assert isinstance(caught.value, KerasDPTError)
    assert says in str(caught.value) and "\n" not in str(caught.value)


# --- what it holds ---


def test_units_follow_the_kind():
    assert relative().unit is None
    assert metric().unit == "m"
    assert DepthMap(np.ones((1, 1)), METRIC, "m").unit == "m"


def test_values_become_float32():
    for values in (np.ones((2, 3)), np.ones((2, 3), np.int64), np.ones((2, 3), ">f4")):
        depth = DepthMap(values, RELATIVE)
        assert depth.values.dtype == np.float32 and depth.values.dtype.isnative
    values = np.ones((2, 3), np.float32)
    assert DepthMap(values, RELATIVE).values is values


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        relative().kind = METRIC


def test_repr_is_short():
    depth = DepthMap(np.array([[0.5, 2]]), METRIC, source="hall.jpg")
    assert repr(depth) == "DepthMap(1x2 metric_depth, 0.5..2 m, source='hall.jpg')"


@pytest.mark.parametrize(
    "values, kind, unit, says",
    [
        (np.ones((2, 2, 1)), RELATIVE, None, "(2, 2, 1)"),
        (np.ones((0, 2)), RELATIVE, None, "(0, 2)"),
        (np.ones(3), RELATIVE, None, "(3,)"),
        (np.array([[1, np.nan]]), RELATIVE, None, "1 of 2"),
        (np.array([[1, np.inf]]), METRIC, None, "infinite"),
        (np.array([[1e300]]), RELATIVE, None, "too large"),
        (np.array([[1j]]), RELATIVE, None, "complex"),
        (np.array([[True]]), RELATIVE, None, "bool"),
        (np.array([["1"]]), RELATIVE, None, "<U1"),
        (np.array([[-0.5]]), METRIC, None, "-0.5 m"),
        (np.ones((1, 1)), "depth", None, "'metric_depth'. Received: 'depth'"),
        (np.ones((1, 1)), METRIC, "cm", "'cm'"),
        (np.ones((1, 1)), RELATIVE, "m", "None. Received: 'm'"),
    ],
)
def test_refuses(values, kind, unit, says):
    with raises(says):
        DepthMap(values, kind, unit)


def test_metres():
    depth = metric()
    assert depth.metres is depth.values
    with raises("to_metric"):
        _ = relative().metres


# --- files ---


@pytest.mark.parametrize("suffix", [".npy", ".pfm", ".NPY"])
@pytest.mark.parametrize("depth", [relative(), metric()], ids=["relative", "metric"])
def test_exact_files(tmp_path, depth, suffix):
    path = tmp_path / f"depth{suffix}"
    depth.save(path)
    loaded = DepthMap.load(path, kind=depth.kind)
    assert np.array_equal(loaded.values, depth.values) and loaded.values.dtype == np.float32
    assert (loaded.kind, loaded.unit, loaded.source) == (depth.kind, depth.unit, path)
    with raises("kind="):
        DepthMap.load(path)
    assert os.listdir(tmp_path) == [path.name]


def test_npy_is_plain_numpy(tmp_path):
    depth = relative()
    depth.save(tmp_path / "depth.npy")
    assert np.array_equal(np.load(tmp_path / "depth.npy"), depth.values)


def test_pfm_bytes(tmp_path):
    DepthMap(np.array([[1, 2, 3], [4, 5, 6]]), RELATIVE).save(tmp_path / "depth.pfm")
    expected = b"Pf\n3 2\n-1.0\n" + np.array([4, 5, 6, 1, 2, 3], "<f4").tobytes()
    assert (tmp_path / "depth.pfm").read_bytes() == expected


def test_pfm_as_another_reader_sees_it(tmp_path):
    depth = relative()
    depth.save(tmp_path / "depth.pfm")
    with Image.open(tmp_path / "depth.pfm") as image:
        assert np.array_equal(np.asarray(image), depth.values)


def test_big_endian_pfm_of_others(tmp_path):
    path = tmp_path / "depth.pfm"
    path.write_bytes(b"Pf\n2 2\n0.003922\n" + np.array([3, 4, 1, 2], ">f4").tobytes())
    assert DepthMap.load(path, RELATIVE).values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "values, kind, step",
    [
        (relative().values, RELATIVE, None),
        (-relative().values, RELATIVE, None),
        (np.linspace(1e-6, 3e-5, 6).reshape(2, 3), RELATIVE, None),
        (np.array([[0.0, 1.0]]), RELATIVE, 1 / 65535),
        (metric().values, METRIC, 0.001),
        (np.array([[0.0004, 65.535]]), METRIC, 0.001),
        (np.array([[0.0006, 65.5354]]), METRIC, 0.001),
        (np.array([[0.3, 65.6], [3.3, 41.7]]), METRIC, 65.3 / 65535),
        (np.array([[2.0, 1e8], [5, 1e4]]), METRIC, None),
    ],
)
def test_png_round_trip_within_half_a_step(tmp_path, values, kind, step):
    depth = DepthMap(values, kind)
    depth.save(tmp_path / "depth.png")
    with Image.open(tmp_path / "depth.png") as image:
        assert image.mode == "I;16"
        scale = float(image.text["keras_dpt.scale"])
        stored = np.asarray(image)
    fitted = (float(depth.values.max()) - float(depth.values.min())) / 65535
    np.testing.assert_allclose(scale, step or fitted, rtol=1e-6)
    loaded = DepthMap.load(tmp_path / "depth.png")
    assert (loaded.kind, loaded.unit) == (kind, depth.unit)
    error = np.abs(loaded.values.astype(np.float64) - depth.values)
    assert error.max() <= scale / 2 + np.spacing(np.abs(depth.values).max())
    if step != 0.001:
        assert stored.min() == 0 and stored.max() == 65535


def test_metric_png_is_millimetres(tmp_path):
    DepthMap(np.array([[0.5, 1.2344], [2, 9.9996]]), METRIC).save(tmp_path / "depth.png")
    with Image.open(tmp_path / "depth.png") as image:
        assert np.asarray(image).tolist() == [[500, 1234], [2000, 10000]]
        assert image.text["keras_dpt.kind"] == METRIC and image.text["keras_dpt.unit"] == "m"
        assert float(image.text["keras_dpt.offset"]) == 0


@pytest.mark.parametrize("value, kind", [(0, RELATIVE), (1234.5, RELATIVE), (100.25, METRIC)])
def test_png_of_a_constant_map_is_exact(tmp_path, value, kind):
    DepthMap(np.full((3, 4), value), kind).save(tmp_path / "flat.png")
    assert (DepthMap.load(tmp_path / "flat.png").values == np.float32(value)).all()


def test_png_kind_is_checked(tmp_path):
    path = tmp_path / "depth.png"
    metric().save(path)
    assert DepthMap.load(path, METRIC).kind == METRIC
    with raises("it holds metric_depth, not relative_inverse_depth"):
        DepthMap.load(path, RELATIVE)


def test_png_without_or_with_spoilt_metadata(tmp_path):
    path = tmp_path / "depth.png"
    Image.fromarray(np.ones((2, 2), np.uint16)).save(path)
    with raises("lacks keras_dpt.kind"):
        DepthMap.load(path)
    metric().save(path)
    with Image.open(path) as image:
        text = PngInfo()
        for key, value in image.text.items():
            text.add_text(key, value)
        image.convert("L").save(path, pnginfo=text)
    with raises("8 bits"):
        DepthMap.load(path)


@pytest.mark.parametrize("suffix", [".npy", ".pfm", ".png"])
def test_damaged_files(tmp_path, suffix):
    path = tmp_path / f"depth{suffix}"
    relative().save(path)
    path.write_bytes(path.read_bytes()[:-700])
    with raises(str(path)):
        DepthMap.load(path, RELATIVE)
    path.write_text("something else")
    with raises(str(path)):
        DepthMap.load(path, RELATIVE)
    path.unlink()
    with raises("no such file"):
        DepthMap.load(path, RELATIVE)


class Intruder:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_npy_never_unpickles(tmp_path):
    objects = np.array([[Intruder(tmp_path / "been here")]], dtype=object)
    np.save(tmp_path / "objects.npy", objects)
    with raises("objects.npy"):
        DepthMap.load(tmp_path / "objects.npy", RELATIVE)
    assert os.listdir(tmp_path) == ["objects.npy"]


def test_cut_off_pfm_says_so(tmp_path):
    path = tmp_path / "depth.pfm"
    relative().save(path)
    path.write_bytes(path.read_bytes()[:-4])
    with raises("2396 of 2400 bytes"):
        DepthMap.load(path, RELATIVE)


def test_big_png_loads_without_a_warning(tmp_path, monkeypatch):
    metric().save(tmp_path / "depth.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # of 600
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert DepthMap.load(tmp_path / "depth.png").values.shape == (20, 30)


def test_colour_pfm_and_odd_kind_are_refused(tmp_path):
    (tmp_path / "rgb.pfm").write_bytes(b"PF\n1 1\n-1.0\n" + bytes(12))
    with raises("three channels"):
        DepthMap.load(tmp_path / "rgb.pfm", RELATIVE)
    with raises("Received: 'metres'"):
        DepthMap.load(tmp_path / "rgb.pfm", "metres")


@pytest.mark.parametrize("name", ["depth.jpg", "depth", ".npy"])
def test_unknown_suffix(tmp_path, name):
    for call in (relative().save, DepthMap.load):
        with raises(".npy, .pfm, .png"):
            call(tmp_path / name)


def test_missing_folder(tmp_path):
    with raises(f"no folder {tmp_path / 'none'}"):
        relative().save(tmp_path / "none" / "depth.npy")


@pytest.mark.parametrize("suffix", [".npy", ".pfm", ".png"])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"depth{suffix}"
    relative().save(path)
    before = path.read_bytes()
    # The disk fills up after the values are written, just before the rename.
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with raises("disk full"):
        relative(seed=1).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_a_write_that_stops_half_way(tmp_path, monkeypatch):
    def write(file, array, **_):
        file.write(b"half")
        assert [name for name in os.listdir(tmp_path) if name == "depth.npy"] == []
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", write)
    with pytest.raises(KeyboardInterrupt):
        relative().save(tmp_path / "depth.npy")
    assert os.listdir(tmp_path) == []


def test_saving_over_a_folder(tmp_path):
    (tmp_path / "depth.npy").mkdir()
    with raises("depth.npy"):
        relative().save(tmp_path / "depth.npy")
    assert os.listdir(tmp_path) == ["depth.npy"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_saved_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "plain").touch()
    relative().save(tmp_path / "depth.npy")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "depth.npy")]
    assert modes[0] == modes[1]


# --- colours ---


def brightness(image):
    return np.asarray(image.convert("L")).astype(int)


def test_colors_are_those_of_matplotlib():
    matplotlib = pytest.importorskip("matplotlib")
    depth = relative()
    image = depth.colorize("viridis", 200, 2600)
    assert image.mode == "RGB" and image.size == (30, 20)
    position = (depth.values - np.float32(200)) * np.float32(1 / 2400)
    expected = matplotlib.colormaps["viridis"](position, bytes=True)[..., :3]
    assert np.array_equal(np.asarray(image), expected)


def test_near_is_bright_for_both_kinds():
    near_to_far = np.array([[1.0, 2, 4, 8]])
    for depth in (DepthMap(1 / near_to_far, RELATIVE), DepthMap(near_to_far, METRIC)):
        levels = brightness(depth.colorize())[0]
        assert levels[0] > 200 and levels[-1] < 20
        assert (np.diff(levels) < 0).all()
        assert (np.diff(brightness(depth.colorize("inferno_r"))[0]) > 0).all()


def test_metric_colors_are_linear_in_metres():
    image = DepthMap(np.array([[0, 2.5, 5, 10.0]]), METRIC).colorize("gray", 0, 10)
    # 1 - d / 10 = 1, 0.75, 0.5, 0 in 256 bins.
    assert np.asarray(image)[0, :, 0].tolist() == [255, 192, 128, 0]


def test_one_range_gives_equal_depths_equal_colours():
    first, second = metric(seed=1), metric(seed=2)
    second = DepthMap(second.values * 3, METRIC)
    second.values[0, :5] = first.values[0, :5]
    colors = [np.asarray(depth.colorize(vmin=0.5, vmax=20))[0, :5] for depth in (first, second)]
    assert np.array_equal(*colors)
    # The point of naming the range: each frame's own range would not do.
    own = [np.asarray(depth.colorize())[0, :5] for depth in (first, second)]
    assert not np.array_equal(*own)


def test_values_beyond_the_range_get_its_ends():
    image = DepthMap(np.array([[-1e30, 0.0, 1, 1e30]]), RELATIVE).colorize("gray", 0, 1)
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 255, 255]


def test_default_range_ignores_a_few_extremes():
    values = np.linspace(1, 2, 1000).reshape(20, 50)
    values[0, 0], values[0, 1] = -1e6, 1e6
    levels = np.asarray(DepthMap(values, RELATIVE).colorize("gray"))[..., 0]
    assert np.ptp(levels[1:]) > 230
    low, high = np.percentile(values, (2, 98))
    expected = np.asarray(DepthMap(values, RELATIVE).colorize("gray", low, high))[..., 0]
    assert np.array_equal(levels, expected)


def test_constant_and_nearly_constant_maps():
    flat = np.asarray(DepthMap(np.full((4, 5), 3.0), METRIC).colorize("gray"))
    assert flat.shape == (4, 5, 3) and (flat == 128).all()
    values = np.full((20, 20), 3.0)
    values[5, 5] = 4
    levels = np.asarray(DepthMap(values, RELATIVE).colorize("gray"))[..., 0]
    assert levels[5, 5] == 255 and np.count_nonzero(levels) == 1


@pytest.mark.parametrize(
    "name, says", [("infermo", "inferno"), ("Viridis", "viridis"), ("???", "magma"), (None, "None")]
)
def test_unknown_colormap(name, says):
    with raises(says):
        relative().colorize(name)


@pytest.mark.parametrize(
    "vmin, vmax", [(2, 1), (1, 1), (np.nan, 1), (0, np.inf), (1e9, None), (None, -1e9)]
)
def test_bad_ranges(vmin, vmax):
    with raises("vmin must be below vmax"):
        relative().colorize(vmin=vmin, vmax=vmax)


# --- metres ---


@pytest.fixture
def aligned_scene():
    """Metres (20, 30) of a tilted plane, and the relative map that a model would answer."""
    rows, columns = np.mgrid[:20, :30]
    metres = 1 / (0.05 + 0.01 * rows + 0.003 * columns)
    relative_map = DepthMap((1 / metres - 0.02) / 3e-4, RELATIVE, source="plane.png")
    return metres, relative_map


@pytest.mark.parametrize("method", ["least_squares", "median", "ransac"])
def test_to_metric_from_depth(aligned_scene, method):
    metres, depth = aligned_scene
    known = np.where(np.random.default_rng(0).random(metres.shape) < 0.1, metres, 0)
    known[0, 0] = np.nan
    result = depth.to_metric(depth=known, method=method)
    assert (result.kind, result.unit, result.source) == (METRIC, "m", "plane.png")
    np.testing.assert_allclose(result.metres, metres, rtol=1e-5)


def test_to_metric_from_points(aligned_scene):
    metres, depth = aligned_scene
    points = [(r, c, metres[r, c]) for r, c in [(0, 0), (19, 29), (7, 22)]]
    np.testing.assert_allclose(depth.to_metric(points).metres, metres, rtol=1e-5)
    # Positions are rounded, unknown depths left out.
    points = [(0.3, -0.4, metres[0, 0]), (18.6, 29.2, metres[19, 29]), (3, 3, 0), (4, 4, np.nan)]
    np.testing.assert_allclose(depth.to_metric(np.array(points)).metres, metres, rtol=1e-5)


def test_to_metric_by_hand():
    # 1 / metres is 0.5 at value 1 and 2 at value 4, so 0.5 * value.
    depth = DepthMap(np.array([[1, 4], [8, 0.1]]), RELATIVE)
    result = depth.to_metric(points=[(0, 0, 2.0), (0, 1, 0.5)])
    np.testing.assert_allclose(result.values, [[2, 0.5], [0.25, 20]], rtol=1e-6)


def test_to_metric_mask_and_outliers(aligned_scene):
    metres, depth = aligned_scene
    wrong = metres.copy()
    wrong[:8] = 50
    good = np.ones(metres.shape, bool)
    good[:8] = False
    np.testing.assert_allclose(depth.to_metric(depth=wrong, mask=good).metres, metres, rtol=1e-5)
    np.testing.assert_allclose(
        depth.to_metric(depth=wrong, method="ransac").metres, metres, rtol=1e-5
    )
    points = [(r, c, wrong[r, c]) for r in (2, 9, 15, 19) for c in (3, 20)]
    assert np.abs(depth.to_metric(points).metres / metres - 1).max() > 0.05
    np.testing.assert_allclose(depth.to_metric(points, mask=good).metres, metres, rtol=1e-5)


def test_to_metric_keeps_depth_finite():
    depth = DepthMap(np.array([[2.0, 1.0, 0.0, -5.0, 0.001]]), RELATIVE)
    points = [(0, 0, 1.0), (0, 1, 2.0)]  # 1 / metres = value / 2
    np.testing.assert_allclose(depth.to_metric(points).values, [[1, 2, 1000, 1000, 1000]])
    np.testing.assert_allclose(
        depth.to_metric(points, max_depth=80).values, [[1, 2, 80, 80, 80]], rtol=1e-6
    )


def test_to_metric_refuses():
    depth = relative()
    shape = depth.values.shape
    with raises("metric already"):
        metric().to_metric(depth=np.ones(shape))
    with raises("either points"):
        depth.to_metric()
    with raises("not both"):
        depth.to_metric(points=[(0, 0, 1)], depth=np.ones(shape))
    with raises("(20, 31)"):
        depth.to_metric(depth=np.ones((20, 31)))
    with raises("mask is (20,)"):
        depth.to_metric(depth=np.ones(shape), mask=np.ones(20))
    with raises("(2,)"):
        depth.to_metric(points=[0, 0])
    with raises("row 20, column 3"):
        depth.to_metric(points=[(0, 0, 1), (20, 3, 2)])
    with raises("1 of 2 points"):
        depth.to_metric(points=[(0, 0, 1), (-1, 3, 2)])
    with raises("NaN"):
        depth.to_metric(points=[(0, np.nan, 1)])
    with raises("Received: 1, of which 1 can be used"):
        depth.to_metric(points=[(0, 0, 1)])
    with raises("Received: 600, of which 0 can be used"):
        depth.to_metric(depth=np.zeros(shape))
    for max_depth in (0, -1, np.nan, np.inf):
        with raises("max_depth must be above 0 m and finite"):
            depth.to_metric(depth=np.ones(shape), max_depth=max_depth)
    with raises("Received: 'exact'"):
        depth.to_metric(depth=np.ones(shape), method="exact")


def test_to_metric_notices_points_that_contradict_the_map(aligned_scene):
    metres, depth = aligned_scene
    with raises("contradict"):
        depth.to_metric(depth=1 / metres)
