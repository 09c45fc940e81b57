"""Run the tests on one backend after the other, and end with one summary of all.

    python .ci/test_backends.py tensorflow jax torch -- --numprocesses 2

What comes after `--` is for pytest. Exit code: 0 if all backends passed, else 1.
"""

import os
import subprocess
import sys
import time


def main(arguments):
    backends = arguments[: arguments.index("--")] if "--" in arguments else arguments
    options = arguments[len(backends) + 1 :]
    results = {}
    for backend in backends:
        print(f"\n===== {backend} =====", flush=True)
        begin = time.monotonic()
        code, last = _run(backend, options)
        results[backend] = code, time.monotonic() - begin, last
    print("\n===== summary =====")
    for backend, (code, seconds, last) in results.items():
        verdict = "passed" if code == 0 else f"FAILED (pytest exit code {code})"
        print(f"{backend:<11}{verdict}, {int(seconds) // 60}:{int(seconds) % 60:02}: {last}")
    return int(any(code for code, _, _ in results.values()))


def _run(backend, options):
    """Pytest's exit code and the last line that it printed."""
    command = [sys.executable, "-m", "pytest", *options]
    environ = os.environ | {"KERAS_BACKEND": backend, "PYTHONUNBUFFERED": "1"}
    last = "no output"
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
        line = b""
        while block := process.stdout.read1():
            sys.stdout.buffer.write(block)
            sys.stdout.flush()
            *ended, line = (line + block).split(b"\n")
            whole = [text for text in ended if text.strip()]
            last = whole[-1].decode(errors="replace").strip("= \r") if whole else last
    return process.returncode, last


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
