import re
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import ex1_basenet
import ex2_improvements
import ex3_resnet_birds
from common.datasets.image_data import ImageArray
from common.experiment import Component, Experiment
from common.pipeline import Normalization, TrainingBatches, evaluation_batches
from common.training.fit import Phase, best_epoch, compile_model, fit, free_memory, is_exhausted
from common.trial import build_network


def history(*rows):
    return [{"epoch": i, "val_loss": loss, "val_accuracy": acc} for i, (loss, acc) in enumerate(rows, start=1)]


def test_best_epoch_is_the_highest_accuracy_then_the_lower_loss_then_the_earlier():
    assert best_epoch(history((2.0, 0.5), (1.0, 0.4), (3.0, 0.6), (2.5, 0.6), (2.5, 0.6))) == 4


@pytest.mark.parametrize(
    ("rows", "exhausted"),
    [
        ([(1.0, 0.5), (1.1, 0.4), (1.1, 0.4)], False),  # two epochs without an improvement, patience three
        ([(1.0, 0.5), (1.1, 0.4), (1.1, 0.4), (1.1, 0.4)], True),
        ([(1.0, 0.5), (1.1, 0.4), (1.1, 0.4), (1.1, 0.6)], False),  # accuracy improved
        ([(1.0, 0.5), (1.1, 0.4), (0.9, 0.4), (1.1, 0.4)], False),  # loss improved
        ([(1.0, 0.5), (1.0, 0.5), (1.0, 0.5), (1.0, 0.5)], True),  # as good is not better
        ([(1.0, 0.4), (1.1, 0.5), (1.1, 0.4), (1.2, 0.3), (1.1, 0.5)], True),  # the two bests of different epochs
    ],
)
def test_one_rule_watches_both_metrics(rows, exhausted):
    assert is_exhausted(history(*rows), patience=3) is exhausted
    assert not is_exhausted(history(*rows), patience=None)


