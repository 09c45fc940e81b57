"""Tasks by name: who registers, who does not, and which task a preset is for."""

import json

import keras
import pytest
import tiny

import keras_dpt
from keras_dpt import presets
from keras_dpt.models.task import TASKS, DPTTask
from keras_dpt.models.tasks import load_task, task_for, task_in, task_named, task_of


def test_names_of_presets_are_tasks():
    for name in presets.preset_names():
        task = task_of(name)
        assert task.task_name == presets.read_preset(name)["task"]
    assert task_named("depth") is keras_dpt.DPTDepth
    assert task_named("segmentation") is keras_dpt.DPTSegmentation
    with pytest.raises(ValueError, match="no task 'boxes'. Tasks: depth, segmentation"):
        task_named("boxes")


def test_kinds_of_output_name_tasks():
    assert task_for("metric_depth") is task_for("relative_inverse_depth") is keras_dpt.DPTDepth
    assert task_for("labels") is keras_dpt.DPTSegmentation
    assert task_for("ordinal") is None


def test_every_task_says_what_the_others_ask():
    for name in ("depth", "segmentation"):
        task = TASKS[name]
        assert task.kinds and task.command and task.assumption and task.result_cls
        config = {"kind": "metric_depth", "num_classes": 3}
        assert task.output_of(config)["kind"] in task.kinds


def test_a_derived_class_does_not_replace_its_task():
    class Mine(keras_dpt.DPTDepth):
        pass

    assert TASKS["depth"] is keras_dpt.DPTDepth and Mine.task_name == "depth"


def test_a_name_is_of_one_task(monkeypatch):
    with pytest.raises(ValueError, match="'depth' is the name of keras_dpt.models.depth.DPTDepth"):
        type("Mine", (keras_dpt.DPTDepth,), {"task_name": "depth"})
    assert TASKS["depth"] is keras_dpt.DPTDepth

    monkeypatch.setitem(TASKS, "normals of a test", None)
    del TASKS["normals of a test"]
    body = {"task_name": "normals of a test", "__module__": "notebook"}
    type("Normals", (DPTTask,), dict(body))
    again = type("Normals", (DPTTask,), dict(body))  # the cell was run once more
    assert TASKS["normals of a test"] is again


def test_presets_of_derived_classes(tmp_path, caplog):
    """They are of their task, with its head: nothing to warn of."""

    @keras.saving.register_keras_serializable(package="test_tasks")
    class OwnDepth(keras_dpt.DPTDepth):
        pass

    @keras.saving.register_keras_serializable(package="test_tasks")
    class OwnLabels(keras_dpt.DPTSegmentation):
        pass

    OwnDepth(tiny.backbone(), head_channels=(12, 8)).save_to_preset(str(tmp_path / "depth"))
    OwnLabels(tiny.backbone(), num_classes=2).save_to_preset(str(tmp_path / "labels"))
    assert task_in(tmp_path / "depth") is keras_dpt.DPTDepth
    assert task_in(tmp_path / "labels") is keras_dpt.DPTSegmentation
    assert type(keras_dpt.DPTDepth.from_preset(str(tmp_path / "depth"))) is OwnDepth
    assert type(load_task(str(tmp_path / "labels"))) is OwnLabels
    assert not caplog.records


def test_presets_that_do_not_tell(tmp_path):
    assert task_in(tmp_path) is None
    (tmp_path / "task.json").write_text(json.dumps({"registered_name": "elsewhere>Unknown"}))
    assert task_in(tmp_path) is None
