"""The report's bonus, a BaseNet wide enough for residual connections, and what it names as next steps."""

from keras import Model, layers, ops

from common.models.layers import Conv2D, FusedBatchNormalization, activate


def residual(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    shortcuts: bool = True,
    widths: tuple[int, int] = (32, 64),
    blocks: int = 1,
    block: str = "plain",
    dropout: float = 0.5,
) -> Model:
    """Two stages of a 5×5 convolution and residual blocks, then two fully connected layers.

    A block's output is added to its input (He et al. 2015, arXiv:1512.03385); as the report has it,
    batch normalisation and ReLU follow the addition.

    Args:
        input_shape: (height, width, channels), at least 4×4; for self-calibrated blocks multiples of 8.
        classes: number of outputs.
        shortcuts: False leaves the additions out: the plain, wide network.
        widths: channels of the first and of the second stage.
        blocks: residual blocks a stage.
        block: a key of ``BLOCKS``.
        dropout: rate before the last layer; before the first fully connected layer it is half of it. 0 leaves the
            layers out.

    Returns:
        A model from float images (batch, height, width, channels) to logits (batch, classes) in
        float32: 2,259,737 parameters for 32×32×3 and 25 classes, with or without shortcuts, as the
        arguments stand here.
    """
    inputs = layers.Input(input_shape)
    x = inputs
    for filters in widths:
        x = activate(_convolve(x, filters, 5))
        for _ in range(blocks):
            shortcut = x
            x = BLOCKS[block](x)
            if shortcuts:
                x = layers.Add()([x, shortcut])
            x = activate(x)
        x = layers.MaxPooling2D(2)(x)

    def drop(x, rate):
        return layers.Dropout(rate)(x) if rate else x

    x = layers.Flatten()(drop(x, dropout / 2))
    x = activate(layers.Dense(512)(x))
    # Logits stay in float32 under mixed precision, so that the loss does.
    outputs = layers.Dense(classes, dtype="float32")(drop(x, dropout))
    return Model(inputs, outputs)


def _convolve(x, filters, kernel_size):
    return Conv2D(filters, kernel_size, padding="same")(x)


def _plain(x):
    """Two 3×3 convolutions."""
    filters = x.shape[-1]
    return _convolve(activate(_convolve(x, filters, 3)), filters, 3)


def _bottleneck(x):
    """1×1 to half the channels, 3×3, 1×1 back (He et al. 2015, which goes to a quarter of many more channels)."""
    filters = x.shape[-1]
    x = activate(_convolve(x, filters // 2, 1))
    return _convolve(activate(_convolve(x, filters // 2, 3)), filters, 1)


def _self_calibrated(x):
    """Two self-calibrated convolutions."""
    return _calibrate(activate(_calibrate(x)))


def _calibrate(x):
    """A self-calibrated convolution.

    Source: Liu et al., CVPR 2020, "Improving Convolutional Networks With Self-Calibrated Convolutions".

    Half of the channels are convolved plainly. The other half is convolved, gated, and convolved again;
    the gate looks further: at a convolution of the pooled image.
    """
    half = x.shape[-1] // 2
    # By 4, as in the paper, at 32×32; by 2 at 16×16, where 4 would leave only 4×4 places.
    rate = 4 if x.shape[1] >= 32 else 2
    calibrated, plain = ops.split(x, 2, axis=-1)
    context = FusedBatchNormalization()(_convolve(layers.AveragePooling2D(rate)(calibrated), half, 3))
    gate = layers.Activation("sigmoid")(layers.Add()([calibrated, layers.UpSampling2D(rate)(context)]))
    gated = layers.Multiply()([FusedBatchNormalization()(_convolve(calibrated, half, 3)), gate])
    return layers.Concatenate()([_convolve(gated, half, 3), _convolve(plain, half, 3)])


BLOCKS = {"plain": _plain, "bottleneck": _bottleneck, "self-calibrated": _self_calibrated}
