"""ONNX files with a free batch size from the PyTorch backend; Keras's exporter fixes it."""

from keras_dpt.export.onnx_files import name_axes_and_output


def write_onnx_by_torch(model, path, shape, input_name, output_name):
    """Write a model of the PyTorch backend to an ONNX file.

    Args:
        model: a `DPTDepth` or `DPTSegmentation`.
        path: of the file.
        shape: of the input, `(B, H, W, 3)`; `None` for a free number of images.
        input_name, output_name: in the file.
    """
    import torch
    from keras import ops

    batch, *rest = shape
    axes = {0: torch.export.Dim("batch")} if batch is None else {}
    example = ops.zeros((batch or 2, *rest))  # of one image, PyTorch would make a constant
    model.eval()
    with torch.no_grad():
        program = torch.export.export(model, (example,), dynamic_shapes=((axes,),), strict=False)
        _drop_idle_squeezes(program.graph)
        torch.onnx.export(
            program,
            (),
            str(path),
            dynamo=True,
            external_data=False,
            input_names=[input_name],
            output_names=[output_name],
            verbose=False,
        )
    name_axes_and_output(path, shape, output_name)


def _drop_idle_squeezes(graph):
    """Remove squeezes of axes longer than one, as in Keras's `take`; ONNX rejects them."""
    import torch

    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.squeeze.dim):
        source, axis = node.args
        length = source.meta["val"].shape[axis]
        if isinstance(length, int) and length != 1:
            node.replace_all_uses_with(source)
            graph.erase_node(node)
