"""A residual network for small images that ends in global average pooling."""

from keras import Model, layers

from common.models.layers import activate


def resnet9(
    input_shape: tuple[int, int, int], classes: int, *, widths: tuple[int, int, int, int] = (32, 64, 128, 256)
) -> Model:
    """A 3×3 convolution; then three stages of a 3×3 convolution, max-pooling and a residual block.

    Args:
        input_shape: (height, width, channels), at least 8×8.
        classes: number of outputs.
        widths: channels of the first convolution and of the three stages.

    Returns:
        A model from float images (batch, height, width, channels) to logits (batch, classes) in float32.

    Source: after David Page's ResNet-9, "How to Train Your ResNet" (2018,
    https://github.com/davidcpage/cifar10-fast).
    """

    def convolve(x, filters):
        # Batch normalisation follows, which makes a bias useless.
        return layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)

    inputs = layers.Input(input_shape)
    x = activate(convolve(inputs, widths[0]))
    for filters in widths[1:]:
        x = activate(layers.MaxPooling2D(2)(convolve(x, filters)))
        x = layers.Add()([activate(convolve(activate(convolve(x, filters)), filters)), x])
    # The pooling and the logits stay in float32 under mixed precision, so that the loss does.
    x = layers.GlobalAveragePooling2D(dtype="float32")(x)
    return Model(inputs, layers.Dense(classes, dtype="float32")(x))
