import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from common import augmentation

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.float32)


def scipy_augment(image, numbers):
    """What ImageDataGenerator does to one image, step by step: affine_transform, then the flip."""
    rotation, shift_y, shift_x, zoom_y, zoom_x, flip = np.asarray(numbers, np.float64)
    angle = np.deg2rad(20) * (2 * rotation - 1)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    height, width = image.shape[:2]
    move = np.array([[1, 0, 0.1 * height * (2 * shift_y - 1)], [0, 1, 0.1 * width * (2 * shift_x - 1)], [0, 0, 1]])
    zoom = np.diag([0.8 + 0.4 * zoom_y, 0.8 + 0.4 * zoom_x, 1])
    centre = np.array([[1, 0, (height - 1) / 2], [0, 1, (width - 1) / 2], [0, 0, 1]])
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
    ours = augmentation.transform(images, augmentation.affine_maps(numbers, *shape)).numpy()
    theirs = np.stack([scipy_augment(image, n) for image, n in zip(images, numbers.numpy())])
    np.testing.assert_allclose(ours, theirs, atol=0.05)  # of 255: float32 against float64 coordinates


def test_middle_of_every_range_leaves_an_image_as_it_is():
    numbers = np.full((len(IMAGES), augmentation.DRAWS), 0.5, np.float32)
    ours = augmentation.transform(IMAGES, augmentation.affine_maps(numbers, 32, 32))
    np.testing.assert_allclose(ours, IMAGES, atol=1e-2)


def test_draws_cover_the_ranges_and_depend_on_the_seed_alone():
    numbers = augmentation.draw(5000, [3, 4]).numpy()
    assert numbers.min() >= 0 and numbers.max() < 1
    np.testing.assert_allclose(numbers.mean(axis=0), 0.5, atol=0.02)
    assert np.all(abs(np.corrcoef(numbers.T) - np.eye(6)) < 0.06)  # each drawn on its own
    assert np.array_equal(numbers, augmentation.draw(5000, tf.constant([3, 4])))
    assert not np.array_equal(numbers, augmentation.draw(5000, [3, 5]))


def test_cutmix_pastes_a_box_of_the_next_image_and_mixes_labels_by_its_area():
    labels = tf.one_hot(range(20), 20)
    numbers = np.array(augmentation.draw_cutmix(20, [5, 6]))
    numbers[:4] = (0.4, 0.25, 0.5, 0.5), (0.4, 0.25, 0.0, 0.5), (0.6, 0.25, 0.5, 0.5), (0.4, 0.0, 0.5, 0.5)
    images, mixed = (part.numpy() for part in augmentation.cutmix(tf.constant(IMAGES), labels, numbers, 0.5))
    expected = IMAGES[0].copy()
    expected[8:24, 8:24] = IMAGES[1, 8:24, 8:24]
    assert np.array_equal(images[0], expected)
    expected = IMAGES[1].copy()
    expected[:8, 8:24] = IMAGES[2, :8, 8:24]  # half of the box lies outside
    assert np.array_equal(images[1], expected)
    assert np.array_equal(images[2:4], IMAGES[2:4])  # not chosen; a box of no size
    np.testing.assert_allclose(mixed.diagonal()[:4], [0.75, 0.875, 1, 1])
    followed = np.all(images == np.roll(IMAGES, -1, 0), axis=-1).mean(axis=(1, 2))
    np.testing.assert_allclose(mixed[range(20), np.roll(range(20), -1)], followed, atol=1e-3)
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-6)
