"""Every figure. Reads runs, never models; draws without a screen."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.results import Run, write_whole

TRAINING, VALIDATION = "tab:blue", "tab:orange"
NAMED_CLASSES = 50  # up to here a confusion matrix has room for names
METRICS = {"loss": "Loss (cross-entropy)", "accuracy": "Accuracy"}


def plot_history(run: Run, metric: str, path: Path) -> None:
    """Training and validation ``loss`` or ``accuracy`` against epochs, as in the report's figures.

    The best epoch (highest validation accuracy) is marked.
    """
    figure, axes = _epoch_axes(metric, _title(run))
    epochs = [row["epoch"] for row in run.history]
    validation = [row[f"val_{metric}"] for row in run.history]
    best = run.metrics["best_epoch"]
    marker = "." if len(epochs) == 1 else None
    axes.plot(epochs, [row[metric] for row in run.history], color=TRAINING, marker=marker, label="Training")
    axes.plot(epochs, validation, color=VALIDATION, marker=marker, label="Validation")
    axes.plot(best, validation[best - 1], "o", color=VALIDATION, label=f"Best epoch: {best}")
    axes.legend()
    _save(figure, path)


def plot_comparison(runs: list[Run], metric: str, path: Path) -> None:
    """Several runs in one plot: thin lines training, thick lines validation."""
    seed = runs[0].seed
    figure, axes = _epoch_axes(
        metric, f"{runs[0].config['dataset']['name']}: {' against '.join(map(_variant, runs))}, seed {seed}"
    )
    for number, run in enumerate(runs):
        epochs = [row["epoch"] for row in run.history]
        for key, part, width in ((metric, "training", 0.8), (f"val_{metric}", "validation", 2.8)):
            axes.plot(
                epochs,
                [row[key] for row in run.history],
                color=f"C{number}",
                linewidth=width,
                marker="." if len(epochs) == 1 else None,
                label=f"{_variant(run)}, {part}",
            )
    axes.legend()
    _save(figure, path)


def plot_confusion_matrix(run: Run, path: Path) -> None:
    """Rows: true class; columns: predicted class; colour: the part of the row."""
    matrix = np.array(run.metrics["confusion_matrix"], float)
    names = run.config["dataset"]["classes"]
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(matrix / matrix.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="Part of the true class", shrink=0.8)
    if len(names) <= NAMED_CLASSES:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    axes.set(title=f"{_title(run)}: test images", xlabel="Predicted class", ylabel="True class")
    _save(figure, path)


def _title(run: Run) -> str:
    """What every figure of a run is headed with."""
    return f"{run.config['dataset']['name']}: {run.config['script']}, {_variant(run)}, seed {run.seed}"


def _variant(run: Run) -> str:
    return run.config["variant"]


def _epoch_axes(metric: str, heading: str):
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=heading, xlabel="Epoch", ylabel=METRICS[metric])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=100))
