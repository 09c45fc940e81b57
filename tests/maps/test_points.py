"""Depth to points: scenes of known geometry, cameras, files, the command."""

import json
import math
import struct

import numpy as np
import pytest
from PIL import Image

from keras_dpt import cli
from keras_dpt.errors import DepthError
from keras_dpt.maps import points
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.points import PointCloud, depth_to_points, exif_fov, pinhole
from keras_dpt.presets import preset_path, read_preset

SIZE = 48, 64
K = 70.0, 75.0, 30.0, 25.5


def rays(size, camera):
    """`(H, W, 3)` float64: for each pixel the point that it sees at depth 1."""
    fx, fy, cx, cy = camera
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones(size)], axis=-1)


def metric(values):
    return DepthMap(values, "metric_depth")


def plane_depth(size, camera, normal=(0.2, -0.8, 0.6), distance=2.0):
    """Depth of the plane `normal @ point == distance`, a floor that rises, which all rays hit."""
    return distance / (rays(size, camera) @ normal)


@pytest.mark.parametrize("size", [SIZE, (96, 128), (30, 20)])
def test_a_plane_comes_back_at_every_size(size):
    camera = pinhole(size, K, intrinsics_size=SIZE)
    normal = np.array([0.1, -0.2, 0.9])
    depth = metric(plane_depth(size, camera, normal))
    cloud = depth_to_points(depth, intrinsics=K, intrinsics_size=SIZE)
    assert len(cloud) == size[0] * size[1]
    np.testing.assert_allclose(cloud.points @ normal, 2.0, rtol=2e-6)


def test_a_sphere_comes_back():
    center, radius = np.array([0.3, -0.2, 4.0]), 1.5
    view = rays(SIZE, K)
    # |t * ray - center| = radius, the nearer of the two solutions; t is the depth.
    a, b = (view**2).sum(-1), view @ center
    root = b**2 - a * (center @ center - radius**2)
    hit = root > 0
    depth = np.where(hit, (b - np.sqrt(np.maximum(root, 0))) / a, 0)
    cloud = depth_to_points(metric(depth), intrinsics=K)
    assert len(cloud) == hit.sum() > 500  # pixels beside the sphere give no point
    distance = np.linalg.norm(cloud.points - center, axis=1)
    np.testing.assert_allclose(distance, radius, rtol=2e-6)


def test_points_project_onto_their_pixels_and_have_their_colours():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    cloud = depth_to_points(metric(rng.uniform(1, 9, SIZE)), photo, intrinsics=K)
    x, y, z = cloud.points.T.astype("float64")
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    np.testing.assert_allclose(K[0] * x / z + K[2], columns.ravel(), atol=1e-4)
    np.testing.assert_allclose(K[1] * y / z + K[3], rows.ravel(), atol=1e-4)
    np.testing.assert_array_equal(cloud.colors, photo.reshape(-1, 3))


def test_thinning_keeps_the_points_of_every_nth_pixel():
    depth = metric(np.random.default_rng(0).uniform(1, 9, SIZE))
    whole = depth_to_points(depth, fov=60).points.reshape(*SIZE, 3)
    thin = depth_to_points(depth, fov=60, max_points=400)
    np.testing.assert_array_equal(thin.points, whole[::3, ::3].reshape(-1, 3))
    assert len(thin) <= 400


def test_far_points_are_left_out_on_request():
    depth = metric(np.array([[1.0, 2.0, 3.0]]))
    cloud = depth_to_points(depth, fov=60, max_depth=2)
    np.testing.assert_array_equal(cloud.points[:, 2], [1, 2])
    with pytest.raises(DepthError, match="max_depth, 0.5 m"):
        depth_to_points(depth, fov=60, max_depth=0.5)


