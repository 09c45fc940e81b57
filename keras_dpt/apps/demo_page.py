"""A Gradio page that shows what the presets do. Nothing leaves the machine."""

import gc
import os
import socket
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from keras_dpt.apps.doorkeeper import BoundedBodies, OnlyOwnHosts
from keras_dpt.errors import DepthError, ImageError, KerasDPTError
from keras_dpt.extras import install_command
from keras_dpt.files import temporary_folder
from keras_dpt.images.pixels import as_integers
from keras_dpt.images.reading import pixels_promised, read_image, write_picture
from keras_dpt.maps.points import depth_to_points, exif_fov
from keras_dpt.models.tasks import TASKS, task_named
from keras_dpt.presets import preset_names, preset_path, read_preset

MAX_FILE_SIZE = 50 * 1024**2  # bytes of an upload
MAX_PIXELS = 50_000_000
MAX_WAITING = 10  # predictions; further ones are told to come later
MAX_BODY = 1024**2  # bytes of any other request
_MAX_TILT = 82  # degrees; what is turned further lies between a thing and what is behind it
_MAX_POINTS = 200_000  # a browser turns so many without effort
_DEFAULT_FOV = 60  # degrees, of photos that do not say
_FOV_RANGE = (5, 140)  # of the slider, in degrees

_ABOUT = """# keras_dpt
Depth and labels of photos by Dense Prediction Transformers. Photos stay on the machine that serves
this page and are deleted when it stops."""
_ABOUT_3D = """A relative preset does not predict distances. For the view, its values are scaled so
that the nearest 2 % of the photo are at the first distance and the farthest 2 % at the second:
**shape and size are only as good as these guesses**. Metric presets need none."""


def depth_results(
    model, photo: Path, fov: float, near: float, far: float, folder: Path, edges: bool = False
):
    """Estimate the depth of a photo and write all files that the page offers.

    Args:
        model: a `DPTDepth`.
        photo: file.
        fov: horizontal field of view, degrees.
        near, far: metres of the nearest and the farthest 2 %, for relative models.
        folder: to write to.
        edges: keep the points at depth edges, where there is no surface.

    Returns: the coloured image, a line of text, the file of the 3-D view, all files.
    Raises: KerasDPTError: the photo or the numbers cannot be used.
    """
    pixels = _read(photo)
    depth = model.predict_image(pixels)
    low, high = np.percentile(depth.values, (2, 98))
    metric = depth if depth.kind == "metric_depth" else _stretched(depth, near, far)
    tilt = None if edges else _MAX_TILT
    points = depth_to_points(metric, pixels, fov=fov, max_points=_MAX_POINTS, max_tilt=tilt)
    stem = folder / photo.stem
    files = [Path(f"{stem}_{end}") for end in ("depth.png", "depth.npy", "color.png", "points.glb")]
    depth.save(files[0])
    depth.save(files[1])
    write_picture(depth.colorize(), files[2])
    points.save(files[3])
    if depth.kind == "metric_depth":
        text = f"Metres: {low:.2f} to {high:.2f}, without the nearest and the farthest 2 %."
    else:
        text = f"Relative inverse depth, larger is nearer, no unit: {low:.4g} to {high:.4g}."
    return files[2], text, files[3], files


def label_results(model, photo: Path, folder: Path):
    """Label a photo and write all files, as `depth_results` without the 3-D view."""
    pixels = _read(photo)
    labels = model.predict_image(pixels)
    stem = folder / photo.stem
    files = [Path(f"{stem}_{end}") for end in ("labels.png", "labels.npy", "overlay.png")]
    labels.save(files[0])
    labels.save(files[1])
    write_picture(labels.overlay(pixels, legend=True), files[2])
    return files[2], f"{len(labels.shares())} of {len(labels.class_names)} classes.", None, files


def other_results(model, photo: Path, folder: Path):
    """Results of any other task, coloured and as an array, as `label_results`."""
    result = model.predict_image(_read(photo))
    stem = folder / photo.stem
    files = [Path(f"{stem}_{end}") for end in (f"{model.task_name}.npy", "color.png")]
    result.save(files[0])
    write_picture(result.colorize(), files[1])
    return files[1], "", None, files


