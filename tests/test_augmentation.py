import warnings

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from scipy import ndimage

from common import augmentation

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.float32)


def scipy_augment(image, numbers, centre_offset=-0.5):
    """What ImageDataGenerator does to one image, step by step: affine_transform, then the flip.

    Rows before columns, as it was written first; and about (side - 1) / 2, as it has been since Keras 2.9
    (before: side / 2 + 0.5).
    """
    rotation, shift_y, shift_x, zoom_y, zoom_x, flip = np.asarray(numbers, np.float64)
    angle = np.deg2rad(20) * (2 * rotation - 1)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    height, width = image.shape[:2]
    move = np.array([[1, 0, 0.1 * height * (2 * shift_y - 1)], [0, 1, 0.1 * width * (2 * shift_x - 1)], [0, 0, 1]])
    zoom = np.diag([0.8 + 0.4 * zoom_y, 0.8 + 0.4 * zoom_x, 1])
    centre = np.array([[1, 0, height / 2 + centre_offset], [0, 1, width / 2 + centre_offset], [0, 0, 1]])
    matrix = centre @ turn @ move @ zoom @ np.linalg.inv(centre)
    channels = [
        ndimage.affine_transform(channel, matrix[:2, :2], matrix[:2, 2], order=1, mode="nearest")
        for channel in np.moveaxis(image, -1, 0)
    ]
    result = np.stack(channels, -1)
    return result[:, ::-1] if flip < 0.5 else result


@pytest.mark.parametrize("shape", [(32, 32), (20, 32)])
def test_equals_scipy_on_the_same_parameters(shape):
    images = IMAGES[:, : shape[0], : shape[1]]
    numbers = augmentation.draw(len(images), [1, 2])
    ours = augmentation.affine(images, numbers, *shape).numpy()
    theirs = np.stack([scipy_augment(image, n) for image, n in zip(images, numbers.numpy())])
    np.testing.assert_allclose(ours, theirs, atol=0.05)  # of 255: float32 against float64 coordinates


@pytest.mark.parametrize("shape", [(32, 32), (20, 32)])
def test_a_shift_is_a_flip_and_whole_pixels_of_the_reflected_image(shape):
    images = IMAGES[:, : shape[0], : shape[1]]
    numbers = augmentation.draw(len(images), [3, 4])
    rows, columns = (1 if side == 20 else 2 for side in shape)
    seen = set()
    shifted = augmentation.shift(images, numbers, *shape).numpy()
    for image, ours, (_, y, x, _, _, flip) in zip(images, shifted, numbers.numpy()):
        padded = np.pad(image[:, ::-1] if flip < 0.5 else image, [(rows,) * 2, (columns,) * 2, (0, 0)], "reflect")
        down, right = int(y * (2 * rows + 1)), int(x * (2 * columns + 1))
        assert np.array_equal(ours, padded[down : down + shape[0], right : right + shape[1]])
        seen |= {("y", down), ("x", right), ("flip", bool(flip < 0.5))}
    assert len(seen) == 2 * rows + 1 + 2 * columns + 1 + 2  # every shift, and both ways round


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(2, 24),
    st.integers(2, 24),
    st.lists(
        st.sampled_from([0.0, 0.25, 0.5, 0.75, 1 - 2**-24]) | st.floats(0, 0.9375, width=32), min_size=6, max_size=6
    ),
)
def test_equals_scipy_at_the_ends_of_the_ranges_and_on_images_of_any_shape(height, width, numbers):
    image = IMAGES[0, :height, :width]
    ours = augmentation.affine(image[None], np.array([numbers], np.float32), height, width).numpy()[0]
    np.testing.assert_allclose(ours, scipy_augment(image, np.float32(numbers)), atol=0.05)


