"""Runs jobs in processes of their own that are killed at a chosen line of code.

`runner.py`, started by `driver.py`, imports everything once and forks for each job: a line of JSON
on standard input is a list of jobs to do at the same time, a line of JSON on standard output says
how their processes ended. A job is

    {"job": "cli", "arguments": ["depth", ...], "die": {"at": 40, "in": ["files.py"], "by": "KILL"}}

"at" counts the lines of Python that were executed in files of these names, or in functions of
them ("files.py:sweep"), in all threads; the signal comes before the line. Without "die" nothing
dies, and "lines" says how many there were.
"""

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def traced(names, at=None, by="KILL"):
    """Count executed lines of files; send this process a signal before line `at`."""
    count, lock = [0], threading.Lock()
    wanted = [(os.sep + name.partition(":")[0], name.partition(":")[2]) for name in names]

    def is_wanted(code):
        return any(
            code.co_filename.endswith(file) and function in ("", code.co_name)
            for file, function in wanted
        )

    def line(frame, event, _):
        if event == "line":
            with lock:
                count[0] += 1
                is_it = count[0] == at
            if is_it:
                os.kill(os.getpid(), getattr(signal, f"SIG{by}"))
        return line

    def call(frame, event, _):
        return line if is_wanted(frame.f_code) else None

    threading.settrace(call)
    sys.settrace(call)
    return count


def run(job):
    """Do a job in this process; returns its exit code and how many lines it took."""
    die = job.get("die", {})
    count = traced(die.get("in", []), die.get("at"), die.get("by", "KILL"))
    try:
        code = JOBS[job["job"]](*job["arguments"])
    finally:
        sys.settrace(None)
        threading.settrace(None)
    return code or 0, count[0]


def command_line(*arguments):
    from keras_dpt import cli

    return cli.main(list(arguments))


def fit(folder, epochs):
    from faults.training import train

    train(folder, epochs)


def fit_small(folder, epochs):
    from faults.training import train_small

    train_small(folder, epochs)


def save(folder, seed):
    """Save a model over whatever is there."""
    import tiny

    model = tiny.randomize(tiny.depth(preprocessor=tiny.preprocessor((32, 32))), seed)
    model.save_to_preset(folder)


JOBS = {"cli": command_line, "fit": fit, "fit_small": fit_small, "save": save}


def start(job):
    """Begin a job in a process of its own; returns its id, a pipe of its lines and its output."""
    reading, writing = os.pipe()
    log = os.memfd_create("log")
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 70
        try:
            code, lines = run(job)
            os.write(writing, str(lines).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    return pid, reading, log


def end(pid, reading, log):
    """How the process of a job ended: its code, negative for a signal, its lines and its output."""
    with open(reading, "rb") as file:
        lines = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.lseek(log, 0, os.SEEK_SET)
    with open(log, "rb") as file:
        output = file.read().decode(errors="replace")
    return {"code": code, "lines": int(lines or 0), "output": output[-5000:]}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print
    import tensorflow  # noqa: F401  what all jobs need, imported once
    import tiny  # noqa: F401

    import keras_dpt.cli.evaluate
    import keras_dpt.evaluation
    import keras_dpt.models.tasks
    import keras_dpt.training  # noqa: F401

    for text in sys.stdin:
        jobs = [start(job) for job in json.loads(text)]
        print(json.dumps([end(*job) for job in jobs]), file=answers, flush=True)
