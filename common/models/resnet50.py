"""ResNet50 (He et al. 2015, arXiv:1512.03385), as ``keras.applications`` has it, without its output layer."""

import hashlib
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from common.errors import UserError
from common.models.layers import FusedBatchNormalization

FEATURES = 2048
EPSILON = 1.001e-5  # of its batch normalisation
STRIDE = 32  # input pixels for each place of the output map
BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}  # residual modules a stage


def build(image_shape: tuple[int, int, int]) -> keras.Model:
    """The network from preprocessed images to the map (batch, height / 32, width / 32, 2048), not yet trained.

    Layers and weights are those of ``keras.applications.ResNet50(include_top=False)``, with the fused
    batch normalisation in place of Keras's.
    """

    def replace(layer):
        is_normalization = isinstance(layer, keras.layers.BatchNormalization)
        return (FusedBatchNormalization if is_normalization else type(layer)).from_config(layer.get_config())

    stock = keras.applications.ResNet50(include_top=False, weights=None, input_shape=image_shape, name="resnet50")
    return keras.models.clone_model(stock, clone_function=replace)


@lru_cache(maxsize=1)
def read_weights(weights: str) -> dict[str, np.ndarray]:
    """The arrays of ``Model.get_weights``, in its order, by their paths, such as "conv1_conv/kernel".

    Args:
        weights: "imagenet" (downloaded and checked by Keras), "none" (drawn, always the same), or
            the path of a ``.weights.h5`` file of the network without its output layer.

    Raises:
        UserError: no download, a file that does not fit, or values that are not numbers; the error names the layer.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        if weights == "none":
            keras.utils.set_random_seed(0)
        try:
            downloaded = "imagenet" if weights == "imagenet" else None
            model = keras.applications.ResNet50(include_top=False, weights=downloaded)
        except Exception as error:  # get_file raises bare Exceptions
            raise UserError(f"no weights of ResNet50 ({error}); give a file with --weights, or none") from error
        if weights not in ("imagenet", "none"):
            _load(model, Path(weights))
        arrays = {weight.path: array for weight, array in zip(model.weights, model.get_weights())}
        for path, array in arrays.items():
            if not np.isfinite(array).all():
                raise UserError(f"--weights {weights}: {path} holds values that are not numbers; get the file again")
        return arrays
    finally:
        keras.config.set_dtype_policy(policy)


def _load(model: keras.Model, path: Path) -> None:
    if not path.name.endswith(".weights.h5"):
        raise UserError(f"--weights {path}: the name of a file of weights ends with .weights.h5")
    try:
        model.load_weights(path)
    except Exception as error:  # h5py and Keras raise many kinds
        raise UserError(f"--weights {path} does not fit ResNet50 without its output layer: {error}") from error


@lru_cache(maxsize=1)
def sha256(weights: str) -> str:
    """A fingerprint of all weights that ``read_weights`` gives, in hexadecimal."""
    digest = hashlib.sha256()
    for array in read_weights(weights).values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def feature_shape(kind: str, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """What frozen ResNet50 says of an image: (height / 32, width / 32, 2048) for "map", (2048,) when it is pooled."""
    if kind == "map":
        return (-(-image_shape[0] // STRIDE), -(-image_shape[1] // STRIDE), FEATURES)
    return (FEATURES,)


def frozen(weights: dict[str, np.ndarray], dtype: tf.DType):
    """ResNet50 in inference mode as one function, from RGB images float32 (batch, height, width, 3) in 0..255
    to the map float32 (batch, height / 32, width / 32, 2048).

    Batch normalisation, which in inference mode is a fixed scale and offset of each channel, is folded into
    the convolution before it; the weights are constants, which oneDNN then lays out once.

    Args:
        weights: as ``read_weights`` gives them.
        dtype: what convolutions compute in, float32 or bfloat16.
    """
    convolutions = _folded(weights)

    def convolve(x, name, stride=1, padding="VALID"):
        kernel, bias = convolutions[name]
        x = tf.nn.conv2d(x, tf.cast(kernel, dtype), stride, padding)
        return tf.nn.bias_add(x, tf.cast(bias, dtype))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
    def features(images):
        x = tf.cast(keras.applications.resnet.preprocess_input(images), dtype)
        x = tf.nn.relu(convolve(_pad(x, 3), "conv1", 2))
        x = tf.nn.max_pool2d(_pad(x, 1), 3, 2, "VALID")
        for stage, blocks in BLOCKS.items():
            for block in range(1, blocks + 1):
                name = f"conv{stage}_block{block}_"
                stride = 2 if stage > 2 and block == 1 else 1
                shortcut = convolve(x, name + "0", stride) if block == 1 else x
                x = tf.nn.relu(convolve(x, name + "1", stride))
                x = tf.nn.relu(convolve(x, name + "2", padding="SAME"))
                x = tf.nn.relu(convolve(x, name + "3") + shortcut)
        return tf.cast(x, tf.float32)

    return features


def _pad(x, pixels):
    return tf.pad(x, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]])


def _folded(weights: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of each convolution with its batch normalisation folded in, by the convolution's name."""
    folded = {}
    for path, kernel in weights.items():
        if path.endswith("_conv/kernel"):
            name = path.removesuffix("_conv/kernel")
            gamma, beta, mean, variance = (
                weights[f"{name}_bn/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            scale = gamma / np.sqrt(variance + EPSILON)
            folded[name] = kernel * scale, (weights[f"{name}_conv/bias"] - mean) * scale + beta
    return folded
