"""What the tapped blocks of the transformer look at, as in the supplement's figures.

Attention is computed here, from a block's input and its own weights, and only for the few tokens
that are asked about: the forward pass of everybody else never keeps a token-by-token matrix.
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops
from PIL import Image, ImageDraw

from keras_dpt.errors import EvaluationError
from keras_dpt.images.reading import read_image
from keras_dpt.images.resizing import resize
from keras_dpt.maps.depth_map import DepthMap

CORNERS = ((0.15, 0.85), (0.85, 0.15))  # upper right, lower left


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Where one block's tokens look.

    Attributes:
        block: the block's number, from 0.
        points: `(row, column)` of each query in shares of the image, its token's centre; `None`
            for the class token, the first one.
        weights: `(Q, N, h, w)` float32: by query and head, how much of its attention each patch
            gets.
        to_class_token: `(Q, N)` float32: how much the class token gets. With `weights` it sums to
            1 for each query and head.
    """

    block: int
    points: tuple
    weights: np.ndarray
    to_class_token: np.ndarray


def attention_maps(model, image, points=CORNERS) -> list[AttentionMap]:
    """Compute where the tapped blocks look, from some places of an image and the class token.

    Args:
        model: a `DPTDepth` or `DPTSegmentation`, or a `DPTBackbone`'s task of any kind, whose
            encoder has transformer blocks.
        image: what `model.predict_image` takes.
        points: `(row, column)` pairs in shares of height and width, 0 to 1.

    Returns: one `AttentionMap` per tapped block, in order; the class token is the first query.
    Raises:
        EvaluationError: (a ValueError) a point outside the image.
        ImageError: the image cannot be read.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), supplementary material, attention maps.
    """
    points = tuple((float(row), float(column)) for row, column in points)
    if not all(0 <= x <= 1 for point in points for x in point):
        raise EvaluationError(f"points are (row, column) from 0 to 1; received {points}.")
    encoder = model.backbone.image_encoder
    blocks = [encoder.get_layer(f"block_{i}") for i in encoder.out_indices]
    pixels = model.converter_of_photos().convert(read_image(image))[None]
    grid_layer = encoder.get_layer("patch_embedding")
    inner = keras.Model(encoder.input, [grid_layer.output, *(block.input for block in blocks)])
    grid, *tokens = inner.predict_on_batch(pixels)
    height, width = grid.shape[1:3]
    cells = [
        (min(int(row * height), height - 1), min(int(column * width), width - 1))
        for row, column in points
    ]
    queries = [0, *(1 + row * width + column for row, column in cells)]
    centres = (None, *(((r + 0.5) / height, (c + 0.5) / width) for r, c in cells))
    maps = []
    for index, block, x in zip(encoder.out_indices, blocks, tokens, strict=True):
        weights = _weights(block, x, queries)
        patches = weights[..., 1:].reshape(*weights.shape[:2], height, width)
        maps.append(AttentionMap(index, centres, patches, weights[..., 0]))
    return maps


def draw_attention(image, maps: list[AttentionMap], width: int = 320) -> Image.Image:
    """One picture: a row per query, a column per block, attention averaged over heads.

    Bright is where a query, marked by a ring, looks; each map has its own range.

    Args:
        image: the photo, as given to `attention_maps`.
        maps: what that returned.
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


def _weights(block, x, queries):
    """Attention of some tokens of `(1, T, D)` to all: `(Q, N, T)` float32."""
    attention = block.attention
    heads, dim = attention.num_heads, attention.hidden_dim // attention.num_heads
    qkv = attention.qkv(block.norm1(ops.convert_to_tensor(x)))
    qkv = ops.convert_to_numpy(ops.cast(qkv, "float32"))[0].reshape(-1, 3, heads, dim)
    query, key = qkv[queries, 0], qkv[:, 1]
    scores = np.einsum("qnd,tnd->qnt", query, key) * dim**-0.5
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)


def _overlay(photo, weights):
    """A photo in grey, coloured by weights of its patches."""
    values = np.clip(resize(weights, photo.shape[:2], "bilinear"), 0, None)
    top = max(float(np.percentile(values, 98)), 1e-12)
    colors = DepthMap(values, "relative_inverse_depth").colorize("inferno", 0.0, top)
    share = 0.15 + 0.65 * np.clip(values / top, 0, 1)[..., None]
    mixed = (1 - share) * 0.7 * photo.mean(axis=-1, keepdims=True) + share * np.asarray(colors)
    return Image.fromarray(mixed.astype("uint8"))