def test_points_between_a_thing_and_what_is_behind_it_are_left_out():
    """A box at 1 m before a wall at 3 m, with an edge that is blurred over 9 pixels."""
    depth = np.full((40, 320), 3.0)
    depth[:, :30] = 1.0
    depth[:, 30:39] = np.linspace(1, 3, 11)[1:-1]
    whole = depth_to_points(metric(depth), fov=60)
    cloud = depth_to_points(metric(depth), fov=60, max_tilt=85)
    z = cloud.points[:, 2]
    assert set(np.unique(whole.points[:, 2].round(2))) > {1.0, 3.0}
    assert set(np.unique(z)) == {1.0, 3.0}
    assert len(cloud) == 40 * (29 + 280)  # the last column of each surface is beside the edge


@pytest.mark.parametrize("tilt", [30, 60, 84])
@pytest.mark.parametrize("size", [SIZE, (192, 256)])
def test_a_plane_is_left_out_from_its_own_tilt_on(tilt, size):
    camera = pinhole(size, K, intrinsics_size=SIZE)
    # Looked at from straight ahead, so that each ray of the middle meets it at nearly its tilt.
    normal = np.array([0, np.sin(np.radians(tilt)), np.cos(np.radians(tilt))])
    depth = plane_depth(size, camera, normal)
    middle = np.where(np.abs(np.arange(size[0]) - camera.cy) <= 2, 1, np.nan)[:, None]
    depth = metric(np.nan_to_num(depth * middle))
    seen = np.count_nonzero(depth.values)
    kept = depth_to_points(depth, intrinsics=camera, max_tilt=tilt + 4)
    assert len(kept) == seen
    with pytest.raises(DepthError, match="No point is left.*tilted by at most max_tilt"):
        depth_to_points(depth, intrinsics=camera, max_tilt=tilt - 12)


def test_unknown_depths_are_no_edge():
    depth = np.full(SIZE, 2.0)
    depth[10:20, 10:20] = 0
    assert len(depth_to_points(metric(depth), fov=60, max_tilt=10)) == depth.size - 100


@pytest.mark.parametrize("tilt", [0, 90, -1, float("nan")])
def test_a_tilt_is_an_angle(tilt):
    with pytest.raises(DepthError, match="max_tilt must be above 0 and below 90 degrees. Received"):
        depth_to_points(metric(np.ones(SIZE)), fov=60, max_tilt=tilt)


def test_the_ways_to_describe_a_camera_agree():
    by_fov = pinhole((240, 320), fov=90)
    assert by_fov == pytest.approx((160, 160, 159.5, 119.5))
    assert by_fov.fov(320) == pytest.approx(90)
    assert pinhole((240, 320), focal_mm=18, sensor_mm=36) == pytest.approx(by_fov)
    matrix = [[160, 0, 159.5], [0, 160, 119.5], [0, 0, 1]]
    assert pinhole((240, 320), matrix) == pytest.approx(by_fov)
    # The field of view does not change with the size of the picture.
    halved = pinhole((120, 160), by_fov, intrinsics_size=(240, 320))
    assert halved == pytest.approx(pinhole((120, 160), fov=90))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "Received: none"),
        ({"fov": 60, "intrinsics": K}, "Received: intrinsics and fov"),
        ({"fov": 180}, "below 180 degrees. Received: 180"),
        ({"focal_mm": 4}, "belong together. Received: 4 and None"),
        ({"fov": 60, "intrinsics_size": SIZE}, "intrinsics_size belongs to intrinsics"),
        ({"intrinsics": (4.1, 4.1, 32, 24)}, "Intrinsics are in pixels"),
        ({"intrinsics": (0, 70, 32, 24)}, "above 0"),
        ({"intrinsics": (70, 32, 24)}, r"shape \(3,\)"),
        ({"intrinsics": np.diag([70, 70, 2])}, "as a matrix"),
        ({"intrinsics": K, "intrinsics_size": (0, 5)}, r"is \(height, width\)"),
        ({"fov": 60, "max_points": 0}, "at least 1. Received: 0"),
        ({"fov": 60, "photo": np.zeros((10, 20, 3), "uint8")}, "The photo is 10x20"),
    ],
)
def test_what_makes_no_camera_is_refused(arguments, words):
    with pytest.raises(DepthError, match=words):
        depth_to_points(metric(np.ones(SIZE)), **arguments)