def _read(photo: Path) -> np.ndarray:
    pixels = pixels_promised(photo)  # before they are decoded: a small file may promise many
    if pixels > MAX_PIXELS:
        raise ImageError(
            f"{photo.name} has {pixels / 1e6:.3g} million pixels; this page takes up to "
            f"{MAX_PIXELS / 1e6:.0f}. Resize it, or use the command keras-dpt."
        )
    try:
        pixels = read_image(photo)
    except ImageError as error:  # without the folder of the upload, which would not help
        raise ImageError(str(error).replace(f"{photo.parent}/", "")) from error
    return as_integers(pixels)


def _stretched(depth, near, far):
    """A relative map with its nearest and farthest 2 % at given metres."""
    if not (near and far and 0 < near < far):
        raise DepthError(
            "The nearest metres must be above 0 and below the farthest. Received: "
            f"{near} and {far}."
        )
    order = np.argsort(depth.values, axis=None)
    points = []
    for share, metres in ((0.02, far), (0.98, near)):
        place = order[round(share * (order.size - 1))]
        points.append((*np.unravel_index(place, depth.values.shape), metres))
    return depth.to_metric(points=points, max_depth=2 * far)


class Turns:
    """Runs one prediction at a time, and none after `end`."""

    def __init__(self):
        self._lock = threading.Lock()
        self._ended = False

    @contextmanager
    def take(self):
        """Wait for a turn. Raises: KerasDPTError: `end` was called."""
        with self._lock:
            if self._ended:
                raise KerasDPTError("The page was stopped.")
            yield

    def end(self):
        """Wait for the running prediction, which would abort the process when Python exits."""
        self._ended = True
        while not self._lock.acquire(timeout=1):  # so that Ctrl-C is seen, whichever thread gets it
            pass
        self._lock.release()


def build(folder: Path, presets: dict[str, list[str]] | None, turns: Turns):
    """The page, as `gradio.Blocks`.

    Args:
        folder: for the results, below the system's folder of temporary files.
        presets: for each task, by name, what `from_preset` takes; the first is the default.
            `None` for all of `keras_dpt.list_presets()` with complete weights, bundled ones first.
        turns: of the predictions.

    Raises: KerasDPTError: gradio or trimesh is not installed.
    """
    gr = import_gradio()
    presets = presets or default_presets()
    models = {}  # one at most

    def load(task, name):
        if name not in presets.get(task, ()):
            raise KerasDPTError(f"This page does not offer {name!r} for {task!r}.")
        if (task, name) not in models:
            models.clear()  # before the next takes memory
            gc.collect()
            models[task, name] = task_named(task).from_preset(name)
        return models[task, name]

    def predict(photo, task, preset, fov, near, far, edges):
        if not photo:
            raise gr.Error("Choose a photo first.", print_exception=False)
        try:
            with turns.take():
                target = Path(tempfile.mkdtemp(dir=folder))
                model = load(task, preset)
                if task == "depth":
                    results = depth_results(model, Path(photo), fov, near, far, target, edges)
                elif task == "segmentation":
                    results = label_results(model, Path(photo), target)
                else:
                    results = other_results(model, Path(photo), target)
        except (KerasDPTError, ValueError, OSError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        picture, text, view, files = results
        view = gr.Model3D(view and str(view), visible=view is not None)
        return str(picture), text, view, [str(file) for file in files]

    def offer(task):
        return _dropdown(gr, presets[task]), gr.Accordion(visible=task == "depth")

    with gr.Blocks(title="keras_dpt", analytics_enabled=False) as page:
        gr.Markdown(_ABOUT)
        with gr.Row():
            with gr.Column(scale=2):
                photo = gr.Image(label="Photo", sources=["upload", "clipboard"], elem_id="photo")
                # The uploaded file itself: `read_image` takes more formats and has better messages.
                # Not a subclass: Gradio writes a .pyi file next to the module of a subclass.
                photo.preprocess = lambda upload: upload and upload.path
                task = gr.Radio(list(presets), value=next(iter(presets)), label="Task")
                preset = _dropdown(gr, presets[task.value])
                with gr.Accordion(
                    "Camera and distances", open=False, visible=task.value == "depth"
                ) as camera:
                    fov = gr.Slider(
                        *_FOV_RANGE,
                        _DEFAULT_FOV,
                        step=1,
                        label="Horizontal field of view (degrees)",
                    )
                    gr.Markdown(_ABOUT_3D)
                    with gr.Row():
                        near = gr.Number(1.5, label="Nearest (m)")
                        far = gr.Number(4.0, label="Farthest (m)")
                    edges = gr.Checkbox(False, label="Keep points at the edges of objects")
                button = gr.Button("Predict", variant="primary")
            with gr.Column(scale=3):
                picture = gr.Image(
                    label="Result",
                    interactive=False,
                    buttons=["download", "fullscreen"],  # not "share", which sends it away
                    elem_id="result",
                )
                text = gr.Markdown()
                view = gr.Model3D(
                    label="3-D view",
                    interactive=False,
                    height=420,
                    elem_id="view",
                )
                files = gr.File(label="Files", file_count="multiple", interactive=False)
        task.change(offer, task, [preset, camera], api_visibility="private")
        photo.upload(_fov_of, photo, fov, api_visibility="private")
        button.click(
            predict,
            [photo, task, preset, fov, near, far, edges],
            [picture, text, view, files],
            show_progress_on=picture,
        )
    return page


@contextmanager
def serving(host="127.0.0.1", port=None, presets=None, open_browser=False, allow_hosts=()):
    """Serve the page during a `with` block; uploads and results are deleted after it.

    At its end, a running prediction is completed first.

    Args:
        host: address to listen on; the default is reachable from this machine only.
        port: `None` for the first free one from 7860.
        presets: see `build`.
        open_browser: show the page in the user's browser.
        allow_hosts: more names under which the page may be requested, such as a proxy's.

    Yields: the page's address.
    Raises: KerasDPTError: the port is taken; gradio or trimesh is not installed.
    """
    import_gradio()
    _check_address(host, port)
    from starlette.middleware import Middleware

    with temporary_folder(Path(tempfile.gettempdir()), hidden=False) as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)  # where Gradio puts uploads
        turns = Turns()
        page = build(folder, presets, turns)
        # More would only wait for memory and time that are not available.
        page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            share=False,
            ssr_mode=False,
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            max_file_size=MAX_FILE_SIZE,
            footer_links=[],
            run_history=False,
            app_kwargs={
                "middleware": [
                    Middleware(OnlyOwnHosts, host=host, names=tuple(allow_hosts)),
                    Middleware(BoundedBodies, upload=MAX_FILE_SIZE + MAX_BODY, other=MAX_BODY),
                    Middleware(_OnlyFromHere),
                ]
            },
        )
        try:
            yield address
        finally:
            turns.end()
            page.close(verbose=False)


