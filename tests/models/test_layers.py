import re
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from common.models.layers import Conv2D, FoldingConv2D, FusedBatchNormalization, WithTestTimeAugmentation, portable

# bfloat16 has 8 bits of mantissa; the statistics are float32 in both.
TOLERANCE = {"float32": 2e-5, "mixed_bfloat16": 4e-2}
SHAPES = [(16, 6, 6, 6), (16, 5, 5, 24), (16, 6, 5, 24), (16, 6, 6, 16), (32, 50)]


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


def outputs_and_gradients(layer, x, training, slope=0.0):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.cast(layer(x, training=training), tf.float32)
        loss = tf.reduce_sum(y * (slope + tf.cos(tf.reshape(tf.range(tf.size(y), dtype=tf.float32), y.shape))))
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
@pytest.mark.parametrize(
    ("shape", "filters", "options"),
    [
        ((4, 12, 10, 3), 6, {"kernel_size": 5}),  # few outputs, whose gradient steps by two pixels
        ((4, 12, 10, 6), 24, {"kernel_size": 3, "padding": "same"}),  # few inputs
        ((4, 12, 10, 6), 8, {"kernel_size": 5}),  # both
        ((4, 12, 10, 6), 8, {"kernel_size": (3, 2), "padding": "same"}),
        ((4, 12, 11, 6), 8, {"kernel_size": 4, "padding": "same"}),  # a width that cannot be taken in twos
        ((4, 12, 10, 20), 18, {"kernel_size": 3, "padding": "same", "use_bias": False}),
    ],
)
def test_a_convolution_has_the_outputs_and_gradients_of_keras(policy, shape, filters, options):
    # Keras's in float32: the sums of its gradients are not exact to bfloat16 in bfloat16.
    theirs, ours = keras.layers.Conv2D(filters, **options), Conv2D(filters, dtype=policy, **options)
    for layer in (theirs, ours):
        layer.build(shape)
        random = np.random.default_rng(1)
        layer.set_weights([random.uniform(-0.5, 0.5, w.shape) for w in layer.get_weights()])
    x = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    computed = [outputs_and_gradients(layer, x, True, slope=2.0) for layer in (theirs, ours)]  # no sum near 0
    assert ours(x).dtype == ours.compute_dtype
    for expected, got in zip(*computed):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=TOLERANCE[policy] * float(np.abs(expected).max()))


@pytest.mark.parametrize("options", [{"strides": 2}, {"dilation_rate": 2}, {"groups": 2}, {"activation": "relu"}])
def test_a_convolution_of_another_kind_is_that_of_keras(options):
    theirs, ours = (kind(8, 3, **options) for kind in (keras.layers.Conv2D, Conv2D))
    x = np.random.default_rng(0).normal(0, 1, (4, 12, 10, 6)).astype(np.float32)
    for layer in (theirs, ours):
        layer.build(x.shape)
    ours.set_weights(theirs.get_weights())
    assert np.array_equal(ours(x), theirs(x))


def convolution_and_normalization(folds, policy="float32", **options):
    """A convolution and the normalisation behind it, which does not learn; their weights are not trivial."""
    convolution = (FoldingConv2D if folds else keras.layers.Conv2D)(7, 3, dtype=policy, name="convolution", **options)
    normalization = FusedBatchNormalization(dtype=policy, trainable=False, name="normalization")
    if folds:
        convolution.fold(normalization)
    images = keras.Input((9, 8, 5))
    model = keras.Model(images, normalization(convolution(images)))
    random = np.random.default_rng(1)
    model.set_weights(
        [random.uniform(-0.5, 1.5, w.shape) for w in model.get_weights()[:-1]] + [random.uniform(0.01, 2, 7)]
    )
    return model


