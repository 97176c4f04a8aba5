"""A residual network that spends few operations on the many pixels of an image, and trains in few seconds."""

from keras import Model, layers

from common.models.layers import activate


def resnet7(input_shape: tuple[int, int, int], classes: int, *, widths: tuple[int, int, int] = (64, 128, 256)) -> Model:
    """Patches of 4×4 pixels, two apart; then 3×3 convolutions at a half, a quarter and an eighth of the side.

    The two later stages have a shortcut around their second convolution.

    Args:
        input_shape: (height, width, channels), at least 8×8.
        classes: number of outputs.
        widths: channels of the three stages.

    Returns:
        A model from float images (batch, height, width, channels) to logits (batch, classes) in float32.

    Source: after David Page's ResNet-9, "How to Train Your ResNet" (2018,
    https://github.com/davidcpage/cifar10-fast); the patches: Xiao et al. 2021, arXiv:2106.14881.
    """

    def convolve(x, filters, side=3, stride=1):
        # Batch normalisation follows, which makes a bias useless.
        return layers.Conv2D(
            filters, side, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(x)

    inputs = layers.Input(input_shape)
    x = activate(convolve(convolve(inputs, 48, side=4, stride=2), widths[0]))
    for filters in widths[1:]:
        x = activate(convolve(layers.MaxPooling2D(2)(x), filters))
        x = layers.Add()([x, activate(convolve(x, filters))])
    # The pooling and the logits stay in float32 under mixed precision, so that the loss does.
    x = layers.GlobalAveragePooling2D(dtype="float32")(x)
    return Model(inputs, layers.Dense(classes, dtype="float32")(x))
