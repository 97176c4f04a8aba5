"""One experiment, one seed, in memory: data -> model -> fit -> evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax

from common.datasets.image_data import ImageData
from common.experiment import (
    PRECISIONS,
    Experiment,
    FineTuning,
    GradientDescent,
    LinearClassifier,
    RidgeClassifier,
)
from common.fingerprint import code_fingerprint
from common.models import NETWORKS
from common.models.build import build, check_switches
from common.pipeline import Normalization, TrainingBatches, evaluation_batches, split
from common.reporting.metrics import evaluate
from common.start import InitialWeights
from common.training.checkpoint import Training
from common.training.fit import best_epoch, fit, free_memory
from common.training.optimizers import make_optimizer
from common.transfer import features, fine_tuning, initial, last_layer, linear, ridge
from common.transfer.last_layer import FitClassifier
from common.transfer.weights import read_weights, warn_of_unusual_scales

INITIAL_HEADS: dict[str, FitClassifier] = {  # what --initial-head begins with
    "logistic": partial(linear.fit_classifier, LinearClassifier("logistic", (3e-3, 1e-2, 3e-2))),
    # It fits training images almost exactly. At the temperature that is right for others, training would begin by
    # making their logits smaller, at the cost of all else: from 0.79 to 0.59 of the validation images in 16 steps.
    "ridge": partial(ridge.fit_classifier, RidgeClassifier((0.1, 0.3, 1.0), temperature=10.0)),
}


@dataclass(frozen=True)
class Trial:
    """What is trained on what.

    Attributes:
        source: the images as they were loaded.
        data: those that the seed trains on and is tested on; statistics come from the training split alone.
        training, validation: int, which of the training images are trained on and which are held out.
        precision: a key of ``common.experiment.PRECISIONS``.
        weights: the backbone's, as ``common.transfer.weights.read_weights`` takes them.
        initial_weights: a finished run's, for the layers that are like one of its own; None: fresh ones.
        data_options: the values of the data set's flags.
        features_folder: where features of the frozen backbone are kept.
        quiet: no progress bars.
    """

    experiment: Experiment
    source: ImageData
    data: ImageData
    training: np.ndarray
    validation: np.ndarray
    normalization: Normalization
    seed: int
    precision: str
    weights: str
    initial_weights: InitialWeights | None
    data_options: Mapping[str, Any]
    features_folder: Path
    quiet: bool

    def features(self, kind: str) -> ImageData:
        """The data with features of the frozen backbone in place of the images."""
        of_all_seeds = features.load(
            self.source,
            kind,
            self.features_folder,
            weights=self.weights,
            precision=self.precision,
            quiet=self.quiet,
            data_options=self.data_options,
        )
        return of_all_seeds.for_seed(self.seed)


@dataclass(frozen=True)
class Outcome:
    """What a trial leaves: the model with the evaluated weights, how it came to them, and what they are worth."""

    model: keras.Model
    training: Training
    metrics: dict
    per_class: dict
    probabilities: np.ndarray


def make_trial(experiment: Experiment, source: ImageData, seed: int, **options) -> Trial:
    """A trial with its split and its normalisation.

    Raises:
        UserError: a class of one training image, or an image that cannot be read.
    """
    data = source.for_seed(seed)
    training, validation = split(data.train_labels, experiment.validation_fraction, seed, data.class_names)
    if experiment.normalize is None:  # features, or a backbone with a preprocessing of its own
        normalization = Normalization.none()
    elif experiment.normalize:
        normalization = Normalization.of(data.train_images[training])
    else:
        normalization = Normalization.to_unit_range()
    return Trial(experiment, source, data, training, validation, normalization, seed, **options)


def build_network(experiment: Experiment, image_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The experiment's network, not yet trained, for images of this shape or for features of them."""
    shape = features.KINDS[experiment.features].shape(image_shape) if experiment.features else image_shape
    return build(experiment.network, shape, classes, experiment.network_switches(), experiment.test_time_augmentation)


def check(experiment: Experiment) -> None:
    """Raises UserError if the network has not one of the experiment's switches, or Keras not its optimizer."""
    check_switches(experiment.network, experiment.network_switches())
    if isinstance(experiment.learning, GradientDescent):
        make_optimizer(experiment.learning, experiment.learning.learning_rate, steps=100)


def run_trial(trial: Trial, checkpoint: Path, verbose: int, watch: Callable[[Training], None]) -> Outcome:
    """Trains, from ``checkpoint`` if it exists, and evaluates.

    Args:
        watch: called with the training so far, as it goes on.

    Raises:
        common.training.fit.Diverged: the loss is not a number any more.
        UserError: images, weights or switches that cannot be used.
    """
    experiment, data = trial.experiment, trial.data
    keras.backend.clear_session()
    keras.utils.set_random_seed(trial.seed)
    keras.config.set_dtype_policy(PRECISIONS[trial.precision])
    classes = len(data.class_names)
    model = build_network(experiment, data.train_images.shape[1:], classes)
    inputs = trial.features(experiment.features) if experiment.features else data
    learning = experiment.learning
    batches = TrainingBatches(
        inputs.train_images[trial.training],
        data.train_labels[trial.training],
        classes,
        trial.normalization,
        batch_size=getattr(learning, "batch_size", len(trial.training)),
        augment=experiment.augmentation if experiment.augment else None,
        cutmix=experiment.cutmix or 0.0,
        seed=trial.seed,
        label_smoothing=getattr(learning, "label_smoothing", 0.0),
        accumulate=getattr(learning, "accumulate", 1),
    )
    validation = evaluation_batches(
        inputs.train_images[trial.validation], data.train_labels[trial.validation], classes, trial.normalization
    )
    training = LEARNERS[type(learning)].learn(trial, model, batches, validation, checkpoint, verbose, watch)
    free_memory()
    test = evaluation_batches(inputs.test_images, data.test_labels, classes, trial.normalization)
    logits = model.predict(test, verbose=0).astype(np.float32)
    metrics, per_class = evaluate(logits, data.test_labels)
    best = best_epoch(training.history)
    evaluated = len(training.history) if getattr(learning, "patience", None) is None else best
    row = training.history[evaluated - 1]
    metrics |= {
        "val_loss": row["val_loss"],
        "val_accuracy": row["val_accuracy"],
        "epochs": len(training.history),
        "best_epoch": best,
        "evaluated_epoch": evaluated,
        "parameters": model.count_params(),
        **training.chosen,
    }
    return Outcome(model, training, metrics, per_class, softmax(logits, axis=1))


def _descend(trial, model, batches, validation, checkpoint, verbose, watch) -> Training:
    if not checkpoint.exists():
        _take_initial_weights(trial, model)
    return fit(model, trial.experiment.learning, batches, validation, checkpoint, verbose, watch=watch)


def _fine_tune(trial, model, batches, validation, checkpoint, verbose, watch) -> Training:
    learning = trial.experiment.learning
    trial.data.train_images.verify()
    trial.data.test_images.verify()
    if not checkpoint.exists():
        arrays = read_weights(trial.weights)
        warn_of_unusual_scales(arrays)
        fine_tuning.set_pretrained(model, arrays)
        if fit_classifier := INITIAL_HEADS.get(learning.initial_head):
            inputs = trial.features(learning.head_features).train_images[trial.training]
            kernel, bias, _ = fit_classifier(np.asarray(inputs, np.float32), batches.labels, trial.seed)
            model.layers[-1].set_weights([kernel, bias])
        _take_initial_weights(trial, model)
    features.feature_extractor.cache_clear()  # the training needs the memory of both
    read_weights.cache_clear()
    # Several forward passes of a backbone beside each other would take gigabytes: one step an execution.
    phases = fine_tuning.phases(learning)
    return fit(model, learning, batches, validation, checkpoint, verbose, phases, 1, trim_memory=True, watch=watch)


def _fit_last_layer(fit_classifier) -> Callable[..., Training]:
    def learn(trial, model, batches, validation, checkpoint, verbose, watch) -> Training:
        classifier = partial(fit_classifier, trial.experiment.learning)
        training = last_layer.fit(model, classifier, batches, validation)
        watch(training)
        return training

    return learn


def _take_initial_weights(trial: Trial, model: keras.Model) -> None:
    if trial.initial_weights is None:
        return
    taken, left = initial.take_weights(model, trial.initial_weights.model)
    names = f"all but {', '.join(left)}" if len(left) < len(taken) else ", ".join(taken)
    print(
        f"begins with the weights of {trial.initial_weights.run} in {len(taken)} of {len(taken) + len(left)} layers"
        + (f": {names}" if left else ""),
        flush=True,
    )


@dataclass(frozen=True)
class Learner:
    """How a kind of learning is carried out: a function, and the modules that decide what comes out of it."""

    learn: Callable[
        [Trial, keras.Model, TrainingBatches, tf.data.Dataset, Path, int, Callable[[Training], None]], Training
    ]
    modules: tuple[str, ...]


LEARNERS: dict[type, Learner] = {
    GradientDescent: Learner(_descend, ("common.training.fit",)),
    FineTuning: Learner(_fine_tune, ("common.training.fit", "common.transfer.fine_tuning", "common.transfer.weights")),
    LinearClassifier: Learner(
        _fit_last_layer(linear.fit_classifier), ("common.transfer.last_layer", "common.transfer.linear")
    ),
    RidgeClassifier: Learner(
        _fit_last_layer(ridge.fit_classifier), ("common.transfer.last_layer", "common.transfer.ridge")
    ),
}


def code_of(experiment: Experiment, images: type, initial_weights: InitialWeights | None = None) -> dict[str, str]:
    """The fingerprint of the code that decides the experiment's result, by file (``common.fingerprint``).

    How the images were found does not count: what was found is in ``ImageData.sha256``.

    Args:
        images: the class of the images: pixels that are read from files when a batch needs them come from its code.
        initial_weights: that the run begins with, if they are another's.
    """
    learning = experiment.learning
    of_features = ("common.transfer.features",) if experiment.features else ()
    of_head = (
        ("common.transfer.linear", "common.transfer.ridge", "common.transfer.features")
        if hasattr(learning, "initial_head")
        else ()
    )
    return code_fingerprint(
        [
            NETWORKS[experiment.network].__module__,
            images.__module__,
            *LEARNERS[type(learning)].modules,
            *of_features,
            *of_head,
            *(["common.transfer.initial"] if initial_weights else []),
            "common.datasets.image_data",
            "common.models.build",
            "common.pipeline",
            "common.reporting.metrics",
        ],
        alone=["common.trial"],
    )
