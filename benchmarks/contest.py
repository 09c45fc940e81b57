"""Fair comparison on a shared machine: competitors take turns, medians and ratios are reported.

A load from elsewhere then hits all of them alike. Each competitor is a process of its own (one
library, one backend) that sleeps while it is not its turn.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

WORKER = Path(__file__).with_name("competitors.py")
BACKENDS = ("tensorflow", "jax", "torch")
KEPT = ", memory kept"
FLOAT32 = ("transformers", f"transformers{KEPT}")  # whatever dtype is asked for


class Competitor:
    """One network in a process of its own; a context manager.

    Args:
        name: what tables call it.
        library: a key of `competitors.LIBRARIES`.
        backend: of Keras; any for other libraries.
        threads: of the processor.
        keep_memory: among the options: call `keras_dpt.keep_freed_memory` first.
        **options: what the library's class takes.
    """

    def __init__(self, name, library, backend="torch", threads=2, **options):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        environment = os.environ | {
            "KERAS_BACKEND": backend,
            "OMP_NUM_THREADS": str(threads),
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join(
                [str(WORKER.parents[1]), os.environ.get("PYTHONPATH", "")]
            ),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps({"library": library, **options})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            text=True,
        )

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{self.name} failed:\n{self.errors.read()[-2000:]}")
        return json.loads(line)

    def ask(self, do="predict", batch=1, size=(384, 384), times=1):
        """Let it work; returns what `competitors.answer` says."""
        request = {"do": do, "batch": batch, "size": size, "times": times}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.read()

    def __enter__(self):
        self.ready = self.read()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def keeping_memory(makers):
    """Of `(name, library, options)` rows the same again, with `keras_dpt.keep_freed_memory`."""
    return [
        (f"{name}{KEPT}", library, options | {"keep_memory": True})
        for name, library, options in makers
    ]


def take_turns(competitors, rounds, warm_up=2, **request):
    """Time all competitors in turn.

    Args: competitors: list of `Competitor`. rounds: measurements of each. warm_up: calls before
        them. **request: what `Competitor.ask` takes.
    Returns: list of dicts: `seconds` (median), `fastest`, `peak_memory` of the process and
        `network_memory`, which leaves out what the libraries took when they were imported.
    """
    for competitor in competitors:
        competitor.ask(times=warm_up, **request)
    answers = [[] for _ in competitors]
    for _ in range(rounds):
        for competitor, mine in zip(competitors, answers, strict=True):
            mine.append(competitor.ask(**request))
    return [
        {
            "name": competitor.name,
            "seconds": statistics.median(x["seconds"][0] for x in mine),
            "fastest": min(x["seconds"][0] for x in mine),
            "peak_memory": mine[-1]["peak_memory"],
            "network_memory": mine[-1]["peak_memory"] - competitor.ready["import_memory"],
        }
        for competitor, mine in zip(competitors, answers, strict=True)
    ]


def count_flops(preset, size, batch=1):
    """Floating-point operations of one prediction of ours; PyTorch counts them."""
    with Competitor("counter", "keras_dpt", "torch", preset=preset) as counter:
        return counter.ask("flops", batch=batch, size=size)["flops"]


MATRIX_RATE = """
import time, torch
torch.set_num_threads({threads})
if torch.cuda.is_available():
    n, k, device = 8192, 8192, "cuda"
    ready = torch.cuda.synchronize
else:
    n, k, device = 2304, 1024, "cpu"
    ready = lambda: None
options = dict(device=device, dtype=torch.{dtype})
x = torch.randn(1, k, 48, n // 48, **options).contiguous(memory_format=torch.channels_last)
w = torch.randn(k, k, 1, 1, **options).contiguous(memory_format=torch.channels_last)
a, b = torch.randn(n, k, **options), torch.randn(k, k, **options)
products = dict(conv=lambda: torch.nn.functional.conv2d(x, w), matmul=lambda: a @ b)
rows = dict(conv=48 * (n // 48), matmul=n)
best = 0
with torch.inference_mode():
    for _ in range(40):
        for name, work in products.items():
            ready()
            started = time.perf_counter()
            work()
            ready()
            best = max(best, 2 * rows[name] * k * k / (time.perf_counter() - started))
print(best)
"""


def matrix_rate(dtype="float32", threads=2):
    """Floating-point operations a second of the machine's fastest large matrix product here.

    The better of oneDNN's and MKL's of 2304 x 1024 x 1024, or, if there is a GPU, of cuDNN's and
    cuBLAS's of 8192 x 8192 x 8192; the best of 40 tries.
    """
    code = MATRIX_RATE.format(dtype=dtype, threads=threads)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    return float(output.stdout)


def machine():
    """Versions and hardware, for the record."""
    processor = platform.processor()
    if (info := Path("/proc/cpuinfo")).exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        processor = lines[0].partition(":")[2].strip() if lines else processor
    packages = ("keras", "keras-hub", "tensorflow", "jax", "torch", "transformers", "numpy")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    found = {"processor": processor, "cores": os.cpu_count(), "versions": versions}
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        found["gpu"] = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return found


def table(rows, columns):
    """A Markdown table of dicts; `columns` maps keys to `(title, format)`."""
    lines = [
        "| " + " | ".join(title for title, _ in columns.values()) + " |",
        "|" + "---|" * len(columns),
    ]
    for row in rows:
        cells = (
            "" if row.get(key) is None else format(row[key], form)
            for key, (_, form) in columns.items()
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def save(path, rows, **more):
    """Write rows and machine as JSON, if a path is given."""
    if path:
        text = json.dumps({"machine": machine()} | more | {"rows": rows}, indent=2)
        temporary = Path(f"{path}.part")
        temporary.write_text(text + "\n")
        temporary.replace(path)
