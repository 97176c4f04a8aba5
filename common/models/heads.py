"""The report's heads on ResNet50, and ResNet50 with the simple head, to be trained as a whole."""

import keras
from keras import Model, layers

from common.models import resnet50
from common.models.layers import activate
from common.models.second_order import second_order

BACKBONE = "resnet50"  # the layer's name
PROJECTIONS = ("conv4_projection", "conv5_projection")


def linear(input_shape: tuple[int], classes: int, *, power_normalization: bool = False) -> Model:
    """One linear layer, from pooled features (batch, 2048), 0 or above, to logits (batch, classes) in float32.

    Args:
        power_normalization: the layer sees the features' square roots, in which the few large ones weigh less,
            scaled to length 1 (Perronnin et al. 2010, "Improving the Fisher Kernel for Large-Scale Image
            Classification").
    """
    inputs = x = layers.Input(input_shape)
    if power_normalization:
        x = layers.UnitNormalization()(keras.ops.sqrt(x))
    return Model(inputs, _logits(x, classes))


def fully_connected(input_shape: tuple[int], classes: int, *, dropout: float = 0.4) -> Model:
    """Three linear layers of 1024, 512 and ``classes`` outputs, from pooled features (batch, 2048) to logits.

    Args:
        dropout: rate before the first and before the second layer; 0 leaves the layers out.
    """
    inputs = layers.Input(input_shape)
    return Model(inputs, _three_layers(inputs, classes, dropout))


def convolutional(input_shape: tuple[int, int, int], classes: int, *, dropout: float = 0.4) -> Model:
    """A 3×3 convolution to 64 channels in place of the pooling, then the three linear layers.

    From maps (batch, height, width, 2048) to logits (batch, classes) in float32; ``dropout`` as above.
    """
    inputs = layers.Input(input_shape)
    x = activate(layers.Conv2D(64, 3, padding="same")(inputs))
    return Model(inputs, _three_layers(layers.Flatten()(x), classes, dropout))


def resnet50_classifier(input_shape: tuple[int, int, int], classes: int) -> Model:
    """ResNet50, average pooling and one linear layer, from RGB images (batch, height, width, 3) in 0..255 to logits.

    ResNet50 is the layer "resnet50"; its weights are to be set.
    """
    inputs = layers.Input(input_shape)
    x = resnet50.build(input_shape)(resnet50.preprocess(inputs))
    x = layers.GlobalAveragePooling2D(dtype="float32")(x)
    return Model(inputs, _logits(x, classes))


def resnet50_second_order(input_shape: tuple[int, int, int], classes: int) -> Model:
    """ResNet50, the second-order features of its last two stages, and one linear layer; in and out as above.

    The maps of both stages are projected to fewer channels by the layers ``PROJECTIONS``, to be set as well.
    """
    inputs = layers.Input(input_shape)
    backbone = resnet50.build(input_shape)
    stages = [backbone.get_layer(name).output for name in ("conv4_block6_out", "conv5_block3_out")]
    maps = Model(backbone.input, stages, name=BACKBONE)(resnet50.preprocess(inputs))
    projected = [
        layers.Conv2D(resnet50.PROJECTED, 1, use_bias=False, name=name)(each) for name, each in zip(PROJECTIONS, maps)
    ]
    pooled = [layers.Input(each.shape[1:]) for each in projected]
    x = Model(pooled, second_order(*pooled), name="second_order")(projected)
    return Model(inputs, _logits(x, classes))


def _three_layers(x, classes: int, dropout: float):
    for units in (1024, 512):
        # The report's last hidden layer has no dropout behind it.
        x = activate(layers.Dense(units)(layers.Dropout(dropout)(x) if dropout else x))
    return _logits(x, classes)


def _logits(x, classes: int):
    # In float32 under mixed precision, so that the loss is.
    return layers.Dense(classes, dtype="float32")(x)
