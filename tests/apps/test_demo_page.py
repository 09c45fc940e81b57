"""What the demo page writes, the command, and the page in a real browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_dpt import cli
from keras_dpt.apps import demo_page
from keras_dpt.errors import DepthError, ImageError
from keras_dpt.extras import install_command
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap
from keras_dpt.models.depth import DPTDepth
from keras_dpt.presets import preset_names, read_preset


class Ramp:
    """A model that finds the lower rows of each photo nearer."""

    kind = "relative_inverse_depth"

    def predict_image(self, image):
        height, width = image.shape[:2]
        values = np.repeat(np.arange(height, dtype="float32")[:, None] + 7, width, axis=1)
        return DepthMap(values if self.kind == "relative_inverse_depth" else values / 10, self.kind)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (60, 101), (200, 100, 50)).save(path)
    return path


@pytest.mark.parametrize("kind", ["relative_inverse_depth", "metric_depth"])
def test_depth_and_its_files(kind, photo, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    model = Ramp()
    model.kind = kind
    out = tmp_path / "out"
    out.mkdir()
    picture, text, view, files = demo_page.depth_results(model, photo, 60, 1.0, 5.0, out)
    assert sorted(files) == sorted(out.iterdir()) and {picture, view} <= set(files)
    stored = DepthMap.load(out / "photo_depth.png")
    assert stored.kind == kind and stored.values.shape == (101, 60)
    (cloud,) = trimesh.load(view).geometry.values()
    distances = np.percentile(-cloud.vertices[:, 2], (2, 98))
    if kind == "metric_depth":
        assert "Metres: 0.90 to 10.50" in text
        np.testing.assert_allclose(distances, (0.9, 10.5), rtol=1e-4)
    else:
        assert "no unit: 9 to 105" in text
        np.testing.assert_allclose(distances, (1, 5), rtol=0.01)


@pytest.mark.parametrize("edges", [False, True])
def test_points_between_a_thing_and_what_is_behind_it(edges, tmp_path):
    trimesh = pytest.importorskip("trimesh")

    class Step:
        def predict_image(self, image):
            depth = np.full(image.shape[:2], 3.0, "float32")
            depth[:, :200] = 1.0
            depth[:, 200:209] = np.linspace(1, 3, 11)[1:-1]
            return DepthMap(depth, "metric_depth")

    photo = tmp_path / "photo.png"
    Image.new("RGB", (400, 50)).save(photo)
    *_, view, _ = demo_page.depth_results(Step(), photo, 60, 1.0, 5.0, tmp_path, edges)
    (cloud,) = trimesh.load(view).geometry.values()
    between = np.abs(-cloud.vertices[:, 2] - 2) < 0.9
    assert between.any() == edges


def test_labels_and_their_files(photo, tmp_path):
    class Halves:
        def predict_image(self, image):
            labels = np.zeros(image.shape[:2], int)
            labels[50:] = 1
            return LabelMap(labels, ("sky", "road", "car"))

    out = tmp_path / "out"
    out.mkdir()
    picture, text, view, files = demo_page.label_results(Halves(), photo, out)
    assert sorted(files) == sorted(out.iterdir()) and picture in files and view is None
    assert text == "2 of 3 classes."


def test_results_of_a_task_that_the_page_does_not_know(photo, tmp_path):
    class Normals:
        task_name = "normals"

        def predict_image(self, image):
            return self

        def save(self, path):
            np.save(path, np.zeros(3))

        def colorize(self):
            return Image.new("RGB", (4, 3))

    picture, _, view, files = demo_page.other_results(Normals(), photo, tmp_path)
    assert [file.name for file in files] == ["photo_normals.npy", "photo_color.png"]
    assert picture == files[1] and view is None and all(file.is_file() for file in files)


def test_what_cannot_be_shown_says_why(photo, tmp_path, monkeypatch):
    with pytest.raises(DepthError, match="below the farthest. Received: 5 and 1"):
        demo_page.depth_results(Ramp(), photo, 60, 5, 1, tmp_path)
    broken = tmp_path / "broken.jpg"
    broken.write_text("no picture")
    with pytest.raises(ImageError, match="^broken.jpg is not an image"):
        demo_page.label_results(None, broken, tmp_path)
    monkeypatch.setattr(demo_page, "MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match="photo.png has 0.00606 million pixels"):
        demo_page.depth_results(Ramp(), photo, 60, 1, 5, tmp_path)


def test_pixels_are_counted_before_they_are_decoded(tmp_path, monkeypatch):
    """A PNG of 165 kB took 30 s and 2.4 GB."""
    path = tmp_path / "photo.png"
    Image.new("1", (13_000, 13_000)).save(path)
    assert path.stat().st_size < 50_000
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="^photo.png has 169 million pixels; this page takes"):
        demo_page.label_results(None, path, tmp_path)
    header = path.read_bytes()[:16] + bytes([0, 1, 134, 160] * 2)  # 100,000 x 100,000
    path.write_bytes(header + path.read_bytes()[24:])
    with pytest.raises(ImageError, match="million pixels|is not an image"):
        demo_page.label_results(None, path, tmp_path)


def test_the_page_offers_every_preset_that_is_trained():
    offered = demo_page.default_presets()
    assert offered["depth"][0] == "dpt_mini_nyuv2"
    assert offered["segmentation"][0] == "dpt_mini_camvid"
    trained = {name for name in preset_names() if read_preset(name)["weights"] == "complete"}
    assert {*offered["depth"], *offered["segmentation"]} == trained
    assert "dpt_base" not in trained and "dpt_large" in trained


@pytest.mark.parametrize("host, warned", [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)])
def test_the_command_warns_who_lets_others_in(host, warned, monkeypatch, capsys):
    calls = []

    @contextmanager
    def serving(*args, **kwargs):
        calls.append((args, kwargs))
        yield "http://somewhere/"

    class Interrupted:
        def wait(self, seconds):
            raise KeyboardInterrupt

    monkeypatch.setattr("keras_dpt.apps.demo_page.serving", serving)
    monkeypatch.setattr("keras_dpt.cli.demo.threading.Event", Interrupted)
    arguments = ["demo", "--host", host, "--preset", "dpt_mini_camvid", "--no-browser"]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert "http://somewhere/" in captured.out and ("warning" in captured.err) == warned
    presets = {"segmentation": ["dpt_mini_camvid"]}
    assert calls == [((host, None, presets), {"open_browser": False})]


def test_a_missing_package_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["demo", "--no-browser"]) == 2
    assert install_command("demo") in capsys.readouterr().err


@pytest.mark.slow
def test_an_address_that_is_not_free_is_refused(capsys):
    pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.main(["demo", "--no-browser", "--port", port]) == 2
        assert f"Cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err
    assert cli.main(["demo", "--no-browser", "--host", "192.0.2.1"]) == 2  # nobody's, RFC 5737
    assert "Cannot listen on 192.0.2.1" in capsys.readouterr().err


@contextmanager
def started(temporary, seconds=300):
    """The command, running, with a folder for its temporary files; killed when it takes longer."""
    pytest.importorskip("gradio")
    program = "from keras_dpt.cli import main; raise SystemExit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "demo", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    )
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("times, code", [(1, 0), (2, 130)])
def test_ctrl_c_while_a_prediction_runs(times, code, photo, tmp_path):
    gradio_client = pytest.importorskip("gradio_client")
    with started(tmp_path) as process:
        address = process.stdout.readline().split()[0]
        client = gradio_client.Client(address, verbose=False, download_files=False)
        arguments = gradio_client.handle_file(photo), "depth", "dpt_mini_nyuv2", 60, 1, 5
        client.submit(*arguments, api_name="/predict")
        wait_for(lambda: list(tmp_path.glob("keras_dpt_*/tmp*")))  # made when it begins
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline().startswith("stopping;")
        if times == 2:
            process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=100)
        assert process.returncode == code, errors
        assert output == ("stopped\n" if code == 0 else "")
    assert not list(tmp_path.glob("keras_dpt_*"))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of the command, running."""
    temporary = tmp_path_factory.mktemp("temporary")
    with started(temporary, seconds=900) as process:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), process.stderr.read()
        yield line.split()[0]
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and output.endswith("stopped\n")
    assert not list(temporary.glob("keras_dpt_*"))  # uploads and results are gone
    assert not list(Path(demo_page.__file__).parent.rglob("*.pyi"))  # Gradio likes to write them


