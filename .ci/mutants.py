"""Small changes to the package that its tests should notice: `make mutants`.

    python .ci/mutants.py weights files --each 12

Of all changes to a room (a comparison, a number, a guard, a returned value, a call or an argument
left out) a sample is tried, the same one each time: editing one function leaves the sample of the
others alone. Starting Python with Keras takes longer than most of these tests, so one process
imports all but this package, in a copy of the checkout, and forks for each change. The child runs
the quicker tests which call the changed function, on PyTorch, until one fails.

build/mutants/table.md has the numbers, build/mutants/survivors.txt what no test noticed.
`.ci/mutants_equivalent.txt` names changes that change nothing, and why. Linux only.
"""

import argparse
import compileall
import contextlib
import hashlib
import importlib
import json
import os
import py_compile
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import mutations
import pytest

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutants"
TREE = WORK / "tree"
# What is changed, and where its tests are: so far those rooms that have been tried.
ROOMS = {
    "files": (
        "files.py npy.py schema.py memory.py",
        "test_files.py test_npy.py test_schema.py test_memory.py",
    ),
    "weights": ("weights", "weights"),
}
# Everything of these that is there.
SLOW_TO_IMPORT = ("keras", "keras_hub", "torch", "cv2", "h5py", "requests", "huggingface_hub")
SLOW_TO_IMPORT += ("hypothesis", "safetensors.numpy", "scipy.stats", "skimage.measure")
SLOW_TO_IMPORT += ("matplotlib.pyplot", "av", "trimesh", "PIL.Image")


class Tracer:
    """For pytest: the seconds of each test, and the functions of the package that it calls."""

    def __init__(self):
        self.tests, self.calls, self.shared = {}, set(), {}

    def trace(self, frame, event, argument):
        if "/tree/keras_dpt/" in frame.f_code.co_filename:
            self.calls.add(f"{frame.f_code.co_filename}:{frame.f_code.co_firstlineno}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.calls, begin = set(), time.monotonic()
        sys.settrace(self.trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            for name in item.fixturenames:  # made for another test, used by this one, too
                self.calls |= self.shared.get(name, set())
            self.tests[item.nodeid] = (time.monotonic() - begin, sorted(self.calls))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        before, self.calls = self.calls, set()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self.shared[fixturedef.argname] = self.calls
            self.calls = self.calls | before


class Chosen:
    """For pytest: some tests alone, in this order."""

    def __init__(self, tests):
        self.place = {test: i for i, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        chosen = [item for item in items if item.nodeid in self.place]
        items[:] = sorted(chosen, key=lambda item: self.place[item.nodeid])


def pytest_in_child(plugin, arguments, seconds, done=lambda: None):
    """The exit code of pytest in a forked process; `None` if it takes longer."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setpgid(0, 0)
            log = os.open(WORK / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            resource.setrlimit(resource.RLIMIT_DATA, (12 << 30,) * 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30,) * 2)
            rewriting = "ignore::pytest.PytestAssertRewriteWarning"  # imported before pytest ran
            options = ["-q", "-W", rewriting, "-p", "no:cacheprovider"]
            options += [f"--basetemp={WORK / 'pytest'}"]
            code = int(pytest.main([*options, *arguments], plugins=[plugin]))
            done()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    deadline = time.monotonic() + seconds
    status = None
    while status is None and time.monotonic() < deadline:
        ended, word = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(word) if ended else None
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):  # and what it has started
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    return status


def traced(paths):
    """Seconds and called functions by test, of the unchanged package; all tests must pass."""
    tracer, answer = Tracer(), WORK / "tests.json"
    answer.unlink(missing_ok=True)
    code = pytest_in_child(tracer, paths, 1800, lambda: answer.write_text(json.dumps(tracer.tests)))
    if code != 0:
        raise SystemExit(f"Without a change the tests must pass; see {WORK / 'log.txt'}.")
    return json.loads(answer.read_text())


def tests_for(change, tests):
    """Those that call the changed function, or else others of its file; quick ones first."""
    file, by_time = f"{TREE / change.path}:", sorted(tests, key=lambda test: tests[test][0])
    exact = [test for test in by_time if f"{file}{change.scope}" in tests[test][1]]
    near = [test for test in by_time if any(call.startswith(file) for call in tests[test][1])]
    return exact or near or by_time


def is_caught(change, tests):
    """Whether a test fails, or does not end, with the change."""
    chosen = tests_for(change, tests)
    path = TREE / change.path
    content = path.read_bytes()
    path.write_bytes(change.applied(content))
    try:
        seconds = 30 + 5 * sum(tests[test][0] for test in chosen)
        files = sorted({test.split("::")[0] for test in chosen})
        return pytest_in_child(Chosen(chosen), ["-x", *files], seconds) != 0
    finally:
        path.write_bytes(content)


def sampled(paths, count):
    """`count` of all changes to files and folders, by a hash of what they change."""
    files = [
        file.relative_to(TREE)
        for name in paths.split()
        for file in sorted([*(TREE / "keras_dpt" / name).rglob("*.py"), TREE / "keras_dpt" / name])
        if file.is_file()
    ]
    every = [change for file in files for change in mutations.changes(TREE, str(file))]
    every.sort(key=lambda change: hashlib.sha256(change.name.encode()).digest())
    return every[:count], len(every)


def prepare():
    shutil.rmtree(WORK, ignore_errors=True)
    TREE.mkdir(parents=True)
    skipped = shutil.ignore_patterns("__pycache__", "build", ".*", "figures")
    for name in ("keras_dpt", "tests", "presets", "examples", "docs", "benchmarks"):
        shutil.copytree(ROOT / name, TREE / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, TREE)
    # Compared by content: two versions of a file may be of one second and one length.
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(TREE / "keras_dpt", quiet=1, invalidation_mode=mode)
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(TREE), "OMP_NUM_THREADS": "1"}
    os.environ |= {"KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3"}
    os.chdir(TREE)
    sys.path.insert(0, str(TREE))
    for name in SLOW_TO_IMPORT:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def main(args):
    prepare()
    known = (ROOT / ".ci" / "mutants_equivalent.txt").read_text().splitlines()
    equivalent = {line.split(" | ")[0] for line in known}
    with open(WORK / "table.md", "w") as table, open(WORK / "survivors.txt", "w") as rest:
        head = (
            "| room | possible | tried | caught | equivalent | survived | seconds |\n" + 7 * "|---"
        )
        print(head + "|", file=table, flush=True)
        for room in args.rooms or ROOMS:
            begin = time.monotonic()
            paths, tests = ROOMS[room]
            sample, possible = sampled(paths, args.each)
            sample = [change for change in sample if args.only in change.name]
            trying = [change for change in sample if change.name not in equivalent]
            covered = traced([f"tests/{name}" for name in tests.split()])
            survivors = 0
            for change in trying:
                caught = is_caught(change, covered)
                survivors += not caught
                print("caught  " if caught else "SURVIVED", change.line, change.name, flush=True)
                if not caught:
                    print(f"{change.name}  (line {change.line})", file=rest, flush=True)
            counts = (possible, len(sample), len(trying) - survivors, len(sample) - len(trying))
            seconds = time.monotonic() - begin
            row = " | ".join(map(str, (f"`{room}`", *counts, survivors, round(seconds))))
            print(f"| {row} |", file=table, flush=True)
    print((WORK / "table.md").read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", help=f"of {', '.join(ROOMS)}; all if left out")
    parser.add_argument("--each", type=int, default=12, help="changes tried of each room")
    parser.add_argument("--only", default="", help="those whose name contains this")
    main(parser.parse_args())
