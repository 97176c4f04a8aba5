"""Published runs: the evidence behind every number in the documentation, text files only.

Publishing adds; it replaces a run of the same NAME and seed, and removes one only when it is named.
"""

import csv
import io
import shutil
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from scipy.stats import ttest_ind

from common.errors import UserError
from common.experiment import Exercise, Reported
from common.files import atomic_folder, atomic_write
from common.reporting.report.statistics import paired_difference
from common.reporting.run_folder import BEFORE_FINGERPRINTS, Run, changed_files, find_runs, place, read_run
from common.reporting.tables import mean_and_deviation, reported_accuracy

TEXT_FILES = (
    "config.json",
    "environment.json",
    "history.csv",
    "layer_table.md",
    "metrics.json",
    "per_class.json",
    "timing.json",
)
COLUMNS = (
    "dataset",
    "script",
    "name",
    "seed",
    "precision",
    "test_accuracy",
    "test_loss",
    "val_accuracy",
    "epochs",
    "seconds",
    "parameters",
    "processor",
    "threads",
    "commit",
    "comparable",
    "code",
)


def add(folders: Iterable[Path], published: Path, scripts: Collection[str]) -> list[Run]:
    """Copies the runs in or below these folders, and returns those copied.

    Raises:
        UserError: a folder without a finished run, one that is published already, or a run of none of these scripts;
            nothing is copied.
    """
    runs: list[Run] = []
    for folder in folders:
        if folder.resolve().is_relative_to(published.resolve()):
            raise UserError(f"{folder} is published already; give the folder where runs are trained")
        found = sorted(path.parent for path in folder.rglob("seed-*/metrics.json"))
        found += [folder] if (folder / "metrics.json").is_file() and folder not in found else []
        if not found:
            raise UserError(f"{folder} holds no finished run")
        runs += map(read_run, found)
    for run in runs:
        if run.script not in scripts:
            raise UserError(f"{run.folder} is a run of {run.script}, which is none of {', '.join(scripts)}")
        for name in TEXT_FILES:
            if not (run.folder / name).is_file():
                raise UserError(f"{run.folder / name} is missing; use --force to train the run again")
    added = []
    for run in runs:
        to = published / place(run)
        to.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(to) as temporary:
            for name in TEXT_FILES:
                shutil.copyfile(run.folder / name, temporary / name)
            if to.exists():
                shutil.rmtree(to)
        added.append(read_run(to))
    return added


def find(name: str, published: Path) -> Path:
    """The folder of one published run, named as DATASET/SCRIPT/NAME/seed-N.

    Raises:
        UserError: there is none.
    """
    folder, parts = published / name, PurePosixPath(name).parts
    if len(parts) != 4 or ".." in parts or not (folder / "config.json").is_file():
        raise UserError(f"{name} is not a published run; name one as DATASET/SCRIPT/NAME/seed-N")
    return folder


def read_published(published: Path) -> list[Run]:
    """All published runs, sorted by place and seed."""
    runs = [read_run(folder) for folder in find_runs(published)]
    return sorted(runs, key=lambda run: (run.dataset, run.script, run.name, run.seed))


def code_status(run: Run, settings_now: dict | None, code_now: dict[str, str] | None) -> str:
    """Whether today's code would train the run again: "current", or in a few words what is different.

    Args:
        settings_now, code_now: the settings and the code's fingerprint of the variant today; None if it is gone.
    """
    if settings_now is None or code_now is None:
        return "variant is gone"
    code = run.config["code"]
    if code == BEFORE_FINGERPRINTS:
        return BEFORE_FINGERPRINTS
    named = {part.split("=")[0].replace("-", "_") for part in run.name.split(",")[1:]}
    before, now = (
        {key: value for key, value in settings.items() if key not in named}
        for settings in (run.config["experiment"], settings_now)
    )
    if before != now:
        return "settings changed"
    files = changed_files(code, code_now)
    return f"changed: {' '.join(files)}" if files else "current"


