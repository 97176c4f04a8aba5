"""Random changes of training images, a batch at a time: the report's affine map, a flip and a shift, CutMix.

Of the affine map, flip, zoom, shift and rotation as ``keras.preprocessing.image.ImageDataGenerator`` meant them:
https://www.tensorflow.org/api_docs/python/tf/keras/preprocessing/image/ImageDataGenerator.
"""

import math

import tensorflow as tf

ROTATION = math.radians(20)  # at most, to either side
SHIFT = 0.1  # at most, as a fraction of the image's side
ZOOM = (0.8, 1.2)  # each axis on its own; above 1 the image shrinks
DRAWS = 6  # random numbers an image: rotation, two shifts, two zooms, flip
CUTMIX_DRAWS = 4  # whether there is a box, its area, its centre's row and column
FEW_PIXELS = 1 / 16  # at most, as a fraction of the image's side: 2 of 32 pixels


def draw(images: int, seed: tf.Tensor | tuple[int, int], draws: int = DRAWS) -> tf.Tensor:
    """Random numbers for as many images: float32 (images, draws) in [0, 1), the same for the same seed.

    ``seed`` is an integer tensor of shape (2,); the numbers come from a stateless generator.
    """
    return tf.random.stateless_uniform([images, draws], seed)


def affine_maps(numbers: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The maps that random numbers stand for: float32 (images, 2, 3), from output to input pixels.

    Row 0 gives the input column, row 1 the input row, of an output (column, row, 1). The order is
    ImageDataGenerator's: input = rotation · shift · zoom · output about the centre of the image,
    and the flip mirrors the output's columns. The maps are those of Keras since 2.9, about the centre
    (side - 1) / 2 (until 2.8, the report's, it was side / 2 + 0.5, a pixel away); only the sign of the
    rotation, whose range is symmetric, is the other one.
    """
    rotation, shift_y, shift_x, zoom_y, zoom_x, flip = tf.unstack(numbers, axis=1)
    angle = ROTATION * (2 * rotation - 1)
    shift_y = SHIFT * height * (2 * shift_y - 1)
    shift_x = SHIFT * width * (2 * shift_x - 1)
    zoom_y = ZOOM[0] + (ZOOM[1] - ZOOM[0]) * zoom_y
    zoom_x = ZOOM[0] + (ZOOM[1] - ZOOM[0]) * zoom_x
    mirror = tf.where(flip < 0.5, -1.0, 1.0)

    cos, sin = tf.cos(angle), tf.sin(angle)
    x_from_x, x_from_y = cos * zoom_x * mirror, sin * zoom_y
    y_from_x, y_from_y = -sin * zoom_x * mirror, cos * zoom_y
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    x_offset = centre_x + cos * shift_x + sin * shift_y - x_from_x * centre_x - x_from_y * centre_y
    y_offset = centre_y - sin * shift_x + cos * shift_y - y_from_x * centre_x - y_from_y * centre_y
    return tf.stack([tf.stack([x_from_x, x_from_y, x_offset], 1), tf.stack([y_from_x, y_from_y, y_offset], 1)], 1)


def transform(images: tf.Tensor, maps: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Each image through its map: bilinear, and the nearest edge outside the image.

    Args:
        images: float32 (batch, height, width, channels), any value range.
        maps: float32 (batch, 2, 3), as ``affine_maps`` gives them.

    Returns:
        float32, the shape of ``images``.
    """
    columns, rows = tf.range(width, dtype=tf.float32), tf.range(height, dtype=tf.float32)[:, None]
    x, y = (
        along_columns * columns + along_rows * rows + offset
        for along_columns, along_rows, offset in (tf.unstack(maps[:, axis, :, None, None], axis=1) for axis in (0, 1))
    )
    left, top = tf.floor(x), tf.floor(y)
    channels = images.shape[-1]
    pixels = tf.reshape(images, [-1, height * width, channels])

    def pixel(row, column):
        row = tf.cast(tf.clip_by_value(row, 0.0, height - 1.0), tf.int32)
        column = tf.cast(tf.clip_by_value(column, 0.0, width - 1.0), tf.int32)
        places = tf.reshape(row * width + column, [-1, height * width])
        return tf.reshape(tf.gather(pixels, places, batch_dims=1), [-1, height, width, channels])

    to_right, down = tf.expand_dims(x - left, -1), tf.expand_dims(y - top, -1)
    above, below = ((1 - to_right) * pixel(row, left) + to_right * pixel(row, left + 1) for row in (top, top + 1))
    return (1 - down) * above + down * below


def affine(images: tf.Tensor, numbers: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Each image through the map that its random numbers stand for; the rest as ``transform``."""
    return transform(images, affine_maps(numbers, height, width), height, width)


def shift(images: tf.Tensor, numbers: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Each image mirrored or not, and moved by a few whole pixels to either side; beyond its edge it is reflected.

    No pixel is resampled, so it costs little and changes little: what a training of few epochs wants.

    Args:
        images: float32 (batch, height, width, channels), any value range.
        numbers: float32 (batch, 6) in [0, 1), as ``draw`` gives them.

    Returns:
        float32, the shape of ``images``.

    Source: Lee et al. 2015, "Deeply-Supervised Nets", arXiv:1409.5185, section 3.1; Jordan 2024, arXiv:2404.00498.
    """
    _, shift_y, shift_x, _, _, flip = tf.unstack(numbers, axis=1)
    images = tf.where(flip[:, None, None, None] < 0.5, images[:, :, ::-1], images)
    rows, columns = (max(1, round(FEW_PIXELS * side)) for side in (height, width))
    images = tf.pad(images, [[0, 0], [rows, rows], [columns, columns], [0, 0]], "REFLECT")
    first_row = tf.cast(shift_y * (2 * rows + 1), tf.int32)[:, None] + tf.range(height)
    first_column = tf.cast(shift_x * (2 * columns + 1), tf.int32)[:, None] + tf.range(width)
    images = tf.gather(images, first_row, axis=1, batch_dims=1)
    return tf.gather(images, first_column, axis=2, batch_dims=1)


def cutmix(
    images: tf.Tensor, labels: tf.Tensor, numbers: tf.Tensor, height: int, width: int, share: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """A box of the next image in each of a share of the images, and as much of its label as of its pixels.

    The area of the box before it is cut at the image's edge is even in 0..1, and so is the place of its centre.

    Args:
        images: float32 (batch, height, width, channels), any value range, of a micro-batch; the first follows the last.
        labels: float32 (batch, classes), each row with the sum 1.
        numbers: float32 (batch, 4) in [0, 1), as ``draw`` gives them.
        share: of the images, in [0, 1).

    Returns:
        Images and labels, float32, the shapes of the arguments.

    Source: Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
    arXiv:1905.04899, with α = 1.
    """
    chance, area, row, column = tf.unstack(numbers, axis=1)
    side = tf.where(chance < share, tf.sqrt(area), 0.0)

    def inside(pixels: int, centre: tf.Tensor) -> tf.Tensor:
        centre, half = centre * pixels, side * pixels / 2
        edges = [tf.round(tf.clip_by_value(edge, 0.0, pixels)) for edge in (centre - half, centre + half)]
        places = tf.range(pixels, dtype=tf.float32)
        return (places >= edges[0][:, None]) & (places < edges[1][:, None])

    rows, columns = inside(height, row), inside(width, column)
    lengths = [tf.reduce_sum(tf.cast(each, tf.float32), axis=1, keepdims=True) for each in (rows, columns)]
    of_other = lengths[0] * lengths[1] / (height * width)
    others, other_labels = (tf.roll(each, -1, axis=0) for each in (images, labels))
    mixed = tf.where(rows[:, :, None, None] & columns[:, None, :, None], others, images)
    return mixed, (1 - of_other) * labels + of_other * other_labels


KINDS = {"affine": affine, "shift": shift}
