"""Run an exported ONNX file on a photo with nothing of keras_dpt or Keras: its JSON file says how.

    keras-dpt export --preset dpt_mini_nyuv2 --format onnx -o depth.onnx
    python examples/run_exported.py depth.onnx photo.jpg depth.npy

Writes the network's answer at the photo's size: depth or inverse depth as float32 `(H, W)`, or
class ids. Needs onnxruntime, opencv-python-headless and Pillow. It is meant to be copied.
"""

import argparse
import json

import cv2
import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def input_size(height, width, about):
    """The size that a photo is resized to, as `preprocessing.size_rule` has it."""
    if about["image_size"] is None:
        return height, width
    factors = [aim / side for aim, side in zip(about["image_size"], (height, width), strict=True)]
    if about["keep_aspect_ratio"]:
        factors = [min(factors, key=lambda factor: abs(1 - factor))] * 2
    multiple = about["multiple_of"]
    return [
        max(multiple, multiple * round(factor * side / multiple))
        for factor, side in zip(factors, (height, width), strict=True)
    ]


def prepare(photo, about):
    """Input of the network, `(1, h, w, 3)` float32, from a PIL image."""
    height, width = input_size(photo.height, photo.width, about)
    if about["resize"].endswith("_antialias"):
        kernel = about["resize"].removesuffix("_antialias").upper()
        pixels = np.asarray(photo.resize((width, height), Image.Resampling[kernel]), "float32")
    else:
        kernel = {"bicubic": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR}[about["resize"]]
        pixels = cv2.resize(np.asarray(photo, "float32"), (width, height), interpolation=kernel)
    pixels = (pixels / 255 - np.float32(about["mean"])) / np.float32(about["std"])
    return pixels[None].astype("float32")


def read_photo(path):
    """An upright RGB image; 16-bit grey is scaled, which Pillow would cut off at 255."""
    photo = ImageOps.exif_transpose(Image.open(path))
    if photo.mode.startswith("I"):
        photo = Image.fromarray((np.asarray(photo) / 257).round().astype("uint8"))
    return photo.convert("RGB")


def to_photo_size(output, photo, about):
    """Depth values or class ids `(H, W)`, from the network's answer `(h, w, C)`."""
    planes = [
        cv2.resize(np.ascontiguousarray(plane), photo.size, interpolation=cv2.INTER_CUBIC)
        for plane in np.moveaxis(output, -1, 0)
    ]
    if about["task"] == "segmentation":
        return np.argmax(planes, axis=0)
    return np.clip(planes[0], output.min(), output.max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help=".onnx file, with its .json beside it")
    parser.add_argument("photo")
    parser.add_argument("output", help=".npy file")
    args = parser.parse_args()
    if not args.network.endswith(".onnx"):
        parser.error(f"{args.network} is not an .onnx file; other formats have other runtimes.")
    with open(f"{args.network}.json", encoding="utf-8") as file:
        about = json.load(file)
    session = onnxruntime.InferenceSession(args.network, providers=["CPUExecutionProvider"])
    photo = read_photo(args.photo)
    images = prepare(photo, about["preprocessing"])
    (output,) = session.run([about["output"]["name"]], {about["input"]["name"]: images})
    values = to_photo_size(output[0], photo, about["output"])
    np.save(args.output, values)
    kind = about["output"]["kind"]
    print(f"{args.output}: {kind}, {values.shape}, {values.min():.4g} to {values.max():.4g}")


if __name__ == "__main__":
    main()
