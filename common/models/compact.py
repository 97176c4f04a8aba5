"""A residual network for small images that ends in global average pooling."""

from keras import Model, layers

from common.models.layers import FusedBatchNormalization


def compact(
    input_shape: tuple[int, int, int], classes: int, *, stem: int = 32, widths: tuple[int, ...] = (64, 256, 256)
) -> Model:
    """A 3×3 convolution; stages of a 3×3 convolution, max-pooling by 2 and a residual module; average pooling.

    Most of the work is done in many channels of small maps, which processors do fastest.

    Args:
        input_shape: (height, width, channels), at least 2 to the power of the stages.
        classes: number of outputs.
        stem: channels of the first convolution.
        widths: channels of each stage.

    Returns:
        A model from float images (batch, height, width, channels) to logits (batch, classes) in float32.

    Source: after David Page's ResNet-9, "How to Train Your ResNet" (2018,
    https://github.com/davidcpage/cifar10-fast).
    """

    def convolve(x, filters):
        # Batch normalisation follows, which makes a bias useless.
        return layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)

    def activate(x):
        return layers.ReLU()(FusedBatchNormalization()(x))

    inputs = layers.Input(input_shape)
    x = activate(convolve(inputs, stem))
    for filters in widths:
        x = activate(layers.MaxPooling2D(2)(convolve(x, filters)))
        x = layers.Add()([activate(convolve(activate(convolve(x, filters)), filters)), x])
    # The pooling and the logits stay in float32 under mixed precision, so that the loss does.
    x = layers.GlobalAveragePooling2D(dtype="float32")(x)
    return Model(inputs, layers.Dense(classes, dtype="float32")(x))
