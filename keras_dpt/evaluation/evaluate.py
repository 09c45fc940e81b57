"""Evaluate a model on a data set by a protocol."""

import contextlib
import time
import zlib

import numpy as np

from keras_dpt.errors import EvaluationError, KerasDPTError
from keras_dpt.evaluation.crops import CROPS
from keras_dpt.evaluation.journal import Journal
from keras_dpt.evaluation.measure import measure, seen
from keras_dpt.evaluation.protocols import Protocol, get_protocol
from keras_dpt.evaluation.provenance import describe, fingerprint
from keras_dpt.evaluation.result import Evaluation
from keras_dpt.evaluation.summary import summarize


def evaluate(
    model,
    source,
    protocol: str | Protocol,
    *,
    limit: int | None = None,
    unnamed: bool = False,
    batch_size: int = 4,
    journal=None,
    about: dict | None = None,
    progress: bool | None = False,
    save_to=None,
) -> Evaluation:
    """Evaluate a model on a data set.

    Images are predicted in batches; only a record of each is kept.

    Args:
        model: a `DPTDepth` or `DPTSegmentation`.
        source: a `keras_dpt.datasets.Source`, or anything with its `name`, `kind`, `ids`, length
            and samples.
        protocol: a `Protocol` or the name of one.
        limit: measure only this many images, spread over the set. The result is then unnamed.
        unnamed: also measure if number or size of images do not match the protocol; the result is
            then unnamed and lists the deviations. Crops that do not fit are always rejected.
        batch_size: most images in a batch.
        journal: folder for a file with the records until all images are measured. After an
            interruption, the next evaluation of the same model on the same data by the same
            protocol continues with it. Each image and its target are read again, and measured again
            if they have changed.
        about: further facts for the result's `provenance`, such as the preset's name.
        progress: show a progress bar; `None`: only in a terminal.
        save_to: JSON file for the result, saved before the journal is deleted.

    Returns: an `Evaluation`.
    Raises:
        EvaluationError: (a ValueError) model, data set and protocol do not match; a prediction is
            not finite (with the image's name); no image could be measured; two images have one
            name; `journal` or `save_to` cannot be written.
        DataError: a sample cannot be read.
    """
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise EvaluationError(f"`batch_size` must be at least 1. Received: {batch_size!r}.")
    protocol = get_protocol(protocol)
    protocol.check_model(model)
    protocol.check_kind(source)
    chosen = _chosen(len(source), limit)
    if len(chosen) == len(source) and not unnamed:
        protocol.check_count(source)
    _check_first(protocol, source, chosen[0], unnamed)
    _check_ids(source, chosen)

    provenance = describe(model, source)
    started = time.time()
    with contextlib.ExitStack() as stack:
        records = {}
        if journal is not None:
            key = fingerprint(provenance, protocol, model, source)
            journal = Journal(journal, protocol.name, key)
            stack.enter_context(journal)
            records = _still_true(journal.records, source, chosen)
        pending = [i for i in chosen if source.ids[i] not in records]
        bar = _progress_bar(protocol.name, len(chosen), len(chosen) - len(pending), progress)
        stack.enter_context(bar)
        for i, sample, measured in predict_and_measure(
            model, source, protocol, pending, batch_size
        ):
            if not unnamed:
                protocol.check_size(source.ids[i], sample.image.shape[:2])
            record = _record(source.ids[i], sample, measured)
            records[record["id"]] = record
            if journal is not None:
                journal.append(record)
            bar.update()

        records = [records[source.ids[i]] for i in chosen]
        provenance |= (about or {}) | {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "seconds": round(time.time() - started, 1),
            "images_resumed": len(chosen) - len(pending),
        }
        deviations = _deviations(protocol, source, records)
        summary = summarize(protocol, records)
        evaluation = Evaluation(protocol, deviations, summary, records, provenance)
        if save_to is not None:
            evaluation.save(save_to)
        if journal is not None:
            journal.finish()
    return evaluation


