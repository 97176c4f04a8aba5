"""Compile, fit, early stopping, and exact resume.

A run is a loop of one-epoch fits, with a checkpoint after each. Early stopping is a function of the
history alone, so it has no state of its own to lose.
"""

import ctypes
import gc
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from common.errors import UserError
from common.experiment import GradientDescent
from common.pipeline import TrainingBatches
from common.training import checkpoint as checkpoints
from common.training.checkpoint import Training
from common.training.optimizers import make_optimizer

STEPS_PER_EXECUTION = 16  # steps between two returns to Python: the progress bar moves this often


class Diverged(UserError):
    """The loss is not a number any more; the same settings would come to the same end."""


@dataclass(frozen=True)
class Phase:
    """Epochs that have an optimizer, and its schedule, of their own.

    Attributes:
        epochs: how many.
        learning_rate_multiplier: multiplies the learning rate.
        prepare: called with the model before it is compiled: which layers learn.
    """

    epochs: int
    learning_rate_multiplier: float = 1.0
    prepare: Callable[[keras.Model], None] = lambda model: None


def compile_model(
    model: keras.Model,
    learning: GradientDescent,
    phase: Phase,
    steps_per_epoch: int,
    steps_per_execution: int = STEPS_PER_EXECUTION,
) -> None:
    """Categorical cross-entropy on logits, accuracy, and a fresh optimizer for a phase.

    Args:
        steps_per_epoch: optimizer steps.
        steps_per_execution: between two returns to Python.

    Raises:
        UserError: Keras has no such optimizer or schedule.
    """
    phase.prepare(model)
    rate = learning.learning_rate * phase.learning_rate_multiplier
    model.compile(
        optimizer=make_optimizer(learning, rate, phase.epochs * steps_per_epoch),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        # Not as "accuracy": Keras would make the metric while it traces a step, and trace the step once more.
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        steps_per_execution=steps_per_execution,
    )
    model.optimizer.build(model.trainable_variables)


def best_epoch(history: list[dict]) -> int:
    """The epoch, from 1, with the highest validation accuracy; ties go to the lower validation loss."""
    return min(history, key=lambda row: (-row["val_accuracy"], row["val_loss"], row["epoch"]))["epoch"]


def is_exhausted(history: list[dict], patience: int | None) -> bool:
    """Whether neither validation loss nor validation accuracy improved in the last ``patience`` epochs, if any."""
    if patience is None or len(history) <= patience:
        return False
    before, recent = history[:-patience], history[-patience:]
    return min(row["val_loss"] for row in recent) >= min(row["val_loss"] for row in before) and max(
        row["val_accuracy"] for row in recent
    ) <= max(row["val_accuracy"] for row in before)


def fit(
    model: keras.Model,
    learning: GradientDescent,
    batches: TrainingBatches,
    validation: tf.data.Dataset,
    checkpoint: Path,
    verbose: int,
    phases: Sequence[Phase] = (),
    steps_per_execution: int = STEPS_PER_EXECUTION,
    trim_memory: bool = False,
    watch: Callable[[Training], None] = lambda training: None,
) -> Training:
    """Trains a model to the end, from the last finished epoch in ``checkpoint``.

    Afterwards the model has the weights to evaluate: those of the best epoch if it stops early, else
    the last. It is not compiled, so that nothing keeps the optimizer's memory.

    Args:
        model: not compiled.
        verbose: as in ``keras.Model.fit``.
        phases: one after the other, of ``learning.epochs`` together; none: one phase.
        steps_per_execution: steps between two returns to Python.
        trim_memory: give freed memory back after each epoch, which takes small networks a tenth of their time.
        watch: called with the training so far, as it resumes and after each epoch.

    Raises:
        Diverged: the loss is not a number any more.
        UserError: Keras has no such optimizer or schedule, or the checkpoint is damaged.
    """
    keep_best = learning.patience is not None
    phases = phases or (Phase(learning.epochs),)
    starts = [sum(phase.epochs for phase in phases[:number]) for number in range(len(phases))]
    model = type(model)(model.input, model.output)  # of the same layers; this one is compiled
    callbacks = keras.callbacks.CallbackList(
        add_history=True,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=learning.epochs,
        steps=batches.steps,
    )

    def compile_for(epoch: int) -> None:
        phase = phases[max(number for number, start in enumerate(starts) if start <= epoch)]
        compile_model(
            model, learning, phase, batches.steps // learning.accumulate, min(steps_per_execution, batches.steps)
        )

    training, best_weights = Training(), None
    if finished := checkpoints.finished_epochs(checkpoint):
        compile_for(finished - 1)  # whose optimizer the file holds
        training, best_weights = checkpoints.restore(model, checkpoint, keep_best)
        if verbose:
            print(f"resumes after epoch {finished}", flush=True)
        _warn_of_a_jump(learning, training.history[-1]["learning_rate"], _learning_rate(model))
        watch(training)

    while len(training.history) < learning.epochs and not is_exhausted(training.history, learning.patience):
        epoch = len(training.history)
        if epoch in starts:
            compile_for(epoch)
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
        if trim_memory:
            _trim_memory()
        training.epoch_seconds.append(round(time.perf_counter() - start, 3))
        row = {key: logs[key][-1] for key in ("loss", "accuracy", "val_loss", "val_accuracy")}
        if not all(math.isfinite(value) for value in row.values()):
            raise Diverged(f"the loss is not a number any more in epoch {epoch + 1}; try a lower --learning-rate")
        training.history.append({"epoch": epoch + 1, **row, "learning_rate": _learning_rate(model)})
        if keep_best and best_epoch(training.history) == epoch + 1:
            best_weights = model.get_weights()
        checkpoints.save(model, training, best_weights, checkpoint)
        watch(training)

    if keep_best:
        model.set_weights(best_weights)
    return training


def _learning_rate(model: keras.Model) -> float:
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def _warn_of_a_jump(learning: GradientDescent, before: float, now: float) -> None:
    """Says that a run which goes on for more epochs than were planned is not the run that they all at once give."""
    if not math.isclose(before, now, rel_tol=1e-5):
        print(
            f"warning: the learning rate jumps from {before:.3g} to {now:.3g}, for the schedule {learning.schedule} is "
            f"laid over all {learning.epochs} epochs; this is not the run that --epochs {learning.epochs} gives",
            file=sys.stderr,
        )


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
