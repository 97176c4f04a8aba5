"""Closed-form and scikit-learn's classifiers as the last layer of a network, whose other layers have no weights."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from common.pipeline import TrainingBatches, evaluation_batches
from common.reporting.metrics import evaluate
from common.training.checkpoint import Training

# From features float (images, features), labels int (images,) and a seed to a kernel float32 (features, classes),
# a bias float32 (classes,), and the settings that were chosen.
FitClassifier = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray, dict[str, Any]]]


def fit(
    model: keras.Model, fit_classifier: FitClassifier, batches: TrainingBatches, validation: tf.data.Dataset
) -> Training:
    """Gives the last layer the weights of a classifier of the training images; a history of one epoch."""
    start = time.perf_counter()
    training = evaluation_batches(batches.images, batches.labels, batches.classes, batches.normalization)
    kernel, bias, chosen = fit_classifier(
        _inputs_of_last(model, training, len(batches.labels)), batches.labels, batches.seed
    )
    model.layers[-1].set_weights([kernel, bias])
    row = {"epoch": 1, "learning_rate": 0.0}
    held_out = np.concatenate([y.numpy().argmax(axis=1) for _, y in validation])
    for prefix, images, labels in (("", training, batches.labels), ("val_", validation, held_out)):
        metrics, _ = evaluate(model.predict(images, verbose=0), labels)
        row |= {f"{prefix}loss": metrics["test_loss"], f"{prefix}accuracy": metrics["test_accuracy"]}
    return Training([row], [round(time.perf_counter() - start, 3)], chosen)


def _inputs_of_last(model: keras.Model, images: tf.data.Dataset, count: int) -> np.ndarray:
    """What the last layer sees of as many images, float32 (count, features); a copy more could be gigabytes."""
    before_last = keras.Model(model.input, model.layers[-1].input)
    inputs = np.empty((count, before_last.output.shape[1]), np.float32)
    done = 0
    for batch, _ in images:
        inputs[done : done + len(batch)] = before_last(batch, training=False)
        done += len(batch)
    return inputs
