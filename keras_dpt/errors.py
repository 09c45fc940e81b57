"""The errors that keras_dpt raises on purpose. Each carries one message that says what to do."""


class KerasDPTError(Exception):
    """Base of every error raised on purpose by keras_dpt; catch it to catch them all."""

    # Keras then adds nothing to the message when it comes out of a layer's `call`.
    _keras_call_info_injected = True


class ImageError(KerasDPTError, ValueError):
    """A picture that cannot be found, decoded or understood. The message names its source."""


class WeightsError(KerasDPTError, RuntimeError):
    """Weights that cannot be found, fetched, verified, converted or stored."""


class DepthError(KerasDPTError, ValueError):
    """A depth map, file or alignment that makes no sense, such as metres of a relative map."""


class LabelError(KerasDPTError, ValueError):
    """Labels, class names, colours or label files that make no sense together."""


class TrainingError(KerasDPTError, ValueError):
    """A training that cannot begin or go on as asked for."""


class DataError(KerasDPTError, ValueError):
    """Training or test data that are missing, damaged or contradict what was said of them."""


class EvaluationError(KerasDPTError, ValueError):
    """Data or a model that an evaluation protocol does not fit, or an invalid result file."""


class VideoError(KerasDPTError, ValueError):
    """A video that cannot be read or written."""


class ExportError(KerasDPTError, ValueError):
    """A model that cannot be exported as asked for, or a file that is not the same network."""


class DataWarning(UserWarning):
    """Data that can be used but are probably not what was meant, or were skipped as asked."""