def keras_augment(image, numbers):
    """The same by the ImageDataGenerator of the installed Keras, whose x is the column: theta turns the other way."""
    rotation, shift_y, shift_x, zoom_y, zoom_x, flip = np.asarray(numbers, np.float64)
    height, width = image.shape[:2]
    parameters = {
        "theta": -20 * (2 * rotation - 1),
        "tx": 0.1 * width * (2 * shift_x - 1),
        "ty": 0.1 * height * (2 * shift_y - 1),
        "zx": 0.8 + 0.4 * zoom_x,
        "zy": 0.8 + 0.4 * zoom_y,
        "flip_horizontal": flip < 0.5,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras calls SciPy by an old name
        return ImageDataGenerator(fill_mode="nearest").apply_transform(image, parameters)


def test_equals_the_image_data_generator_of_the_installed_keras():
    """On square images; on others it mixes up the centres of rows and columns."""
    numbers = augmentation.draw(len(IMAGES), [1, 2])
    ours = augmentation.affine(IMAGES, numbers, 32, 32).numpy()
    theirs = np.stack([keras_augment(image, n) for image, n in zip(IMAGES, numbers.numpy())])
    np.testing.assert_allclose(ours, theirs, atol=0.05)
    old = np.stack([scipy_augment(image, n, centre_offset=0.5) for image, n in zip(IMAGES, numbers.numpy())])
    assert np.abs(ours - old).mean() > 1  # about the old centre, a pixel away, images would be others


def test_draws_stand_for_the_ranges_of_the_report():
    """As ImageDataGenerator draws them: ±20°, ±0.1 of the side, zooms of 0.8 to 1.2 on each axis, flips at a half."""
    numbers = augmentation.draw(20_000, [0, 0])
    maps = augmentation.affine_maps(numbers, 32, 32).numpy()
    zoom_x, zoom_y = (np.hypot(maps[:, 0, axis], maps[:, 1, axis]) for axis in (0, 1))
    angle = np.rad2deg(np.arctan2(maps[:, 0, 1], maps[:, 1, 1]))
    mirrored = np.linalg.det(maps[:, :, :2]) < 0
    moved = maps @ np.array([15.5, 15.5, 1]) - 15.5  # of the centre: the shift, turned by the rotation
    turn = np.deg2rad(angle)
    shift_x = np.cos(turn) * moved[:, 0] - np.sin(turn) * moved[:, 1]
    shift_y = np.sin(turn) * moved[:, 0] + np.cos(turn) * moved[:, 1]
    for values, low, high in (
        (zoom_x, 0.8, 1.2),
        (zoom_y, 0.8, 1.2),
        (angle, -20, 20),
        (shift_x, -3.2, 3.2),
        (shift_y, -3.2, 3.2),
    ):
        span = high - low
        assert low - 1e-4 * span <= values.min() < low + 0.01 * span
        assert high - 0.01 * span < values.max() <= high + 1e-4 * span
        np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=0.01 * span)
    assert abs(mirrored.mean() - 0.5) < 0.02


def test_cutmix_pastes_a_box_of_the_next_image_and_its_area_of_the_label():
    images, labels = IMAGES[:6], np.eye(6, dtype=np.float32)
    numbers = np.array(
        [  # chance, area, centre's row and column
            [0.1, 0.25, 0.5, 0.5],  # half of either side: rows and columns 8 to 23
            [0.6, 0.25, 0.5, 0.5],  # not one of the share
            [0.1, 0.25, 0.0, 0.5],  # cut at the upper edge
            [0.1, 0.0, 0.5, 0.5],
            [0.1, 0.999999, 0.5, 0.5],
            [0.49, 0.0625, 0.75, 0.25],
        ],
        np.float32,
    )
    boxes = [(8, 24, 8, 24), (0, 0, 0, 0), (0, 8, 8, 24), (0, 0, 0, 0), (0, 32, 0, 32), (20, 28, 4, 12)]
    mixed, mixed_labels = (each.numpy() for each in augmentation.cutmix(images, labels, numbers, 32, 32, 0.5))
    for number, (top, bottom, left, right) in enumerate(boxes):
        expected, other = images[number].copy(), (number + 1) % 6
        expected[top:bottom, left:right] = images[other, top:bottom, left:right]
        assert np.array_equal(mixed[number], expected)
        area = (bottom - top) * (right - left) / 32**2
        np.testing.assert_allclose(mixed_labels[number, [number, other]], [1 - area, area], atol=1e-6)
    np.testing.assert_allclose(mixed_labels.sum(axis=1), 1, rtol=1e-6)


def test_cutmix_boxes_take_a_third_of_an_image_on_average_also_where_it_is_not_square():
    numbers = augmentation.draw(4000, [1, 2], augmentation.CUTMIX_DRAWS)
    labels = tf.one_hot(tf.range(4000) % 2, 2)
    mixed, mixed_labels = augmentation.cutmix(
        tf.reshape(labels[:, 0], (-1, 1, 1, 1)) * tf.ones((20, 40, 1)), labels, numbers, 20, 40, 0.9
    )
    np.testing.assert_allclose(tf.reduce_mean(mixed, [1, 2, 3]), mixed_labels[:, 0], atol=1e-6)
    # Of a box of area a whose centre is anywhere, (√a - a / 4)² is in the image on average: 77/240 over all a.
    of_other = tf.where(labels > 0, 1 - mixed_labels, 0.0)
    np.testing.assert_allclose(tf.reduce_sum(of_other) / 4000, 0.9 * 77 / 240, atol=0.01)


@pytest.mark.parametrize("kind", augmentation.KINDS)
def test_middle_of_every_range_leaves_an_image_as_it_is(kind):
    numbers = np.full((len(IMAGES), augmentation.DRAWS), 0.5, np.float32)
    ours = augmentation.KINDS[kind](IMAGES, numbers, 32, 32)
    np.testing.assert_allclose(ours, IMAGES, atol=1e-2)


def test_draws_cover_the_ranges_and_depend_on_the_seed_alone():
    numbers = augmentation.draw(5000, [3, 4]).numpy()
    assert numbers.min() >= 0 and numbers.max() < 1
    np.testing.assert_allclose(numbers.mean(axis=0), 0.5, atol=0.02)
    assert np.all(abs(np.corrcoef(numbers.T) - np.eye(6)) < 0.06)  # each drawn on its own
    assert np.array_equal(numbers, augmentation.draw(5000, tf.constant([3, 4])))
    assert not np.array_equal(numbers, augmentation.draw(5000, [3, 5]))
