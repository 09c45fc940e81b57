"""`from_preset` for everything that users load by name, by file or by hub handle."""

import logging

from keras_dpt import presets

logger = logging.getLogger("keras_dpt")


class _Presets:
    """Read-only class attribute: this package's presets that the class can load."""

    def __get__(self, instance, owner):
        return {name: presets.read_preset(name) for name in presets.preset_names()}


class FromPreset:
    """Mixin before a keras-hub base class: widens what its `from_preset` accepts.

    keras-hub's table of built-in names is private and its list of Hugging Face architectures
    closed, so whatever it does not know is first turned into a local preset directory.
    """

    presets = _Presets()

    @classmethod
    def from_preset(cls, preset, load_weights=True, **kwargs):
        """Load a model, or the part of it that this class is, with everything that belongs to it.

        Args:
            preset: one of
                - a name from `keras_dpt.list_presets()`. Its official weights are fetched and
                  converted once, then found in the cache (see `keras_dpt.weights`);
                - a `.pt` or `.safetensors` file of the original authors or of Hugging Face;
                - a Hugging Face directory of model type "dpt", or `hf://user/repository` of one;
                - a keras-hub preset: directory, `hf://...` or `kaggle://...`.
            load_weights: `False` builds the named architecture with fresh weights, without network.
            **kwargs: override constructor arguments; `dtype` sets the dtype policy of all layers.

        Returns:
            An instance of the class.

        Raises:
            ValueError: there is no such preset.
            keras_dpt.WeightsError: the weights cannot be had, or do not fit; the message says which
                file to put where.
        """
        if not load_weights and preset in presets.preset_names():
            return cls.from_architecture(presets.read_preset(preset), **kwargs)

        from keras_dpt.loading.cache import preset_directory
        from keras_dpt.models.tasks import task_in

        directory = str(preset_directory(preset))
        ours, made_for = getattr(cls, "task_name", None), task_in(directory)
        if ours and made_for and made_for.task_name != ours:
            logger.warning(
                "%s was made for %s: its backbone is used, the head is untrained.",
                preset,
                made_for.__name__,
            )
        return super().from_preset(directory, load_weights, **kwargs)