def _check_address(host, port):
    """Raise KerasDPTError if the address is not available; Gradio would wait forever."""
    try:
        family, *_, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.create_server(address[:2], family=family):
            pass
    except OSError as error:
        where = host if port is None else f"{host}, port {port}"
        raise KerasDPTError(
            f"Cannot listen on {where}: {error.strerror or error}. Choose another --port or --host."
        ) from error


class _OnlyFromHere:
    """ASGI middleware: tells browsers to load nothing from other servers.

    Gradio's page requests scripts from public servers: offline it would wait for them, and online
    these servers would learn of its use.
    """

    policy = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"content-security-policy", self.policy)]
                message = message | {"headers": headers}
            await send(message)

        await self.app(scope, receive, send_with_policy)


def default_presets() -> dict[str, list[str]]:
    """Names of the presets with complete weights by task, bundled ones first."""
    names = {task: preset_names(task) for task in TASKS}
    return {
        task: sorted(
            (name for name in names[task] if read_preset(name)["weights"] == "complete"),
            key=lambda name: preset_path(name) is None,
        )
        for task in TASKS
        if names[task]
    }


def import_gradio():
    """Gradio, without its telemetry.

    Raises: KerasDPTError: it is not installed, or trimesh, which writes the 3-D view.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at its import
    try:
        import gradio
        import trimesh  # noqa: F401
    except ImportError as error:
        raise KerasDPTError(f"The page needs {error.name}: {install_command('demo')}") from error
    return gradio


def _dropdown(gr, names):
    def label(name):
        if name not in preset_names():
            return name
        where = "bundled" if preset_path(name) else "downloaded at first use"
        return f"{name} ({read_preset(name)['parameters'] / 1e6:.0f} M parameters, {where})"

    choices = [(label(name), name) for name in names]
    return gr.Dropdown(choices, value=names[0], label="Preset")


def _fov_of(photo):
    low, high = _FOV_RANGE
    return min(max(low, round(exif_fov(photo) or _DEFAULT_FOV)), high)
