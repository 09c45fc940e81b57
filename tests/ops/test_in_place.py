"""PyTorch's forward hooks: what they keep is what the layer returned, then and later."""

import keras
import numpy as np
import pytest
import tiny
from keras import ops

import keras_dpt
from keras_dpt.ops import in_place

on_torch = pytest.mark.skipif(keras.config.backend() != "torch", reason="hooks are PyTorch's")


def network(task, encoder):
    if task == "depth":
        return tiny.depth(encoder)
    backbone = tiny.backbone(encoder, use_batch_norm=True)
    return tiny.randomize(keras_dpt.DPTSegmentation(backbone, 3))


def tensors(output):
    flat = keras.tree.flatten(output)
    return [x for x in flat if hasattr(x, "detach")]


@on_torch
@pytest.mark.parametrize("encoder", tiny.ENCODER_CONFIGS)
@pytest.mark.parametrize("task", ["depth", "segmentation"])
def test_what_hooks_keep_stays_as_it_was(task, encoder):
    model = network(task, encoder)
    side = 4 * model.backbone.image_encoder.unit
    x = tiny.images(2, side, side)
    expected = model.predict_on_batch(x)
    names = {id(layer): layer.path for layer in model._flatten_layers()}
    kept = []

    def hook(layer, inputs, output):
        kept.extend((names[id(layer)], y.detach(), y.clone()) for y in tensors(output))

    handles = [layer.register_forward_hook(hook) for layer in model._flatten_layers()]
    np.testing.assert_allclose(model.predict_on_batch(x), expected, rtol=1e-4, atol=1e-5)
    assert len(kept) > 50
    changed = [name for name, now, then in kept if not np.array_equal(now.cpu(), then.cpu())]
    assert not changed
    # Every layer that computes something was seen, those inside heads and residual units too.
    seen = {name for name, _, _ in kept}
    with_weights = {
        layer.path
        for layer in model._flatten_layers()
        if layer._trainable_variables and "auxiliary" not in layer.path
    }
    assert with_weights <= seen
    for handle in handles:
        handle.remove()
    np.testing.assert_array_equal(model.predict_on_batch(x), expected)


@on_torch
def test_a_hook_on_a_convolution_of_the_head_sees_the_whole_map():
    model, shapes = tiny.depth(), []
    layer = model.head.conv2
    handle = layer.register_forward_hook(lambda *call: shapes.append(tuple(call[2].shape)))
    model.predict_on_batch(tiny.images(1, 96, 64))
    assert shapes == [(1, 96, 64, 8)]
    handle.remove()


@on_torch
def test_memory_is_reused_where_no_hook_looks():
    import torch

    layer = keras.layers.Dense(4)
    layer.build((1, 4))
    with torch.no_grad():
        for work in (
            in_place.relu,
            in_place.relu6,
            lambda x, of: in_place.add(x, torch.ones_like(x), of=of),
        ):
            x = torch.full((1, 4), -1.0)
            assert work(x, of=layer).data_ptr() == x.data_ptr()
            handle = layer.register_forward_hook(lambda *call: None)
            x = torch.full((1, 4), -1.0)
            assert work(x, of=layer).data_ptr() != x.data_ptr()
            assert (x == -1).all()
            handle.remove()


@on_torch
def test_hooks_on_all_modules_count():
    import torch

    assert not in_place.has_hooks()
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *call: None)
    assert in_place.has_hooks()
    handle.remove()
    assert not in_place.has_hooks()


def test_results_are_the_same_on_every_backend():
    x = ops.convert_to_tensor(np.float32([-2, 3, 8]))
    np.testing.assert_array_equal(ops.convert_to_numpy(in_place.relu(x + 0)), [0, 3, 8])
    np.testing.assert_array_equal(ops.convert_to_numpy(in_place.relu6(x + 0)), [0, 3, 6])
    np.testing.assert_array_equal(ops.convert_to_numpy(in_place.add(x + 0, x)), [-4, 6, 16])
