"""BaseNet, the report's small network, and every improvement of exercise 2 as a switch of it."""

from keras import Model, layers

from common.models.layers import Conv2D, FusedBatchNormalization


def basenet(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    batch_normalization: str = "none",
    deep: bool = False,
    dropout: float = 0.0,
) -> Model:
    """BaseNet: two convolutions and two fully connected layers (24,197 parameters for 25 classes).

    Args:
        input_shape: (height, width, channels), at least 16×16.
        classes: number of outputs.
        batch_normalization: "before-relu", "after-relu" or "none"; on every hidden layer.
        deep: extra convolutions: a 3×3 one with four times the channels before each pooling, and a 1×1
            one that brings them back for the fully connected layers.
        dropout: rate before each of the two fully connected layers; 0 leaves the layers out.

    Returns:
        A model from float images (batch, height, width, channels) to logits (batch, classes) in
        float32. With every switch: 43,741 parameters.
    """

    def activate(x):
        if batch_normalization == "before-relu":
            x = FusedBatchNormalization()(x)
        x = layers.ReLU()(x)
        if batch_normalization == "after-relu":
            x = FusedBatchNormalization()(x)
        return x

    def convolve(x, filters, kernel_size, padding="valid"):
        return activate(Conv2D(filters, kernel_size, padding=padding)(x))

    def drop(x):
        return layers.Dropout(dropout)(x) if dropout else x

    inputs = layers.Input(input_shape)
    x = inputs
    for filters in (6, 16):
        x = convolve(x, filters, 5)
        if deep:
            x = convolve(x, 4 * filters, 3, padding="same")
        x = layers.MaxPooling2D(2)(x)
    if deep:
        x = convolve(x, 16, 1)
    x = layers.Flatten()(drop(x))
    x = activate(layers.Dense(50)(x))
    # Logits stay in float32 under mixed precision, so that the loss does.
    outputs = layers.Dense(classes, dtype="float32")(drop(x))
    return Model(inputs, outputs)
