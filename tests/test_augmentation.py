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
