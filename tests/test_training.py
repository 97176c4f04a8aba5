import keras
import pytest

import ex1_basenet
import ex2_improvements
import ex3_resnet_birds
from common import models
from common.experiment import Experiment
from common.pipeline import Normalization, TrainingBatches, evaluation_batches
from common.training import best_epoch, compile_model, fit, is_exhausted


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


def test_the_rate_warms_up_and_falls_to_zero_in_every_stage():
    experiment = ex3_resnet_birds.FINETUNE_STAGED  # epochs 1 to 3 with the rate, 4 to 10 with half of it
    model = models.build(experiment, (32, 32, 3), 5)
    for epoch, epochs, top in ((0, 3, 0.002), (3, 7, 0.001)):
        compile_model(model, experiment, 100, epoch)
        rates = []
        for step in (0, 5 * epochs, 10 * epochs, 55 * epochs, 100 * epochs):
            model.optimizer.iterations.assign(step)
            rates.append(float(model.optimizer.learning_rate))
        assert rates == pytest.approx([0, top / 2, top, top / 2, 0], abs=1e-6)


def test_a_stage_trains_its_layers_and_never_a_frozen_batch_normalisation():
    model = models.build(ex3_resnet_birds.FINETUNE_STAGED, (32, 32, 3), 5)
    for epoch, first in ((0, "conv5_block1_1_conv"), (3, "conv1_conv")):
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
    batches = TrainingBatches(images, labels, 25, normalization, 64, experiment.augment, seed=0)
    return model, fit(model, experiment, batches, validation, state_file, verbose=0), validation


def test_every_network_learns_one_batch_by_heart(synthetic_data, tmp_path):
    for base in (ex1_basenet.ADAM, ex2_improvements.BATCHNORM_AFTER_RELU, ex2_improvements.DEPTH):
        values = {**vars(base), "augment": False, "epochs": 40, "learning_rate": 0.01}
        _, training, _ = train(synthetic_data, Experiment(**values), tmp_path / f"{base.name}.npz")
        assert training.history[-1]["accuracy"] > 0.9, base.name


def test_best_weights_come_back_when_the_run_stops_and_when_the_epochs_run_out(synthetic_data, tmp_path):
    values = {**vars(ex2_improvements.EARLY_STOPPING), "learning_rate": 0.1}
    for epochs, patience in ((30, 2), (14, 20)):
        experiment = Experiment(**{**values, "epochs": epochs, "patience": patience})
        model, training, validation = train(synthetic_data, experiment, tmp_path / f"{epochs}.npz", 500)
        best = best_epoch(training.history)
        assert best < len(training.history)  # or nothing would have to come back
        loss, accuracy = model.evaluate(validation, verbose=0)
        row = training.history[best - 1]
        assert (loss, accuracy) == pytest.approx((row["val_loss"], row["val_accuracy"]), abs=1e-6)