@pytest.mark.slow
def test_other_hosts_and_presets_are_refused(server, photo):
    import http.client

    gradio_client = pytest.importorskip("gradio_client")

    def status(method="GET", path="/", **headers):
        address = server.removeprefix("http://").rstrip("/")
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request(method, path, headers={k.title(): v for k, v in headers.items()})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    assert status() == 200
    assert status(host="evil.example") == 403
    assert status("POST", "/gradio_api/queue/join", origin="http://evil.example") == 403
    client = gradio_client.Client(server, verbose=False, download_files=False)
    for preset in ("dpt_mini_camvid", "/etc", "hf://user/repository"):
        with pytest.raises(Exception, match=r"(?i)not offer|choices|choice"):
            arguments = gradio_client.handle_file(photo), "depth", preset, 60, 1, 5
            client.predict(*arguments, api_name="/predict")


@pytest.mark.slow
def test_a_queue_that_is_full_says_so(server, photo):
    """Twelve at once: most are served, one by one; the others are told so, and memory stays."""
    gradio_client = pytest.importorskip("gradio_client")
    client = gradio_client.Client(server, verbose=False, download_files=False)
    arguments = gradio_client.handle_file(photo), "depth", "dpt_mini_nyuv2", 60, 1, 5
    jobs = [
        client.submit(*arguments, api_name="/predict") for _ in range(3 * demo_page.MAX_WAITING)
    ]
    failures = [str(error) for job in jobs if (error := job.exception(timeout=300))]
    assert 0 < len(failures) <= 2 * demo_page.MAX_WAITING
    assert all("full" in failure.lower() or "busy" in failure.lower() for failure in failures)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_ten_uploads_at_once_take_the_memory_of_one(tmp_path):
    """One prediction runs at a time, and the photos of those that wait are on the disk."""
    gradio_client = pytest.importorskip("gradio_client")
    photo = tmp_path / "photo.jpg"
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), "uint8")
    Image.fromarray(coarse).resize((4000, 3000)).save(photo)
    with started(tmp_path, seconds=900) as process:
        address = process.stdout.readline().split()[0]
        peaks = []
        for count in (1, 10):
            client = gradio_client.Client(address, verbose=False, download_files=False)
            arguments = gradio_client.handle_file(photo), "depth", "dpt_mini_nyuv2", 60, 1, 5
            jobs = [client.submit(*arguments, api_name="/predict") for _ in range(count)]
            for job in jobs:
                job.result(timeout=600)
            peaks.append(peak_of(process.pid))
    print(f"peak of resident memory: {peaks[0]} MB after one, {peaks[1]} MB after ten at once")
    assert peaks[1] < 1.25 * peaks[0] + 100


