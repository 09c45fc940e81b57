"""The result of an evaluation: averages, a record for each image, and how to repeat it."""

import dataclasses
import json
import math
from pathlib import Path

from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation.protocols import METRICS, Group, Protocol
from keras_dpt.evaluation.summary import summarize
from keras_dpt.files import written_whole
from keras_dpt.schema import Either, ListOf, MapOf, Real, Record, Text, Whole, read_json

FORMAT = 1

_COUNT, _TEXT, _METRICS = Whole(0, 1 << 62), Text(), MapOf(Real())
_GROUP = {
    "images": _COUNT,
    "counted": _COUNT,
    "constant": _COUNT,
    "inverted": _COUNT,
    "excluded": MapOf(_COUNT),
    "metrics": _METRICS,
}
SAVED = Record(
    {
        "format": _COUNT,
        "deviations": ListOf(_TEXT),
        "protocol": Record(
            {
                "name": _TEXT,
                "metrics": ListOf(_TEXT, 1, 100),
                "groups": ListOf(Record({"prefix": _TEXT}, required=("prefix",))),
            },
            required=("name", "data", "target", "metrics", "groups"),
        ),
        "summary": Record(
            _GROUP | {"groups": MapOf(Record(_GROUP, required=_GROUP)), "class_iou": _METRICS},
            required=_GROUP,
        ),
        "images": ListOf(
            Record({"id": _TEXT, "values": Either(None, _METRICS)}, required=("id", "values"))
        ),
        "provenance": Record({"preset": _TEXT}),
    },
    required=("format", "deviations", "protocol", "summary", "images", "provenance"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What `keras_dpt.evaluation.evaluate` returns.

    Attributes:
        protocol: the `Protocol`.
        deviations: from the protocol, in words; with any, the result does not have the protocol's
            name.
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
        """The protocol's name, or the deviations from it."""
        if not self.deviations:
            return self.protocol.name
        return f"unnamed, like {self.protocol.name} but: {'; '.join(self.deviations)}"

    @property
    def metrics(self) -> dict[str, float]:
        """Averages by name."""
        return self.summary["metrics"]

    @property
    def notes(self) -> list[str]:
        """Remarks that are necessary to understand the averages; often none."""
        summary, notes = self.summary, []
        for status, number in summary["excluded"].items():
            reason = {"no_truth": "too little known ground truth"}.get(status, status)
            notes.append(f"{number} of {summary['images']} images left out: {reason}.")
        if summary["constant"]:
            notes.append(f"{summary['constant']} predictions are the same at all measured pixels.")
        if summary["inverted"]:
            notes.append(f"{summary['inverted']} predictions fit best with near and far swapped.")
        return notes

    def ranked(self) -> list[dict]:
        """Records of the measured images, best first, by the protocol's first metric."""
        name = self.protocol.metrics[0]
        sign = 1 if METRICS[name][1] else -1
        counted = [record for record in self.records if record["values"]]
        return sorted(counted, key=lambda record: sign * record["values"][name])

    def as_dict(self) -> dict:
        """Everything, in JSON types."""
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
        """Read a file of `save`. Raises EvaluationError for any other file."""
        data = read_json(path, SAVED, EvaluationError, "holds no evaluation")
        try:
            if data["format"] != FORMAT:
                raise EvaluationError(f"it has format {data['format']}, not {FORMAT}.")
            fields = {name: _tuples(value) for name, value in data["protocol"].items()}
            fields["groups"] = tuple(Group(**group) for group in fields["groups"])
            protocol, deviations = Protocol(**fields), tuple(data["deviations"])
            parts = [data["summary"], *data["summary"].get("groups", {}).values()]
            for name in protocol.metrics:
                if not all(name in part["metrics"] for part in parts):
                    raise EvaluationError(f"its summary has no {name}, which its protocol reports.")
            _check_summary(data["summary"], summarize(protocol, data["images"]))
            return cls(protocol, deviations, data["summary"], data["images"], data["provenance"])
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
            raise EvaluationError(f"{path} holds no evaluation: {error}") from error


def _check_summary(said, found, where="summary"):
    """Raise an EvaluationError if a number of a summary contradicts its images."""
    for key, value in found.items():
        other = said.get(str(key))
        if isinstance(value, dict):
            _check_summary(other or {}, value, f"{where}.{key}")
        elif other is None or not math.isclose(other, value, rel_tol=1e-6, abs_tol=1e-9):
            raise EvaluationError(f"its {where}.{key} is {other}, but its images give {value}.")


def _tuples(x):
    return tuple(map(_tuples, x)) if isinstance(x, list) else x
