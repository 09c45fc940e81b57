"""What PyTorch predicts, for the tests on OpenVINO: `python pytorch_reference.py FILE.npz`."""

import sys

import numpy as np
import tiny

import keras_dpt


def size_of(encoder):
    """Sides of images that a tiny network takes."""
    if encoder.startswith("Swin"):
        return 64, 64
    return (56, 84) if encoder == "DINOv2Encoder" else (64, 96)


def outputs():
    """`{name: array}`: of all tiny networks, and of the bundled presets for one small photo."""
    found = {}
    for name in tiny.ENCODER_CONFIGS:
        found[name] = tiny.run(tiny.depth(name), tiny.images(2, *size_of(name)))
    photo = tiny.photos(1, 90, 120)[0]
    found["relative"] = depth_preset().predict_image(photo).values
    labels = segmentation_preset()
    found["logits"] = labels.predict(photo[None], verbose=0)
    found["labels"] = labels.predict_image(photo).labels
    return found


def depth_preset(**options):
    return keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2", image_size=(96, 128), **options)


def segmentation_preset():
    return keras_dpt.DPTSegmentation.from_preset("dpt_mini_camvid", image_size=(96, 128))


if __name__ == "__main__":
    np.savez(sys.argv[1], **outputs())
