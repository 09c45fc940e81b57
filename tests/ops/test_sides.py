"""What is said of sides that a network cannot take."""

import pytest

from keras_dpt.ops.sides import check_sides


def test_the_multiple_and_the_one_to_set():
    check_sides((1, 32, 48, 3), 16)
    said = "multiples of 16. Received: 100 x 48 .* with 32 as `multiple_of`"
    with pytest.raises(ValueError, match=said):
        check_sides((1, 100, 48, 3), 16, advised=32)
    with pytest.raises(ValueError, match="with 14 as `multiple_of`"):
        check_sides((1, 28, 20, 3), 14)
