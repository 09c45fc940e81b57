"""Training: rates by weight path, resuming, growing sizes, several devices, metric fine-tuning."""

from keras_dpt.optimizers import OptimizersByPath, optimizer_with_rates, warmup_cosine
from keras_dpt.training.callbacks import ContactSheet, KeepBest, Resume, recipe_callbacks
from keras_dpt.training.distribution import (
    AverageGradients,
    distributed,
    is_main_process,
    shard,
)
from keras_dpt.training.metric_depth import fit_metric, to_metric
from keras_dpt.training.scratch import lift_outputs, linear_head
from keras_dpt.training.sheet import contact_sheet
from keras_dpt.training.stages import fit_in_stages, parse_stages, size_of_epoch

__all__ = [
    "AverageGradients",
    "ContactSheet",
    "KeepBest",
    "OptimizersByPath",
    "Resume",
    "contact_sheet",
    "distributed",
    "fit_in_stages",
    "fit_metric",
    "is_main_process",
    "lift_outputs",
    "linear_head",
    "optimizer_with_rates",
    "parse_stages",
    "recipe_callbacks",
    "shard",
    "size_of_epoch",
    "to_metric",
    "warmup_cosine",
]
