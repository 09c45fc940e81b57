"""Verify official files, one after the other, and go on where an earlier run stopped."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from keras_dpt.errors import KerasDPTError, WeightsError
from keras_dpt.files import temporary_folder, written_whole
from keras_dpt.schema import ListOf, Record, Text, read_json
from keras_dpt.verification import original
from keras_dpt.verification.files import disk_need, hashes_of, jobs_of, known_hashes
from keras_dpt.verification.pictures import NAMES
from keras_dpt.version import __version__
from keras_dpt.weights.download import download_from_hub, is_offline
from keras_dpt.weights.originals import cache_directory, located_source

TOLERANCE = 1e-3  # largest difference, in standard deviations of the original's output
RESULTS = "verification.json"
VERIFIED, CONVERTED, FAILED = "verified", "converted", "FAILED"
_SCHEMA = Record(
    {"results": ListOf(Record({"key": Text(), "fingerprint": Text()}, ("key", "fingerprint")))},
    required=("results",),
)


def verify(names, out, tolerance=TOLERANCE, fresh=False, report=print, pictures=3):
    """Fetch, hash, convert and compare each official file of some presets.

    Args:
        names: of presets.
        out: folder of `verification.json`, which is written after each file.
        tolerance: largest difference from the original network, in standard deviations of its
            output, that is taken for rounding.
        fresh: do everything again, whatever an earlier run found.
        report: function of a line of text, told what is done.
        pictures: on how many of the images of `pictures.NAMES` the networks are compared, the first
            ones. An earlier result of fewer does not count.

    Returns: the results, a list of dicts, one per file, in the order of the presets: `preset`,
        `address`, `status` ("verified"; "converted": nothing here to compare with; "FAILED"),
        `message`, `sha256` per file, `hash`, `tensors`, `leftover`, `difference`, `pictures`,
        `seconds`, `peak_bytes`.
    Raises: ValueError, WeightsError: no such preset or number of images, or no room on a disk.
    """
    if pictures not in range(1, len(NAMES) + 1):
        raise ValueError(f"`pictures` must be 1 to {len(NAMES)}. Received: {pictures!r}")
    out = Path(out)
    jobs = jobs_of(names)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"Cannot make the folder {out}: {error.strerror}.") from error
    earlier = {} if fresh else _earlier(out / RESULTS)
    kept = {} if fresh else dict(earlier)
    todo = []
    for job in jobs:
        before = earlier.get(job.key)
        if before is None or not _still_holds(before, job, tolerance, pictures):
            todo.append(job)
            kept.pop(job.key, None)
    if len(todo) < len(jobs):
        report(f"{len(jobs) - len(todo)} of {len(jobs)} files were verified before.")
    todo.sort(key=lambda job: job.expected_size)  # what is wrong here shows early
    _check_room(todo, out, report)
    for number, job in enumerate(todo, 1):
        report(f"[{number}/{len(todo)}] {job.preset['name']}: {job.address}")
        kept[job.key] = result = _verified(job, out, tolerance, pictures)
        _write(out / RESULTS, kept)
        report(f"    {result['status']}" + (f": {result['message']}" if result["message"] else ""))
    return [kept[job.key] for job in jobs]


def _still_holds(before, job, tolerance, pictures):
    """Whether an earlier result needs no repetition."""
    if before.get("status") not in (VERIFIED, CONVERTED):
        return False
    if before.get("status") == VERIFIED and not before["difference"] <= tolerance:
        return False
    if before.get("pictures", len(NAMES)) < pictures:
        return False
    if before.get("fingerprint") != job.fingerprint(_settings(job)):
        return False
    if job.tag and before.get("tag") and job.tag != before["tag"]:
        return False
    known, found = known_hashes(job.source), before["sha256"]
    return all(found.get(name, "").startswith(start) for name, start in known.items())


def _settings(job):
    """Versions that a result depends on; nothing heavy is imported for them."""
    import importlib.metadata

    backend = os.environ.get("KERAS_BACKEND", "default")
    versions = [f"{x} {importlib.metadata.version(x)}" for x in ("keras", "keras-hub")]
    return [backend, *versions, str(original.reference_of(job.preset, job.source)[0])]


def _verified(job, out, tolerance, pictures):
    """The result for one file; whatever goes wrong is in it."""
    started = time.monotonic()
    settings = _settings(job)
    result = {
        "key": job.key,
        "preset": job.preset["name"],
        "address": job.address,
        "number": job.number,
        "fingerprint": job.fingerprint(settings),
        "tag": job.tag,
        "settings": settings,
        "keras_dpt": __version__,
        "pictures": pictures,
        "status": FAILED,
        "message": None,
    }
    try:
        with temporary_folder(out, hidden=False) as folder:
            result |= _steps(job, folder, tolerance, pictures)
    except (KerasDPTError, OSError) as error:
        result["message"] = str(error)
    except _Step as step:
        result |= step.found
    return result | {"seconds": round(time.monotonic() - started, 2)}


class _Step(Exception):
    """A step failed; `found` is what is known by then."""

    def __init__(self, found):
        super().__init__(found["message"])
        self.found = found


def _steps(job, folder, tolerance, pictures):
    found = {}
    with located_source(job.preset, job.source) as path:
        found["sha256"] = hashes_of(path)
        found["hash"] = _hash_verdict(job.source)
        if job.source["format"] in original.TRANSFORMERS:
            path = download_from_hub(job.source["repo"], "config.json").parent / job.source["file"]
        task = {"preset": job.preset["name"], "source": job.number, "path": str(path)}
        task["pictures"] = pictures
        (folder / "job.json").write_text(json.dumps(task), encoding="utf-8")
        found |= _run("ours", folder, found)
        shutil.rmtree(folder / "preset", ignore_errors=True)  # the disk may be small
        reference, reason = original.reference_of(job.preset, job.source)
        found["reference"] = reference
        if reference is None:
            return found | {"status": CONVERTED, "message": f"not compared: {reason}"}
        found |= _run("original", folder, found)
        if found["difference"] > tolerance:
            raise _Step(
                found
                | {
                    "message": f"the output differs from that of {reference} by "
                    f"{found['difference']:.1e} of its standard deviation; at most {tolerance:g} "
                    "is rounding. The file is kept."
                }
            )
    return found | {"status": VERIFIED}


def _hash_verdict(source):
    """What fetching has compared; a file that differs never gets this far."""
    if "sha256" in source and ("encoder_url" not in source or "encoder_sha256" in source):
        return "whole"
    return "start" if source.get("sha256_prefix") else "not known"


def _run(step, folder, found):
    """A step's figures, from a process of its own. Raises: _Step: it failed."""
    code = run_worker(folder, step)
    file = folder / f"{step}.json"
    if not file.is_file():
        why = f"ended with code {code}" if code >= 0 else f"was killed by signal {-code}"
        hint = "; memory may be too small" if code in (-9, 137) else ""
        raise _Step(found | {"message": f"The process for the step {step!r} {why}{hint}."})
    result = json.loads(file.read_text(encoding="utf-8"))
    peaks = [found.get("peak_bytes"), result.pop("peak_bytes")]
    result["peak_bytes"] = max((peak for peak in peaks if peak), default=None)
    result[f"{step}_seconds"] = round(result.pop("seconds"), 2)
    if "error" in result:
        raise _Step(found | result | {"message": result.pop("error")})
    return result


