"""What the machine is: the fastest form of an operation depends on it."""

import functools
import platform
from pathlib import Path

import keras


def computes_on_processor():
    """Whether TensorFlow or JAX, whichever is the backend, finds no accelerator.

    Keras's OpenVINO backend computes on CPUs alone.
    """
    if keras.config.backend() == "openvino":
        return True
    if keras.config.backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    import tensorflow as tf

    return not tf.config.list_logical_devices("GPU")


@functools.cache
def description():
    """What the system says of the CPU; without Linux not much."""
    info = Path("/proc/cpuinfo")
    return info.read_text(errors="replace") if info.exists() else platform.processor()


def has_avx2_alone():
    """Whether the CPU is known to have AVX2 and no AVX-512."""
    return "avx2" in description() and "avx512f" not in description()


def multiplies_bfloat16():
    """Whether the CPU is known to have instructions for products of bfloat16."""
    return "avx512_bf16" in description()
