"""The table of epochs, written again where an epoch is."""

import pytest

from keras_dpt.training.log import EpochLog

HEADER, FIRST, SECOND, THIRD = b"epoch,loss\n", b"0,5.0\n", b"1,4.0\n", b"2,3.0\n"


@pytest.mark.parametrize(
    ("before", "epoch", "after"),
    [
        (HEADER + FIRST + SECOND, 2, HEADER + FIRST + SECOND),  # nothing to replace
        (HEADER + FIRST + SECOND + THIRD, 2, HEADER + FIRST + SECOND),
        (HEADER + FIRST + SECOND + b"2,3", 2, HEADER + FIRST + SECOND),  # cut off
        (HEADER + FIRST + SECOND + b"2,3", 1, HEADER + FIRST),  # cut off, and one to replace
        (HEADER + FIRST + b"12,3.0\n", 2, HEADER + FIRST + b"12,3.0\n"),
        (HEADER + b"0,5.0", 0, HEADER),
        (b"0\n", 0, b"0\n"),  # a header is no epoch
        (b"epoch", 0, b""),
        (b"", 0, b""),
        (None, 0, b""),
    ],
)
def test_the_last_row_is_replaced_where_its_epoch_begins_again(before, epoch, after, tmp_path):
    path = tmp_path / "log.csv"
    if before is not None:
        path.write_bytes(before)
    log = EpochLog(path)
    log.on_train_begin()
    assert path.read_bytes() == (before or b"")
    log.on_epoch_begin(epoch)
    log.on_train_end()
    assert path.read_bytes() == after
    assert [file.name for file in tmp_path.iterdir()] == ["log.csv"]


def test_rows_of_two_runs_are_in_one_table(tmp_path):
    path = tmp_path / "log.csv"
    for first, last in ((0, 2), (1, 3)):  # the second run repeats an epoch
        log = EpochLog(path)
        log.on_train_begin()
        for epoch in range(first, last):
            log.on_epoch_begin(epoch)
            log.on_epoch_end(epoch, {"loss": 10.0 * first + epoch})
        log.on_train_end()
    rows = [line.split(",")[:2] for line in path.read_text().splitlines()]  # Keras may add some
    assert rows == [["epoch", "loss"], ["0", "0.0"], ["1", "11.0"], ["2", "12.0"]]
