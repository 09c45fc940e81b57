"""Crops of the literature: the part of an image that is measured or shown to the network."""

from keras_dpt.errors import EvaluationError


def eigen_nyu(height, width):
    """The part of a 480 x 640 Kinect image that Eigen et al. 2014 measure on NYU Depth V2."""
    if (height, width) != (480, 640):
        raise EvaluationError(
            "NYU's Eigen crop is rows 45:471, columns 41:601 of 480 x 640. Received: "
            f"{height} x {width}."
        )
    return slice(45, 471), slice(41, 601)


def garg(height, width):
    """The part of a KITTI image that has laser returns, of Garg et al. 2016."""
    return _fraction(height, 0.40810811, 0.99189189), _fraction(width, 0.03594771, 0.96405229)


def eigen_kitti(height, width):
    """The part of a KITTI image that Eigen et al. 2014 measure."""
    return _fraction(height, 0.3324324, 0.91351351), _fraction(width, 0.0359477, 0.96405229)


def kitti_benchmark(height, width):
    """The lowest 352 rows and middle 1216 columns, the size of the KITTI benchmark's images."""
    if height < 352 or width < 1216:
        raise EvaluationError(
            f"A crop to 352 x 1216 needs a KITTI image. Received: {height} x {width}."
        )
    left = (width - 1216) // 2
    return slice(height - 352, height), slice(left, left + 1216)


def whole(height, width):
    """All of the image."""
    return slice(0, height), slice(0, width)


CROPS = {
    "none": whole,
    "eigen_nyu": eigen_nyu,
    "eigen_kitti": eigen_kitti,
    "garg": garg,
    "kitti_benchmark": kitti_benchmark,
}


def _fraction(length, first, last):
    return slice(int(first * length), int(last * length))
