"""How long a run takes, by the published runs like it."""

from pathlib import Path
from statistics import median

from common.reporting.run_folder import Run, read_run

PUBLISHED = Path(__file__).resolve().parents[2] / "published"


def published(script: str, name: str) -> list[Run]:
    """The published runs of a NAME, or of those of its variant that differ least; none if its variant has none."""
    folders = [path for path in PUBLISHED.glob(f"*/{script}/*/seed-*") if (path / "metrics.json").exists()]
    variant = name.split(",")[0]
    names = {path.parent.name for path in folders if path.parent.name.split(",")[0] == variant}
    best = name if name in names else min(names, key=lambda each: (each.count(","), each), default=None)
    return [read_run(path) for path in folders if path.parent.name == best]


def seconds(
    runs: list[Run], epochs: int | None, images_per_class: int | None = None, threads: int | None = None
) -> float:
    """Of the epochs of a run, on the processors of the published runs.

    Args:
        runs: what ``published`` found, one at least.
        epochs: the most that it may take; None: as many as those took.
        images_per_class: to train on, at most; None: all.
        threads: that it may use; with fewer than those had, it takes as many times as long. None: as many as those had.
    """
    images = median(run.config["dataset"]["training_images"] for run in runs)
    if images_per_class is not None:
        images = min(images, len(runs[0].config["dataset"]["classes"]) * images_per_class)
    taken = median(run.metrics["epochs"] for run in runs)
    slower = 1.0
    if threads and (known := [row["threads"] for run in runs for row in run.environment if row.get("threads")]):
        slower = max(1.0, median(known) / threads)
    return min(taken, epochs or taken) * images * slower / median(run.timing["images_per_second"] for run in runs)
