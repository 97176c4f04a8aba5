"""What frozen ResNet50 says, beside plain Keras; training on it, beside training end to end."""

import gc
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ex3_resnet_birds
from common import classical, datasets, features, models, training
from common.datasets import cub200
from common.errors import UserError
from common.experiment import Transfer
from common.models import birds, resnet50
from common.pipeline import Normalization, TrainingBatches, evaluation_batches
from common.runner import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(tmp_path / "results", "float32", False, True, "CPU", "none")


@pytest.fixture(scope="module")
def few_birds(drawn_birds):
    """30 + 24 images of 64×64, of 6 species."""
    return cub200.read(drawn_birds, "synthetic", 64, "squash").select(tuple(range(6)))


def plain_keras(weights, images):
    stock = keras.applications.ResNet50(include_top=False, weights=None, input_shape=images.shape[1:])
    stock.set_weights(list(weights.values()))
    return stock.predict(keras.applications.resnet.preprocess_input(images.copy()), verbose=0)


def test_features_are_those_of_plain_keras(few_birds, settings):
    weights = resnet50.read_weights("none")
    images = np.stack([few_birds.test_images.decode(p) for p in few_birds.test_images.absolute_paths()])
    maps = plain_keras(weights, images)
    pooled = np.asarray(features.load(few_birds, "pooled", settings).test_images)
    assert np.abs(pooled - maps.mean(axis=(1, 2))).max() < 1e-4 * maps.max()
    both = (pooled + plain_keras(weights, images[:, :, ::-1]).mean(axis=(1, 2))) / 2
    averaged = np.asarray(features.load(few_birds, "pooled-flip-average", settings).test_images)
    assert np.abs(averaged - both).max() < 1e-4 * maps.max()
    stored = np.asarray(features.load(few_birds, "map", settings).test_images)
    assert stored.shape == (len(images), 2, 2, 2048)
    assert np.abs(stored - maps).max() < 1e-3 * maps.max()  # half precision


def test_features_of_real_birds_with_real_weights_are_those_of_plain_keras(real_data_dir, real_weights):
    data = datasets.load_birds("cub200", real_data_dir, (0, 50, 199), 2, 224, "squash")
    images = np.stack([data.train_images.decode(p) for p in data.train_images.absolute_paths()])
    weights = resnet50.read_weights(real_weights)
    expected = plain_keras(weights, images)
    found = resnet50.frozen(weights, tf.float32)(images).numpy()
    assert expected.max() > 1
    assert np.abs(found - expected).max() < 1e-4 * expected.max()
    rough = resnet50.frozen(weights, tf.bfloat16)(images).numpy()
    assert np.abs(rough - expected).mean() < 0.03 * expected.mean()


@pytest.mark.parametrize("kept", [pytest.param(40, marks=pytest.mark.slow), 580_000])
def test_an_extraction_that_was_stopped_goes_on_to_the_same_bytes(drawn_birds, settings, kept):
    large = cub200.read(drawn_birds, "synthetic", 112, "squash").select(tuple(range(10)))  # 66 at once
    features.load(large, "pooled", settings)
    (path,) = (settings.output / "synthetic/features").glob("pooled-*.npy")
    whole = path.read_bytes()
    path.unlink()
    path.with_name(f".{path.name}.partial").write_bytes(whole[:kept])
    features.load(large, "pooled", settings)
    assert path.read_bytes() == whole
    assert not path.with_name(f".{path.name}.partial").exists()


