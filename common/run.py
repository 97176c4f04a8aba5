"""One run: an experiment with one seed and the folder that it leaves."""

import json
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from common import environment, examples, trial
from common.datasets.image_data import DataSet, ImageData
from common.errors import UserError
from common.experiment import Experiment
from common.files import write_json
from common.models.layer_table import layer_table
from common.models.layers import portable
from common.pipeline import Normalization
from common.reporting import figures
from common.reporting.run_folder import Run, RunFolder, write_history
from common.training.checkpoint import finished_epochs
from common.training.fit import Diverged
from common.transfer import fine_tuning
from common.transfer.weights import weights_sha256

try:
    import resource
except ImportError:  # Windows
    resource = None


@dataclass(frozen=True)
class RunOptions:
    """What a command sets for all its runs.

    Attributes:
        output: the folder of all runs.
        precision: a key of ``common.experiment.PRECISIONS``.
        data_options: the values of the data set's own flags.
        weights: ResNet50's: "imagenet", "none" or a file; only transfer learning reads it.
        device: what TensorFlow computes on.
        threads: that an operation may use.
        force: train again where a finished run is.
        wait: for another process that is writing the run, instead of stopping.
        redraw: draw the figures of finished runs again.
        quiet: no progress bars.
    """

    output: Path
    precision: str
    data_options: Mapping[str, Any]
    weights: str
    device: str
    threads: int
    force: bool = False
    wait: bool = False
    redraw: bool = False
    quiet: bool = False


def run(
    script: str, name: str, experiment: Experiment, dataset: DataSet, data: ImageData, seed: int, options: RunOptions
) -> Run:
    """Trains and evaluates, or reads back the finished run, and returns it with its figures drawn.

    Args:
        name: the run folder's, ``common.experiment.run_name``.

    Raises:
        UserError: the folder holds a run that another configuration or other code made, or another process writes
            it now.
    """
    this = _trial(experiment, dataset, data, seed, options)
    config = _config(script, name, this, dataset)
    folder = RunFolder(options.output, dataset.name, script, name, seed)
    with folder.locked(wait=options.wait):
        finished = None if options.force else folder.finished(config)
        if finished is None:
            folder.begin(config)
            print(f"{folder.path}: training", flush=True)
            finished = _train(this, folder, options)
            figures.draw(finished, again=True)
        else:
            figures.draw(finished, again=options.redraw)
    return finished


def prepare(experiment: Experiment, dataset: DataSet, data: ImageData, options: RunOptions) -> None:
    """Computes what several runs share, and leaves it on disk: features of the frozen backbone."""
    if experiment.features_on_disk:
        _trial(experiment, dataset, data, 0, options).features(experiment.features_on_disk)


def _trial(experiment: Experiment, dataset: DataSet, data: ImageData, seed: int, options: RunOptions) -> trial.Trial:
    return trial.make_trial(
        experiment,
        data,
        seed,
        precision=options.precision,
        weights=options.weights,
        data_options=options.data_options,
        features_folder=options.output / dataset.name / "features",
        quiet=options.quiet,
    )


def _train(this: trial.Trial, folder: RunFolder, options: RunOptions) -> Run:
    verbose = 0 if options.quiet else 1 if sys.stdout.isatty() else 2
    try:
        folder.add_environment(
            environment.describe(options.device, options.threads, finished_epochs(folder.checkpoint) + 1)
        )
        outcome = trial.run_trial(this, folder.checkpoint, verbose)
    except UserError as error:
        if isinstance(error, Diverged) or not folder.checkpoint.exists():
            folder.discard()  # nothing in it is worth resuming from
        raise
    _save(portable(outcome.model), folder.partial / "model.keras", _preprocessing(this))
    np.savez(folder.partial / "predictions.npz", labels=this.data.test_labels, probabilities=outcome.probabilities)
    shown = examples.collect(
        outcome.model, this.data.test_images, this.data.test_labels, outcome.probabilities, this.normalization
    )
    np.savez_compressed(folder.partial / "examples.npz", **shown)  # pyright: ignore[reportArgumentType]
    (folder.partial / "layer_table.md").write_text(layer_table(outcome.model), encoding="utf-8")
    write_history(folder.partial / "history.csv", outcome.training.history)
    write_json(folder.partial / "metrics.json", outcome.metrics)
    write_json(folder.partial / "per_class.json", outcome.per_class)
    write_json(folder.partial / "timing.json", _timing(outcome.training.epoch_seconds, len(this.training)))
    return folder.publish()


def _config(script: str, name: str, this: trial.Trial, dataset: DataSet) -> dict:
    """Everything that decides the result, in the types that JSON gives back."""
    experiment, data = this.experiment, this.data
    uses_backbone = experiment.features is not None or experiment.network == fine_tuning.BACKBONE
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
        "code": trial.code_of(experiment, dataset),
    }


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
    # Kilobytes on Linux, bytes on macOS, unknown on Windows.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else None
    return {
        "epoch_seconds": epoch_seconds,
        "total_seconds": round(sum(epoch_seconds), 3),
        "images_per_second": round(training_images / float(np.median(epoch_seconds)), 1),
        "peak_memory_mb": peak and round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)),
    }
