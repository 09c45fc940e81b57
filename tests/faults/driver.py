"""A test's side of `runner.py`: jobs in processes that are killed at chosen lines."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
POINTS = int(os.environ.get("FAULTS", 8))  # where each job is killed; more are tried by FAULTS=40


class Runner:
    """A process that forks for each job; leave the context to end it."""

    def __init__(self):
        environment = os.environ | {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = str(ROOT)
        environment["KERAS_DPT_OFFLINE"] = "1"
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("runner.py"))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def __call__(self, job, *arguments, files=(), at=None, by="KILL"):
        """Run a job; returns how its process ended, as `runner.end` says."""
        (ended,) = self.together((job, *arguments), files=files, at=at, by=by)
        return ended

    def together(self, *jobs, files=(), at=None, by="KILL"):
        """Run jobs, each a name and its arguments, at the same time; as for one."""
        die = {"in": list(files), "at": at, "by": by}
        tasks = [
            {"job": job, "arguments": [x if isinstance(x, int) else str(x) for x in rest]}
            for job, *rest in jobs
        ]
        print(json.dumps([task | {"die": die} for task in tasks]), file=self._process.stdin)
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the runner itself has died"
        return json.loads(answer)


def spread(lines, count):
    """`count` numbers from 1 to `lines`, evenly spread."""
    count = min(count, lines)
    return sorted({1 + i * (lines - 1) // max(count - 1, 1) for i in range(count)})


def names(folder):
    """All files below a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())