def test_relative_depth_is_refused_until_it_is_aligned():
    truth = plane_depth(SIZE, K)
    relative = DepthMap(300 / truth + 40, "relative_inverse_depth")
    with pytest.raises(DepthError, match=r"Align it .*to_metric"):
        depth_to_points(relative, intrinsics=K)
    with pytest.raises(DepthError, match="DepthMap.array"):
        depth_to_points(truth, intrinsics=K)
    known = [(r, c, truth[r, c]) for r, c in ((0, 0), (47, 63))]
    cloud = depth_to_points(relative.to_metric(points=known), intrinsics=K)
    np.testing.assert_allclose(cloud.points @ (0.2, -0.8, 0.6), 2.0, rtol=1e-5)


@pytest.fixture
def cloud():
    rng = np.random.default_rng(0)
    return PointCloud(rng.normal(size=(50, 3)), rng.integers(0, 256, (50, 3), dtype=np.uint8))


def test_ply_holds_points_and_colours(cloud, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    cloud.save(tmp_path / "cloud.ply")
    read = trimesh.load(tmp_path / "cloud.ply")
    np.testing.assert_array_equal(read.vertices, cloud.points)
    np.testing.assert_array_equal(read.colors[:, :3], cloud.colors)


@pytest.mark.parametrize("name", ["cloud.glb", "cloud.gltf"])
def test_gltf_stands_upright_and_in_linear_light(cloud, name, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    cloud.save(tmp_path / name)
    (read,) = trimesh.load(tmp_path / name).geometry.values()
    np.testing.assert_array_equal(read.vertices, cloud.points * [1, -1, -1])
    linear = read.colors[:, :3] / 255
    srgb = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    bright = cloud.colors > 60
    np.testing.assert_allclose(255 * srgb[bright], cloud.colors[bright], atol=3)
    content = (tmp_path / name).read_bytes()
    if name.endswith("glb"):
        content = content[20 : 20 + struct.unpack("<I", content[12:16])[0]]
    (material,) = json.loads(content)["materials"]
    assert "KHR_materials_unlit" in material["extensions"]
    unlit = {"baseColorFactor": [1, 1, 1, 1], "metallicFactor": 0}
    assert material["pbrMetallicRoughness"] == unlit


def test_linear_light_is_that_of_srgb():
    """By the standard's formula: 128 is 21.6 % of the light, 200 are 57.8 %."""
    table = points._linear_light()
    assert table[[0, 1, 10, 128, 200, 255]].tolist() == [0, 0, 1, 55, 147, 255]
    assert (np.diff(table.astype(int)) >= 0).all()
    np.testing.assert_array_equal(points._TO_LINEAR_LIGHT, table)


def test_no_lamp_shines_on_points():
    unlit = {"baseColorFactor": [1, 1, 1, 1], "metallicFactor": 0}
    unlit = {"pbrMetallicRoughness": unlit, "extensions": {"KHR_materials_unlit": {}}}
    for used in ({}, {"extensionsUsed": ["other"]}):
        shared = {}
        tree = {"materials": [{"doubleSided": True}, shared]} | used
        points._show_colors_as_they_are(tree)
        assert not shared  # trimesh's material of all other exports
        assert tree["materials"] == [unlit | {"doubleSided": True}, unlit]
        named = [*used.get("extensionsUsed", []), "KHR_materials_unlit"]
        assert tree["extensionsUsed"] == named


@pytest.mark.parametrize(
    ("size", "most", "step"),
    [
        ((10, 1000), 100, 10),
        ((1000, 10), 100, 10),
        ((4, 5), 20, 1),
        ((4, 5), 19, 2),
        ((4, 5), 1, 5),
        ((4, 5), None, 1),
    ],
)
def test_every_how_many_pixels(size, most, step):
    assert points._step(size, most) == step


def test_a_tiny_camera_is_a_camera():
    assert pinhole((1, 1), (0.75, 0.5, 0, 0)).fov(1) == pytest.approx(67.38, abs=0.01)


def test_colours_are_optional(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    for name in ("a.ply", "a.glb"):
        PointCloud([[1, 2, 3]]).save(tmp_path / name)
    assert trimesh.load(tmp_path / "a.ply").vertices.shape == (1, 3)


@pytest.mark.parametrize(
    ("points", "colors"),
    [
        (np.zeros((0, 3)), None),
        (np.zeros((2, 4)), None),
        (np.zeros((2, 3, 1)), None),
        ([[1, 2, np.nan]], None),
        ([[1, 2, 3]], np.zeros((1, 3))),
        ([[1, 2, 3]], np.zeros((2, 3), "uint8")),
    ],
)
def test_nonsense_is_no_cloud(points, colors):
    with pytest.raises(DepthError):
        PointCloud(points, colors)


def test_files_that_cannot_be_written_say_why(cloud, tmp_path):
    with pytest.raises(DepthError, match=r"end in .ply, .glb, .gltf. Received: '.xyz'"):
        cloud.save(tmp_path / "a.xyz")
    with pytest.raises(DepthError, match="Received: a name without ending"):
        cloud.save(tmp_path / "cloud")
    with pytest.raises(DepthError, match="there is no folder"):
        cloud.save(tmp_path / "no" / "a.ply")


def test_a_missing_trimesh_names_the_extra(cloud, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "trimesh", None)
    with pytest.raises(DepthError, match=r"pip install .*\[points\]"):
        cloud.save(tmp_path / "a.ply")


def test_exif_gives_the_field_of_view_of_the_upright_photo(tmp_path):
    exif = Image.Exif()
    exif[0x8769] = {0xA405: 26}  # FocalLengthIn35mmFilm
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (400, 300)).save(tmp_path / "phone.jpg", exif=exif)
    Image.new("RGB", (400, 300)).save(tmp_path / "plain.jpg")
    (tmp_path / "broken.jpg").write_text("no picture")
    diagonal = 2 * math.atan(math.hypot(36, 24) / 2 / 26)
    expected = 2 * math.atan(math.tan(diagonal / 2) * 300 / 500)
    assert exif_fov(tmp_path / "phone.jpg") == pytest.approx(math.degrees(expected))
    assert exif_fov(tmp_path / "plain.jpg") is exif_fov(tmp_path / "broken.jpg") is None


@pytest.fixture
def photo(tmp_path):
    Image.new("RGB", SIZE[::-1], (200, 100, 50)).save(tmp_path / "photo.png")
    metric(plane_depth(SIZE, K)).save(tmp_path / "metric.png")
    relative = DepthMap(300 / plane_depth(SIZE, K) + 40, "relative_inverse_depth")
    relative.save(tmp_path / "relative.npy")
    relative.save(tmp_path / "relative.png")
    return tmp_path / "photo.png"


def test_the_command_writes_points(photo, capsys):
    trimesh = pytest.importorskip("trimesh")
    out = photo.with_name("photo.ply")
    depth = str(photo.with_name("metric.png"))
    command = ["points", str(photo), "-o", str(out), "--depth", depth]
    assert cli.main([*command, "--intrinsics", *map(str, K)]) == 0
    assert "3072 points" in capsys.readouterr().out
    read = trimesh.load(out)
    np.testing.assert_allclose(read.vertices @ (0.2, -0.8, 0.6), 2.0, atol=2e-3)  # mm in the PNG
    assert (read.colors[:, :3] == (200, 100, 50)).all()


def test_the_command_has_metres_and_a_file_name_by_itself(photo, monkeypatch):
    trimesh = pytest.importorskip("trimesh")
    asked = []

    class Metric:
        kind = "metric_depth"

        def predict_image(self, image):
            return metric(plane_depth(SIZE, K))

    monkeypatch.setattr("keras_dpt.cli.photos.load", lambda *a: asked.append(a[-1]) or Metric())
    here = photo.parent / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert cli.main(["points", str(photo), "--fov", "60"]) == 0
    assert len(trimesh.load(here / "photo.ply").vertices) == 3072
    assert asked == ["dpt_mini_nyuv2_metric"] and read_preset(asked[0])["output"]["unit"] == "m"
    assert preset_path(asked[0])  # without a network


def test_the_command_leaves_out_what_is_tilted(photo, capsys):
    pytest.importorskip("trimesh")
    out = str(photo.with_name("photo.ply"))
    command = ["points", str(photo), "-o", out, "--depth", str(photo.with_name("metric.png"))]
    # The floor of the photo is steeper than that everywhere.
    assert cli.main([*command, "--intrinsics", *map(str, K), "--max-tilt", "1"]) == 2
    assert "tilted by at most max_tilt, 1 degrees" in capsys.readouterr().err


def test_the_command_aligns_what_a_model_says(photo, monkeypatch, capsys):
    trimesh = pytest.importorskip("trimesh")
    truth = plane_depth(SIZE, K)

    class Relative:
        kind = "relative_inverse_depth"

        def predict_image(self, image):
            return DepthMap(300 / truth + 40, self.kind)

    monkeypatch.setattr("keras_dpt.cli.photos.load", lambda task, preset: Relative())
    out = photo.with_name("photo.glb")
    command = ["points", str(photo), "-o", str(out), "--intrinsics", *map(str, K)]
    assert cli.main(command) == 2
    assert "Pass --known ROW COLUMN METRES" in capsys.readouterr().err and not out.exists()
    known = [["--known", str(r), str(c), str(truth[r, c])] for r, c in ((0, 0), (47, 63))]
    assert cli.main([*command, *known[0], *known[1]]) == 0
    (read,) = trimesh.load(out).geometry.values()
    np.testing.assert_allclose(read.vertices @ (0.2, 0.8, -0.6), 2.0, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "{tmp}/a.ply", "--depth", "{tmp}/metric.png"], "does not say what its camera saw"),
        (["-o", "{tmp}/a.obj", "--fov", "60"], "end in .ply"),
        (["-o", "{tmp}/no/a.ply", "--fov", "60"], "there is no folder"),
        (["-o", "{tmp}/a.ply", "--fov", "60", "--depth", "{tmp}/relative.png"], "--known"),
        (["-o", "{tmp}/a.ply", "--fov", "60", "--known", "99", "0", "1"], "is not in the photo"),
        (["-o", "{tmp}/a.ply", "--fov", "60", "--known", "9", "0", "1"], "Two --known or more"),
        (["-o", "{tmp}/a.ply", "--fov", "60", "--depth", "{tmp}/missing.png"], "no such file"),
        (["-o", "{tmp}/a.ply", "--fov", "60", "--intrinsics-size", "9", "9"], "belongs to"),
        # Before anything else is looked at: there is no such preset.
        (["-o", "{tmp}/a.ply", "--preset", "none", "--max-tilt", "95"], "below 90 degrees"),
    ],
)
def test_errors_of_the_command_are_one_message(arguments, words, photo, capsys):
    pytest.importorskip("trimesh")
    filled = [a.format(tmp=photo.parent) for a in arguments]
    assert cli.main(["points", str(photo), *filled]) == 2
    error = capsys.readouterr().err
    assert error.startswith("keras-dpt: ") and words in error and error.count("\n") == 1
    assert not list(photo.parent.glob("a.*"))
