"""The report's thirty figures, and those it could not have, drawn from run folders alone.

A figure stands at half a page's width: 8-point letters on 84 mm. Lines differ by style and width as well as by
colour, so that they can be told apart in grey print; the colours are safe for the colour-blind (Wong 2011). The same
runs give the same bytes.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.experiment import Exercise
from common.files import atomic_write
from common.reporting.figures import METRICS, TRAINING, VALIDATION
from common.reporting.report.runs import Runs
from common.reporting.run_folder import Run

SIZE = (3.3, 2.55)  # inches
RESOLUTION = 220  # dots an inch, of the PNG
COMPARISON = (5, 6)  # loss and accuracy of both optimisers; the report's text does not number them, their order does
SETTINGS: dict = matplotlib.rcParamsDefault | {
    "backend": "agg",
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "report",
    "svg.fonttype": "path",
    "path.simplify": True,
}


@dataclass(frozen=True)
class ReportFigure:
    """One of the report's figures.

    Attributes:
        number: the report's.
        script: of its experiments.
        variants: whose runs it shows.
        metric: "loss" or "accuracy".
        title: its heading.
    """

    number: int
    script: str
    variants: tuple[str, ...]
    metric: str
    title: str

    @property
    def name(self) -> str:
        return f"figure-{self.number:02}"

    def groups(self, runs: Runs) -> list[list[Run]]:
        """The runs of each variant; of one without runs of its own settings, those nearest to it."""
        return [runs.nearest(self.script, variant) for variant in self.variants]

    def draw(self, runs: Runs) -> Figure:
        """The figure.

        Raises:
            LookupError: a variant without runs.
        """
        groups = self.groups(runs)
        if not all(groups):
            raise LookupError(f"no run of {self.script} {', '.join(self.variants)}")
        if len(groups) > 1:
            return _compared(groups, self.metric, self.title)
        (group,) = groups
        settings = runs.role(group[0]).split(",")[1:]  # not quite the report's experiment: say so
        return _curves(group, self.metric, ", ".join([self.title, *settings]))

    def describe(self, runs: Runs) -> str:
        """What the figure shows, in words and numbers, for those who do not see it."""
        kind = {"loss": "Loss", "accuracy": "Accuracy"}[self.metric]
        parts = []
        for variant, group in zip(self.variants, self.groups(runs)):
            epochs = _span([run.metrics["epochs"] for run in group], "")
            for key, split in ((self.metric, "training"), (f"val_{self.metric}", "validation")):
                first = np.mean([run.history[0][key] for run in group])
                last = np.mean([run.history[-1][key] for run in group])
                parts.append(f"{split} of {variant} from {first:.2f} to {last:.2f}")
            best = _span([run.evaluated_epoch for run in group], "")
            parts.append(f"over {epochs} epochs, evaluated at epoch {best}, {len(group)} run{'s' * (len(group) > 1)}")
        return f"{kind} against epochs: {'; '.join(parts)}."


def report_figures(exercises: Sequence[Exercise]) -> dict[int, ReportFigure]:
    """The report's figures by their numbers, as the exercises pair them."""
    found = {}
    for exercise in exercises:
        for variant, reported in exercise.reported.items():
            for number, metric in zip(reported.figures, METRICS):
                description = exercise.experiment(variant).description
                found[number] = ReportFigure(
                    number, exercise.name, (variant,), metric, f"{variant}: {description.removeprefix('+ ')}"
                )
        if exercise.compare:
            for number, metric in zip(COMPARISON, METRICS):
                title = " against ".join(exercise.compare)
                found[number] = ReportFigure(number, exercise.name, exercise.compare, metric, title)
    return dict(sorted(found.items()))


def save(figure: Figure, path: Path) -> None:
    """Writes ``path.png`` and ``path.svg``, the same bytes every time."""
    for kind in ("png", "svg"):
        content = render(figure, kind)
        atomic_write(path.with_name(f"{path.name}.{kind}"), lambda file, content=content: file.write(content))


def render(figure: Figure, kind: str) -> bytes:
    """The bytes of a picture, "png" or "svg"."""
    with matplotlib.rc_context(SETTINGS):
        buffer = BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=RESOLUTION, metadata=metadata)
        return buffer.getvalue()


def drawn(make: Callable[..., Figure], *arguments) -> Figure:
    """A figure made with the page's letters and lines, and laid out."""
    with matplotlib.rc_context(SETTINGS):
        figure = make(*arguments)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # or each of its files would lay it out again
        return figure