def predict_and_measure(model, source, protocol, indices, batch_size=4):
    """Predict and measure images of a data set.

    Yields: index, sample and `Measured`, a few images at a time, in order.
    Raises: as `evaluate`.
    """
    options = {}
    if protocol.target == "labels" and (protocol.scales != (1.0,) or protocol.flip):
        options = {"scales": protocol.scales, "flip": protocol.flip}
    for start in range(0, len(indices), batch_size):
        batch = indices[start : start + batch_size]
        samples = [source[i] for i in batch]
        shown = [sample.image[seen(protocol, sample)] for sample in samples]
        try:
            predictions = model.predict_images(shown, batch_size, **options)
        except KerasDPTError as error:  # such as a prediction that is not finite
            names = ", ".join(source.ids[i] for i in batch)
            raise EvaluationError(f"{source.name}, {names}: {error}") from error
        for i, sample, prediction in zip(batch, samples, predictions, strict=True):
            yield i, sample, measure(protocol, sample, prediction, source.ids[i])


def _chosen(total, limit):
    """Indices of the images to measure: all, or `limit` of them, spread, the first included."""
    if limit is None or limit >= total:
        return range(total)
    if limit < 1:
        raise EvaluationError(f"`limit` must be at least 1. Received: {limit}.")
    return [i * total // limit for i in range(limit)]


def _check_first(protocol, source, index, unnamed):
    """Detect on one image what would otherwise stop the run later."""
    for image_id in source.ids:
        protocol.group_of(image_id)
    sample = source[index]
    if not unnamed:
        protocol.check_size(source.ids[index], sample.image.shape[:2])
    seen(protocol, sample)
    if protocol.target in ("metric_depth", "relative_inverse_depth"):
        CROPS[protocol.crop](*sample.target.shape)


def _check_ids(source, chosen):
    """Raise unless names are unique, because records are found by name."""
    seen_ids = set()
    for i in chosen:
        if source.ids[i] in seen_ids:
            raise EvaluationError(
                f"{source.name} has two images called {source.ids[i]}. Names must be unique."
            )
        seen_ids.add(source.ids[i])


def _still_true(records, source, chosen):
    """The records whose image and target are unchanged."""
    return {
        source.ids[i]: record
        for i in chosen
        if (record := records.get(source.ids[i])) is not None
        and _identity(source[i]).items() <= record.items()
    }


def _identity(sample):
    """Size and checksum of an image and its target."""
    crc = zlib.crc32(np.ascontiguousarray(sample.image))
    return {
        "size": list(sample.image.shape[:2]),
        "crc32": f"{zlib.crc32(np.ascontiguousarray(sample.target), crc):08x}",
    }


def _record(image_id, sample, measured):
    """The record of one image, in JSON types."""
    record = {
        "id": image_id,
        **_identity(sample),
        "status": measured.status,
        "pixels": measured.pixels,
        "values": measured.values,
    }
    if measured.classes is not None:
        record["classes"] = {str(name): list(n) for name, n in measured.classes.items()}
    if measured.fit is not None:
        record["fit"] = dict(measured.fit)
    return record


def _deviations(protocol, source, records):
    """The deviations of a run from its protocol, in words."""
    deviations = []
    if len(records) < len(source):
        deviations.append(f"{len(records)} of {len(source)} images")
    if protocol.counts and len(source) not in protocol.counts:
        counts = " or ".join(map(str, protocol.counts))
        deviations.append(f"a set of {len(source)} images instead of {counts}")
    for record in records:
        try:
            protocol.check_size(record["id"], record["size"])
        except EvaluationError:
            height, width = record["size"]
            deviations.append(f"images of other sizes, such as {height} x {width}")
            break
    return tuple(deviations)


def _progress_bar(name, total, done, progress):
    from tqdm import tqdm

    hidden = None if progress is None else not progress
    return tqdm(total=total, initial=done, unit="image", desc=name, disable=hidden)
