"""Every figure of a run. Reads run folders, never models; draws without a screen.

A new figure is a function and its name in FIGURES; finished runs get it without training again.
"""

import sys
import textwrap
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.ticker import MaxNLocator

from common.experiment import to_text
from common.files import atomic_write
from common.reporting.run_folder import Run

TRAINING, VALIDATION = "#0072B2", "#D55E00"  # safe for the colour-blind (Wong 2011, Nature Methods 8, 441)
LINE, WRAPPED_LINE = 60, 80  # characters of a heading that fit a figure, in large and in small type
LONGEST_CLASS = 30  # characters of a class's name beside the matrix
FAMILIES = (  # of Linux, macOS and Windows
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Nirmala UI",
    "Noto Sans Thai",
    "Leelawadee UI",
    "Arial Unicode MS",
)
NAMED_CLASSES = 50  # up to here a confusion matrix has room for names
GRID_SWITCHES = 2  # as many as a figure can show
STYLES = ("o-", "s--", "^-.", "D:")
METRICS = {"loss": "Loss (cross-entropy)", "accuracy": "Accuracy"}


def loss(run: Run) -> Figure:
    """Training and validation loss against epochs, as in the report's figures."""
    return _history(run, "loss")


def accuracy(run: Run) -> Figure:
    """Training and validation accuracy against epochs, as in the report's figures."""
    return _history(run, "accuracy")


def confusion_matrix(run: Run) -> Figure:
    """Rows: true class; columns: predicted class; colour: the fraction of the row."""
    matrix = np.array(run.per_class["confusion_matrix"], float)
    names = [_plain(_drawable(name, label)) for label, name in enumerate(run.config["dataset"]["classes"])]
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(matrix / matrix.sum(axis=1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="Fraction of the true class", shrink=0.8)
    if len(names) <= NAMED_CLASSES:
        size = 10 if len(names) <= 30 else 7
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
        axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_title(_wrapped(f"{_title(run)}: test images"), fontsize=10)
    axes.set(xlabel="Predicted class", ylabel="True class")
    return figure


FIGURES: dict[str, Callable[[Run], Figure]] = {
    "loss": loss,
    "accuracy": accuracy,
    "confusion_matrix": confusion_matrix,
}


def draw(run: Run, again: bool) -> None:
    """Draws a run's figures into its folder: all of them again, or those that are missing.

    A figure that fails is a warning: no figure costs a trained run.
    """
    for name, make in FIGURES.items():
        path = run.folder / f"{name}.png"
        if again or not path.exists():
            _save(lambda make=make: make(run), path)


def draw_comparison(runs: Sequence[Run], folder: Path) -> None:
    """Runs of several variants, of the same other settings and seed, in one plot for each metric.

    Thin lines are training, thick lines validation.
    """
    settings = runs[0].name.removeprefix(runs[0].variant)
    for metric in METRICS:
        path = folder / f"comparison-{metric}{settings}-seed-{runs[0].seed}.png"
        _save(lambda metric=metric: _comparison(runs, metric), path)


def draw_grid(runs: Sequence[Run], switches: Sequence[str], path: Path) -> None:
    """Validation accuracy against one or two switches, mean and standard deviation over seeds.

    Args:
        runs: of one variant.
        switches: that vary between the runs; there is a line for each value of the second.
    """
    _save(lambda: _grid(runs, switches), path)


def _grid(runs: Sequence[Run], switches: Sequence[str]) -> Figure:
    along, *lines = switches
    values = _values(runs, along)
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values())
    if is_number:
        values = dict(sorted(values.items(), key=lambda item: item[1]))
    places = dict(zip(values, values.values() if is_number else range(len(values))))
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for style, line in zip(cycle(STYLES), _values(runs, lines[0]) if lines else [None]):
        groups: dict[str, list[float]] = {value: [] for value in values}
        for run in runs:
            if line is None or to_text(_setting(run, lines[0])) == line:
                groups[to_text(_setting(run, along))].append(run.metrics["val_accuracy"])
        known = {places[value]: group for value, group in groups.items() if group}
        axes.errorbar(
            list(known),
            [np.mean(group) for group in known.values()],
            [float(np.std(group, ddof=1)) if len(group) > 1 else 0.0 for group in known.values()],
            fmt=style,
            capsize=3,
            label=None if line is None else f"{lines[0]} {line}",
        )
    if is_number and min(places.values()) > 0 and max(places.values()) >= 10 * min(places.values()):
        axes.set_xscale("log")
    axes.set_xticks(list(places.values()), list(places))
    axes.minorticks_off()
    axes.set(xlabel=along.replace("_", " "), ylabel="Validation accuracy")
    axes.set_title(_wrapped(_plain(f"{runs[0].dataset}: {runs[0].script}, {runs[0].variant}")), fontsize=10)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend()
    return figure


