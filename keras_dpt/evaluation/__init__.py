"""Numbers that others can compare with: protocols, evaluation, reports, studies, attention maps.

evaluation = keras_dpt.evaluation.evaluate(model, source, "nyu_eigen")
print(evaluation.metrics["abs_rel"])
"""

from keras_dpt.evaluation.attention import AttentionMap, attention_maps, draw_attention
from keras_dpt.evaluation.boundaries import boundary_scores
from keras_dpt.evaluation.depth_errors import align, depth_errors, disparity_errors, whdr
from keras_dpt.evaluation.evaluate import evaluate
from keras_dpt.evaluation.protocols import PROTOCOLS, Group, Protocol, get_protocol
from keras_dpt.evaluation.result import Evaluation

__all__ = [
    "AttentionMap",
    "PROTOCOLS",
    "Evaluation",
    "Group",
    "Protocol",
    "align",
    "attention_maps",
    "boundary_scores",
    "depth_errors",
    "disparity_errors",
    "draw_attention",
    "evaluate",
    "get_protocol",
    "whdr",
]