def write_csv(runs: Sequence[Run], status: Callable[[Run], str], path: Path) -> None:
    """``results.csv``, a row a run; ``code`` is what ``status`` makes of the run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for run in runs:
        last = run.environment[-1]
        writer.writerow(
            {
                "dataset": run.dataset,
                "script": run.script,
                "name": run.name,
                "seed": run.seed,
                "precision": run.config["precision"],
                **{key: run.metrics[key] for key in ("test_accuracy", "test_loss", "val_accuracy", "epochs")},
                "seconds": run.timing["total_seconds"],
                "parameters": run.metrics["parameters"],
                "processor": last["processor"] or "not recorded",
                "threads": last["threads"],
                "commit": last["commit"] or "not recorded",
                "comparable": run.not_comparable or "yes",
                "code": status(run),
            }
        )
    atomic_write(path, lambda file: file.write(text.getvalue().encode()))


def results_table(runs: Sequence[Run], exercise: Exercise) -> str:
    """Markdown: a line for each NAME, in the exercise's order, mean ± sample standard deviation over its seeds."""
    lines = [
        "| variant | seeds | epochs | validation accuracy | test loss | report | test accuracy | report | difference "
        "| seconds a run |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, group in _by_name(runs, exercise):
        accuracies = [run.metrics["test_accuracy"] for run in group]
        epochs = [str(run.metrics["epochs"]) for run in group]
        accuracy = reported_accuracy(group, exercise.reported)
        cells = [
            f"`{name}`",
            ", ".join(str(run.seed) for run in group),
            ", ".join(epochs if len(set(epochs)) > 1 else epochs[:1]),
            mean_and_deviation([run.metrics["val_accuracy"] for run in group]),
            mean_and_deviation([run.metrics["test_loss"] for run in group]),
            "-" if accuracy is None else f"{exercise.reported[group[0].variant].loss:.4f}",
            mean_and_deviation(accuracies),
            "-" if accuracy is None else f"{accuracy:.4f}",
            "-" if accuracy is None else f"{statistics.mean(accuracies) - accuracy:+.4f}",
            f"{statistics.mean(run.timing['total_seconds'] for run in group):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def summary_table(runs: Sequence[Run], picks: Sequence[str], reported: Mapping[str, Reported]) -> str:
    """Markdown: a line for each NAME picked, its mean accuracy and the report's."""
    lines = ["| variant | seeds | this suite | the report |", "|---|---|---|---|"]
    for name in picks:
        group = [run for run in runs if run.name == name]
        if not group:
            raise UserError(f"no run of {name} is published, and a table names it; publish one")
        accuracy = reported_accuracy(group, reported)
        cells = [
            f"`{name}`",
            ", ".join(str(run.seed) for run in group),
            mean_and_deviation([run.metrics["test_accuracy"] for run in group]),
            "-" if accuracy is None else f"{accuracy:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def steps_table(runs: Sequence[Run], exercise: Exercise, reference: str) -> str:
    """Markdown: what changes when a variant gets another setting, seed by seed, with Student's interval, 95 %.

    Args:
        reference: the NAME with the variant's own settings.
    """
    lines = [
        "| setting | seeds | validation accuracy | test accuracy "
        f"| difference to `{reference}`, paired (95 % interval) |",
        "|---|---|---|---|---|",
    ]
    variant, *own = reference.split(",")
    groups = {name: group for name, group in _by_name(runs, exercise) if name.split(",")[0] == variant}
    base = {run.seed: run.metrics["test_accuracy"] for run in _of_reference(groups, reference)}
    for name, group in groups.items():
        accuracies = {run.seed: run.metrics["test_accuracy"] for run in group}
        difference = paired_difference(base, accuracies)
        told = "-"
        if name != reference and difference:
            told = f"{difference.mean:+.4f}"
            if difference.low is not None and difference.high is not None:
                told += f" ({difference.low:+.4f} to {difference.high:+.4f})"
        changed = [part for part in name.split(",")[1:] if part not in own]
        cells = [
            f"`{', '.join(changed)}`" if changed else "its own",
            ", ".join(map(str, accuracies)),
            mean_and_deviation([run.metrics["val_accuracy"] for run in group]),
            mean_and_deviation([*accuracies.values()]),
            told,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _of_reference(groups: Mapping[str, list[Run]], reference: str) -> list[Run]:
    if reference not in groups:
        raise UserError(f"no run of {reference} is published, and a table names it; publish one")
    return groups[reference]


def comparison_table(runs: Sequence[Run], exercise: Exercise, reference: str, multiply_adds: Mapping[str, int]) -> str:
    """Markdown: what each network costs, and how far its mean accuracy is from the reference's, over all seeds of both.

    Variants as they are, in the reference's precision.

    Seconds an epoch are the first decile of all epochs' seconds: other work on the machine only adds to them. The
    interval is that of Welch's t-test, 95 %; of a single seed there is none.

    Args:
        reference: the NAME that the others are compared with.
        multiply_adds: for one image, forward, by variant.
    """
    lines = [
        "| variant | seeds | parameters | multiply-adds | seconds an epoch | validation accuracy | test accuracy "
        f"| difference to `{reference}` (95 % interval) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    settings = reference.split(",")[1:]
    groups = {name: group for name, group in _by_name(runs, exercise) if name.split(",")[1:] == settings}
    base = [run.metrics["test_accuracy"] for run in _of_reference(groups, reference)]
    for name, group in groups.items():
        accuracies = [run.metrics["test_accuracy"] for run in group]
        seconds = [each for run in group for each in run.timing["epoch_seconds"]]
        cells = [
            f"`{name}`",
            ", ".join(str(run.seed) for run in group),
            f"{group[0].metrics['parameters']:,}",
            f"{multiply_adds[group[0].variant] / 1e6:.1f} M",
            f"{statistics.quantiles(seconds, n=10)[0]:.1f}",
            mean_and_deviation([run.metrics["val_accuracy"] for run in group]),
            mean_and_deviation(accuracies),
            "-" if name == reference else _difference(accuracies, base),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _difference(accuracies: Sequence[float], base: Sequence[float]) -> str:
    difference = f"{statistics.mean(accuracies) - statistics.mean(base):+.4f}"
    if len(accuracies) < 2 or len(base) < 2:
        return f"{difference} (one seed)"
    low, high = ttest_ind(accuracies, base, equal_var=False).confidence_interval(0.95)
    return f"{difference} ({low:+.4f} to {high:+.4f})"


def _by_name(runs: Sequence[Run], exercise: Exercise) -> list[tuple[str, list[Run]]]:
    """The exercise's runs by NAME: variants in its order, then names."""
    order = [experiment.name for experiment in exercise.experiments]
    own = [run for run in runs if run.script == exercise.name and run.variant in order]
    names = sorted({(order.index(run.variant), run.name) for run in own})
    return [(name, [run for run in own if run.name == name]) for _, name in names]