def run_worker(folder, step):
    """Exit code of a worker's process, which is ended if this one is told to end."""
    command = [sys.executable, "-m", "keras_dpt.verification.worker", str(folder), step]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            return process.wait()
        except BaseException:
            process.kill()
            raise


def _check_room(jobs, out, report):
    """Say what the disks need; raise a WeightsError if they have too little."""
    if not jobs:
        return
    staying, passing = disk_need(jobs)
    count = len({job.preset["name"] for job in jobs})
    fetched = sum(job.expected_size for job in jobs if not job.here)
    report(
        f"{len(jobs)} files of {count} presets. To fetch: {_gb(0 if is_offline() else fetched)}. "
        f"Disk: {_gb(staying)} stay in the hub's cache, at most {_gb(passing)} more at a time."
    )
    for folder, needed in ((_hub_cache(), staying), (cache_directory(), passing), (out, passing)):
        there = next(x for x in (folder, *folder.absolute().parents) if x.exists())
        free = shutil.disk_usage(there).free
        if needed > free:
            raise WeightsError(
                f"The disk of {folder} has {_gb(free)} free, and {_gb(needed)} are needed. Make "
                "room, verify fewer presets at a time, or set HF_HOME and KERAS_DPT_CACHE."
            )


def _hub_cache():
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _gb(size):
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e6:.1f} MB"


def _earlier(file):
    """Results of earlier runs by key; none if there were none."""
    if not file.is_file():
        return {}
    return {row["key"]: row for row in read_json(file, _SCHEMA, WeightsError)["results"]}


def _write(file, results):
    with written_whole(file, WeightsError) as stream:
        text = json.dumps({"results": list(results.values())}, indent=1, ensure_ascii=False)
        stream.write(text.encode() + b"\n")
