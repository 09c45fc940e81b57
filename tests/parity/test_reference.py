"""The references agree with untouched transformers and with each other."""

import keras
import numpy as np
import pytest

from . import isl_org, reference

# They know nothing of backends, and torch beside TensorFlow or JAX only costs memory.
pytestmark = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="needs torch alone: run with KERAS_BACKEND=torch"
)

ARCHITECTURES = [
    ("tiny", {}),
    ("tiny", {"readout": "add", "use_batch_norm": True}),
    ("tiny", {"readout": "ignore"}),
    ("tiny_hybrid", {}),
    ("tiny_hybrid", {"weight_standardization": "std"}),
    ("tiny", {"num_classes": 5, "use_batch_norm": True}),
]
ONLY_OURS = [
    ("tiny", {"position_grid": (3, 5)}),
    ("tiny_hybrid", {"out_stages": (), "out_indices": (0, 1, 2, 3)}),
]


@pytest.fixture(autouse=True)
def one_thread():
    """Threads cost these tiny models more than they bring, above all on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_isl(model, pixels, dtype="float64"):
    arch = model.architecture
    model.float()
    return isl_org.isl_forward(
        isl_org.isl_state_dict(reference.state_dict(model)),
        pixels,
        arch.out_indices,
        arch.num_heads,
        grid=arch.position_grid,
        readout=arch.readout,
        num_groups=arch.num_groups,
        weight_standardization=arch.weight_standardization,
        epsilon=arch.layer_norm_epsilon,
        dtype=dtype,
    )


@pytest.mark.parametrize("kind, options", ARCHITECTURES)
def test_equals_untouched_transformers_at_its_square(kind, options):
    import torch

    model = reference.make_reference(kind, **options)
    pixels = reference.random_picture(64, 64, batch=2)
    with torch.no_grad():
        untouched = model(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    if model.architecture.num_classes:
        untouched = untouched.logits.permute(0, 2, 3, 1)
    else:
        untouched = untouched.predicted_depth
    np.testing.assert_array_equal(reference.forward(model, pixels), untouched.numpy())


@pytest.mark.parametrize("kind, options", ARCHITECTURES + ONLY_OURS)
def test_equals_the_functional_reference_at_any_size(kind, options):
    model = reference.make_reference(kind, **options)
    pixels = reference.random_picture(96, 160, batch=2)
    exact = reference.forward(model, pixels, "float64")
    assert np.abs(run_isl(model, pixels) - exact).max() < 1e-12 * exact.std()
    # Both in float32: torch's resizing and the order of summation differ.
    single = reference.forward(model, pixels, "float32")
    assert np.abs(run_isl(model, pixels, "float32") - single).max() < 1e-4 * exact.std()


@pytest.mark.parametrize("kind", ["tiny", "tiny_hybrid"])
def test_output_varies_and_is_mostly_positive(kind):
    model = reference.make_reference(kind)
    depth = reference.forward(model, reference.random_picture(96, 160, batch=2))
    assert 0 < np.mean(depth == 0) < 0.1
    assert 0.5 < depth.std() / reference.OUTPUT_STD < 2


@pytest.mark.parametrize("kind", ["tiny", "tiny_hybrid"])
def test_every_tensor_that_can_matter_does(kind):
    """Bend one tensor at a time: no zero, no dead ReLU hides it from the output."""
    import torch

    torch.manual_seed(0)
    model = reference.make_reference(kind, use_batch_norm=kind == "tiny").double()
    pixels = reference.random_picture(64, 96)
    before = reference.forward(model, pixels, "float64")
    dead = set()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            kept = tensor.clone()
            tensor.mul_(1 + 0.3 * torch.empty_like(tensor).uniform_(-1, 1))
            change = np.abs(reference.forward(model, pixels, "float64") - before).max()
            if change < 1e-8 * before.std():
                dead.add(name)
            tensor.copy_(kept)
    never_read = {name for name in dead if name.startswith("dpt.layernorm.")}
    never_read |= {name for name in dead if ".layers.0.residual_layer1." in name}
    # Two of the norm; two kernels with two biases or two batch normalisations of four tensors.
    assert len(never_read) == 2 + 2 + (8 if kind == "tiny" else 2)
    # The same for all keys of a query, so softmax cancels it.
    cancelled = {name for name in dead if name.endswith("attention.key.bias")}
    assert len(cancelled) == model.architecture.num_layers
    assert dead == never_read | cancelled


def test_weight_standardizations_differ_by_more_than_the_tolerance():
    pixels = reference.random_picture(64, 96)
    std, variance = (
        reference.forward(
            reference.make_reference("tiny_hybrid", weight_standardization=formula), pixels
        )
        for formula in ("std", "variance")
    )
    assert np.abs(std - variance).max() > 2e-3 * std.std()


def test_isl_names_cover_every_tensor():
    """Counts of the real files: tests of the converter hold the names."""
    model = reference.make_reference("tiny")
    names = reference.state_dict(model)
    converted = isl_org.isl_state_dict(names)
    # query, key, value become one; the classifier comes on top.
    assert len(converted) == len(names) - 4 * model.architecture.num_layers + 2
    assert converted["pretrained.model.blocks.3.attn.qkv.weight"].shape == (96, 32)
    np.testing.assert_array_equal(
        converted["pretrained.model.blocks.3.attn.qkv.bias"][32:64],
        names["dpt.encoder.layer.3.attention.attention.key.bias"],
    )
    np.testing.assert_array_equal(
        converted["scratch.refinenet1.resConfUnit2.conv1.bias"],
        names["neck.fusion_stage.layers.3.residual_layer2.convolution1.bias"],
    )
    with pytest.raises(KeyError, match="surplus"):
        isl_org.isl_state_dict({**names, "surplus": np.zeros(1)})
