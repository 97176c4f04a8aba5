"""ResNet50 (He et al. 2015, arXiv:1512.03385), as ``keras.applications`` has it, without its output layer."""

from functools import cached_property
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from common.models.layers import FoldingConv2D, FusedBatchNormalization, with_layers

CHANNELS = 2048  # of its output
EPSILON = 1.001e-5  # of its batch normalisation
STRIDE = 32  # input pixels for each place of the output map
PROJECTED = 256  # channels that ``projections`` leave
BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}  # residual blocks a stage


def preprocess(images):
    """RGB images (batch, height, width, 3) in 0..255 as the weights want them: BGR, ImageNet's mean taken off, float32.

    Source: ``keras.applications.resnet.preprocess_input``, here as layers of a network.
    """
    offset = [-103.939, -116.779, -123.68]
    return keras.layers.Rescaling(1.0, offset, dtype="float32")(keras.ops.flip(images, axis=-1))


def build(image_shape: tuple[int, int, int]) -> keras.Model:
    """The network from preprocessed images to the map (batch, height / 32, width / 32, 2048), not yet trained.

    Layers and weights are those of ``keras.applications.ResNet50(include_top=False)``, with the fused
    batch normalisation in place of Keras's, folded into the convolution before it where it does not learn.
    """
    stock = keras.applications.ResNet50(include_top=False, weights=None, input_shape=image_shape, name="resnet50")
    kinds = {keras.layers.BatchNormalization: FusedBatchNormalization, keras.layers.Conv2D: FoldingConv2D}
    model = with_layers(stock, kinds)
    for layer in model.layers:
        if isinstance(layer, FoldingConv2D):
            layer.fold(model.get_layer(layer.name.removesuffix("_conv") + "_bn"))
    return model


def last_map_shape(image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """(height / 32, width / 32, 2048) of the output for an image (height, width, ...)."""
    return (-(-image_shape[0] // STRIDE), -(-image_shape[1] // STRIDE), CHANNELS)


Projections = tuple[np.ndarray, np.ndarray]


class Maps(NamedTuple):
    """What ResNet50 makes of images, float32: the outputs of its last two stages, after ReLU.

    Attributes:
        fourth: (batch, height / 16, width / 16, 1024).
        fifth: (batch, height / 32, width / 32, 2048), the network's output.
    """

    fourth: tf.Tensor
    fifth: tf.Tensor


class Frozen:
    """ResNet50 in inference mode, from RGB images float32 (batch, height, width, 3) in 0..255 to ``Maps``.

    Batch normalisation, which in inference mode is a fixed scale and offset of each channel, is folded into
    the convolution before it; the weights are constants, which oneDNN then lays out once.
    """

    def __init__(self, weights: dict[str, np.ndarray], dtype: tf.DType):
        """
        Args:
            weights: as ``common.transfer.weights.read_weights`` gives them.
            dtype: what convolutions compute in, float32 or bfloat16.
        """
        self._weights = weights
        self._maps = _frozen(weights, dtype)

    def __call__(self, images: tf.Tensor) -> Maps:
        return Maps(*self._maps(images))

    @cached_property
    def projections(self) -> Projections:
        """``projections`` of the weights."""
        return projections(self._weights)


def projections(weights: dict[str, np.ndarray]) -> Projections:
    """For each of the two ``Maps`` a kernel float32 (channels, 256) that keeps what the network itself makes most of.

    Of stage 4 these are the directions that the shortcut into stage 5 reads most, its kernel's first left singular
    vectors; of stage 5, which nothing reads, those that its last convolution writes most, its first right singular
    vectors. No image has a part in it.

    Args:
        weights: as ``common.transfer.weights.read_weights`` gives them.
    """
    folded = _folded(weights)
    read, _, _ = np.linalg.svd(folded["conv5_block1_0"][0][0, 0].astype(np.float64), full_matrices=False)
    _, _, written = np.linalg.svd(folded["conv5_block3_3"][0][0, 0].astype(np.float64), full_matrices=False)
    return _with_signs(read[:, :PROJECTED]), _with_signs(written.T[:, :PROJECTED])


def _with_signs(vectors: np.ndarray) -> np.ndarray:
    """Singular vectors, columns, with the signs that make the largest entry of each positive, whatever LAPACK's are."""
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return (vectors * np.sign(largest)).astype(np.float32)


def _frozen(weights: dict[str, np.ndarray], dtype: tf.DType):
    convolutions = _folded(weights)

    def convolve(x, name, stride=1, padding: Literal["VALID", "SAME"] = "VALID"):
        kernel, bias = convolutions[name]
        x = tf.nn.conv2d(x, tf.cast(kernel, dtype), stride, padding)
        return tf.nn.bias_add(x, tf.cast(bias, dtype))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
    def maps(images):
        x = tf.cast(keras.applications.resnet.preprocess_input(images), dtype)
        x = tf.nn.relu(convolve(_pad(x, 3), "conv1", 2))
        x = tf.nn.max_pool2d(_pad(x, 1), 3, 2, "VALID")
        outputs = []
        for stage, blocks in BLOCKS.items():
            for block in range(1, blocks + 1):
                name = f"conv{stage}_block{block}_"
                stride = 2 if stage > 2 and block == 1 else 1
                shortcut = convolve(x, name + "0", stride) if block == 1 else x
                x = tf.nn.relu(convolve(x, name + "1", stride))
                x = tf.nn.relu(convolve(x, name + "2", padding="SAME"))
                x = tf.nn.relu(convolve(x, name + "3") + shortcut)
            outputs.append(tf.cast(x, tf.float32))
        return outputs[-2:]

    return maps


def _pad(x, pixels):
    return tf.pad(x, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]])


def _folded(weights: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of each convolution with its batch normalisation folded in, by the convolution's name."""
    folded = {}
    for path, kernel in weights.items():
        if path.endswith("_conv/kernel"):
            name = path.removesuffix("_conv/kernel")
            gamma, beta, mean, variance = (
                weights[f"{name}_bn/{kind}"] for kind in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            scale = gamma / np.sqrt(variance + EPSILON)
            folded[name] = kernel * scale, (weights[f"{name}_conv/bias"] - mean) * scale + beta
    return folded
