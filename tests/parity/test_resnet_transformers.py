"""`ResNetEncoder` against transformers' ResNet, which knows nothing of either."""

import keras
import numpy as np
import pytest
from contracts import predict
from safetensors.numpy import save_file

import keras_dpt

from .midas import picture
from .test_midas import MAX, RMS, errors

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WIDTHS, DEPTHS = (16, 32, 48, 64), (2, 1, 2, 1)
# Theirs and torchvision's.
NAMES = (
    ("embedder.embedder.convolution.", "conv1."),
    ("embedder.embedder.normalization.", "bn1."),
    *((f".layer.{k}.convolution.", f".conv{k + 1}.") for k in range(3)),
    *((f".layer.{k}.normalization.", f".bn{k + 1}.") for k in range(3)),
    (".shortcut.convolution.", ".downsample.0."),
    (".shortcut.normalization.", ".downsample.1."),
    *((f"encoder.stages.{s}.layers.", f"layer{s + 1}.") for s in range(4)),
)


def theirs():
    """A small ResNet with random weights and statistics, in float64."""
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=WIDTHS, depths=DEPTHS, layer_type="bottleneck"
    )
    torch.manual_seed(0)
    network = transformers.ResNetModel(config).double().eval()
    for name, value in network.state_dict().items():
        if name.endswith(("running_var", "normalization.weight")):
            value.uniform_(0.6, 1.4)
        elif name.endswith(("running_mean", "normalization.bias")):
            value.normal_(0, 0.2)
    return network


def torchvision_names(network):
    found = {"fc.weight": np.zeros((10, WIDTHS[-1]), "float32")}
    for name, value in network.state_dict().items():
        for there, here in NAMES:
            name = name.replace(there, here)
        counter = name.endswith("num_batches_tracked")
        found[name] = value.numpy().astype("int64" if counter else "float32")
    return found


@pytest.mark.slow  # imports transformers
def test_maps_of_all_stages(tmp_path):
    network = theirs()
    save_file(torchvision_names(network), tmp_path / "resnet.safetensors")
    model = keras_dpt.DPTDepth.from_preset(str(tmp_path / "resnet.safetensors"))
    encoder = model.backbone.image_encoder
    assert encoder.stage_depths == DEPTHS and encoder.groups == 1
    x = picture(64, 96)
    outputs = predict(encoder, (x,))
    with torch.no_grad():
        pixels = torch.from_numpy(x.astype("float64")).permute(0, 3, 1, 2)
        states = network(pixels, output_hidden_states=True).hidden_states
    for n, state in enumerate(states[-4:], 1):
        expected = state.permute(0, 2, 3, 1).numpy()
        largest, rms = errors(outputs[f"stage{n}"], expected)
        assert largest < MAX and rms < RMS
    assert keras.backend.standardize_dtype(encoder.compute_dtype) == "float32"
