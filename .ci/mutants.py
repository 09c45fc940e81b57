"""Change single places of the package and see which changes its tests notice: `make mutants`.

    KERAS_BACKEND=torch python .ci/mutants.py losses metrics --mutants 40

mutmut makes the changes, finds the tests that reach each and runs them; what it is told is in
`[tool.mutmut]` of pyproject.toml. This draws a sample per package, the same for the same source
and seed, hands it to mutmut with the quick tests of that package, and writes build/mutants.md.
What mutmut calls a survivor then runs all of these tests in a process of its own: mutmut's have
imported the package and filled its caches before the change. With --again, after tests were added,
only those run that no test noticed the last time.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "mutants"
FOR_KERAS = ROOT / ".ci" / "mutmut_for_keras.py"
LONGEST = 900  # seconds, of all quick tests of a package
# Exit codes of pytest in mutmut's files; any other is a crash, which a test run would notice.
SURVIVED, CAUGHT, UNREACHED, NOT_RUN = 0, 1, (5, 33), (None, 2)
TIMED_OUT = (-24, 24, 152, 255, 36)


def prepare(package):
    """A folder for mutmut: the checkout by links, and the settings for one package."""
    folder = BUILD / package
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("keras_dpt", "tests", "presets", "examples"):
        (folder / name).symlink_to(ROOT / name)
    settings = f'[tool.mutmut]\nonly_mutate = ["keras_dpt/{package}/*"]\n'
    settings += f'pytest_add_cli_args_test_selection = ["tests/{package}"]\n'
    settings = (ROOT / "pyproject.toml").read_text("utf-8").replace("[tool.mutmut]\n", settings)
    (folder / "pyproject.toml").write_text(settings, "utf-8")
    return folder


def make_mutants(jobs):
    """What `mutmut run` does first, here, for the names; it then finds them made."""
    from mutmut.__main__ import create_mutants
    from mutmut.utils.file_utils import copy_src_dir

    with Path("make.log").open("w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        copy_src_dir()
        create_mutants(jobs)
    return list(exit_codes())


def exit_codes():
    """`{name: exit code of its tests, None if they were not run}`, in the source's order."""
    codes = {}
    for path in sorted(Path("mutants").rglob("*.meta")):
        codes |= json.loads(path.read_text("utf-8"))["exit_code_by_key"]
    return codes


def run_mutants(names, jobs):
    """`mutmut run` in the folder where we are; what it prints is in run.log."""
    command = [sys.executable, FOR_KERAS, "run", "--max-children", str(jobs), *names]
    with Path("run.log").open("w") as log:
        done = subprocess.run(command, env=environment(), stdout=log, stderr=log)
    codes = {name: code for name, code in exit_codes().items() if name in names}
    if done.returncode or any(code in NOT_RUN for code in codes.values()):
        text = Path("run.log").read_text("utf-8", "replace")[-3000:]
        raise SystemExit(f"{text}\nmutmut did not get through its mutants; see above.")
    return codes


def environment(**more):
    """For mutmut and pytest in the folder where we are."""
    # Each mutant is a fork of a process that has imported and run everything. Threads do not
    # survive that, so there must be none.
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTEST_DEBUG_TEMPROOT": str(Path("tmp").resolve()),
        **more,
    }


def is_caught_alone(package, name):
    """Whether the package's tests fail in a process that has the change from the beginning."""
    command = [sys.executable, FOR_KERAS, "pytest", "-x", "-q", f"tests/{package}"]
    folder = Path("mutants").resolve()
    settings = environment(MUTANT_UNDER_TEST=name, PYTHONPATH=str(folder))
    with Path("alone.log").open("w") as log:
        try:
            done = subprocess.run(
                command, cwd=folder, env=settings, stdout=log, stderr=log, timeout=LONGEST
            )
        except subprocess.TimeoutExpired:
            return True
    return done.returncode != 0


def try_package(package, count, seed, jobs, again=None):
    """Run a sample and return `{"total": of all mutants, "codes": {name: exit code}, "diffs"}`.

    `again` is what it returned before: then only its survivors run, and all else stays.
    """
    os.chdir(BUILD / package if again else prepare(package))
    Path("tmp").mkdir(exist_ok=True)
    from mutmut.configuration import reset_config
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    reset_config()
    if again:
        total, codes, chosen = again["total"], again["codes"], list(again["diffs"])
    else:
        names = make_mutants(jobs)
        chosen = random.Random(seed).sample(names, min(count, len(names)))
        total, codes = len(names), {}
    codes |= run_mutants(chosen, jobs) if chosen else {}
    kept = [name for name, code in codes.items() if code in (SURVIVED, *UNREACHED)]
    if kept and is_caught_alone(package, ""):
        raise SystemExit(f"{package}: the tests fail without a change; see alone.log.")
    codes |= {name: CAUGHT for name in kept if is_caught_alone(package, name)}
    shutil.rmtree("tmp")
    kept = [name for name in kept if codes[name] != CAUGHT]
    return {"total": total, "codes": codes, "diffs": {n: get_diff_for_mutant(n) for n in kept}}


def row(package, result):
    codes = list(result["codes"].values())
    survived, unreached = codes.count(SURVIVED), sum(code in UNREACHED for code in codes)
    caught = len(codes) - survived - unreached
    timed_out = sum(code in TIMED_OUT for code in codes)
    numbers = (result["total"], len(codes), caught, timed_out, survived, unreached)
    return f"| {package} | {' | '.join(map(str, numbers))} | {caught / len(codes):.0%} |"


def report(results):
    """The table, and what no test noticed, as text."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    lines = ["# Mutants", "", f"Mutants of mutmut, quick tests of each package, {backend}", ""]
    lines += ["| package | all | run | caught | in time-out | survived | unreached | caught |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    lines += [row(package, result) for package, result in results.items()]
    for package, result in results.items():
        lines += ["", f"## {package}: survivors"] if result["diffs"] else []
        for name, diff in result["diffs"].items():
            word = "unreached" if result["codes"][name] in UNREACHED else "survived"
            changes = diff.splitlines()[2:]  # after the two that name the file
            lines += ["", f"`{name}`: {word}", "", "```diff", *changes, "```"]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("packages", nargs="+", help="folders of keras_dpt/ and of tests/")
    parser.add_argument("--mutants", type=int, default=30, help="of each package (default: 30)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--again", action="store_true", help="only the last run's survivors")
    options = parser.parse_args()
    for package in options.packages:
        if not all((ROOT / folder / package).is_dir() for folder in ("keras_dpt", "tests")):
            parser.error(f"There must be folders keras_dpt/{package} and tests/{package}.")
    for package in options.packages:
        file = BUILD.with_name(f"mutants-{package}.json")
        again = json.loads(file.read_text("utf-8")) if options.again and file.is_file() else None
        result = try_package(package, options.mutants, options.seed, options.jobs, again)
        file.write_text(json.dumps(result), "utf-8")
        print(row(package, result), flush=True)
    # With packages of earlier runs, so that each can have a run of its own.
    files = sorted(BUILD.parent.glob("mutants-*.json"))
    found = {file.stem.partition("-")[2]: json.loads(file.read_text("utf-8")) for file in files}
    BUILD.with_suffix(".md").write_text(report(found), "utf-8")
    print(f"Wrote {BUILD.with_suffix('.md').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
