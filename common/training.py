"""Compile, fit, early stopping, and a state on disk from which a run goes on exactly.

A run is a loop of one-epoch fits. What decides the rest of it (weights, optimizer, random seed
generators, best weights, history) is written whole after each epoch. Early stopping is a function
of the history alone, so it has no state of its own to lose.
"""

import ctypes
import gc
import json
import math
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.lib.format import header_data_from_array_1_0, read_array, write_array_header_1_0

from common.errors import UserError
from common.experiment import Experiment, Stage
from common.models import birds
from common.optimizers import SGD, Adam
from common.pipeline import TrainingBatches
from common.results import write_whole

STEPS_PER_EXECUTION = 16  # steps between two returns to Python: the progress bar moves this often


class Diverged(UserError):
    """The loss is not a number any more; the same settings would come to the same end."""


@dataclass
class Training:
    """How far a run has come.

    Attributes:
        history: a row an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy, learning_rate
            (after the last step). Loss and accuracy are on the labels as trained: smoothed.
        epoch_seconds: training and validation of each epoch.
        chosen: settings that training itself chose, for ``metrics.json``.
    """

    history: list[dict] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    chosen: dict = field(default_factory=dict)


def compile_model(model: keras.Model, experiment: Experiment, steps_per_epoch: int, epoch: int = 0) -> None:
    """Categorical cross-entropy on logits, accuracy, and a fresh optimizer for the stage of this epoch (from 0)."""
    rate, epochs = experiment.learning_rate, experiment.epochs
    steps_at_once = min(STEPS_PER_EXECUTION, steps_per_epoch)
    if experiment.trains_resnet50:
        stages = experiment.transfer.stages or (Stage(epochs, ("conv",), 1.0),)
        starts = stage_starts(experiment)
        steps_at_once = 1  # several forward passes of ResNet50 beside each other would take gigabytes
        number = max(n for n, start in enumerate(starts) if start <= epoch)
        birds.set_trainable(model, stages[number].trains, experiment.transfer.frozen_batch_normalization)
        rate *= stages[number].rate
        epochs = [*starts, epochs][number + 1] - starts[number]
    if experiment.warmup is not None:
        steps = epochs * steps_per_epoch
        warmup_steps = max(1, round(experiment.warmup * steps))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warmup_steps), warmup_target=rate, warmup_steps=warmup_steps
        )
    elif experiment.learning_rate_decay:
        rate = keras.optimizers.schedules.InverseTimeDecay(rate, 1, experiment.learning_rate_decay)
    options = {
        "weight_decay": experiment.weight_decay or None,
        "gradient_accumulation_steps": experiment.parts if experiment.parts > 1 else None,
    }
    optimizers = {
        "adam": lambda: Adam(rate, **options),
        "sgd": lambda: SGD(rate, momentum=0.9, nesterov=True, **options),
    }
    optimizer = optimizers[experiment.optimizer]()
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        # Not as "accuracy": Keras would make the metric while it traces a step, and trace the step once more.
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        steps_per_execution=steps_at_once,
    )
    model.optimizer.build(model.trainable_variables)


def stage_starts(experiment: Experiment) -> list[int]:
    """The first epoch, from 0, of each stage that the experiment's epochs reach."""
    ends = [stage.until for stage in experiment.transfer.stages[:-1]] if experiment.transfer else []
    return [0, *(end for end in ends if end < experiment.epochs)]


def best_epoch(history: list[dict]) -> int:
    """The epoch, from 1, with the highest validation accuracy; ties go to the lower validation loss."""
    return min(history, key=lambda row: (-row["val_accuracy"], row["val_loss"], row["epoch"]))["epoch"]


def is_exhausted(history: list[dict], patience: int) -> bool:
    """Whether neither validation loss nor validation accuracy improved in the last ``patience`` epochs."""
    if len(history) <= patience:
        return False
    before, recent = history[:-patience], history[-patience:]
    return min(row["val_loss"] for row in recent) >= min(row["val_loss"] for row in before) and max(
        row["val_accuracy"] for row in recent
    ) <= max(row["val_accuracy"] for row in before)


