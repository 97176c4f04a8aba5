"""Fine-tuning, and training on features beside training end to end."""

import gc
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import ex3_resnet_birds
from common.datasets import cub200
from common.experiment import Component, FineTuning, Stage
from common.models import resnet50
from common.pipeline import Normalization, TrainingBatches, evaluation_batches
from common.training.fit import compile_model, fit
from common.transfer import features
from common.transfer.fine_tuning import phases, set_pretrained
from common.transfer.weights import read_weights
from common.trial import INITIAL_HEADS, build_network

STAGED = ex3_resnet_birds.FINETUNE_STAGED.learning


@pytest.fixture(scope="module")
def few_birds(drawn_birds):
    """24 + 24 images of 64×64, of 6 species."""
    return cub200.read(drawn_birds, "synthetic", 64, "squash").select(tuple(range(6)))


@pytest.fixture
def cached(few_birds, tmp_path):
    return features.load(
        few_birds, "pooled", tmp_path, weights="none", precision="float32", quiet=True, data_options={}
    )


def train(experiment, data, inputs, tmp_path, name, weights=None, stages=()):
    keras.utils.set_random_seed(0)
    classes = len(data.class_names)
    model = build_network(experiment, data.train_images.shape[1:], classes)
    if weights:
        model.get_layer("resnet50").set_weights(list(weights.values()))
    rng = np.random.default_rng(0)
    model.layers[-1].set_weights([rng.normal(0, 0.01, (2048, classes)), np.zeros(classes)])
    normalization = Normalization.none()
    batches = TrainingBatches(inputs.train_images, data.train_labels, classes, normalization, 32, None, seed=0)
    validation = evaluation_batches(inputs.test_images, data.test_labels, classes, normalization)
    return model, fit(model, experiment.learning, batches, validation, tmp_path / name, 0, stages)


@pytest.mark.slow
def test_a_head_on_cached_features_learns_what_it_learns_end_to_end(few_birds, cached, tmp_path):
    linear = ex3_resnet_birds.LINEAR.with_settings(
        epochs=3, patience=None, optimizer=Component("sgd"), learning_rate=0.01
    )
    head, by_features = train(linear, few_birds, cached, tmp_path, "cached")
    learning = FineTuning(Component("sgd"), 0.01, epochs=3, freeze_batch_norm=True, stages=(Stage(3, ("no layer",)),))
    whole = replace(ex3_resnet_birds.FINETUNE, learning=learning)
    weights = read_weights("none")
    model, by_images = train(whole, few_birds, few_birds, tmp_path, "whole", weights, phases(learning))
    for row, other in zip(by_features.history, by_images.history):
        assert (row["loss"], row["val_loss"]) == pytest.approx((other["loss"], other["val_loss"]), rel=1e-3)
    for a, b in zip(head.layers[-1].get_weights(), model.layers[-1].get_weights()):
        assert np.abs(a - b).max() < 1e-3 * np.abs(a).max()


@pytest.mark.parametrize("name", [pytest.param("finetune-staged", marks=pytest.mark.slow), "finetune-second-order"])
def test_a_fine_tuning_begins_where_the_head_on_its_features_ended(few_birds, tmp_path, name):
    """The first layer to learn sees the features of the frozen backbone, so its head's logits are the network's."""
    experiment = ex3_resnet_birds.EXERCISE.experiment(name)
    data = few_birds.select((0, 1, 2))
    kind = experiment.features_on_disk
    inputs = features.load(data, kind, tmp_path, weights="none", precision="float32", quiet=True, data_options={})
    rows = np.asarray(inputs.test_images, np.float32)
    kernel, bias, _ = INITIAL_HEADS[experiment.learning.initial_head](rows, data.test_labels, 0)
    model = build_network(experiment, data.train_images.shape[1:], len(data.class_names))
    set_pretrained(model, read_weights("none"))
    model.layers[-1].set_weights([kernel, bias])
    batches = evaluation_batches(data.test_images, data.test_labels, 3, Normalization.none())
    expected = rows @ kernel + bias
    for prepare in (lambda model: None, phases(experiment.learning)[0].prepare):  # not yet folded, and folded
        prepare(model)
        found = np.concatenate([model(images, training=False) for images, _ in batches])
        np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())


