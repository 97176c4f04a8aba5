"""One experiment, one seed: data -> model -> fit -> evaluation -> run folder. Only here do these meet."""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax

from common import classical, features, models, plotting, training
from common.datasets.image_data import ImageData
from common.errors import UserError
from common.evaluation import evaluate
from common.experiment import PRECISIONS, Experiment
from common.layer_table import layer_table
from common.models import resnet50
from common.pipeline import Normalization, TrainingBatches, evaluation_batches, split
from common.results import Run, RunFolder, read_run, write_history, write_json

try:
    import resource
except ImportError:  # Windows
    resource = None


@dataclass(frozen=True)
class Settings:
    """What a command sets for all its runs.

    Attributes:
        output: the folder of all runs.
        precision: a key of ``common.experiment.PRECISIONS``.
        force: train again where a finished run is.
        quiet: no progress bars.
        device: what TensorFlow trains on, in words.
        weights: ResNet50's: "imagenet", "none" or a file; only transfer learning reads it.
    """

    output: Path
    precision: str
    force: bool
    quiet: bool
    device: str
    weights: str = "imagenet"


def run(script: str, experiment: Experiment, data: ImageData, seed: int, settings: Settings) -> Run:
    """Trains and evaluates, or reads back the finished run, and returns it.

    Raises:
        UserError: the folder holds a run with other settings, or another process writes it now.
    """
    training_part, validation_part = split(data.train_labels, experiment.validation_fraction, seed)
    if experiment.transfer:
        normalization = Normalization.none()
    elif experiment.normalize:
        normalization = Normalization.of(data.train_images[training_part])
    else:
        normalization = Normalization.to_unit_range()
    config = _config(script, experiment, data, seed, settings, normalization, len(training_part))
    folder = RunFolder(settings.output, data.name, script, experiment.name, seed)
    with folder.locked():
        if not settings.force and (finished := folder.finished(config)):
            return finished
        folder.begin(config)
        print(f"{folder.path}: training", flush=True)
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        keras.config.set_dtype_policy(PRECISIONS[settings.precision])
        classes = len(data.class_names)
        model = models.build(experiment, data.train_images.shape[1:], classes)
        verbose = 0 if settings.quiet else 1 if sys.stdout.isatty() else 2
        try:
            inputs = _inputs(model, experiment, data, training_part, seed, settings, folder.state_file.exists())
            batches = TrainingBatches(
                inputs.train_images[training_part],
                data.train_labels[training_part],
                classes,
                normalization,
                batch_size=experiment.batch_size // experiment.parts,
                augment=experiment.augment,
                seed=seed,
                label_smoothing=experiment.label_smoothing,
            )
            validation = evaluation_batches(
                inputs.train_images[validation_part], data.train_labels[validation_part], classes, normalization
            )
            if experiment.optimizer in classical.CLASSIFIERS:
                progress = classical.fit(model, experiment.optimizer, batches, validation)
            else:
                progress = training.fit(model, experiment, batches, validation, folder.state_file, verbose)
                training.free_memory()
        except UserError as error:
            if isinstance(error, training.Diverged) or not folder.state_file.exists():
                folder.discard()  # nothing in it is worth going on from
            raise
        test = evaluation_batches(inputs.test_images, data.test_labels, classes, normalization)
        logits = model.predict(test, verbose=0).astype(np.float32)

        model.save(folder.partial / "model.keras")
        np.savez(folder.partial / "predictions.npz", labels=data.test_labels, probabilities=softmax(logits, axis=1))
        (folder.partial / "layer_table.md").write_text(layer_table(model), encoding="utf-8")
        write_history(folder.partial / "history.csv", progress.history)
        write_json(folder.partial / "metrics.json", _metrics(model, experiment, progress, logits, data.test_labels))
        write_json(folder.partial / "timing.json", _timing(progress, len(training_part), settings.device))
        unpublished = read_run(folder.partial)
        for metric in plotting.METRICS:
            plotting.plot_history(unpublished, metric, folder.partial / f"{metric}.png")
        plotting.plot_confusion_matrix(unpublished, folder.partial / "confusion_matrix.png")
        return folder.publish()


def _inputs(model, experiment, data, training_part, seed, settings, goes_on) -> ImageData:
    """What the network sees: the images, or frozen ResNet50's features of them; gives ResNet50 its weights."""
    transfer = experiment.transfer
    if transfer is None:
        return data
    if transfer.input != "images":
        return features.load(data, transfer.input, settings)
    data.train_images.verify()
    data.test_images.verify()
    if not goes_on:
        model.get_layer("resnet50").set_weights(list(resnet50.read_weights(settings.weights).values()))
        if transfer.head == "logistic":
            pooled = features.load(data, "pooled", settings)
            kernel, bias, _ = classical.solve(
                "logistic", pooled.train_images[training_part], data.train_labels[training_part], seed
            )
            model.layers[-1].set_weights([kernel, bias])
    features.feature_extractor.cache_clear()  # the training needs the memory of both
    resnet50.read_weights.cache_clear()
    return data


def _config(script, experiment, data, seed, settings, normalization, training_images) -> dict:
    """Everything that decides the result, in the types that JSON gives back."""
    transfer = {}
    if experiment.transfer:
        transfer["resnet50"] = {"weights_sha256": resnet50.sha256(settings.weights)}
        transfer["images"] = {"size": data.train_images.size, "resize": data.train_images.resize}
    return {
        "script": script,
        "variant": experiment.name,
        "experiment": experiment.settings(),
        "dataset": {
            "name": data.name,
            "classes": list(data.class_names),
            "training_images": training_images,
            "validation_images": len(data.train_images) - training_images,
            "test_images": len(data.test_images),
            "sha256": data.sha256(),
        },
        "normalization": {key: list(value) for key, value in asdict(normalization).items()},
        **transfer,
        "seed": seed,
        "precision": settings.precision,
    }


def _metrics(model, experiment, progress, logits, labels) -> dict:
    best = training.best_epoch(progress.history)
    evaluated = progress.history[(len(progress.history) if experiment.patience is None else best) - 1]
    test = evaluate(logits, labels)
    per_class = {key: test.pop(key) for key in ("per_class_accuracy", "confusion_matrix")}
    return {
        **test,
        "val_loss": evaluated["val_loss"],
        "val_accuracy": evaluated["val_accuracy"],
        "epochs": len(progress.history),
        "best_epoch": best,
        "parameters": model.count_params(),
        **progress.chosen,
        **per_class,
    }


def _timing(progress, training_images, device) -> dict:
    seconds = progress.epoch_seconds
    # Kilobytes on Linux, bytes on macOS, unknown on Windows.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else None
    return {
        "epoch_seconds": seconds,
        "total_seconds": round(sum(seconds), 3),
        "images_per_second": round(training_images / float(np.median(seconds)), 1),
        "peak_memory_mb": peak and round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)),
        "device": device,
        "versions": {
            "python": sys.version.split()[0],
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }


def override(experiment: Experiment, **flags) -> Experiment:
    """The experiment with the fields that flags set; None leaves a field as it is."""
    return replace(experiment, **{key: value for key, value in flags.items() if value is not None})
