"""What OpenVINO changes for models: how they predict, and that they cannot train."""

import weakref

import keras

from keras_dpt.ops.openvino_network import CompiledNetwork
from keras_dpt.ops.training import check_training

# Of each model that predicts. Not an attribute: Keras would track it.
_networks = weakref.WeakKeyDictionary()


class OnOpenVINO:
    """Mixin before a Keras model of one image input. On other backends it changes nothing."""

    def predict_step(self, *args):
        """As in Keras; on OpenVINO by a `CompiledNetwork`, in the precision of the layers."""
        if keras.config.backend() != "openvino":
            return super().predict_step(*args)
        x, _, _ = keras.utils.unpack_x_y_sample_weight(*args)
        return _networks.setdefault(self, CompiledNetwork()).run(self, x)

    def fit(self, *args, **kwargs):
        """As in Keras. Raises: TrainingError: the backend has no gradients."""
        check_training("`fit`")
        return super().fit(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """As in Keras. Raises: TrainingError: the backend does not train."""
        check_training("`evaluate`")
        return super().evaluate(*args, **kwargs)

    def train_on_batch(self, *args, **kwargs):
        """As in Keras. Raises: TrainingError: the backend has no gradients."""
        check_training("`train_on_batch`")
        return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        """As in Keras. Raises: TrainingError: the backend does not train."""
        check_training("`test_on_batch`")
        return super().test_on_batch(*args, **kwargs)
