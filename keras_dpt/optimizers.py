"""Learning rates by weight: one per part of a network, or rules on the paths of weights."""

import keras

from keras_dpt.errors import TrainingError
from keras_dpt.rate_groups import GROUPS, OptimizersByGroup, OptimizersByPath, matching_rule


def depth_rates(encoder_rate):
    """Rates for depth: the encoder is pretrained and slow, the decoder has ten times its rate.

    As in the paper, with 1e-5, and in Depth Anything, with 5e-6.
    """
    return {"encoder": encoder_rate, "decoder": float(f"{10 * encoder_rate:.12g}")}


DEPTH_RATES = depth_rates(1e-5)


@keras.saving.register_keras_serializable(package="keras_dpt")
class OptimizerWithRates(keras.optimizers.MultiOptimizer):
    """An optimizer in which groups of weights learn at different rates.

    It is made of one optimizer per group, named like the group, in `optimizers`; callbacks log
    `learning_rate_encoder`, `learning_rate_decoder` and so on. Groups none of whose weights is
    trained are left out once training begins.

    Args:
        optimizer_map: an `OptimizersByGroup` or `OptimizersByPath`.
        loss_scale_factor, name: as in `keras.optimizers.MultiOptimizer`.
    """

    def __init__(self, optimizer_map, loss_scale_factor=None, name="optimizer_with_rates"):
        super().__init__(optimizer_map, loss_scale_factor, name)
        self.by_weight = optimizer_map
        self.ratios = None  # of each group's rate to the base's, while that is not 0
        self.trained = None  # ids of the weights that it was built for

    def group(self, name):
        """The optimizer of a group, or of a rule's pattern."""
        return self.by_weight.rules[name]

    @property
    def learning_rate(self):
        """The decoder's rate; with rules by path, the last rule's.

        Setting it multiplies the rates of all groups by the same factor. For the rate of one, set
        `group("encoder").learning_rate`.
        """
        return self.group(self.by_weight.base).learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        if callable(value):
            raise TrainingError(
                f"Several groups cannot share one schedule. Received: {value!r}. Set a number, or "
                "a schedule for each group when compiling: "
                'learning_rate={"encoder": schedule, "decoder": schedule}.'
            )
        rates = {name: x.get_config()["learning_rate"] for name, x in self.by_weight.rules.items()}
        if scheduled := [name for name, rate in rates.items() if not isinstance(rate, float)]:
            raise TypeError(  # as Keras's own
                f"The rate of {', '.join(map(repr, scheduled))} is a schedule and cannot be set to "
                f"{value}. Use a number when compiling if it must be settable."
            )
        if base := rates[self.by_weight.base]:
            self.ratios = {name: rate / base for name, rate in rates.items()}
        elif self.ratios is None:
            raise TrainingError(
                f"The rate {self.by_weight.base!r} is 0, so the others cannot be scaled along to "
                f"{value}. Set each one: group(name).learning_rate = ..."
            )
        for name, optimizer in self.by_weight.rules.items():
            optimizer.learning_rate = float(value) * self.ratios[name]

    def build(self, variables):
        """Make the variables. An optimizer of no weights would never be built: it is left out."""
        if not self.built:
            self.trained = frozenset(map(id, variables))
            used = {id(self.by_weight(variable)) for variable in variables}
            for optimizer in [x for x in self.optimizers if id(x) not in used]:
                self.optimizers.remove(optimizer)
        super().build(variables)


def introduce(optimizer, encoder, variables):
    """Tell an optimizer by groups, also inside a `LossScaleOptimizer`, which encoder it trains.

    Raises: TrainingError: one of the trained `variables` is in a group without a rate.
    """
    by_weight = getattr(_inner(optimizer), "by_weight", None)
    if isinstance(by_weight, OptimizersByGroup):
        by_weight.encoder = encoder
        if len(by_weight.rules) < len(GROUPS):
            for variable in variables:
                by_weight(variable)


def check_trained(optimizer, variables):
    """Raise a TrainingError if an `OptimizerWithRates` was built for other weights than these."""
    trained = getattr(_inner(optimizer), "trained", None)
    if trained is not None and trained != {id(variable) for variable in variables}:
        raise TrainingError(
            f"The trainable weights have changed since training began: {len(trained)} then, "
            f"{len(variables)} now. Call `compile` after `enable_lora` or setting `trainable`."
        )


def _inner(optimizer):
    return getattr(optimizer, "inner_optimizer", optimizer)


def optimizer_with_rates(learning_rate, optimizer=keras.optimizers.Adam, variables=(), **options):
    """Make an optimizer in which weights learn at different rates.

    It saves, resumes, scales losses, accumulates gradients, averages weights and is distributed
    like any other. Its `learning_rate` is the decoder's or the last rule's; setting it scales all
    rates alike. `global_clipnorm` counts each group's or rule's weights apart.

    Args:
        learning_rate: a number or `keras.optimizers.schedules.LearningRateSchedule` for all
            weights; or one for each group of a DPT, `{"encoder": ..., "decoder": ...}`, where the
            decoder is all that is not the encoder, and `"adapters"`, those of LoRA, have the
            decoder's by default; or rules for the paths of weights, `{pattern: ...}`, of which
            the first holds whose pattern, a regular expression, is found in the path.
        optimizer: a Keras optimizer class.
        variables: the weights that will be trained, to check rules on before that begins.
            Rules that match none of them, as an encoder's do when it is frozen, are left out.
        **options: further arguments of the class.

    Returns: a `keras.optimizers.Optimizer`; for groups and rules, an `OptimizerWithRates`.
    Raises: TrainingError: (a ValueError) no rule matches one of `variables`, or groups and rules
        are mixed. Weights that were not given here are checked at the first step.

    Example:

    ```python
    import keras

    import keras_dpt

    model = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2")
    rates = {"encoder": 1e-5, "decoder": 1e-4}
    optimizer = keras_dpt.training.optimizer_with_rates(
        rates, keras.optimizers.AdamW, weight_decay=0.01
    )
    model.compile(optimizer)
    ```
    """
    if not isinstance(learning_rate, dict):
        return optimizer(learning_rate, **options)
    rates = dict(learning_rate)
    if patterns := [key for key in rates if key not in GROUPS]:
        if len(patterns) < len(rates):
            raise TrainingError(
                f"`learning_rate` is by group ({', '.join(GROUPS)}) or by pattern, not both. "
                f"Received: {', '.join(map(repr, rates))}. As a pattern, write a group's name "
                'differently, such as "encoder/".'
            )
        if variables:
            needed = {matching_rule(rates, variable.path) for variable in variables}
            rates = {pattern: rate for pattern, rate in rates.items() if pattern in needed}
        names = {pattern: f"rule_{n}" for n, pattern in enumerate(rates, 1)}
        kind = OptimizersByPath
    else:
        if "decoder" in rates:
            rates.setdefault("adapters", rates["decoder"])
        rates = {group: rates[group] for group in GROUPS if group in rates}
        names = {group: group for group in rates}
        kind = OptimizersByGroup
    rules = {key: optimizer(rate, **options | {"name": names[key]}) for key, rate in rates.items()}
    return OptimizerWithRates(kind(rules))


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
