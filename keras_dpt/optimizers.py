"""Learning rates by weight: rules on the paths of weights, each with a rate of its own."""

import re

import keras

from keras_dpt.errors import TrainingError

# Paths of DPT's decoder and heads; what precedes them in a network is its encoder, whichever it is.
DECODER = r"^(read|reassemble|fusion|fusion_input)_\d/|_head/"

# The paper's, for depth: the encoder comes pretrained and moves slowly, the decoder starts anew.
DEPTH_RATES = {DECODER: 1e-4, ".": 1e-5}


@keras.saving.register_keras_serializable(package="keras_dpt")
class OptimizersByPath:
    """Says which optimizer moves a weight; what `keras.optimizers.MultiOptimizer` takes.

    Args:
        rules: `{pattern: optimizer}`. A weight belongs to the first pattern, a regular expression,
            that is found in its `path`.
    """

    def __init__(self, rules):
        self.rules = dict(rules)

    def values(self):
        """All optimizers; by this name `MultiOptimizer` asks for them."""
        return self.rules.values()

    def __call__(self, variable):
        """The optimizer of a weight; TrainingError if no pattern is found in its path."""
        return self.rules[matching_rule(self.rules, variable.path)]

    def get_config(self):
        return {"rules": keras.saving.serialize_keras_object(self.rules)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["rules"]))


def matching_rule(rules, path):
    """The first of the patterns `rules` that is found in a weight's `path`.

    Raises: TrainingError: there is none.
    """
    for pattern in rules:
        if re.search(pattern, path):
            return pattern
    raise TrainingError(
        f"No learning rate for the weight {path}: none of the patterns "
        f"{', '.join(map(repr, rules))} is found in its path. Add one; '.' matches every weight."
    )


def optimizer_with_rates(learning_rate, optimizer=keras.optimizers.Adam, variables=(), **options):
    """Make an optimizer in which weights learn at different rates.

    A `keras.optimizers.MultiOptimizer` of one optimizer per rule. It saves, resumes, scales losses,
    accumulates gradients, averages weights and is distributed like any other; but it has no single
    `learning_rate`, and `global_clipnorm` counts each rule's weights apart.

    Args:
        learning_rate: a number or `keras.optimizers.schedules.LearningRateSchedule` for all
            weights; or rules for their paths, `{pattern: number or schedule}`, of which the first
            holds whose pattern, a regular expression, is found in the path.
        optimizer: a Keras optimizer class.
        variables: the weights that will be trained, to check the rules on before that begins.
            Rules that match none of them, as an encoder's do when it is frozen, are left out.
        **options: further arguments of the class.

    Returns: a `keras.optimizers.Optimizer`.
    Raises: TrainingError: (a ValueError) no rule matches one of `variables`. Weights that were not
        given here are checked at the first step.

    Example:

    ```python
    import keras

    import keras_dpt

    model = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2")
    rates = {"^block_": 1e-5, ".": 1e-4}
    adam_w = keras.optimizers.AdamW
    model.compile(keras_dpt.training.optimizer_with_rates(rates, adam_w, weight_decay=0.01))
    ```
    """
    if not isinstance(learning_rate, dict):
        return optimizer(learning_rate, **options)
    if variables:
        needed = {matching_rule(learning_rate, variable.path) for variable in variables}
        learning_rate = {path: rate for path, rate in learning_rate.items() if path in needed}
    rules = {path: optimizer(rate, **options) for path, rate in learning_rate.items()}
    return keras.optimizers.MultiOptimizer(OptimizersByPath(rules))


def warmup_cosine(peak, steps, warmup=0.05, start=0.02, end=0.01):
    """A rate that rises from `start * peak` to `peak`, then falls to `end * peak` as a cosine.

    Args:
        peak: the highest rate.
        steps: batches of the whole training.
        warmup: share of them in which the rate rises.
    """
    rising = max(1, round(steps * warmup))
    return keras.optimizers.schedules.CosineDecay(
        start * peak,
        max(1, steps - rising),
        warmup_target=peak,
        warmup_steps=rising,
        alpha=end,
    )
