"""A network in the report's table format."""

import math

import keras

NAMES = {keras.layers.ReLU: "Relu", keras.layers.Dense: "Linear"}
WITHOUT_A_LINE = (keras.layers.InputLayer, keras.layers.Flatten)


def layer_table(model: keras.Model) -> str:
    """The model as Markdown, a line a layer, in the columns of the report, and the parameter count.

    A line takes the output of the line before it, or what stands in brackets, or both. Sizes are the side
    of a square image, or the number of features; channels stand on convolutions only. Parameters include
    moving statistics, as ``Model.count_params`` does.
    """
    lines = ["| no. | layer | kernel | size | channels |", "|---|---|---|---|---|"]
    number, made_by = 0, {}  # tensors, by their identity, and the lines that make them
    for layer in model.operations:
        # Inside a network in the network, tensors are others than outside; those come one after the other.
        sources = {made_by.get(id(tensor), number) for tensor in _list(layer.input)} or {0}
        if not isinstance(layer, WITHOUT_A_LINE):
            name = _name(layer) + _elsewhere(sources - {number})
            number += 1
            sources = {number}
            lines.append(f"| {number} | {name} | {_kernel(layer)} | {_size(layer)} | {_channels(layer)} |")
        made_by |= dict.fromkeys(map(id, _list(layer.output)), *sources)
    lines += ["", f"{model.count_params():,} parameters"]
    return "\n".join(lines) + "\n"


def multiply_adds(model: keras.Model) -> int:
    """Multiplications, each with its addition, that convolutions and linear layers take for one image, forward.

    Networks inside the network do not count.
    """
    count = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            count += math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Dense):
            count += math.prod(layer.kernel.shape)
    return count


def _name(layer) -> str:
    if isinstance(layer, keras.layers.BatchNormalization):
        return "BatchNormalization"
    if isinstance(layer, keras.layers.Dropout):
        return f"Dropout ({layer.rate:g})"
    if isinstance(layer, keras.Model):
        return f"{layer.name} ({len(layer.layers)} layers)"
    name = NAMES.get(type(layer), type(layer).__name__)
    if isinstance(layer, keras.layers.Conv2D) and layer.padding == "same" and layer.kernel_size != (1, 1):
        name += ", same padding"
    return name


def _elsewhere(sources: set[int]) -> str:
    """What a layer takes beside, or in place of, the output of the line before it."""
    if not sources:
        return ""
    return f" (the output{'s' if len(sources) > 1 else ''} of {' and '.join(map(str, sorted(sources)))})"


def _kernel(layer) -> str:
    if isinstance(layer, keras.layers.Conv2D):
        return str(layer.kernel_size[0])
    if isinstance(layer, (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)):
        return str(layer.pool_size[0])
    if isinstance(layer, keras.layers.UpSampling2D):
        return str(layer.size[0])
    return "-"


def _size(layer) -> str:
    return f"{_list(layer.input)[0].shape[1]} → {_list(layer.output)[0].shape[1]}"


def _channels(layer) -> str:
    if isinstance(layer, keras.layers.Conv2D):
        return f"{layer.input.shape[-1]} → {layer.output.shape[-1]}"
    return "-"


def _list(tensors) -> list:
    return tensors if isinstance(tensors, list) else [tensors]
