import re
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import ex1_basenet
import ex2_improvements
import ex3_resnet_birds
from common import models
from common.errors import UserError
from common.experiment import Experiment
from common.pipeline import Normalization, TrainingBatches, evaluation_batches
from common.training import best_epoch, compile_model, fit, free_memory, is_exhausted


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


def test_sgd_has_nesterov_momentum_and_the_old_decay():
    model = models.build(ex1_basenet.SGD, (32, 32, 3), 25)
    compile_model(model, ex1_basenet.SGD, steps_per_epoch=176)
    optimizer = model.optimizer
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
    assert float(optimizer.learning_rate) == pytest.approx(0.01)
    optimizer.iterations.assign(4400)
    assert float(optimizer.learning_rate) == pytest.approx(0.01 / (1 + 1e-6 * 4400), rel=1e-6)


def test_sgd_takes_the_steps_of_keras():
    random = np.random.default_rng(0)
    suite, stock = (models.build(ex1_basenet.SGD, (32, 32, 3), 25) for _ in range(2))
    stock.set_weights(suite.get_weights())
    compile_model(suite, ex1_basenet.SGD, steps_per_epoch=176)
    rate = keras.optimizers.schedules.InverseTimeDecay(0.01, 1, 1e-6)
    stock.compile(keras.optimizers.SGD(rate, momentum=0.9, nesterov=True))
    for _ in range(3):
        gradients = [random.normal(0, 1, variable.shape).astype("float32") for variable in suite.trainable_variables]
        for model in (suite, stock):
            model.optimizer.apply(list(map(keras.ops.convert_to_tensor, gradients)), model.trainable_variables)
    for ours, theirs in zip(suite.get_weights(), stock.get_weights()):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-7)


def test_the_rate_warms_up_and_falls_to_zero_in_every_stage():
    experiment = ex3_resnet_birds.FINETUNE_STAGED  # epochs 1 to 6 with the rate, 7 to 10 with a quarter of it
    model = models.build(experiment, (32, 32, 3), 5)
    for epoch, epochs, top in ((0, 6, 0.002), (6, 4, 0.0005)):
        compile_model(model, experiment, 100, epoch)
        rates = []
        for step in (0, 5 * epochs, 10 * epochs, 55 * epochs, 100 * epochs):
            model.optimizer.variables[0].assign(step)  # a part of a batch is a step here
            rates.append(float(model.optimizer.learning_rate))
        assert rates == pytest.approx([0, top / 2, top, top / 2, 0], abs=1e-6)


def test_a_stage_trains_its_layers_and_never_a_frozen_batch_normalisation():
    model = models.build(ex3_resnet_birds.FINETUNE_STAGED, (32, 32, 3), 5)
    for epoch, first in ((0, "conv4_block1_1_conv"), (6, "conv2_block1_1_conv")):
        compile_model(model, ex3_resnet_birds.FINETUNE_STAGED, 1, epoch)
        trained = [layer for layer in model.get_layer("resnet50").layers if layer.trainable_variables]
        assert trained[0].name == first
        assert not any("bn" in layer.name for layer in trained)