def test_features_are_read_back_if_they_are_whole_and_other_weights_or_images_have_their_own(
    few_birds, settings, tmp_path
):
    features.load(few_birds, "pooled", settings)
    (path,) = (settings.output / "synthetic/features").glob("pooled-*.npy")
    path.write_bytes(path.read_bytes()[:-4] + np.float32(7).tobytes())
    assert np.asarray(features.load(few_birds, "pooled", settings).test_images)[-1, -1] == 7
    for damaged in (path.read_bytes()[:-4], b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"pooled-.*\.npy is damaged .*; delete it"):
            features.load(few_birds, "pooled", settings)
    features.load(few_birds.limit(3), "pooled", settings)
    other = keras.applications.ResNet50(include_top=False, weights=None)
    other.save_weights(tmp_path / "other.weights.h5")
    features.load(few_birds, "pooled", replace(settings, weights=str(tmp_path / "other.weights.h5")))
    assert len(list((settings.output / "synthetic/features").glob("pooled-*.npy"))) == 3


def test_a_file_of_weights_that_does_not_fit_names_the_layer(tmp_path):
    inputs = keras.Input((None, None, 3))
    small = keras.Model(inputs, keras.layers.Conv2D(32, 7, name="conv1_conv")(inputs))
    path = tmp_path / "small.weights.h5"
    small.save_weights(path)
    with pytest.raises(UserError, match="conv1_conv"):
        resnet50.read_weights(str(path))
    (tmp_path / "text.weights.h5").write_text("no weights")
    with pytest.raises(UserError, match="does not fit"):
        resnet50.read_weights(str(tmp_path / "text.weights.h5"))


def test_weights_that_are_no_numbers_name_the_layer(tmp_path):
    model = keras.applications.ResNet50(include_top=False, weights=None)
    layer = model.get_layer("conv5_block3_3_conv")
    layer.set_weights([layer.get_weights()[0], np.full(2048, np.nan)])
    model.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(UserError, match="conv5_block3_3_conv/bias holds values that are not numbers"):
        resnet50.read_weights(str(tmp_path / "nan.weights.h5"))


def train(experiment, data, inputs, tmp_path, name, weights=None):
    keras.utils.set_random_seed(0)
    classes = len(data.class_names)
    model = models.build(experiment, data.train_images.shape[1:], classes)
    if weights:
        model.get_layer("resnet50").set_weights(list(weights.values()))
    rng = np.random.default_rng(0)
    model.layers[-1].set_weights([rng.normal(0, 0.01, (2048, classes)), np.zeros(classes)])
    normalization = Normalization.none()
    batches = TrainingBatches(inputs.train_images, data.train_labels, classes, normalization, 32, False, seed=0)
    validation = evaluation_batches(inputs.test_images, data.test_labels, classes, normalization)
    return model, training.fit(model, experiment, batches, validation, tmp_path / f"{name}", verbose=0)


def test_a_head_on_cached_features_learns_what_it_learns_end_to_end(few_birds, settings, tmp_path):
    weights = resnet50.read_weights("none")
    linear = replace(ex3_resnet_birds.LINEAR, epochs=3, patience=None, optimizer="sgd", learning_rate=0.01)
    cached = features.load(few_birds, "pooled", settings)
    head, by_features = train(linear, few_birds, cached, tmp_path, "cached")
    transfer = Transfer("images", True, stages=(ex3_resnet_birds.Stage(3, ("no layer",), 1.0),))
    whole = replace(linear, network="resnet50", transfer=transfer)
    model, by_images = train(whole, few_birds, few_birds, tmp_path, "whole", weights)
    for row, other in zip(by_features.history, by_images.history):
        assert (row["loss"], row["val_loss"]) == pytest.approx((other["loss"], other["val_loss"]), rel=1e-3)
    for a, b in zip(head.layers[-1].get_weights(), model.layers[-1].get_weights()):
        assert np.abs(a - b).max() < 1e-3 * np.abs(a).max()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mapped files")
