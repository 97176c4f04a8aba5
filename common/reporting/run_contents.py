"""What the text files of a run hold, checked when they are read: a folder of runs may come from anywhere."""

import math
import re
from typing import Any

PART = re.compile(r"(?!\.{1,2}$)[^/\\]{1,255}")  # of a path: a run may be copied to where these say
BINS = 15  # of a reliability diagram, as common.reporting.metrics has them, which takes long to import
WHOLE, NUMBER, OPTIONAL_TEXT = "a whole number", "a number", "a text or null"
SHAPES = {
    "config": {
        "script": PART,
        "variant": PART,
        "name": PART,
        "seed": WHOLE,
        "precision": str,
        "experiment": dict,
        "dataset": {
            "name": PART,
            "classes": [str],
            "training_images": WHOLE,
            "validation_images": WHOLE,
            "test_images": WHOLE,
            "options": dict,
            "sha256": str,
            "not_comparable": OPTIONAL_TEXT,
        },
        "code": (str, dict),
    },
    "metrics": {
        "test_loss": float,  # of a training that diverged it is not a number
        "test_accuracy": NUMBER,
        "test_accuracy_interval": [NUMBER],
        "test_top5_accuracy": NUMBER,
        "val_loss": float,
        "val_accuracy": NUMBER,
        "epochs": WHOLE,
        "best_epoch": WHOLE,
        "evaluated_epoch": WHOLE,
        "parameters": WHOLE,
    },
    "timing": {
        "epoch_seconds": [NUMBER],
        "total_seconds": NUMBER,
        "images_per_second": NUMBER,
        "peak_memory_mb": (int, type(None)),  # Windows does not say
    },
    "environment": [
        {
            "device": str,
            "processor": OPTIONAL_TEXT,
            "threads": WHOLE,
            "versions": dict,
            "commit": OPTIONAL_TEXT,
            "clean": (bool, type(None)),
        }
    ],
}
PER_CLASS = {"accuracy": [NUMBER], "confusion_matrix": [[WHOLE]]}
SETTINGS = {"epochs": WHOLE, "label_smoothing": NUMBER, "cutmix": NUMBER}  # of those that learn by gradient descent
RELIABILITY = {"images": [WHOLE], "confidence": [float], "accuracy": [NUMBER]}


def check(files: dict[str, Any]) -> None:
    """Looks at the contents of a run's JSON files but ``per_class.json``, by their names without ``.json``.

    Raises:
        ValueError: a value is missing, or of another kind than a run has it, with the name of the file and the value.
    """
    for name, shape in SHAPES.items():
        _check(files[name], shape, f"{name}.json")
    settings = files["config"]["experiment"]
    _check(settings, {key: shape for key, shape in SETTINGS.items() if key in settings}, "config.json: experiment")
    reliability = files["metrics"].get("test_reliability")  # which older runs have not
    if reliability is not None:
        _check(reliability, RELIABILITY, "metrics.json: test_reliability")
        _expect({len(reliability[key]) for key in RELIABILITY} == {BINS}, "metrics.json: test_reliability", "whole")
    _expect(files["timing"]["epoch_seconds"], "timing.json: epoch_seconds", "of any epoch")
    _expect(files["environment"], "environment.json", "of any process")
    _expect(len(files["metrics"]["test_accuracy_interval"]) == 2, "metrics.json: test_accuracy_interval", "two numbers")


def check_environment(value: Any) -> None:
    """Looks at the contents of ``environment.json``, which may be of no process yet.

    Raises:
        ValueError: as ``check``.
    """
    _check(value, SHAPES["environment"], "environment.json")


def check_per_class(value: Any) -> None:
    """Looks at the contents of ``per_class.json``.

    Raises:
        ValueError: as ``check``.
    """
    _check(value, PER_CLASS, "per_class.json")


def _check(value: Any, shape: Any, place: str) -> None:
    if isinstance(shape, dict):
        _expect(isinstance(value, dict), place, "an object")
        for key, inside in shape.items():
            _expect(key in value, f"{place}: {key}", "there")
            _check(value[key], inside, f"{place}: {key}")
    elif isinstance(shape, list):
        _expect(isinstance(value, list), place, "a list")
        for each in value:
            _check(each, shape[0], place)
    elif shape == WHOLE:
        _expect(type(value) is int and abs(value) < 1 << 63, place, shape)
    elif shape == NUMBER:
        _expect(type(value) in (int, float) and abs(value) < 1 << 63 and math.isfinite(value), place, shape)
    elif shape == OPTIONAL_TEXT:
        _expect(value is None or isinstance(value, str), place, shape)
    elif isinstance(shape, re.Pattern):
        _expect(isinstance(value, str) and value.isprintable() and shape.fullmatch(value), place, "a name")
    else:
        _expect(isinstance(value, shape), place, "what a run has there")


def _expect(is_so: Any, place: str, what: str) -> None:
    if not is_so:
        raise ValueError(f"{place} is not {what}")