@pytest.mark.parametrize("policy", TOLERANCE)
@pytest.mark.parametrize("options", [{"padding": "same"}, {"padding": "valid", "strides": 2}])
def test_a_folded_normalization_changes_neither_outputs_nor_gradients(policy, options):
    ours, theirs = (convolution_and_normalization(folds, policy, **options) for folds in (True, False))
    x = np.random.default_rng(0).normal(0, 1, (4, 9, 8, 5)).astype(np.float32)
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights] and len(ours.trainable_weights) == 2
    assert np.array_equal(ours.layers[1](x), ours(x)) and ours.layers[2](found := ours(x)) is found
    for expected, got in zip(outputs_and_gradients(theirs, x, True), outputs_and_gradients(ours, x, True)):
        np.testing.assert_allclose(got, expected, atol=TOLERANCE[policy] * float(np.abs(expected).max()))


def test_a_normalization_that_learns_is_not_folded():
    ours, theirs = (convolution_and_normalization(folds) for folds in (True, False))
    x = np.random.default_rng(0).normal(0, 1, (4, 9, 8, 5)).astype(np.float32)
    for model in (ours, theirs):
        model.layers[2].trainable = True
    np.testing.assert_allclose(ours.layers[1](x), theirs.layers[1](x), atol=1e-5)
    for training in (True, False):
        for expected, got in zip(outputs_and_gradients(theirs, x, training), outputs_and_gradients(ours, x, training)):
            np.testing.assert_allclose(got, expected, atol=1e-5 * float(np.abs(expected).max()) + 1e-6)
    for expected, got in zip(theirs.get_weights(), ours.get_weights()):
        np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("of_convolution", "of_normalization"),
    [({"activation": "relu"}, {}), ({"dilation_rate": 2}, {}), ({"use_bias": False}, {}), ({}, {"scale": False})],
)
def test_layers_that_the_folding_would_compute_otherwise_are_refused(of_convolution, of_normalization):
    convolution = FoldingConv2D(8, 3, **of_convolution)
    with pytest.raises(ValueError, match="not of the kind that can be folded"):
        convolution.fold(FusedBatchNormalization(**of_normalization))


def test_a_folded_network_is_saved_as_layers_of_keras(tmp_path):
    model = convolution_and_normalization(True)
    portable(model).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers[1:3]] == [keras.layers.Conv2D, keras.layers.BatchNormalization]
    x = np.random.default_rng(0).normal(0, 1, (4, 9, 8, 5)).astype(np.float32)
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-5)


def network(policy, kind=keras.Model):
    """A network with another inside it, its weights and statistics not trivial."""
    inner_inputs = keras.Input((5, 5, 8))
    inner = keras.Model(inner_inputs, FusedBatchNormalization(dtype=policy)(inner_inputs))
    images = keras.Input((5, 5, 8))
    outputs = keras.layers.Flatten()(FusedBatchNormalization(dtype=policy)(inner(images)))
    model = kind(images, keras.layers.Dense(3, dtype="float32")(outputs))
    model(inputs((16, 5, 5, 8)), training=True)
    return model


@pytest.mark.parametrize("policy", TOLERANCE)
@pytest.mark.parametrize("kind", [keras.Model, WithTestTimeAugmentation])
def test_what_is_saved_holds_layers_of_keras_alone_and_gives_the_same(tmp_path, policy, kind):
    model = network(policy, kind)
    portable(model).save(tmp_path / "model.keras")
    config = zipfile.ZipFile(tmp_path / "model.keras").read("config.json").decode()
    modules = set(re.findall(r'"module": "([\w.]+)"', config))
    assert modules and all(module.split(".")[0] == "keras" for module in modules)
    assert "common" not in config and "Fused" not in config
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = inputs((16, 5, 5, 8))
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=TOLERANCE[policy])


def test_test_time_augmentation_is_the_mean_over_an_image_and_its_mirror_outside_of_training():
    model = network("float32", WithTestTimeAugmentation)
    plain = keras.Model(model.input, model.output)
    x = inputs((16, 5, 5, 8))
    expected = (plain.predict(x, verbose=0) + plain.predict(x[:, :, ::-1], verbose=0)) / 2
    assert np.abs(plain.predict(x, verbose=0) - expected).max() > 0.01
    assert model.predict(x, verbose=0) == pytest.approx(expected, abs=1e-5)
    assert model(x, training=True).numpy() == pytest.approx(plain(x, training=True).numpy(), abs=1e-5)
