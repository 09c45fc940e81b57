"""Damaged journals of evaluations: the right result, or one message; no record of another run."""

import tempfile
from pathlib import Path

import pytest
from evaluation.test_evaluate import Oracle, depth_source, interrupted, noisy_inverse
from hypothesis import given

from keras_dpt import evaluation
from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation.summary import summarize
from keras_dpt.evaluation.tables import markdown_table

from .tally import attempt
from .test_files import damage


def test_damaged_journals(tmp_path):
    source = depth_source()
    model = Oracle(source, noisy_inverse)
    whole = evaluation.evaluate(model, source, "aligned_depth")
    content = interrupted(source, tmp_path).read_bytes()

    @given(damage(content))
    def check(damaged):
        with tempfile.TemporaryDirectory() as folder:
            name = next(tmp_path.iterdir()).name
            Path(folder, name).write_bytes(damaged)
            with attempt("journals") as tried:
                try:
                    again = evaluation.evaluate(model, source, "aligned_depth", journal=folder)
                except EvaluationError as error:
                    tried.refused = True
                    assert name in str(error) and "damaged in line 1" in str(error)
                    assert Path(folder, name).read_bytes() == damaged
                else:
                    assert again.records == whole.records
                    assert again.metrics == whole.metrics
                with tried.looking_for_remains():
                    assert [file.name for file in Path(folder).iterdir()] == [name]

    check()


def test_damaged_results(tmp_path):
    source = depth_source()
    path = tmp_path / "result.json"
    evaluation.evaluate(Oracle(source, noisy_inverse), source, "aligned_depth", save_to=path)
    content = path.read_bytes()

    @given(damage(content))
    def check(damaged):
        path.write_bytes(damaged)
        with attempt("results") as tried:
            try:
                result = evaluation.Evaluation.load(path)
            except EvaluationError as error:
                tried.refused = True
                assert path.name in str(error)
            else:
                # Numbers, if perhaps others; and those of the images.
                assert summarize(result.protocol, result.records)["metrics"] == pytest.approx(
                    result.metrics
                )
                assert markdown_table([(path.name, result)])

    check()
