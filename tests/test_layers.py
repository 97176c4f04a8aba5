import keras
import numpy as np
import pytest
import tensorflow as tf

from common.models.layers import FusedBatchNormalization

# bfloat16 has 8 bits of mantissa; the statistics are float32 in both.
TOLERANCE = {"float32": 2e-5, "mixed_bfloat16": 4e-2}
SHAPES = [(16, 6, 6, 6), (16, 5, 5, 24), (32, 50)]


def inputs(shape):
    return np.random.default_rng(0).normal(1.5, 2.0, shape).astype(np.float32)


def pair(shape, policy, **options):
    """Keras's layer and ours with the same, not trivial, weights."""
    layers = []
    for kind in (keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(dtype=policy, **options)
        layer.build(shape)
        random = np.random.default_rng(1)
        layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        layers.append(layer)
    return layers


def outputs_and_gradients(layer, x, training):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.cast(layer(x, training=training), tf.float32)
        loss = tf.reduce_sum(y * tf.cos(tf.reshape(tf.range(tf.size(y), dtype=tf.float32), y.shape)))
    return [y, *tape.gradient(loss, [x, *layer.trainable_weights])]


@pytest.mark.parametrize("policy", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_same_outputs_gradients_and_moving_statistics_as_keras(policy, shape, training):
    theirs, ours = pair(shape, policy)
    x = inputs(shape)
    for expected, got in zip(outputs_and_gradients(theirs, x, training), outputs_and_gradients(ours, x, training)):
        scale = float(np.abs(expected).max())
        np.testing.assert_allclose(got, expected, atol=TOLERANCE[policy] * scale)
    assert ours(x, training=training).dtype == theirs(x, training=training).dtype
    for expected, got in zip(theirs.get_weights(), ours.get_weights()):
        np.testing.assert_allclose(got, expected, rtol=1e-4 if policy == "float32" else 1e-2)


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}, {"momentum": 0.5, "epsilon": 0.1}])
def test_same_options_as_keras(options):
    theirs, ours = pair((16, 5, 5, 8), "float32", **options)
    x = inputs((16, 5, 5, 8))
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-4)
    for expected, got in zip(theirs.get_weights(), ours.get_weights()):
        np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_a_frozen_layer_keeps_its_statistics_and_normalizes_with_them():
    theirs, ours = pair((16, 5, 5, 8), "float32")
    ours.trainable = theirs.trainable = False
    before = ours.get_weights()
    x = inputs((16, 5, 5, 8))
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-4)
    assert all(np.array_equal(a, b) for a, b in zip(before, ours.get_weights()))


@pytest.mark.parametrize("policy", TOLERANCE)
def test_saved_and_loaded(tmp_path, policy):
    model = keras.Sequential([keras.Input((5, 5, 8)), FusedBatchNormalization(dtype=policy)])
    x = inputs((16, 5, 5, 8))
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[-1], FusedBatchNormalization)
    np.testing.assert_array_equal(tf.cast(loaded(x), tf.float32), tf.cast(model(x), tf.float32))