def train(data, experiment: Experiment, checkpoint, count=64, batch_size=64):
    """A small training on every so many of the images; also returns its batches and what it validates on."""
    images, labels = data.train_images[:: 12500 // count][:count], data.train_labels[:: 12500 // count][:count]
    normalization, learning = Normalization.of(images), experiment.learning
    keras.utils.set_random_seed(0)
    model = build_network(experiment, (32, 32, 3), 25)
    validation = evaluation_batches(data.test_images[::10], data.test_labels[::10], 25, normalization)
    augment = experiment.augmentation if experiment.augment else None
    batches = TrainingBatches(
        images, labels, 25, normalization, batch_size, augment, seed=0, accumulate=learning.accumulate
    )
    return model, fit(model, learning, batches, validation, checkpoint, verbose=0), validation


@pytest.mark.parametrize(
    "bases",
    [
        (ex2_improvements.DEPTH,),
        pytest.param((ex1_basenet.ADAM, ex2_improvements.BATCHNORM_AFTER_RELU), marks=pytest.mark.slow),
    ],
    ids=lambda bases: bases[0].name,
)
def test_every_network_learns_a_few_images_by_heart(synthetic_data, tmp_path, bases):
    for base in bases:
        experiment = base.with_settings(augment=False, epochs=16, learning_rate=0.005)
        _, training, _ = train(synthetic_data, experiment, tmp_path / f"{base.name}", batch_size=16)
        assert training.history[-1]["accuracy"] > 0.9, base.name


def test_best_weights_come_back_when_the_run_stops_and_when_the_epochs_run_out(synthetic_data, tmp_path):
    for epochs, patience in ((30, 2), (14, 20)):
        experiment = ex2_improvements.NORMALIZE.with_settings(learning_rate=0.03, epochs=epochs, patience=patience)
        model, training, validation = train(synthetic_data, experiment, tmp_path / f"{epochs}", 500)
        best = best_epoch(training.history)
        assert best < len(training.history)  # or nothing would have to come back
        compile_model(model, experiment.learning, Phase(1), steps_per_epoch=8)
        loss, accuracy = model.evaluate(validation, verbose=0)
        row = training.history[best - 1]
        assert (loss, accuracy) == pytest.approx((row["val_loss"], row["val_accuracy"]), abs=1e-6)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's memory")
def test_a_training_leaves_no_memory(tmp_path):
    def megabytes():
        free_memory()
        return int(re.search(r"RssAnon:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    experiment = ex3_resnet_birds.LINEAR.with_settings(optimizer=Component("sgd"), epochs=1, patience=None)
    features, labels = ImageArray(np.ones((8, 2048), np.float32)), np.arange(8)
    batches = TrainingBatches(features, labels, 20_000, Normalization.none(), 8, augment=None, seed=0)
    validation = evaluation_batches(features, labels, 20_000, Normalization.none())
    after = []
    for number in range(3):  # 160 MB of weights, as much of momentum
        model = build_network(experiment, (224, 224, 3), 20_000)
        fit(model, experiment.learning, batches, validation, tmp_path / f"{number}", verbose=0)
        del model
        after.append(megabytes())
    assert after[2] - after[0] < 100


def test_gradient_accumulation_teaches_what_whole_batches_teach(synthetic_data, tmp_path):
    weights = {}
    for accumulate in (1, 4):
        experiment = ex1_basenet.SGD.with_settings(epochs=3, accumulate=accumulate)
        model, training, _ = train(synthetic_data, experiment, tmp_path / f"{accumulate}", count=136)
        weights[accumulate] = model.get_weights(), training.history
    keras.utils.set_random_seed(0)
    fresh = build_network(experiment, (32, 32, 3), 25)
    for whole, in_parts, start in zip(weights[1][0], weights[4][0], fresh.get_weights()):
        assert 0 < abs(whole - in_parts).max() < 1e-3 * abs(whole - start).max()
    for whole, in_parts in zip(weights[1][1], weights[4][1]):
        assert in_parts["learning_rate"] == whole["learning_rate"]


@pytest.mark.parametrize(("images", "steps"), [(128, 2), (130, 2), (140, 3)])
def test_epochs_end_on_whole_optimizer_steps_and_the_schedule_counts_them(synthetic_data, images, steps):
    """130 images are 64 and 66: two of them are too few for four micro-batches."""
    learning = ex1_basenet.SGD.with_settings(
        accumulate=4, epochs=3, schedule=Component("CosineDecay"), learning_rate=0.01
    ).learning
    data = synthetic_data
    batches = TrainingBatches(
        data.train_images[:images], data.train_labels[:images], 25, Normalization.to_unit_range(), 64, None, seed=0,
        accumulate=4,
    )  # fmt: skip
    assert batches.steps == 4 * steps
    model = build_network(ex1_basenet.SGD, (32, 32, 3), 25)
    compile_model(model, learning, Phase(3), batches.steps // 4)
    rates = []
    for epoch in range(3):
        model.fit(batches.epoch(epoch), shuffle=False, verbose=0)
        assert int(model.optimizer.iterations) == steps * (epoch + 1)
        accumulated = [variable.numpy() for variable in model.optimizer._accumulated_gradients]
        assert not any(gradient.any() for gradient in accumulated)  # nothing waits for the next epoch
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.01 * (1 + np.cos(np.pi * share)) / 2 for share in (1 / 3, 2 / 3, 1)], abs=1e-8)


def test_a_phase_has_an_optimizer_of_its_own(synthetic_data, tmp_path):
    learning = ex1_basenet.SGD.with_settings(epochs=4, schedule=Component("CosineDecay"), learning_rate=0.01).learning
    data, prepared = synthetic_data, []
    phases = (Phase(3, 1.0, lambda model: prepared.append(1)), Phase(1, 0.5, lambda model: prepared.append(2)))
    batches = TrainingBatches(
        data.train_images[:64], data.train_labels[:64], 25, Normalization.to_unit_range(), 32, None, seed=0
    )
    validation = evaluation_batches(data.test_images[:25], data.test_labels[:25], 25, Normalization.to_unit_range())
    model = build_network(ex1_basenet.SGD, (32, 32, 3), 25)
    training = fit(model, learning, batches, validation, tmp_path / "checkpoint", 0, phases)
    assert prepared == [1, 2]
    assert [row["learning_rate"] for row in training.history] == pytest.approx([0.0075, 0.0025, 0, 0], abs=1e-8)
    again = fit(model, replace(learning, epochs=4), batches, validation, tmp_path / "checkpoint", 0, phases)
    assert again.history == training.history and prepared == [1, 2, 2]  # resumed in the second phase
