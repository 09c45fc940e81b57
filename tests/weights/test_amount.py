"""A lower bound of a network's weights: by hand, and for each preset."""

import pytest

from keras_dpt.errors import WeightsError
from keras_dpt.presets import preset_names, read_preset
from keras_dpt.weights.amount import check_amount, least_weights


@pytest.mark.parametrize(
    "described, weights",
    [
        ({}, 0),
        # Three blocks of 4 * 6**2 for attention and 2 * 6 * 10 for the MLP; a grid of positions.
        ({"hidden_dim": 6, "mlp_dim": 10, "out_indices": (0, 2)}, 3 * 264),
        ({"hidden_dim": 6, "position_grid": (2, 3)}, 36),
        ({"mlp_dim": 10, "position_grid": (2, 3), "out_indices": (0, 2)}, 0),  # of unknown width
        # From stage to stage, and half of each stage's squares: 2, 9 and 37.
        ({"stage_channels": (2, 3, 5), "stage_depths": (1, 2, 3)}, 6 + 15 + 2 + 9 + 37),
        # 12 squares of the width, which doubles.
        ({"embed_dim": 4, "depths": (1, 2)}, 12 * 16 + 2 * 12 * 64),
        # Of the decoder: 3x3 to the fusion's width, then two 3x3 convolutions at each level.
        ({"fusion_channels": 3, "reassemble_channels": (2, 4, 5, 6)}, 9 * 3 * 17 + 4 * 18 * 9),
        (
            {"fusion_channels": (1, 2, 3, 4), "reassemble_channels": (2, 4, 5, 6)},
            9 * (2 + 8 + 15 + 24) + 18 * (1 + 4 + 9 + 16),
        ),
        ({"fusion_channels": (4, 1, 1, 1), "head_channels": (2, 3)}, 18 * 19 + 9 * (8 + 6)),
        ({"fusion_channels": (4, 1, 1, 1), "num_classes": 7}, 18 * 19 + 28),
    ],
)
def test_by_hand(described, weights):
    assert least_weights(described) == weights


@pytest.mark.parametrize("name", preset_names())
def test_never_more_than_a_preset_has(name):
    preset = read_preset(name)
    architecture = preset["architecture"]
    described = architecture["encoder_config"]
    described |= architecture["backbone_config"] | architecture["task_config"]
    # Convolutions are hardly counted; of the others all but a fifth or so is.
    least = 0.3 if "stage_depths" in described or "Efficient" in architecture["encoder"] else 0.75
    assert least < least_weights(described) / preset["parameters"] <= 1


def test_too_few_numbers():
    described = {"hidden_dim": 6, "position_grid": (2, 3)}
    check_amount(described, 36, "a.json")
    with pytest.raises(WeightsError, match=r"a\.json describes .* at least 36 .* are 35 numbers"):
        check_amount(described, 35, "a.json")
