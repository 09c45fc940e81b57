"""Which optimizer a weight belongs to: by its part of the network, or by rules on its path."""

import re

import keras

from keras_dpt.errors import TrainingError

# The groups of a DPT's weights: the variables of `backbone.image_encoder`, those of LoRA adapters
# wherever they are, and all others. The order is that of the optimizer's saved state.
GROUPS = ("decoder", "encoder", "adapters")


@keras.saving.register_keras_serializable(package="keras_dpt")
class OptimizersByPath:
    """Maps weights to optimizers by their paths; what `keras.optimizers.MultiOptimizer` takes.

    Args:
        rules: `{pattern: optimizer}`. A weight belongs to the first pattern, a regular expression,
            that is found in its `path`.
    """

    def __init__(self, rules):
        self.rules = dict(rules)

    def values(self):
        """All optimizers; by this name `MultiOptimizer` asks for them."""
        return self.rules.values()

    @property
    def base(self):
        """The pattern whose rate counts as the whole optimizer's: the last, most general one."""
        return list(self.rules)[-1]

    def __call__(self, variable):
        """The optimizer of a weight; TrainingError if no pattern is found in its path."""
        return self.rules[matching_rule(self.rules, variable.path)]

    def get_config(self):
        return {"rules": keras.saving.serialize_keras_object(self.rules)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["rules"]))


@keras.saving.register_keras_serializable(package="keras_dpt")
class OptimizersByGroup(OptimizersByPath):
    """Maps the weights of a DPT to optimizers by the part of the network that they belong to.

    A weight is in the group "encoder" if it is one of `encoder`'s variables, whatever its name. In
    a clone of the model, which is no DPT for Keras, it is one of the same path.

    Args:
        rules: `{group: optimizer}`, of the groups "decoder", "encoder" and "adapters".
        encoder_paths: paths of the encoder's variables, for models that cannot tell their encoder.

    Attributes:
        encoder: the model's `backbone.image_encoder`; `compile` sets it.
    """

    encoder = None

    def __init__(self, rules, encoder_paths=()):
        super().__init__(rules)
        self.encoder_paths = frozenset(encoder_paths)

    @property
    def base(self):
        return "decoder" if "decoder" in self.rules else super().base

    def group(self, variable):
        """The name of a weight's group."""
        if self.encoder is None and not self.encoder_paths:
            raise TrainingError(
                f"Groups {', '.join(self.rules)}: which weights are whose is known to DPTDepth and "
                "DPTSegmentation only. Pass the optimizer to their `compile`, or use rules by path."
            )
        if variable.name.startswith("lora_"):  # Keras's name for all of them
            return "adapters"
        if self.encoder is None:
            return "encoder" if variable.path in self.encoder_paths else "decoder"
        return "encoder" if any(v is variable for v in self.encoder.variables) else "decoder"

    def get_config(self):
        paths = self.encoder_paths
        if self.encoder is not None:
            paths = {variable.path for variable in self.encoder.variables}
        return super().get_config() | {"encoder_paths": sorted(paths)}

    @classmethod
    def from_config(cls, config):
        rules = keras.saving.deserialize_keras_object(config["rules"])
        return cls(rules, config["encoder_paths"])

    def __call__(self, variable):
        """The optimizer of a weight; TrainingError if its group has none."""
        group = self.group(variable)
        if group not in self.rules:
            raise TrainingError(
                f"No learning rate for the weight {variable.path} of the group {group!r}. Received "
                f"rates for {', '.join(map(repr, self.rules))} only. Add one, or freeze the group."
            )
        return self.rules[group]


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