def test_every_convolution_of_resnet50_computes_the_batch_normalisation_behind_it_too():
    backbone = resnet50.build((32, 32, 3))
    assert [layer.is_folded for layer in backbone.layers if "_bn" in layer.name] == [True] * 53
    backbone.trainable = False
    names = [layer.name for layer in backbone.layers if layer.name.endswith("_conv")]
    outputs = [backbone.get_layer(name.removesuffix("_conv") + "_bn").output for name in names]
    whole = keras.Model(backbone.input, [*outputs, *(backbone.get_layer(name).output for name in names)])
    found = whole(np.random.default_rng(0).normal(0, 60, (1, 32, 32, 3)).astype(np.float32))
    assert all(np.array_equal(a, b) for a, b in zip(found[:53], found[53:]))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mapped files")
def test_features_do_not_stay_in_memory_after_a_training(few_birds, cached, tmp_path):
    def fit():
        train(ex3_resnet_birds.LINEAR.with_settings(epochs=1), few_birds, cached, tmp_path, "head")

    fit()
    gc.collect()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("frozen", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_frozen_statistics_do_not_move_under_fit_and_others_do(few_birds, tmp_path, frozen):
    weights = read_weights("none")
    small = few_birds.limit(4)
    experiment = ex3_resnet_birds.FINETUNE.with_settings(epochs=1, learning_rate=1e-4, freeze_batch_norm=frozen)
    model, _ = train(experiment, small, small, tmp_path, "bn", weights, phases(experiment.learning))
    backbone = model.get_layer("resnet50")
    reference = resnet50.build((64, 64, 3))
    reference.set_weights(list(weights.values()))
    for name in ("conv1_bn", "conv3_block2_2_bn", "conv5_block3_3_bn"):
        before, after = (net.get_layer(name).get_weights()[2:] for net in (reference, backbone))
        assert all(np.array_equal(a, b) for a, b in zip(before, after)) == frozen
    kernels = [net.get_layer("conv3_block2_2_conv").get_weights()[0] for net in (reference, backbone)]
    assert not np.array_equal(*kernels)  # it did learn


def test_the_rate_warms_up_and_falls_to_zero_in_every_stage():
    """Two epochs with the rate, two with a quarter of it; 100 optimizer steps each, in two micro-batches."""
    learning = replace(STAGED, accumulate=2)
    model = build_network(ex3_resnet_birds.FINETUNE_STAGED, (32, 32, 3), 5)
    first, second = phases(learning)
    for phase, epochs, top in ((first, 2, 0.002), (second, 2, 0.0005)):
        assert phase.epochs == epochs
        compile_model(model, learning, phase, 100)
        rates = []
        for step in (0, 5 * epochs, 10 * epochs, 55 * epochs, 100 * epochs):
            model.optimizer.variables[0].assign(step * learning.accumulate)  # which counts micro-batches
            assert int(model.optimizer.iterations) == step
            rates.append(float(model.optimizer.learning_rate))
        assert rates == pytest.approx([0, top / 2, top, top / 2, 0], abs=1e-6)


def test_a_stage_trains_its_layers_and_never_a_frozen_batch_normalisation():
    model = build_network(ex3_resnet_birds.FINETUNE_STAGED, (32, 32, 3), 5)
    for phase, first in zip(phases(STAGED), ("conv4_block1_1_conv", "conv1_conv")):
        compile_model(model, STAGED, phase, 1)
        trained = [layer for layer in model.get_layer("resnet50").layers if layer.trainable_variables]
        assert trained[0].name == first
        assert not any("bn" in layer.name for layer in trained)


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, [(1, 1.0)]), (2, [(2, 1.0)]), (4, [(2, 1.0), (2, 0.25)]), (20, [(2, 1.0), (18, 0.25)])]
)
def test_fewer_epochs_leave_stages_out_and_more_go_to_the_last(epochs, expected):
    found = [(each.epochs, each.learning_rate_multiplier) for each in phases(replace(STAGED, epochs=epochs))]
    assert found == expected


def test_without_stages_every_layer_learns():
    model = build_network(ex3_resnet_birds.FINETUNE, (32, 32, 3), 5)
    (phase,) = phases(ex3_resnet_birds.FINETUNE.learning)
    phase.prepare(model)
    assert len(model.trainable_variables) == 214
    (phase,) = phases(replace(ex3_resnet_birds.FINETUNE.learning, freeze_batch_norm=True))
    phase.prepare(model)
    assert not any("_bn" in variable.path for variable in model.trainable_variables)
