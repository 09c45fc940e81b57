"""Small changes to the package that its tests should notice: `make mutants`.

    python .ci/mutants.py losses metrics maps weights --each 40 --minutes 25

cosmic-ray makes the changes, in a copy of the checkout, and runs the tests of the changed package
only, on PyTorch. Starting Python with Keras takes longer than most of these tests: a process that
has imported everything but this package forks for each change. Of many changes a sample is tried,
the same one each time. What no test noticed is written to build/mutants/survivors.txt.
"""

import argparse
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "mutants"
TREE, SOCKET = WORK / "tree", WORK / "socket"
CONFIG = """
[cosmic-ray]
module-path = [{modules}]
timeout = {timeout}
excluded-modules = []
test-command = "{python} -S -E {script} --ask {timeout} {tests}"

[cosmic-ray.distributor]
name = "local"
"""
# Changes that cannot change a value: of annotations and the like.
POINTLESS = ("core/RemoveDecorator", "core/ReplaceBinaryOperator_BitOr")


def serve():
    """Fork for each test run that is asked for, with all imported but what is changed."""
    os.chdir(TREE)
    sys.path[:0] = [str(TREE), str(TREE / "tests")]
    import cv2  # noqa: F401
    import h5py  # noqa: F401
    import huggingface_hub  # noqa: F401
    import keras  # noqa: F401
    import keras_hub  # noqa: F401
    import matplotlib  # noqa: F401
    import pytest  # noqa: F401
    import requests  # noqa: F401
    import scipy.stats  # noqa: F401
    import skimage.measure  # noqa: F401
    import torch
    import trimesh  # noqa: F401

    torch.set_num_threads(1)
    SOCKET.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(SOCKET))
        listening.listen()
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                answer(connection)
            connection.close()
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass


def answer(connection):
    """Run the tests in this process and send their exit code."""
    import pytest

    seconds, *tests = connection.recv(10_000).decode().split()
    signal.alarm(int(seconds))  # whoever asked has given up then
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    code = 99
    try:
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "default"]
        code = int(pytest.main([*options, f"--basetemp={WORK / 'temporary'}", *tests]))
        connection.send(bytes([code]))
    finally:
        os._exit(code)


def ask(seconds, tests):
    """Exit as the tests do; cosmic-ray runs this. Those of the changed file come first."""
    files = (TREE / "keras_dpt" / Path(tests).name).glob("*.py")
    changed = max(files, key=lambda file: file.stat().st_mtime_ns).stem
    first = [f"{tests}/test_{changed}.py"]
    tests = [name for name in first if (TREE / name).is_file()] + [tests]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(SOCKET))
        connection.send(" ".join([seconds, *tests]).encode())
        code = connection.recv(1)
    raise SystemExit(code[0] if code else 98)


def cosmic_ray(*arguments):
    subprocess.run(
        [sys.executable, "-m", "cosmic_ray.cli", *map(str, arguments)], check=True, cwd=TREE
    )


def sample(session, count):
    """Keep `count` changes, and none that are pointless; how many there were."""
    with sqlite3.connect(session) as database:
        order = (
            "module_path, start_pos_row, start_pos_col, operator_name, occurrence, operator_args"
        )
        query = f"select job_id, operator_name from mutation_specs order by {order}"
        rows = database.execute(query).fetchall()
        jobs = [job for job, operator in rows if not operator.startswith(POINTLESS)]
        kept = set(random.Random(0).sample(jobs, min(count, len(jobs))))
        for job, _ in rows:
            if job not in kept:
                for table in ("mutation_specs", "work_items"):
                    database.execute(f"delete from {table} where job_id = ?", (job,))
    return len(jobs)


def results(session):
    """Outcome and difference of each change that was tried."""
    query = "select test_outcome, diff from work_results where worker_outcome = 'NORMAL'"
    with sqlite3.connect(session) as database:
        return database.execute(query).fetchall()


def run(package, count, minutes, timeout):
    """Try changes of a package; returns how many were caught, tried and possible, and the rest."""
    session, config = WORK / f"{package}.sqlite", WORK / f"{package}.toml"
    session.unlink(missing_ok=True)
    names = {"modules": f'"keras_dpt/{package}"', "tests": f"tests/{package}", "timeout": timeout}
    config.write_text(CONFIG.format(**names, python=sys.executable, script=Path(__file__)))
    asking = [sys.executable, __file__, "--ask", "600", f"tests/{package}"]
    subprocess.run(asking, check=True)  # unchanged, they pass
    command = [sys.executable, "-m", "cosmic_ray.cli"]
    subprocess.run([*command, "init", str(config), str(session)], check=True, cwd=TREE)
    possible = sample(session, count)
    try:
        subprocess.run(
            [*command, "exec", str(config), str(session)], cwd=TREE, timeout=60 * minutes
        )
    except subprocess.TimeoutExpired:
        shutil.copytree(ROOT / "keras_dpt", TREE / "keras_dpt", dirs_exist_ok=True)
    tried = results(session)
    survivors = [difference for outcome, difference in tried if outcome == "SURVIVED"]
    return len(tried) - len(survivors), len(tried), possible, survivors


def main(args):
    shutil.rmtree(WORK, ignore_errors=True)
    TREE.mkdir(parents=True)
    for name in ("keras_dpt", "tests", "presets"):
        shutil.copytree(ROOT / name, TREE / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", TREE)
    environment = os.environ | {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "KERAS_DPT_OFFLINE": "0"}
    server = subprocess.Popen([sys.executable, __file__, "--serve"], env=environment)
    try:
        while not SOCKET.exists():
            assert server.poll() is None, "the process that forks has ended"
            time.sleep(0.2)
        print("| package | caught | tried | possible |\n|---|---|---|---|")
        with open(WORK / "survivors.txt", "w") as file:
            for package in args.packages:
                minutes = args.minutes / len(args.packages)
                caught, tried, possible, survivors = run(package, args.each, minutes, args.timeout)
                print(f"| `{package}` | {caught} | {tried} | {possible} |", flush=True)
                print(*survivors, sep="\n" + "-" * 100 + "\n", file=file, flush=True)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    if "--ask" in sys.argv:
        ask(*sys.argv[-2:])
    if "--serve" in sys.argv:
        serve()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="*", default=["losses", "metrics", "maps", "weights"])
    parser.add_argument("--each", type=int, default=40, help="changes of each package")
    parser.add_argument("--minutes", type=float, default=60, help="for all packages together")
    parser.add_argument("--timeout", type=int, default=120, help="seconds for the tests of one")
    main(parser.parse_args())