def mean_curve(group: Sequence[Run], key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Epochs that all runs reached, and over those the mean, the least and the greatest value of the runs."""
    shared = min(len(run.history) for run in group)
    values = np.array([[row[key] for row in run.history[:shared]] for run in group])
    return np.arange(1, shared + 1), values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def confusion(runs: Sequence[Run], title: str) -> Figure:
    """The confusion matrix of several runs together: rows true, columns predicted, colour the fraction of the row."""
    matrix = np.sum([run.per_class["confusion_matrix"] for run in runs], axis=0)
    names = [_words(name) for name in runs[0].config["dataset"]["classes"]]
    figure = Figure(figsize=(5.2, 4.9), layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.clip(matrix.sum(axis=1, keepdims=True), 1, None)
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    figure.colorbar(image, label="fraction of the true class", shrink=0.75)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6.5)
    axes.set_yticks(range(len(names)), names, fontsize=6.5)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    return figure


def reliability(calibrations: Sequence[Mapping]) -> Figure:
    """Accuracy against confidence, a line for each experiment; the diagonal is a network that knows what it knows.

    Args:
        calibrations: with ``name``, ``error`` and ``bins``, each with ``confidence`` and ``accuracy``.
    """
    figure, axes = _axes("Reliability on the test images")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, label="perfectly calibrated")
    for each, style, color in zip(calibrations, ("-", "--", "-.", ":"), (TRAINING, VALIDATION) * 2):
        confidence, accuracy = ([row[key] for row in each["bins"]] for key in ("confidence", "accuracy"))
        label = f"{each['name']} (ECE {each['error']:.3f})"
        axes.plot(confidence, accuracy, style, marker=".", color=color, label=label)
    axes.set(xlabel="Confidence", ylabel="Accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", fontsize=6)
    return figure


def _curves(group: Sequence[Run], metric: str, title: str) -> Figure:
    figure, axes = _axes(title)
    for key, color, style, label in (
        (metric, TRAINING, "-", "training"),
        (f"val_{metric}", VALIDATION, (0, (4, 1.5)), "validation"),
    ):
        _draw(axes, group, key, color=color, linestyle=style, linewidth=1.4, label=label)
    _mark_ends(axes, group, f"val_{metric}", VALIDATION)
    return _finish(figure, axes, metric, group)


def _compared(groups: Sequence[Sequence[Run]], metric: str, title: str) -> Figure:
    """Thin lines training, thick lines validation."""
    figure, axes = _axes(title)
    for group, color, style in zip(groups, (VALIDATION, TRAINING), ((0, (4, 1.5)), "-")):
        for key, split, width in ((metric, "training", 0.7), (f"val_{metric}", "validation", 2.2)):
            label = f"{group[0].variant}, {split}"
            _draw(axes, group, key, color=color, linestyle=style, linewidth=width, label=label)
    return _finish(figure, axes, metric, [run for group in groups for run in group])


def _draw(axes: Axes, group: Sequence[Run], key: str, **line) -> None:
    epochs, middle, low, high = mean_curve(group, key)
    axes.plot(epochs, middle, marker="." if len(epochs) == 1 else None, **line)
    if len(group) > 1:
        axes.fill_between(epochs, low, high, color=line["color"], alpha=0.18, linewidth=0)
        for run in group:  # beyond the last epoch of the shortest run, each goes on alone
            rest = run.history[len(epochs) - 1 :]
            if len(rest) > 1:
                x, y = [row["epoch"] for row in rest], [row[key] for row in rest]
                axes.plot(x, y, color=line["color"], linestyle=line["linestyle"], linewidth=0.5, alpha=0.8)


def _mark_ends(axes: Axes, group: Sequence[Run], key: str, color: str) -> None:
    """The epoch whose weights were evaluated, and where early stopping ended the run."""
    x = [run.evaluated_epoch for run in group]
    y = [run.history[run.evaluated_epoch - 1][key] for run in group]
    axes.plot(x, y, "o", markersize=4.5, markerfacecolor="white", color=color, label=f"evaluated: {_span(x)}", zorder=4)
    stopped = [run for run in group if run.metrics["epochs"] < run.config["experiment"].get("epochs", 0)]
    for run in stopped:
        axes.axvline(run.metrics["epochs"], color="0.35", linestyle=":", linewidth=0.9, zorder=1)
    if stopped:
        label = f"stopped: {_span([run.metrics['epochs'] for run in stopped])}"
        axes.plot([], [], color="0.35", linestyle=":", linewidth=0.9, label=label)


def _axes(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_wrap(_words(title)), loc="left")
    axes.grid(color="0.88", linewidth=0.5)
    axes.set_axisbelow(True)
    return figure, axes


def _finish(figure: Figure, axes: Axes, metric: str, runs: Sequence[Run]) -> Figure:
    axes.set(xlabel="Epoch", ylabel=METRICS[metric])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if metric == "loss":
        losses = [row[key] for run in runs for row in run.history for key in ("loss", "val_loss")]
        axes.set_ylim(0, min(max(losses), 3 * float(np.median(losses))) * 1.05)
    seeds = len({run.seed for run in runs})
    title = f"mean and range of {seeds} runs" if seeds > 1 else None
    axes.legend(
        frameon=True, framealpha=0.85, edgecolor="none", borderpad=0.2, labelspacing=0.25, title=title, title_fontsize=7
    )
    return figure


def _span(values: Sequence[int], prefix: str = "epoch ") -> str:
    return prefix + (str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}")


def _words(text: str) -> str:
    """The text without what matplotlib would set as mathematics, underscores as spaces."""
    return text.replace("$", r"\$").replace("_", " ")


def _wrap(text: str, width: int = 50) -> str:
    return "\n".join(textwrap.wrap(text, width))