def _values(runs: Sequence[Run], switch: str) -> dict[str, Any]:
    """The values that a switch has in these runs, in their order, by their texts."""
    return {to_text(value): value for value in (_setting(run, switch) for run in runs)}


def _setting(run: Run, switch: str) -> Any:
    return run.config["experiment"].get(switch)


def _comparison(runs: Sequence[Run], metric: str) -> Figure:
    names = " against ".join(run.variant for run in runs)
    settings = runs[0].name.removeprefix(runs[0].variant).replace(",", ", ")
    figure, axes = _epoch_axes(metric, _plain(f"{runs[0].dataset}: {names}{settings}, seed {runs[0].seed}"))
    for color, run in zip((TRAINING, VALIDATION, "#009E73", "#CC79A7"), runs):
        epochs = [row["epoch"] for row in run.history]
        for key, split, width in ((metric, "training", 0.8), (f"val_{metric}", "validation", 2.8)):
            axes.plot(
                epochs,
                [row[key] for row in run.history],
                color=color,
                linewidth=width,
                marker="." if len(epochs) == 1 else None,
                label=f"{_plain(run.variant)}, {split}",
            )
    axes.legend()
    return figure


def _history(run: Run, metric: str) -> Figure:
    figure, axes = _epoch_axes(metric, _title(run))
    epochs = [row["epoch"] for row in run.history]
    validation = [row[f"val_{metric}"] for row in run.history]
    marker = "." if len(epochs) == 1 else None
    settings = run.config["experiment"]
    mixed, smoothing = settings.get("cutmix"), settings.get("label_smoothing")
    unlike = [f"CutMix of {mixed:.0%}"] if mixed else []
    unlike += [f"labels smoothed by {smoothing:g}"] if smoothing and metric == "loss" else []
    of_training = f"Training ({', '.join(unlike)})" if unlike else "Training"
    axes.plot(epochs, [row[metric] for row in run.history], color=TRAINING, marker=marker, label=of_training)
    axes.plot(epochs, validation, "--", color=VALIDATION, marker=marker, label="Validation")
    evaluated = run.evaluated_epoch
    axes.plot(evaluated, validation[evaluated - 1], "o", color=VALIDATION, label=f"Evaluated epoch: {evaluated}")
    axes.legend()
    return figure


def _title(run: Run) -> str:
    """What every figure of a run is headed with."""
    return _plain(f"{run.dataset}: {run.script}, {run.name.replace(',', ', ')}, seed {run.seed}")


def _drawable(name: str, label: int) -> str:
    """A class's name in a line that leaves room for the matrix; its label, where no font here has the letters."""
    line = " ".join(name.split())
    line = line if len(line) <= LONGEST_CLASS else f"{line[: LONGEST_CLASS - 1]}…"
    fonts = [get_font(findfont(family)) for family in _families()]
    can_be_drawn = line and all(any(font.get_char_index(ord(letter)) for font in fonts) for letter in line)
    return line if can_be_drawn else f"class {label}"


def _families() -> list[str]:
    """Matplotlib's own font and, behind it, those of other scripts that are installed."""
    return [*FAMILIES[:1], *sorted({*FAMILIES[1:]} & {*fontManager.get_font_names()}, key=FAMILIES.index)]


def _plain(text: str) -> str:
    """The text without what matplotlib would set as mathematics."""
    return text.replace("$", r"\$")


def _wrapped(heading: str) -> str:
    """The heading in lines that fit a figure."""
    return heading if len(heading) <= LINE else "\n".join(textwrap.wrap(heading, WRAPPED_LINE))


def _epoch_axes(metric: str, heading: str):
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_wrapped(heading), fontsize=12 if len(heading) <= LINE else 9)
    axes.set(xlabel="Epoch", ylabel=METRICS[metric])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    return figure, axes


def _save(make: Callable[[], Figure], path: Path) -> None:
    try:
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, "font.family": _families()}):
            figure = make()
            atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=100))
    except Exception as error:  # whatever matplotlib, a font or the disk makes of it
        print(f"warning: {path} was not drawn ({' '.join(str(error).split())}); --redraw tries again", file=sys.stderr)