def test_features_do_not_stay_in_memory_after_a_training(few_birds, settings, tmp_path):
    def fit():
        linear = replace(ex3_resnet_birds.LINEAR, epochs=1)
        cached = features.load(few_birds, "pooled", settings)
        train(linear, few_birds, cached, tmp_path, "head")

    fit()
    gc.collect()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("frozen", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_frozen_statistics_do_not_move_under_fit_and_others_do(few_birds, tmp_path, frozen):
    weights = resnet50.read_weights("none")
    small = few_birds.limit(4)
    transfer = Transfer("images", frozen_batch_normalization=frozen)
    experiment = replace(ex3_resnet_birds.FINETUNE, epochs=1, parts=1, learning_rate=1e-4, transfer=transfer)
    model, _ = train(experiment, small, small, tmp_path, "bn", weights)
    backbone = model.get_layer("resnet50")
    reference = resnet50.build((64, 64, 3))
    reference.set_weights(list(weights.values()))
    for name in ("conv1_bn", "conv3_block2_2_bn", "conv5_block3_3_bn"):
        before, after = (net.get_layer(name).get_weights()[2:] for net in (reference, backbone))
        assert all(np.array_equal(a, b) for a, b in zip(before, after)) == frozen
    kernels = [net.get_layer("conv3_block2_2_conv").get_weights()[0] for net in (reference, backbone)]
    assert not np.array_equal(*kernels)  # it did learn


def test_too_few_images_for_cross_validation_say_so():
    with pytest.raises(UserError, match="2 training images, too few"):
        classical.solve("logistic", np.ones((6, 4)), np.arange(6) // 2, seed=0)


def test_a_feature_that_hardly_varies_gets_no_enormous_weight():
    features = np.random.default_rng(0).normal(0, 1, (60, 20))
    features[:, 0] = 0
    features[7, 0] = 1e-5
    kernel, _, _ = classical.solve("logistic", features, np.arange(60) % 3, seed=0)
    assert np.abs(kernel[0]).max() < np.abs(kernel[1:]).max()


@pytest.mark.parametrize("kind", classical.CLASSIFIERS)
def test_with_fewer_images_than_features_the_solution_is_the_same(kind):
    points = np.random.default_rng(0).normal(0, 1, (60, 300))
    labels = np.arange(60) % 3
    kernel, bias, chosen = classical.solve(kind, points, labels, seed=0)
    plain = make_pipeline(StandardScaler(), classical.CLASSIFIERS[kind][0](0).set_params(C=chosen, max_iter=10_000))
    expected = plain.fit(points.astype(np.float32), labels).decision_function(points)
    assert np.abs(points @ kernel + bias - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize("kind", classical.CLASSIFIERS)
@pytest.mark.parametrize("classes", [2, 4])
def test_scikit_learn_s_classifier_becomes_a_linear_layer(kind, classes):
    rng = np.random.default_rng(0)
    labels = np.arange(120) % classes
    points = rng.normal(0, 1, (classes, 20))[labels] * 3 + rng.normal(5, 1, (120, 20))
    kernel, bias, chosen = classical.solve(kind, points[:90], labels[:90], seed=0)
    assert kernel.shape == (20, classes)
    assert chosen in classical.CLASSIFIERS[kind][1]
    assert ((points[90:] @ kernel + bias).argmax(axis=1) == labels[90:]).mean() > 0.95
    model = birds.linear((20,), classes, power_normalization=True)
    squares = (np.maximum(points, 0) ** 2).astype("float32")
    batches = TrainingBatches(squares[:90], labels[:90], classes, Normalization.none(), 32, False, seed=0)
    validation = evaluation_batches(squares[90:], labels[90:], classes, Normalization.none())
    result = classical.fit(model, kind, batches, validation)
    assert result.history[0]["val_accuracy"] > 0.95
    roots = np.sqrt(squares[:90])
    directions = roots / np.linalg.norm(roots, axis=1, keepdims=True)
    kernel, _, chosen = classical.solve(kind, directions, labels[:90], seed=0)
    assert result.chosen == {"C": chosen}
    assert np.allclose(model.layers[-1].kernel, kernel, rtol=1e-2, atol=1e-3 * np.abs(kernel).max())
