"""The network as a drawing: the paper's Figure 1 box by box, each a link to its class.

Shapes are those of `dpt_base` for one image of 384 x 384; tests/test_site.py compares them with the
network's own.
"""

from dataclasses import dataclass

# Of the maps at the four taps, deepest first: what follows each step, without the batch.
BLOCKS = ("blocks 10 to 12", "blocks 7 to 9", "blocks 4 to 6", "blocks 1 to 3")
TOKENS = (577, 768)
READ = (24, 24, 768)
REASSEMBLED = ((12, 12, 768), (24, 24, 384), (48, 48, 192), (96, 96, 96))
FACTORS = ("x 1/2", "x 1", "x 2", "x 4")
FUSION_CHANNELS = 256
FUSED = ((24, 24, 256), (48, 48, 256), (96, 96, 256), (192, 192, 256))
IMAGE, DEPTH = (384, 384, 3), (384, 384, 1)

LAYERS, ENCODERS, MODELS, MAPS = (
    f"api/{page}.html" for page in ("layers", "encoders", "models", "maps")
)
WIDTH, HEIGHT = 830, 560
COLUMNS = (10, 195, 355, 515, 690)  # left sides: encoder, read, reassemble, convolution, fusion
ROWS = (36, 126, 216, 306, 396, 486)
BOX = (130, 56)


@dataclass(frozen=True)
class Box:
    """A box: where, what it is called, what comes out of it, where it leads, which colour."""

    column: int
    row: int
    name: str
    shape: tuple
    link: str
    part: str

    @property
    def left(self):
        return COLUMNS[self.column]

    @property
    def top(self):
        return ROWS[self.row]

    def draw(self):
        """The box as SVG."""
        middle = self.left + BOX[0] / 2
        below = " x ".join(map(str, self.shape))
        return (
            f'<a href="{self.link}" class="{self.part}">'
            f'<rect x="{self.left}" y="{self.top}" width="{BOX[0]}" height="{BOX[1]}" rx="6"/>'
            f'<text class="name" x="{middle:g}" y="{self.top + 24}">{self.name}</text>'
            f'<text class="shape" x="{middle:g}" y="{self.top + 43}">{below}</text></a>'
        )


def drawing():
    """The drawing as a block of HTML."""
    boxes = [box.draw() for box in _boxes()]
    return "\n".join(
        [
            '<div class="architecture">',
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="group" xmlns="http://www.w3.org/2000/svg">',
            "<title>Image, encoder, read, reassemble, fusion, head, depth</title>",
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>',
            *_titles(),
            *_arrows(),
            *boxes,
            "</svg>",
            "</div>",
        ]
    )


def _boxes():
    vit = f"{ENCODERS}#keras_dpt.ViTEncoder"
    yield Box(0, 5, "image", IMAGE, f"{MODELS}#keras_dpt.DPTImageConverter", "data")
    yield Box(0, 4, "patch embedding", TOKENS, vit, "encoder")
    for row in range(4):
        sides = REASSEMBLED[row]
        yield Box(0, row, BLOCKS[row], TOKENS, vit, "encoder")
        yield Box(1, row, "ReadProject", READ, f"{LAYERS}#keras_dpt.ReadProject", "decoder")
        name = f"Reassemble {FACTORS[row]}"
        yield Box(2, row, name, sides, f"{LAYERS}#keras_dpt.Reassemble", "decoder")
        shape = (*sides[:2], FUSION_CHANNELS)
        yield Box(3, row, "convolution", shape, f"{MODELS}#keras_dpt.DPTDecoder", "decoder")
        link = f"{LAYERS}#keras_dpt.FeatureFusion"
        yield Box(4, row, "FeatureFusion", FUSED[row], link, "decoder")
    yield Box(4, 4, "DepthHead", DEPTH, f"{LAYERS}#keras_dpt.DepthHead", "head")
    yield Box(4, 5, "DepthMap", DEPTH[:2], f"{MAPS}#keras_dpt.DepthMap", "data")


def _titles():
    for column, text in enumerate(("Encoder", "Read", "Reassemble", "Equal width", "Fusion")):
        middle = COLUMNS[column] + BOX[0] / 2
        yield f'<text class="title" x="{middle:g}" y="20">{text}</text>'


def _arrows():
    for row in range(4):
        middle = ROWS[row] + BOX[1] / 2
        for left, right in zip(COLUMNS, COLUMNS[1:], strict=False):
            yield f'<path class="arrow" d="M{left + BOX[0]} {middle:g}H{right - 2}"/>'
    for row in range(5):
        upper, lower = ROWS[row] + BOX[1], ROWS[row + 1]
        up, down = COLUMNS[0] + BOX[0] / 2, COLUMNS[4] + BOX[0] / 2
        yield f'<path class="arrow" d="M{up:g} {lower}V{upper + 2}"/>'
        yield f'<path class="arrow" d="M{down:g} {upper}V{lower - 2}"/>'