def train(data, experiment: Experiment, state_file, count=64):
    images, labels = (part[:: 12500 // count][:count] for part in (data.train_images, data.train_labels))
    normalization = Normalization.of(images)
    keras.utils.set_random_seed(0)
    model = models.build(experiment, (32, 32, 3), 25)
    validation = evaluation_batches(data.test_images[::10], data.test_labels[::10], 25, normalization)
    batches = TrainingBatches(images, labels, 25, normalization, 64 // experiment.parts, experiment.augment, seed=0)
    return model, fit(model, experiment, batches, validation, state_file, verbose=0), validation


def test_every_network_learns_one_batch_by_heart(synthetic_data, tmp_path):
    for base in (ex1_basenet.ADAM, ex2_improvements.BATCHNORM_AFTER_RELU, ex2_improvements.DEPTH):
        values = {**vars(base), "augment": False, "epochs": 40, "learning_rate": 0.01}
        _, training, _ = train(synthetic_data, Experiment(**values), tmp_path / f"{base.name}")
        assert training.history[-1]["accuracy"] > 0.9, base.name


def test_best_weights_come_back_when_the_run_stops_and_when_the_epochs_run_out(synthetic_data, tmp_path):
    values = {**vars(ex2_improvements.NORMALIZE), "learning_rate": 0.03}
    for epochs, patience in ((30, 2), (14, 20)):
        experiment = Experiment(**{**values, "epochs": epochs, "patience": patience})
        model, training, validation = train(synthetic_data, experiment, tmp_path / f"{epochs}", 500)
        best = best_epoch(training.history)
        assert best < len(training.history)  # or nothing would have to come back
        compile_model(model, experiment, steps_per_epoch=8)
        loss, accuracy = model.evaluate(validation, verbose=0)
        row = training.history[best - 1]
        assert (loss, accuracy) == pytest.approx((row["val_loss"], row["val_accuracy"]), abs=1e-6)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's memory")
def test_a_training_leaves_no_memory(tmp_path):
    def megabytes():
        free_memory()
        return int(re.search(r"RssAnon:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    experiment = replace(ex3_resnet_birds.LINEAR, optimizer="sgd", epochs=1, patience=None)
    features, labels = np.ones((8, 2048), np.float32), np.arange(8)
    batches = TrainingBatches(features, labels, 20_000, Normalization.none(), 8, augment=False, seed=0)
    validation = evaluation_batches(features, labels, 20_000, Normalization.none())
    after = []
    for number in range(3):  # 160 MB of weights, as much of momentum
        model = models.build(experiment, (224, 224, 3), 20_000)
        fit(model, experiment, batches, validation, tmp_path / f"{number}", verbose=0)
        del model
        after.append(megabytes())
    assert after[2] - after[0] < 100


def test_a_damaged_state_is_named(synthetic_data, tmp_path):
    experiment, state = replace(ex1_basenet.ADAM, epochs=1), tmp_path / "state"
    train(synthetic_data, experiment, state)
    whole = state.read_bytes()
    for damaged in (b"", b"PK\3\4" + whole[4:], whole[: len(whole) // 2], whole[:-3]):
        state.write_bytes(damaged)
        with pytest.raises(UserError, match="state does not hold what this version needs"):
            train(synthetic_data, experiment, state)


def test_weight_decay_shrinks_kernels_and_nothing_else():
    for base in (ex1_basenet.SGD, ex1_basenet.ADAM):
        experiment = replace(base, network="basenet", weight_decay=0.5, learning_rate=0.1)
        model = models.build(experiment, (32, 32, 3), 25)
        compile_model(model, experiment, steps_per_epoch=1)
        before = [variable.numpy() for variable in model.trainable_variables]
        model.optimizer.apply([keras.ops.zeros(variable.shape) for variable in model.trainable_variables])
        for variable, value in zip(model.trainable_variables, before):
            expected = value * (0.95 if variable.name == "kernel" else 1)
            assert variable.numpy() == pytest.approx(expected, rel=1e-5)


def test_flip_average_is_the_mean_over_an_image_and_its_mirror_outside_of_training(tmp_path):
    experiment = replace(ex2_improvements.AUGMENT, flip_average=True)
    averaged = models.build(experiment, (32, 32, 3), 25)
    plain = models.build(ex2_improvements.AUGMENT, (32, 32, 3), 25)
    plain.set_weights(averaged.get_weights())
    images = np.random.default_rng(0).normal(0, 1, (8, 32, 32, 3)).astype("float32")
    expected = (plain.predict(images, verbose=0) + plain.predict(images[:, :, ::-1], verbose=0)) / 2
    assert averaged.predict(images, verbose=0) == pytest.approx(expected, abs=1e-5)
    assert averaged(images, training=True).numpy() == pytest.approx(plain(images).numpy(), abs=1e-5)
    averaged.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert restored.predict(images, verbose=0) == pytest.approx(expected, abs=1e-5)


def test_larger_images_and_batches_are_computed_in_more_parts():
    finetune, frozen = ex3_resnet_birds.FINETUNE, ex3_resnet_birds.FINETUNE_FROZEN_BN  # 64 and 32 images a batch
    assert [finetune.in_parts(size, 64).parts for size in (32, 112, 160, 224, 448, 1024)] == [1, 1, 4, 4, 16, 64]
    assert [frozen.in_parts(size, 32).parts for size in (32, 160, 224, 448)] == [1, 2, 2, 8]
    assert [finetune.in_parts(224, images).parts for images in (8, 16, 21, 128)] == [1, 1, 3, 8]
    assert finetune.in_parts(224, 21).batch_size == 21


def test_a_batch_in_parts_teaches_what_it_teaches_at_once(synthetic_data, tmp_path):
    weights = {}
    for parts in (1, 4):
        experiment = replace(ex1_basenet.SGD, epochs=3, parts=parts)
        model, _, _ = train(synthetic_data, experiment, tmp_path / f"{parts}", count=128)
        weights[parts] = model.get_weights()
    keras.utils.set_random_seed(0)
    fresh = models.build(experiment, (32, 32, 3), 25)
    for whole, in_parts, start in zip(weights[1], weights[4], fresh.get_weights()):
        assert 0 < abs(whole - in_parts).max() < 1e-3 * abs(whole - start).max()
