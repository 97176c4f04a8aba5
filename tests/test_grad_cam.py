import keras
import numpy as np
import tensorflow as tf

from common.grad_cam import class_activation_map, grad_cam, has_maps
from common.models import heads
from common.models.build import build
from common.models.layers import portable
from common.models.second_order import covariance_pooling, halves_length

RANDOM = np.random.default_rng(0)


def test_grad_cam_finds_the_place_that_speaks_for_the_class():
    """Class 0 is the sum of the red channel, class 1 that of the green one; one pixel of the 8x8 is red, one green."""
    inputs = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(2, 1, use_bias=False)(inputs)
    pooled = keras.layers.MaxPooling2D(2)(maps)
    outputs = keras.layers.Dense(2, use_bias=False)(keras.layers.GlobalAveragePooling2D()(pooled))
    model = keras.Model(inputs, outputs)
    model.layers[1].set_weights([np.array([[[[1, 0], [0, 1], [0, 0]]]], np.float32)])
    model.layers[-1].set_weights([np.eye(2, dtype=np.float32)])
    image = np.zeros((1, 8, 8, 3), np.float32)
    image[0, 2, 5, 0] = image[0, 6, 1, 1] = 1
    for class_, place in ((0, (2, 5)), (1, (6, 1))):
        (heat,) = grad_cam(model, tf.constant(image), np.array([class_]))
        assert heat.shape == (8, 8)  # before pooling
        assert heat[place] == 1 and heat.sum() == 1


def test_an_image_that_speaks_for_nothing_has_an_empty_heat_map():
    model = build("basenet", (32, 32, 3), 5, {})
    heat = grad_cam(model, tf.zeros((1, 32, 32, 3)), np.array([0]))
    assert np.isfinite(heat).all()


def test_a_saved_network_with_test_time_augmentation_looks_at_the_image_as_the_network_itself_does():
    model = build("residual", (32, 32, 3), 3, {}, test_time_augmentation=True)
    images = tf.constant(RANDOM.random((2, 32, 32, 3)), tf.float32)
    found = grad_cam(portable(model), images, np.array([0, 2]))
    assert found.shape == (2, 16, 16) and found.max() == 1
    np.testing.assert_allclose(found, grad_cam(model, images, np.array([0, 2])), atol=1e-4)


def of_means(head):
    return lambda maps: head(tf.reduce_mean(maps, axis=(1, 2)))


def test_the_map_of_a_linear_head_is_its_weighted_sum_of_the_channels():
    """Zhou et al. 2016, equation 2."""
    head = heads.linear((2048,), 4)
    maps = RANDOM.standard_normal((3, 7, 7, 2048), np.float32)
    classes = np.array([2, 0, 3])
    found = class_activation_map(of_means(head), tf.constant(maps), classes)
    kernel = np.asarray(head.layers[-1].kernel)
    expected = np.stack([np.maximum(each @ kernel[:, label], 0) for each, label in zip(maps, classes)])
    np.testing.assert_allclose(found, expected / expected.max(axis=(1, 2), keepdims=True), atol=1e-4)


def test_a_head_that_takes_square_roots_has_a_map_though_channels_are_0():
    head = heads.linear((2048,), 4, power_normalization=True)
    maps = RANDOM.random((1, 7, 7, 2048), np.float32) * (RANDOM.random(2048) < 0.5)
    found = class_activation_map(of_means(head), tf.constant(maps, tf.float32), np.array([1]))
    assert np.isfinite(found).all() and found.max() == 1 and np.ptp(found) > 0.01


def test_a_pooling_that_ignores_the_mean_is_explained_by_the_places_that_vary():
    """A covariance's gradient has the mean 0 over all places, of which Grad-CAM would draw the rounding."""
    maps = np.full((1, 6, 6, 2), 0.5, np.float32)
    maps[0, 1, 4] = 3.0  # the one place where both channels are large: their covariance

    def logits(x):
        return tf.reshape(covariance_pooling(x), (-1, 4))

    (heat,) = class_activation_map(logits, tf.constant(maps + RANDOM.normal(0, 0.1, maps.shape), tf.float32), [1])
    assert np.unravel_index(heat.argmax(), heat.shape) == (1, 4)
    assert np.sort(heat.ravel())[-2] < 0.5


def test_a_pooling_that_ignores_the_mean_is_explained_alike_in_bfloat16():
    """Its gradient is rounded more coarsely there, and so is the gradient's mean."""
    random = np.random.default_rng(0)
    maps = tf.cast(random.normal(0, 1, (1, 7, 7, 16)), tf.bfloat16)
    kernel = tf.constant(random.normal(0, 1, (halves_length(16), 3)), tf.float32)
    heats = [
        class_activation_map(lambda x: tf.matmul(covariance_pooling(x), kernel), tf.cast(maps, dtype), [1])
        for dtype in (tf.float32, tf.bfloat16)
    ]
    np.testing.assert_allclose(heats[1], heats[0], atol=0.05)


def test_a_network_of_vectors_has_no_maps():
    assert not has_maps(heads.linear((2048,), 4))
    assert has_maps(heads.convolutional((7, 7, 2048), 4))
