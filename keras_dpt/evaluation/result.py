"""The result of an evaluation: averages, a record for each image, and how to repeat it."""

import dataclasses
import json
from pathlib import Path

from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation.protocols import METRICS, Group, Protocol
from keras_dpt.files import written_whole

FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What `keras_dpt.evaluation.evaluate` returns.

    Attributes:
        protocol: the `Protocol`.
        deviations: how the run departs from it, in words; if there are any, the result does not
            bear the protocol's name.
        summary: see `keras_dpt.evaluation.summary.summarize`.
        records: one dict per image, in the order of the data set: `id`, `size`, `crc32` of image
            and truth, `status`, `pixels`, `values`, `classes`, `fit`.
        provenance: versions, backend, dtype, hash of the weights, image geometry, data set, time.
    """

    protocol: Protocol
    deviations: tuple[str, ...]
    summary: dict
    records: list[dict]
    provenance: dict

    @property
    def name(self) -> str:
        """The protocol's name, or what the result is instead."""
        if not self.deviations:
            return self.protocol.name
        return f"unnamed, like {self.protocol.name} but: {'; '.join(self.deviations)}"

    @property
    def metrics(self) -> dict[str, float]:
        """Averages by name."""
        return self.summary["metrics"]

    @property
    def notes(self) -> list[str]:
        """What a reader of the averages has to know beside them; often nothing."""
        summary, notes = self.summary, []
        for status, number in summary["excluded"].items():
            reason = {"no_truth": "too little known truth to measure them"}.get(status, status)
            notes.append(f"{number} of {summary['images']} images left out: {reason}.")
        if summary["constant"]:
            notes.append(f"{summary['constant']} predictions are the same at all measured pixels.")
        if summary["inverted"]:
            notes.append(f"{summary['inverted']} predictions fit best upside down, near for far.")
        return notes

    def ranked(self) -> list[dict]:
        """Records of the images that counted, best first, by the protocol's first metric."""
        name = self.protocol.metrics[0]
        sign = 1 if METRICS[name][1] else -1
        counted = [record for record in self.records if record["values"]]
        return sorted(counted, key=lambda record: sign * record["values"][name])

    def as_dict(self) -> dict:
        """Everything, in types that JSON has."""
        return {
            "format": FORMAT,
            "name": None if self.deviations else self.protocol.name,
            "deviations": list(self.deviations),
            "protocol": dataclasses.asdict(self.protocol),
            "summary": self.summary,
            "provenance": self.provenance,
            "images": self.records,
        }

    def save(self, path) -> None:
        """Write a JSON file; complete or not at all. Raises EvaluationError if it cannot."""
        text = json.dumps(self.as_dict(), indent=1, allow_nan=False)
        with written_whole(Path(path), EvaluationError) as file:
            file.write(text.encode("utf-8"))

    @classmethod
    def load(cls, path) -> "Evaluation":
        """Read what `save` wrote. Raises EvaluationError for any other file."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise EvaluationError(f"it has format {data['format']}, not {FORMAT}.")
            fields = {name: _tuples(value) for name, value in data["protocol"].items()}
            fields["groups"] = tuple(Group(**group) for group in fields["groups"])
            protocol, deviations = Protocol(**fields), tuple(data["deviations"])
            return cls(protocol, deviations, data["summary"], data["images"], data["provenance"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvaluationError(f"{path} holds no evaluation: {error}") from error


def _tuples(x):
    return tuple(map(_tuples, x)) if isinstance(x, list) else x
