"""Attention maps of transformer blocks, as in the figures of the paper's supplement.

Attention is recomputed here from a block's input and weights, for the requested tokens only, so the
forward pass never stores a token-by-token matrix.
"""

from dataclasses import dataclass

import keras
import numpy as np
from PIL import Image, ImageDraw

from keras_dpt.errors import EvaluationError
from keras_dpt.images.reading import read_image
from keras_dpt.images.resizing import resize
from keras_dpt.maps.depth_map import DepthMap

CORNERS = ((0.15, 0.85), (0.85, 0.15))  # upper right, lower left


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Attention of one block.

    Attributes:
        block: the block's number, from 0.
        points: `(row, column)` of each query's centre, as fractions of the image; `None` for the
            class token, which is the first.
        weights: `(Q, N, h, w)` float32: attention to each patch, by query and head.
        to_class_token: `(Q, N)` float32: attention to the class token. With `weights`, and the
            attention to register tokens if any, it sums to 1 for each query and head.
    """

    block: int
    points: tuple
    weights: np.ndarray
    to_class_token: np.ndarray


def attention_maps(model, image, points=CORNERS, blocks=None) -> list[AttentionMap]:
    """Compute attention maps of the tapped blocks, for places in an image and the class token.

    Args:
        model: a `DPTDepth`, `DPTSegmentation` or other `DPTTask` whose encoder has transformer
            blocks.
        image: what `model.predict_image` takes.
        points: `(row, column)` pairs as fractions of height and width, 0 to 1.
        blocks: indices of blocks, from 0; by default the tapped ones.

    Returns: one `AttentionMap` per block, in order; the class token is the first query.
    Raises:
        EvaluationError: (a ValueError) a point outside the image, a block that does not exist, or
            an encoder without attention.
        ImageError: the image cannot be read.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), supplementary material, attention maps.
    """
    points = tuple((float(row), float(column)) for row, column in points)
    if not all(0 <= x <= 1 for point in points for x in point):
        raise EvaluationError(f"`points` must be (row, column) from 0 to 1. Received: {points}.")
    encoder = model.backbone.image_encoder
    layers = encoder.attention_blocks()
    if not layers:
        raise EvaluationError(
            "Attention maps are for encoders whose tokens see the whole image: ViT, DeiT, hybrids, "
            f"BEiT, DINOv2. Received: {type(encoder).__name__}."
        )
    indices = tuple(
        getattr(encoder, "out_indices", range(len(layers))) if blocks is None else blocks
    )
    if not all(isinstance(i, int) and 0 <= i < len(layers) for i in indices):
        raise EvaluationError(
            f"`blocks` must be numbers from 0 to {len(layers) - 1}. Received: {indices}."
        )
    pixels = model.converter_of_photos().convert(read_image(image))[None]
    inner = keras.Model(encoder.input, [_tokens_into(layers[i]) for i in indices])
    tokens = inner.predict_on_batch(pixels)
    tokens = tokens if isinstance(tokens, list) else [tokens]
    height, width = (side // encoder.unit for side in pixels.shape[1:3])
    prefix = tokens[0].shape[1] - height * width
    cells = [
        (min(int(row * height), height - 1), min(int(column * width), width - 1))
        for row, column in points
    ]
    queries = [0, *(prefix + row * width + column for row, column in cells)]
    centres = (None, *(((r + 0.5) / height, (c + 0.5) / width) for r, c in cells))
    maps = []
    for index, x in zip(indices, tokens, strict=True):
        weights = layers[index].attention_weights(x, queries, (height, width))
        patches = weights[..., prefix:].reshape(*weights.shape[:2], height, width)
        maps.append(AttentionMap(index, centres, patches, weights[..., 0]))
    return maps


def _tokens_into(block):
    """A block's output tokens; some blocks also take the grid."""
    return block.input[0] if isinstance(block.input, list | tuple) else block.input


def draw_attention(image, maps: list[AttentionMap], width: int = 320) -> Image.Image:
    """One image: a row per query, a column per block, attention averaged over heads.

    Bright is where a query, marked by a ring, attends to; each map has its own range.

    Args:
        image: as given to `attention_maps`.
        maps: result of `attention_maps`.
        width: of each column, in pixels.

    Returns: RGB PIL image.
    """
    photo = read_image(image)
    size = max(1, round(photo.shape[0] * width / photo.shape[1])), width
    photo = np.clip(resize(photo, size, "bilinear_antialias"), 0, 255).astype("float32")
    margin, gap = 22, 6
    step = size[0] + margin + gap
    rows, columns = len(maps[0].points), len(maps)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * step + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for column, attention in enumerate(maps):
        for row, point in enumerate(attention.points):
            left, top = gap + column * (width + gap), gap + row * step
            who = "class token" if point is None else "marked point"
            draw.text((left, top), f"block {attention.block + 1}, {who}", fill=(40, 40, 40))
            weights = attention.weights[row].mean(axis=0)
            sheet.paste(_overlay(photo, weights), (left, top + margin))
            if point is not None:
                y, x = top + margin + point[0] * size[0], left + point[1] * width
                draw.ellipse((x - 6, y - 6, x + 6, y + 6), outline="white", width=3)
                draw.ellipse((x - 7, y - 7, x + 7, y + 7), outline=(20, 110, 220), width=2)
    return sheet


def _overlay(photo, weights):
    """A grey photo, coloured by the weights of its patches."""
    values = np.clip(resize(weights, photo.shape[:2], "bilinear"), 0, None)
    top = max(float(np.percentile(values, 98)), 1e-12)
    colors = DepthMap(values, "relative_inverse_depth").colorize("inferno", 0.0, top)
    share = 0.15 + 0.65 * np.clip(values / top, 0, 1)[..., None]
    mixed = (1 - share) * 0.7 * photo.mean(axis=-1, keepdims=True) + share * np.asarray(colors)
    return Image.fromarray(mixed.astype("uint8"))
