"""What layers compute, where TensorFlow's kernels for processors leave much of their time unused.

Each gives the numbers of TensorFlow's kernel but for rounding, forward and backward. On a GPU they are TensorFlow's.
"""

import functools
from typing import Any

import tensorflow as tf

from common import tensorflow_setup

LANES = 16  # float32 numbers in a vector of AVX-512
NARROW = LANES // 2  # channels up to which those of two pixels fit into a vector


def on_gpu() -> bool:
    """Whether TensorFlow computes on a GPU."""
    return bool(tf.config.get_visible_devices("GPU"))


def convolve(images, kernel, padding: str):
    """A 2-D convolution of stride 1.

    With AVX-512, oneDNN computes as many channels as a vector holds, however few there are. So where outputs, or the
    inputs' gradients, have at most ``NARROW``, two pixels beside each other are computed as one of twice the channels:
    in steps of two, by a kernel that is wider by a pixel.

    Args:
        images: (batch, height, width, channels), of any floating-point type.
        kernel: (height, width, channels, filters), of the same type.
        padding: "same" or "valid", as ``keras.layers.Conv2D`` has it.

    Returns:
        (batch, height, width, filters).
    """
    *sizes, channels, _ = kernel.shape
    around = [((size - 1) // 2, size // 2) if padding == "same" else (0, 0) for size in sizes]

    @tf.custom_gradient
    def compute(images, kernel):
        outputs = _correlate(images, kernel, around)

        def gradients(slopes):
            turned = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
            whole = [(size - 1 - before, size - 1 - after) for size, (before, after) in zip(sizes, around)]
            if _in_pairs(channels, images.shape[2]):
                for_images = _correlate(slopes, turned, whole)
            else:
                for_images = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(images),
                    filter=kernel,
                    out_backprop=slopes,
                    strides=[1, 1, 1, 1],
                    padding=padding.upper(),
                )
            return for_images, _kernel_gradient(images, sizes, slopes, padding)

        return outputs, gradients

    return compute(images, kernel)


def _correlate(images, kernel, around):
    """``tf.nn.conv2d`` of stride 1 with so many zeros (before, after) along height and width."""
    filters = kernel.shape[3]
    explicit: Any = [[0, 0], *map(list, around), [0, 0]]
    width = images.shape[2] + sum(around[1]) - kernel.shape[1] + 1
    if not _in_pairs(filters, width):
        return tf.nn.conv2d(images, kernel, 1, explicit)
    left, right = (tf.pad(kernel, [[0, 0], sides, [0, 0], [0, 0]]) for sides in ([0, 1], [1, 0]))
    pairs = tf.nn.conv2d(images, tf.concat([left, right], axis=3), [1, 1, 2, 1], explicit)
    return tf.reshape(pairs, [-1, pairs.shape[1], width, filters])


def _kernel_gradient(images, sizes, slopes, padding):
    """That of a kernel of these ``sizes``, (height, width), where ``slopes`` is that of the outputs."""
    channels, (_, height, width, filters) = images.shape[3], slopes.shape
    # With zeros around the images, a step of two pixels would need a padding that oneDNN does not have here.
    pairs = padding == "valid" and _in_pairs(filters, width)
    gradient = tf.raw_ops.Conv2DBackpropFilter(
        input=images,
        filter_sizes=[sizes[0], sizes[1] + pairs, channels, filters * (1 + pairs)],
        out_backprop=tf.reshape(slopes, [-1, height, width // 2, 2 * filters]) if pairs else slopes,
        strides=[1, 1, 1 + pairs, 1],
        padding=padding.upper(),
    )
    return gradient[:, :-1, :, :filters] + gradient[:, 1:, :, filters:] if pairs else gradient


def _in_pairs(channels: int, width: int) -> bool:
    return channels <= NARROW and width % 2 == 0 and tensorflow_setup.has_avx512()


@tf.custom_gradient
def add_bias(images, bias):
    """``tf.nn.bias_add``, whose gradient is a product of matrices.

    TensorFlow's own becomes part of the kernel's gradient, which takes up to half as long again then.

    Args:
        images: (batch, height, width, channels), of any floating-point type.
        bias: (channels), of the same type.

    Returns:
        (batch, height, width, channels).
    """

    def gradients(slopes):
        _, _, width, channels = slopes.shape
        rows = tf.reshape(slopes, [-1, width * channels])
        sums = tf.matmul(tf.ones([1, tf.shape(rows)[0]], rows.dtype), rows)
        return slopes, tf.reduce_sum(tf.reshape(sums, [width, channels]), axis=0)

    return tf.nn.bias_add(images, bias), gradients


def fills_vectors(channels: int) -> bool:
    """Whether oneDNN's batch normalisation computes whole vectors of so many channels; else it is slower than ours."""
    return channels % LANES == 0


def normalize(images, scale, offset, epsilon: float) -> Any:
    """Batch normalisation by the batch's own mean and variance, compiled by XLA.

    Args:
        images: (batch, height, width, channels), of any floating-point type.
        scale: float32 (channels).
        offset: float32 (channels).
        epsilon: is added to the variance.

    Returns:
        The outputs, shape and type those of ``images``; mean and biased variance, float32 (channels), without gradient.
    """

    @tf.custom_gradient
    def compute(images, scale, offset):
        outputs, mean, variance = _normalize(images, scale, offset, epsilon)

        def gradients(slopes, *of_statistics):
            return _normalize_gradients(slopes, images, scale, mean, variance, epsilon)

        return (outputs, mean, variance), gradients

    return compute(images, scale, offset)


@functools.partial(tf.function, jit_compile=True)
def _normalize(images, scale, offset, epsilon):
    rows, repeat = _rows(images)
    mean = _mean(rows, images)
    variance = _mean(tf.square(rows - repeat(mean)), images)
    factor = scale * tf.math.rsqrt(variance + epsilon)
    outputs = rows * repeat(factor) + repeat(offset - mean * factor)
    return tf.cast(tf.reshape(outputs, tf.shape(images)), images.dtype), mean, variance


@functools.partial(tf.function, jit_compile=True)
def _normalize_gradients(slopes, images, scale, mean, variance, epsilon):
    """Those of images, scale and offset: Ioffe and Szegedy 2015, section 3."""
    inverse = tf.math.rsqrt(variance + epsilon)
    rows, repeat = _rows(images)
    normalized = (rows - repeat(mean)) * repeat(inverse)
    slopes, _ = _rows(slopes)
    mean_slope, mean_product = _mean(slopes, images), _mean(slopes * normalized, images)
    for_rows = repeat(scale * inverse) * (slopes - repeat(mean_slope) - normalized * repeat(mean_product))
    count = tf.cast(tf.size(images) // images.shape[3], tf.float32)
    for_images = tf.cast(tf.reshape(for_rows, tf.shape(images)), images.dtype)
    return for_images, mean_product * count, mean_slope * count


def _rows(images):
    """Images as float32 (rows, numbers), a pixel a row, and a function that makes of (channels) what fits to a row.

    Of two pixels, where their channels together fill vectors.
    """
    _, height, width, channels = images.shape
    pixels = 2 if 2 * channels % LANES == 0 and height * width % 2 == 0 else 1
    rows = tf.reshape(images, [-1, pixels * channels])
    return tf.cast(rows, tf.float32), lambda numbers: tf.tile(numbers, [pixels])


def _mean(rows, images):
    """Of each channel, from the ``_rows`` of images."""
    return tf.reduce_mean(tf.reshape(tf.reduce_mean(rows, axis=0), [-1, images.shape[3]]), axis=0)
