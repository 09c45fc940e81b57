"""A lower bound of a network's number of weights, before any memory is allocated.

A few bytes of a config can describe terabytes; a network that its weights cannot fill is rejected.
"""

from keras_dpt.errors import WeightsError


def check_amount(described, available, name):
    """Raise a WeightsError if a network needs more weights than are available.

    Args:
        described: constructor arguments of encoder, backbone and task, in one dict; missing
            ones are not counted.
        available: number of values in the files.
        name: name for the message.
    """
    needed = least_weights(described)
    if needed > available:
        raise WeightsError(
            f"{name} describes a network of at least {needed:,} weights, but its weights are "
            f"{available:,} numbers. The description or the weights are damaged: fetch both again."
        )


def least_weights(described):
    """A lower bound of the number of weights; exact but for biases, norms and convolutions."""
    get = described.get
    width, blocks = get("hidden_dim", 0), (get("out_indices") or [-1])[-1] + 1
    total = blocks * (4 * width**2 + 2 * width * get("mlp_dim", 0))
    rows, columns = get("position_grid", (0, 0))
    total += rows * columns * width
    channels = get("stage_channels") or []
    total += sum(a * b for a, b in zip(channels, channels[1:], strict=False))
    depths = get("stage_depths") or []
    total += sum(n * c * c // 2 for n, c in zip(depths, channels, strict=False))
    for stage, count in enumerate(get("depths") or []):  # each twice as wide as the one before
        total += count * 12 * (get("embed_dim", 0) * 2**stage) ** 2
    fusion = get("fusion_channels", 0)
    fused = [fusion] * 4 if isinstance(fusion, int) else fusion
    total += sum(9 * a * b for a, b in zip(get("reassemble_channels") or [], fused, strict=False))
    total += sum(2 * 9 * width**2 for width in fused)  # at least one unit of two convolutions
    before = fused[0]
    for after in get("head_channels") or []:
        total += 9 * before * after
        before = after
    return total + fused[0] * get("num_classes", 0)
