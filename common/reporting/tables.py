"""Results in words: a line for a run, a table for many, beside the report's numbers."""

import statistics
from collections.abc import Mapping, Sequence

from common.experiment import Reported
from common.reporting.run_folder import Run


def result_line(run: Run) -> str:
    """Test accuracy with its interval, top-5, loss, epochs and seconds of one run."""
    metrics = run.metrics
    low, high = metrics["test_accuracy_interval"]
    return (
        f"{run.folder}: test accuracy {metrics['test_accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}), "
        f"top-5 {metrics['test_top5_accuracy']:.4f}, loss {metrics['test_loss']:.4f}, "
        f"{metrics['epochs']} epoch{'s' * (metrics['epochs'] != 1)} (evaluated: {metrics['evaluated_epoch']}) "
        f"in {run.timing['total_seconds']:.0f} s"
    )


def table(runs: Sequence[Run], reported: Mapping[str, Reported]) -> str:
    """A line for each NAME: seeds, mean ± standard deviation of the test accuracy, and the report's.

    The report's number stands only beside runs of its own settings on its own images, whole; a line says why
    where it does not.
    """
    rows = [("variant", "seeds", "test accuracy", "report", "difference")]
    for name in dict.fromkeys(run.name for run in runs):
        of_name = [run for run in runs if run.name == name]
        accuracies = [run.metrics["test_accuracy"] for run in of_name]
        number = reported_accuracy(of_name, reported)
        rows.append(
            (
                name,
                " ".join(str(run.seed) for run in of_name),
                mean_and_deviation(accuracies),
                "-" if number is None else f"{number:.4f}",
                "-" if number is None else f"{statistics.mean(accuracies) - number:+.4f}",
            )
        )
    lines = _aligned(rows)
    reasons = sorted({run.not_comparable for run in runs if run.not_comparable})
    lines += [f"(not comparable with the report: {reason})" for reason in reasons]
    return "\n".join([f"{runs[0].dataset}, test images", *lines])


def grid_table(runs: Sequence[Run], show_test: bool) -> str:
    """A line for each NAME, the highest validation accuracy first: its mean ± standard deviation over the seeds.

    The test accuracy is that of the first line alone, since one who sees them all chooses on the test images.
    """
    groups = [[run for run in runs if run.name == name] for name in dict.fromkeys(run.name for run in runs)]
    groups.sort(key=lambda group: -statistics.mean(run.metrics["val_accuracy"] for run in group))
    rows = [("setting", "seeds", "validation accuracy", "test accuracy")]
    for number, group in enumerate(groups):
        is_shown = show_test or number == 0
        rows.append(
            (
                group[0].name,
                " ".join(str(run.seed) for run in group),
                mean_and_deviation([run.metrics["val_accuracy"] for run in group]),
                mean_and_deviation([run.metrics["test_accuracy"] for run in group]) if is_shown else "-",
            )
        )
    lines = [f"{runs[0].dataset}, best on the validation images first", *_aligned(rows)]
    return "\n".join(lines if show_test else [*lines, "(--show-test shows every test accuracy)"])


def reported_accuracy(runs: Sequence[Run], reported: Mapping[str, Reported]) -> float | None:
    """The report's accuracy, if these runs are of a variant as it is there, on the report's own images."""
    variant = runs[0].variant
    is_own = all(run.name == variant and not run.not_comparable for run in runs)
    return reported[variant].accuracy if is_own and variant in reported else None


def mean_and_deviation(values: Sequence[float]) -> str:
    """'0.4213 ± 0.0071' (sample standard deviation), or the value alone if there is only one."""
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