def fit(
    model: keras.Model,
    experiment: Experiment,
    batches: TrainingBatches,
    validation: tf.data.Dataset,
    state_file: Path,
    verbose: int,
) -> Training:
    """Trains a model to the experiment's end, from the last finished epoch in ``state_file``.

    Afterwards the model has the weights to evaluate: those of the best epoch if the experiment
    stops early, else the last. It is not compiled, so that nothing keeps the optimizer's memory.

    Args:
        model: not compiled.
        verbose: as in ``keras.Model.fit``.

    Raises:
        Diverged: the loss is not a number any more.
    """
    keep_best = experiment.patience is not None
    model = type(model)(model.input, model.output)  # of the same layers; this one is compiled
    steps_per_epoch = math.ceil(len(batches.labels) / batches.batch_size)
    callbacks = keras.callbacks.CallbackList(
        add_history=True,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=experiment.epochs,
        steps=steps_per_epoch,
    )
    training, best_weights = Training(), None
    if state_file.exists():
        finished = _finished_epochs(state_file)
        compile_model(model, experiment, steps_per_epoch, finished - 1)  # whose optimizer the file holds
        training, best_weights = _restore(model, state_file, keep_best)
        if verbose:
            print(f"going on after epoch {len(training.history)}", flush=True)

    while len(training.history) < experiment.epochs and not (
        keep_best and is_exhausted(training.history, experiment.patience)
    ):
        epoch = len(training.history)
        if epoch in stage_starts(experiment):
            compile_model(model, experiment, steps_per_epoch, epoch)
            free_memory()
        start = time.perf_counter()
        logs = model.fit(
            batches.epoch(epoch),
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,  # the batches are shuffled already
            validation_data=validation,
            callbacks=callbacks,
        ).history
        if experiment.trains_resnet50:
            _trim_memory()
        training.epoch_seconds.append(round(time.perf_counter() - start, 3))
        row = {key: logs[key][-1] for key in ("loss", "accuracy", "val_loss", "val_accuracy")}
        if not all(math.isfinite(value) for value in row.values()):
            raise Diverged(
                f"the loss is not a number any more in epoch {epoch + 1} of {experiment.name}; "
                "try a lower --learning-rate"
            )
        rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        training.history.append({"epoch": epoch + 1, **row, "learning_rate": rate})
        if keep_best and best_epoch(training.history) == epoch + 1:
            best_weights = model.get_weights()
        _save(model, training, best_weights, state_file)

    if keep_best:
        model.set_weights(best_weights)
    return training


def free_memory() -> None:
    """Lets go of what nothing needs any more, such as the optimizer of a training that has ended."""
    gc.collect()
    _trim_memory()


def _trim_memory() -> None:
    """Gives freed memory back to the system: C's allocator would keep gigabytes of activations.

    Source: https://man7.org/linux/man-pages/man3/malloc_trim.3.html; other C libraries do not have it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def _variables(model: keras.Model) -> list:
    """Everything that training changes: weights, optimizer, the seed generators of dropout."""
    seeds = [layer.seed_generator.state for layer in model.layers if getattr(layer, "seed_generator", None)]
    return [*model.weights, *seeds, *model.optimizer.variables]


def _save(model: keras.Model, training: Training, best_weights: list | None, path: Path) -> None:
    """``.npy`` arrays one behind the other: the history as JSON, the variables, the best weights if they are kept."""

    def arrays():
        yield json.dumps([training.history, training.epoch_seconds])
        yield from (variable.numpy() for variable in _variables(model))
        yield from best_weights or ()

    def write(file):
        for array in map(np.asarray, arrays()):
            # Not with np.save, which takes longer, or does not say why a disk takes no more.
            write_array_header_1_0(file, header_data_from_array_1_0(array))
            file.write(array.data)

    write_whole(path, write)


def _finished_epochs(path: Path) -> int:
    with _readable(path) as file:
        return len(json.loads(str(read_array(file)))[0])


def _restore(model: keras.Model, path: Path, keep_best: bool) -> tuple[Training, list | None]:
    with _readable(path) as file:
        training = Training(*json.loads(str(read_array(file))))
        for variable in _variables(model):
            variable.assign(read_array(file))
        return training, [read_array(file) for _ in model.weights] if keep_best else None


@contextmanager
def _readable(path: Path):
    try:
        with open(path, "rb") as file:
            yield file
    except ValueError as error:
        raise UserError(
            f"{path} does not hold what this version needs ({error}); delete {path.parent} to begin the run again"
        ) from error
