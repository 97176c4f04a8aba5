import keras
import numpy as np
import pytest
import tensorflow as tf

from common.models.build import build
from common.models.layers import portable
from common.models.second_order import ITERATIONS, covariance_pooling, halves, halves_length, second_order
from common.saved_network import check_network

RANDOM = np.random.default_rng(0)


def maps(*shape):
    return np.maximum(RANDOM.standard_normal(shape, np.float32), 0)


def root_by_eigenvalues(image, root):
    """The pooled map of an image (height, width, channels), by a function of the covariance's eigenvalues."""
    places = image.reshape(-1, image.shape[-1]).astype(np.float64)
    places -= places.mean(axis=0)
    values, vectors = np.linalg.eigh(places.T @ places / np.square(places).sum())
    matrix = vectors * root(np.maximum(values, 0)) @ vectors.T
    return np.float32(matrix * np.sqrt(len(matrix)) / np.linalg.norm(matrix))


def newton_schulz(values):
    """Li et al. 2018, equation 5, of eigenvalues."""
    y, z = values, np.ones_like(values)
    for _ in range(ITERATIONS):
        step = (3 - z * y) / 2
        y, z = y * step, step * z
    return y


@pytest.mark.parametrize("shape", [(2, 14, 14, 32), (2, 4, 4, 64)], ids=["many places", "few places"])
def test_pooling_is_the_published_iteration_on_the_covariance(shape):
    images = maps(*shape)
    found = np.asarray(covariance_pooling(keras.ops.convert_to_tensor(images)))
    expected = np.stack([root_by_eigenvalues(image, newton_schulz) for image in images])
    np.testing.assert_allclose(found, halves(expected), atol=1e-4)


def test_a_covariance_of_few_channels_gets_its_square_root():
    image = maps(1, 14, 14, 4)
    (found,) = np.asarray(covariance_pooling(keras.ops.convert_to_tensor(image)))
    np.testing.assert_allclose([found], halves(root_by_eigenvalues(image[0], np.sqrt)[None]), atol=1e-2)


def test_maps_that_do_not_vary_have_zeros_and_a_gradient_that_is_a_number():
    for side in (2, 6):  # fewer places than channels, and more
        images = tf.ones((1, side, side, 8))
        with tf.GradientTape() as tape:
            tape.watch(images)
            pooled = covariance_pooling(images)
        assert np.asarray(pooled).max() == 0
        assert np.isfinite(tape.gradient(pooled, images, tf.ones_like(pooled))).all()


@pytest.mark.parametrize("size", [2, 7, 8])
def test_halves_have_the_inner_products_of_the_whole_matrices(size):
    matrices = RANDOM.standard_normal((5, size, size), np.float32)
    matrices += np.swapaxes(matrices, 1, 2)
    found = np.asarray(halves(keras.ops.convert_to_tensor(matrices)))
    assert found.shape == (5, halves_length(size))
    assert halves_length(size) <= (size + 1) ** 2 / 2
    np.testing.assert_allclose(found @ found.T, np.einsum("aij,bij->ab", matrices, matrices), rtol=1e-4, atol=1e-4)


def test_the_fourth_stage_weighs_twice_as_much_and_the_places_have_no_order():
    fourth, fifth = maps(2, 6, 6, 8), maps(2, 3, 3, 8)
    features = np.asarray(second_order(*map(keras.ops.convert_to_tensor, (fourth, fifth))))
    assert features.shape == (2, 80)
    np.testing.assert_allclose(np.linalg.norm(features[:, :40], axis=1), 8**0.5, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(features[:, 40:], axis=1), 8**0.5 / 2, rtol=1e-4)
    turned = np.asarray(second_order(*map(keras.ops.convert_to_tensor, (fourth[:, ::-1, ::-1], fifth))))
    np.testing.assert_allclose(turned, features, atol=1e-4)


def test_a_network_with_the_pooling_is_saved_as_one_that_the_suite_takes(tmp_path):
    inputs = [keras.Input((4, 4, 8)), keras.Input((2, 2, 8))]
    model = keras.Model(inputs, keras.layers.Dense(3)(second_order(*inputs)))
    model.save(tmp_path / "model.keras")
    check_network(tmp_path / "model.keras")
    images = [maps(5, 4, 4, 8), maps(5, 2, 2, 8)]
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5)


@pytest.mark.slow
def test_the_network_is_loaded_from_its_file_by_keras_alone(tmp_path):
    model = build("resnet50-second-order", (64, 64, 3), 4, {})
    portable(model).save(tmp_path / "model.keras")
    images = RANDOM.uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-4)
