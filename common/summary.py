"""Results in words: a line for a run, a table for many, beside the report's numbers."""

import statistics

from common.experiment import Experiment
from common.results import Run


def result_line(run: Run) -> str:
    """Test accuracy with its interval, top-5, loss, epochs and seconds of one run."""
    metrics = run.metrics
    low, high = metrics["test_accuracy_interval"]
    return (
        f"{run.folder}: test accuracy {metrics['test_accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}), "
        f"top-5 {metrics['test_top5_accuracy']:.4f}, loss {metrics['test_loss']:.4f}, "
        f"{metrics['epochs']} epochs (best: {metrics['best_epoch']}) in {run.timing['total_seconds']:.0f} s"
    )


def table(experiments: list[Experiment], runs: list[Run]) -> str:
    """A line for each variant: seeds, mean ± standard deviation of the test accuracy, and the report's.

    The report's number stands only beside runs on the report's images.
    """
    dataset = runs[0].config["dataset"]["name"]
    comparable = all(on_the_report_s_images(run) for run in runs)
    rows = [("variant", "seeds", "test accuracy", "report", "difference")]
    for experiment in experiments:
        of_variant = [run for run in runs if run.config["variant"] == experiment.name]
        accuracy = statistics.mean(run.metrics["test_accuracy"] for run in of_variant)
        reported = experiment.reported.accuracy if experiment.reported and comparable else None
        rows.append(
            (
                experiment.name,
                " ".join(str(run.seed) for run in of_variant),
                mean_and_deviation([run.metrics["test_accuracy"] for run in of_variant]),
                "-" if reported is None else f"{reported:.4f}",
                "-" if reported is None else f"{accuracy - reported:+.4f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([f"{dataset}, test images", *lines])


def on_the_report_s_images(run: Run) -> bool:
    """Whether a run had all images of the first 25 classes of CIFAR-100, or all of CUB-200, squashed to 224×224.

    CIFAR-100's names are in alphabetical order, so 25 of which none comes after "cockroach" are these.
    """
    dataset = run.config["dataset"]
    images = dataset["training_images"] + dataset["validation_images"]
    if dataset["name"] == "cub200":
        counts = (len(dataset["classes"]), images, dataset["test_images"])
        return counts == (200, 3000, 3033) and run.config["images"] == {"size": 224, "resize": "squash"}
    return (dataset["name"], len(dataset["classes"]), images, max(dataset["classes"])) == (
        "cifar100", 25, 12500, "cockroach"
    )


def mean_and_deviation(values: list[float]) -> str:
    """'0.4213 ± 0.0071' (sample standard deviation), or the value alone if there is only one."""
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean
