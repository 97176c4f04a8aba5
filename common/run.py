"""One run: an experiment with one seed and the folder that it leaves."""

import csv
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from common import environment, examples, trial
from common.datasets.image_data import DataSet, ImageData
from common.errors import UserError
from common.experiment import Experiment, FineTuning
from common.files import write_json
from common.models.layer_table import layer_table
from common.models.layers import portable
from common.pipeline import Normalization
from common.reporting import event_files, figures
from common.reporting.run_folder import CHECKPOINT, Run, RunFolder, write_history
from common.start import Continued, InitialWeights
from common.training.checkpoint import Training, finished_epochs
from common.training.fit import Diverged, is_exhausted
from common.training.progress import read_progress
from common.transfer.weights import weights_sha256

IN_A_TRACEBACK = re.compile(rf"{UserError.__name__}: (.+?)\nTraceback ", re.DOTALL)  # as TensorFlow puts an error


@dataclass(frozen=True)
class RunOptions:
    """What a command sets for all its runs.

    Attributes:
        output: the folder of all runs.
        precision: a key of ``common.experiment.PRECISIONS``.
        deterministic: as ``common.tensorflow_setup.configure`` was told.
        data_options: the values of the data set's own flags.
        weights: ResNet50's: "imagenet", "none" or a file; only transfer learning reads it.
        initial_weights: of a finished run; None: fresh ones.
        device: what TensorFlow computes on.
        threads: that an operation may use.
        force: train again where a finished run is.
        wait: for another process that is writing the run, instead of stopping.
        redraw: draw the figures of finished runs again.
        tensorboard: write event files for TensorBoard.
        quiet: no progress bars.
    """

    output: Path
    precision: str
    deterministic: bool
    data_options: Mapping[str, Any]
    weights: str
    initial_weights: InitialWeights | None
    device: str
    threads: int
    force: bool = False
    wait: bool = False
    redraw: bool = False
    tensorboard: bool = False
    quiet: bool = False


def run(
    script: str,
    name: str,
    experiment: Experiment,
    dataset: DataSet,
    data: ImageData,
    seed: int,
    options: RunOptions,
    continued: Continued | None = None,
) -> Run:
    """Trains and evaluates, or reads back the finished run, and returns it with its figures drawn.

    Args:
        name: the run folder's, ``common.experiment.run_name``.
        continued: the run whose training goes on; None: it begins with the first epoch.

    Raises:
        UserError: the folder holds a run that another configuration or other code made, another process writes
            it now, or there is nothing to go on from.
    """
    this = _trial(experiment, dataset, data, seed, options)
    config = _config(script, name, this, dataset, options.deterministic, continued)
    folder = RunFolder(options.output, dataset.name, script, name, seed)
    with folder.locked(wait=options.wait):
        finished = None if options.force else folder.finished(config)
        if finished is None:
            if continued is None or folder.has_begun(config):
                folder.begin(config)
            else:
                own = replace(this, experiment=experiment.with_settings(epochs=continued.epochs))
                source = RunFolder(options.output, dataset.name, script, continued.name, seed)
                with source.locked(wait=options.wait):
                    _check_continued(
                        source, _config(script, continued.name, own, dataset, options.deterministic, None), own
                    )
                    folder.begin(config, source)
            print(f"{folder.path}: training", flush=True)
            finished = _train(this, folder, options)
            figures.draw(finished, again=True)
            if options.tensorboard:
                event_files.add_results(finished)
        else:
            figures.draw(finished, again=options.redraw)
            if options.tensorboard:
                event_files.write(finished)
    return finished


def _check_continued(source: RunFolder, config: dict, this: trial.Trial) -> None:
    """Raises UserError if the training of a finished run cannot go on."""
    try:
        finished = source.finished(config)
        finished_epochs(source.path / CHECKPOINT)  # reads it
    except UserError as error:
        raise UserError(f"nothing to go on from: {error} (without --more-epochs)") from error
    if finished is None or read_progress(source.path / CHECKPOINT) != finished.history:
        raise UserError(
            f"{source.path} holds no {CHECKPOINT} of its last epoch to go on from, as runs of older versions do not; "
            "train it again, with --force in place of --more-epochs, or begin another run with its weights, with --init"
        )
    patience = getattr(this.experiment.learning, "patience", None)
    if is_exhausted(finished.history, patience):
        raise UserError(
            f"{source.path} ended after {len(finished.history)} epochs because its patience ran out, so it would end "
            f"there again; train one with more than --patience {patience}, or begin another run with its weights, "
            "with --init"
        )


def prepare(experiment: Experiment, dataset: DataSet, data: ImageData, options: RunOptions) -> None:
    """Computes what several runs share, and leaves it on disk: features of the frozen backbone."""
    if experiment.features_on_disk:
        with _unreadable_images_named():
            _trial(experiment, dataset, data, 0, options).features(experiment.features_on_disk)


@contextmanager
def _unreadable_images_named() -> Iterator[None]:
    """Raises the UserError of an image that TensorFlow was reading, which puts it into a traceback of its own."""
    try:
        yield
    except tf.errors.OpError as error:
        found = IN_A_TRACEBACK.search(error.message)
        if found is None:
            raise
        raise UserError(found[1]) from error


def _trial(experiment: Experiment, dataset: DataSet, data: ImageData, seed: int, options: RunOptions) -> trial.Trial:
    return trial.make_trial(
        experiment,
        data,
        seed,
        precision=options.precision,
        weights=options.weights,
        initial_weights=options.initial_weights,
        data_options=options.data_options,
        features_folder=options.output / dataset.name / "features",
        quiet=options.quiet,
    )


def _train(this: trial.Trial, folder: RunFolder, options: RunOptions) -> Run:
    verbose = 0 if options.quiet else 1 if sys.stdout.isatty() else 2
    events = folder.partial / event_files.FOLDER
    shutil.rmtree(events, ignore_errors=True)  # of a process before this one: they would lack epochs
    add_epochs = event_files.EpochEvents(events).add if options.tensorboard else None

    def watch(training: Training) -> None:
        if add_epochs:
            add_epochs(training.history, training.epoch_seconds)

    try:
        folder.add_environment(
            environment.describe(options.device, options.threads, finished_epochs(folder.checkpoint) + 1)
        )
        with _unreadable_images_named():
            outcome = trial.run_trial(this, folder.checkpoint, verbose, watch)
    except (UserError, tf.errors.UnimplementedError) as error:
        if isinstance(error, Diverged) or not folder.checkpoint.exists():
            folder.discard()  # nothing in it is worth resuming from
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"TensorFlow cannot compute this on {options.device}: {error.message}; if it is for want of a "
            "deterministic kernel, --no-deterministic does without"
        ) from error
    network = portable(outcome.model)
    _save(network, folder.partial / "model.keras", _preprocessing(this))
    np.savez(folder.partial / "predictions.npz", labels=this.data.test_labels, probabilities=outcome.probabilities)
    # By Keras's own layers: of a fused batch normalisation in inference mode, GPUs have no deterministic gradient.
    shown = examples.collect(
        network, this.data.test_images, this.data.test_labels, outcome.probabilities, this.normalization
    )
    np.savez_compressed(folder.partial / "examples.npz", **shown)  # pyright: ignore[reportArgumentType]
    (folder.partial / "layer_table.md").write_text(layer_table(outcome.model), encoding="utf-8")
    if this.data.train_images.names is not None:
        _write_split(folder.partial / "split.csv", this)
    write_history(folder.partial / "history.csv", outcome.training.history)
    write_json(folder.partial / "metrics.json", outcome.metrics)
    write_json(folder.partial / "per_class.json", outcome.per_class)
    write_json(folder.partial / "timing.json", _timing(outcome.training.epoch_seconds, len(this.training)))
    return folder.publish()


def _config(
    script: str,
    name: str,
    this: trial.Trial,
    dataset: DataSet,
    deterministic: bool,
    continued: Continued | None,
) -> dict:
    """Everything that decides the result, in the types that JSON gives back."""
    experiment, data, weights = this.experiment, this.data, this.initial_weights
    uses_backbone = experiment.features is not None or isinstance(experiment.learning, FineTuning)
    return {
        "script": script,
        "variant": experiment.name,
        "name": name,
        "seed": this.seed,
        "precision": this.precision,
        "experiment": experiment.settings(),
        "dataset": {
            "name": data.name,
            "classes": list(data.class_names),
            "training_images": len(this.training),
            "validation_images": len(this.validation),
            "test_images": len(data.test_images),
            "options": dict(this.data_options),
            "sha256": data.sha256,
            "not_comparable": dataset.why_not_comparable(data, this.data_options),
        },
        "normalization": _as_lists(this.normalization),
        "backbone": {"weights_sha256": weights_sha256(this.weights)} if uses_backbone else None,
        **({"initial_weights": {"run": weights.run, "sha256": weights.sha256}} if weights else {}),
        **({"continued": asdict(continued)} if continued else {}),
        **({} if deterministic else {"deterministic": False}),
        "code": trial.code_of(experiment, type(data.train_images), weights),
    }


def _write_split(path: Path, this: trial.Trial) -> None:
    """``split.csv``: the files of the images, their classes, and what the run used them for."""
    data = this.data
    parts = {
        "train": (data.train_images[this.training], data.train_labels[this.training]),
        "validation": (data.train_images[this.validation], data.train_labels[this.validation]),
        "test": (data.test_images, data.test_labels),
    }
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "class", "split"))
        for part, (images, labels) in parts.items():
            names = np.asarray(images.names)
            writer.writerows((name, data.class_names[label], part) for name, label in zip(names, labels))


def _as_lists(normalization: Normalization) -> dict[str, list[float]]:
    return {key: list(value) for key, value in asdict(normalization).items()}


def _preprocessing(this: trial.Trial) -> dict:
    """What has to be known to use the network without the suite; it travels with it."""
    return {
        "classes": list(this.data.class_names),
        "image_size": this.data.train_images.shape[1],
        "resize": this.data_options.get("resize", "squash"),
        **_as_lists(this.normalization),
        "features": this.experiment.features,
        "precision": this.precision,
    }


def _save(model: keras.Model, path: Path, preprocessing: dict) -> None:
    """``model.keras`` with one file more in it, which Keras does not look at: ``preprocessing.json``."""
    model.save(path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(zipfile.ZipInfo("preprocessing.json"), json.dumps(preprocessing, indent=2))


def _timing(epoch_seconds: list[float], training_images: int) -> dict:
    return {
        "epoch_seconds": epoch_seconds,
        "total_seconds": round(sum(epoch_seconds), 3),
        "images_per_second": round(training_images / float(np.median(epoch_seconds)), 1),
        "peak_memory_mb": environment.peak_memory_mb(),
    }
