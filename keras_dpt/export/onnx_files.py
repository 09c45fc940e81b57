"""Names of inputs and outputs in ONNX files."""


def name_axes_and_output(path, shape, output_name):
    """Name the output, and the free axes of input and output, in an ONNX file of one of each.

    Args:
        path: of the file, which is rewritten.
        shape: of the input, `(B, H, W, C)`, with `None` for free axes.
        output_name: the new name of the output.
    """
    import onnx

    model = onnx.load(path)
    graph = model.graph
    old, new = graph.output[0].name, output_name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    graph.output[0].name = new
    for value in (graph.input[0], graph.output[0]):
        axes = value.type.tensor_type.shape.dim
        for axis, side, name in zip(axes, shape[:3], ("batch", "height", "width"), strict=False):
            if side is None:
                axis.dim_param = name
    onnx.save(model, path)
