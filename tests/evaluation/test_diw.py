import numpy as np
import pytest
from PIL import Image

from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation.diw import DIW


def release(tmp_path, pairs):
    """The layout of the release with small images of 4 x 6."""
    (tmp_path / "DIW_test").mkdir()
    (tmp_path / "DIW_Annotations").mkdir()
    lines = []
    for i, pair in enumerate(pairs):
        Image.fromarray(np.full((4, 6, 3), i, "uint8")).save(tmp_path / f"DIW_test/{i}.png")
        lines += [f"./DIW_test/{i}.png", pair]
    (tmp_path / "DIW_Annotations/DIW_test.csv").write_text("\n".join(lines) + "\n")
    return DIW(tmp_path)


def test_reads_the_release(tmp_path):
    source = release(tmp_path, ["1,2,4,6,>,6,4", "4,7,1,1,<,6,4"])
    assert (len(source), source.kind, source.ids[1]) == (2, "ordinal", "DIW_test/1.png")
    sample = source[0]
    assert sample.image.shape == (4, 6, 3)
    # From 1 to from 0; A is farther. A point on the far border is moved inside.
    assert sample.target.tolist() == [[0, 1, 3, 5, -1]]
    assert source[1].target.tolist() == [[3, 5, 0, 0, 1]]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(EvaluationError, match=r"has no .*DIW_test\.csv"):
        DIW(tmp_path)
    source = release(tmp_path, ["1,2,3,4,=,6,4", "1,2"])
    for i in range(2):
        with pytest.raises(EvaluationError, match=rf"DIW_test/{i}\.png: no pair"):
            source[i]
    (tmp_path / "DIW_test.csv").write_text("one line\n")
    with pytest.raises(EvaluationError, match="1 lines, not two"):
        DIW(tmp_path)
    (tmp_path / "DIW_test.csv").write_text("./away.png\n1,1,2,2,>,6,4\n")
    with pytest.raises(EvaluationError, match=r"names away\.png"):
        DIW(tmp_path)
