"""The report's bonus: a BaseNet wide enough for residual connections."""

from keras import Model, layers

from common.models.layers import FusedBatchNormalization


def residual(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    shortcuts: bool = True,
    dropout: tuple[float, float] = (0.25, 0.5),
) -> Model:
    """Two stages of a 5×5 convolution and one residual module, then two fully connected layers.

    A module is two 3×3 convolutions whose output is added to its input (He et al. 2015,
    arXiv:1512.03385); as the report has it, batch normalisation and ReLU follow the addition.

    Args:
        input_shape: (height, width, channels), at least 4×4.
        classes: number of outputs.
        shortcuts: False leaves the additions out: the plain, wide network.
        dropout: rates before the first and before the second fully connected layer.

    Returns:
        A model from float images (batch, height, width, channels) to logits (batch, classes) in
        float32: 2,259,737 parameters for 32×32×3 and 25 classes, with or without shortcuts.
    """

    def activate(x):
        return layers.ReLU()(FusedBatchNormalization()(x))

    def convolve(x, filters, kernel_size):
        return layers.Conv2D(filters, kernel_size, padding="same")(x)

    inputs = layers.Input(input_shape)
    x = inputs
    for filters in (32, 64):
        shortcut = activate(convolve(x, filters, 5))
        x = convolve(activate(convolve(shortcut, filters, 3)), filters, 3)
        if shortcuts:
            x = layers.Add()([x, shortcut])
        x = layers.MaxPooling2D(2)(activate(x))
    x = layers.Flatten()(layers.Dropout(dropout[0])(x))
    x = activate(layers.Dense(512)(x))
    # Logits stay in float32 under mixed precision, so that the loss does.
    outputs = layers.Dense(classes, dtype="float32")(layers.Dropout(dropout[1])(x))
    return Model(inputs, outputs)