def peak_of(pid):
    """The most MB of a process that were ever in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1000


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Chromium, such as Debian's package chromium")
    with playwright.sync_playwright() as p:
        # Without a graphics card, WebGL is drawn by the processor.
        arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = p.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(server, browser):
    """The page, opened; `page.elsewhere` collects requests to other servers."""
    page = browser.new_page(viewport={"width": 1300, "height": 1100})
    page.set_default_timeout(120_000)
    page.elsewhere = []

    def note(request):
        if not request.url.startswith((server, "data:", "blob:")):
            page.elsewhere.append(request.url)

    page.on("request", note)
    page.goto(server)
    page.wait_for_selector("#photo input[type=file]", state="attached")
    yield page
    assert page.elsewhere == []
    page.close()


def upload(page, path):
    page.set_input_files("#photo input[type=file]", str(path))


def predict(page):
    page.get_by_role("button", name="Predict").click()


def message(page):
    toast = page.get_by_test_id("toast-body")
    toast.wait_for()
    return toast.inner_text()


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    skimage_data = pytest.importorskip("skimage.data")
    path = tmp_path_factory.mktemp("photos") / "motorcycle.png"
    Image.fromarray(skimage_data.stereo_motorcycle()[0]).save(path)
    return path


@pytest.mark.slow
def test_a_photo_becomes_depth_in_the_browser(page, room, tmp_path):
    upload(page, room)
    page.wait_for_selector("#photo img")
    predict(page)
    page.wait_for_selector("#result img")
    assert page.get_by_text("Relative inverse depth").is_visible()
    page.wait_for_selector("#view canvas")
    page.wait_for_timeout(5000)  # the view is drawn on the processor
    page.screenshot(path=tmp_path / "page.png")
    view = Image.open(_shot(page.locator("#view canvas"), tmp_path)).convert("RGB")
    colours = len(view.getcolors(view.width * view.height))
    assert colours > 1000, "the 3-D view is empty"
    links = {a.get_attribute("download"): a for a in page.locator("a[download]").all()}
    ends = ("depth.png", "depth.npy", "color.png", "points.glb")
    assert {f"motorcycle_{end}" for end in ends} <= set(links)
    with page.expect_download() as started:
        links["motorcycle_depth.npy"].click()
    values = np.load(started.value.path())
    expected = DPTDepth.from_preset("dpt_mini_nyuv2").predict_image(room).values
    np.testing.assert_allclose(values, expected, atol=1e-4 * np.ptp(expected))


def _shot(locator, folder) -> Path:
    path = folder / "view.png"
    locator.screenshot(path=path)
    return path


@pytest.mark.slow
def test_a_photo_becomes_labels_in_the_browser(page, room):
    upload(page, room)
    page.wait_for_selector("#photo img")
    page.get_by_label("segmentation").check()
    page.get_by_label("Preset").wait_for()
    page.wait_for_function(
        "[...document.querySelectorAll('input')].some(i => i.value.includes('camvid'))"
    )
    predict(page)
    page.wait_for_selector("#result img")
    page.get_by_text("of 11 classes").wait_for()
    assert not page.locator("#view").is_visible()


@pytest.mark.slow
def test_bad_uploads_get_a_message_in_the_browser(page, tmp_path):
    predict(page)
    assert "Choose a photo first" in message(page)
    page.reload()
    broken = tmp_path / "broken.jpg"
    broken.write_text("no picture")
    upload(page, broken)
    page.wait_for_selector("#photo img")
    predict(page)
    assert "broken.jpg is not an image" in message(page)
    page.reload()
    large = tmp_path / "large.jpg"
    with open(large, "wb") as file:
        file.truncate(demo_page.MAX_FILE_SIZE + 1024)
    upload(page, large)
    assert "exceed the maximum allowed size" in message(page)
