import hashlib

import keras
import numpy as np
import pytest

import ex1_basenet
from common.datasets.image_data import ImageArray
from common.errors import UserError
from common.experiment import Component, GradientDescent
from common.pipeline import Normalization, TrainingBatches, evaluation_batches
from common.training.checkpoint import finished_epochs
from common.training.fit import fit
from common.trial import build_network

FEATURES = ImageArray(np.random.default_rng(0).normal(0, 1, (48, 8)).astype(np.float32))
LABELS = np.arange(48) % 3
VALIDATION = evaluation_batches(FEATURES, LABELS, 3, Normalization.none())


class Stopped(Exception):
    pass


class Batches(TrainingBatches):
    """The features, until an epoch that stops the training, as a kill would."""

    def __init__(self, accumulate: int, stop: int | None = None):
        super().__init__(FEATURES, LABELS, 3, Normalization.none(), 16, augment=None, seed=0, accumulate=accumulate)
        self.stop = stop

    def epoch(self, number):
        if number == self.stop:
            raise Stopped
        return super().epoch(number)


def nested_dropout():
    """A network whose only random layer stands two networks deep."""
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((8,)), keras.layers.Dropout(0.5), keras.layers.Dense(8)])
    middle = keras.Sequential([keras.Input((8,)), inner])
    inputs = keras.Input((8,))
    return keras.Model(inputs, keras.layers.Dense(3)(middle(inputs)))


@pytest.mark.parametrize(
    "learning",
    [
        GradientDescent(epochs=4, patience=3),
        GradientDescent(epochs=4, accumulate=2, optimizer=Component("SGD", {"momentum": 0.9})),
        GradientDescent(epochs=4, optimizer=Component("rmsprop"), schedule=Component("CosineDecay"), warmup=0.5),
        GradientDescent(epochs=4, optimizer=Component("muon")),
    ],
    ids=["early stopping", "accumulation", "schedule", "muon"],
)
def test_a_resumed_training_ends_as_if_it_had_never_stopped(tmp_path, learning):
    whole, resumed, checkpoint = nested_dropout(), nested_dropout(), tmp_path / "stopped"
    expected = fit(whole, learning, Batches(learning.accumulate), VALIDATION, tmp_path / "whole", 0)
    with pytest.raises(Stopped):
        fit(nested_dropout(), learning, Batches(learning.accumulate, stop=2), VALIDATION, checkpoint, 0)
    assert finished_epochs(checkpoint) == 2
    keras.utils.set_random_seed(1)  # whatever the state of the process
    training = fit(resumed, learning, Batches(learning.accumulate), VALIDATION, checkpoint, 0)
    assert training.history == expected.history
    assert len(training.epoch_seconds) == 4
    for a, b in zip(whole.variables, resumed.variables):
        assert np.array_equal(a, b), a.path


def test_the_seeds_of_nested_layers_are_among_what_is_kept(tmp_path):
    """Without them the test above would still pass if dropout drew the same numbers anew."""
    model = nested_dropout()
    before = [variable.numpy() for variable in model.variables if "seed" in variable.path]
    fit(model, GradientDescent(epochs=1), Batches(1), VALIDATION, tmp_path / "checkpoint", 0)
    after = [variable.numpy() for variable in model.variables if "seed" in variable.path]
    assert len(before) == 1 and not np.array_equal(before, after)


def test_a_damaged_checkpoint_is_named(tmp_path):
    learning, path = GradientDescent(epochs=1), tmp_path / "checkpoint"
    assert finished_epochs(path) == 0
    fit(nested_dropout(), learning, Batches(1), VALIDATION, path, 0)
    whole = path.read_bytes()
    more = whole[:-32] + whole[whole.rindex(b"\x93NUMPY") : -32]
    of_more_variables = more + hashlib.sha256(more).digest()
    # One bit in the history, in a weight, in the checksum: all of them would still be numbers.
    flipped = [
        whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        for place in (whole.index(b"1"), len(whole) // 2, len(whole) - 40, len(whole) - 1)
    ]
    for damaged in (b"", b"PK\3\4" + whole[4:], whole[: len(whole) // 2], whole[:-3], of_more_variables, *flipped):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"checkpoint does not hold what this version needs .*; delete "):
            fit(nested_dropout(), learning, Batches(1), VALIDATION, path, 0)
    path.write_bytes(whole)
    fit(nested_dropout(), learning, Batches(1), VALIDATION, path, 0)


def test_a_checkpoint_of_another_network_is_named(synthetic_data, tmp_path):
    learning, path = GradientDescent(epochs=1), tmp_path / "checkpoint"
    fit(nested_dropout(), learning, Batches(1), VALIDATION, path, 0)
    other = build_network(ex1_basenet.ADAM, (32, 32, 3), 25)
    with pytest.raises(UserError, match="checkpoint does not hold what this version needs"):
        fit(other, learning, Batches(1), VALIDATION, path, 0)
