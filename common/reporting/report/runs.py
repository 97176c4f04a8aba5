"""The runs of an output folder by what they are, and the folders that hold no whole run."""

import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.reporting.report.gallery import gallery, read_examples
from common.reporting.report.layers import read_layer_table
from common.reporting.run_folder import Run, check_whole, place, read_run

NEEDED = (
    "test_loss",
    "test_accuracy",
    "test_accuracy_interval",
    "test_top5_accuracy",
    "epochs",
    "best_epoch",
    "evaluated_epoch",
    "parameters",
)
SHOWN = ("predictions.npz", "examples.npz", "layer_table.md")  # beside what every run is read from
UNREADABLE = (EOFError, MemoryError, zipfile.BadZipFile, zlib.error)  # what NumPy raises of damaged archives
LOW_PRECISION = ",precision=bfloat16"  # at the end of a NAME


@dataclass(frozen=True)
class Damaged:
    """A run's folder that does not hold a whole run, and why."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class Runs:
    """The runs of one page.

    Attributes:
        output: the folder of all runs.
        found: those that are whole.
        damaged: those that are not.
        roles: by script and NAME, the NAME that a run stands for on the page, where a command gave all runs other
            settings than their own, such as ``adam`` for ``adam,epochs=2``; runs it does not name are left out.
            None: every run stands for itself.
    """

    output: Path
    found: Sequence[Run]
    damaged: Sequence[Damaged] = ()
    roles: Mapping[tuple[str, str], str] | None = None

    def named(self, script: str, name: str) -> list[Run]:
        """The runs of this script that stand for this NAME, by seed."""
        return sorted(
            (run for run in self.found if run.script == script and self.role(run) == name), key=lambda run: run.seed
        )

    def in_either_precision(self, script: str, name: str) -> list[Run]:
        """The same, in bfloat16 if there are none in float32."""
        return self.named(script, name) or self.named(script, name + LOW_PRECISION)

    def role(self, run: Run) -> str:
        """The NAME that a run stands for."""
        return run.name if self.roles is None else self.roles[run.script, run.name]

    def groups(self, dataset: str) -> dict[tuple[str, str], list[Run]]:
        """The runs of a data set whose settings are their variant's own, by script and variant."""
        found: dict[tuple[str, str], list[Run]] = {}
        for run in self.found:
            if run.dataset == dataset and self.role(run) == run.variant:
                found.setdefault((run.script, run.variant), []).append(run)
        return found

    def nearest(self, script: str, variant: str) -> list[Run]:
        """The runs of a variant as it is, or, if there are none, with the fewest settings of its own that differ."""
        roles = {self.role(run) for run in self.found if run.script == script and run.variant == variant}
        role = min(roles, key=lambda role: (role.count(","), role), default=None)
        return self.named(script, role) if role is not None else []


def read_runs(output: Path, datasets: Collection[str], roles: Mapping[tuple[str, str], str] | None = None) -> Runs:
    """All runs below an output folder that are of these data sets; one that cannot be read is named, not an error.

    Args:
        roles: as ``Runs.roles``.
    """
    found, damaged = [], []
    for folder in sorted(output.glob("*/*/*/seed-*")):
        dataset, script, name = folder.parts[-4:-1]
        if not folder.is_dir() or dataset not in datasets or (roles is not None and (script, name) not in roles):
            continue
        try:
            found.append(_check(read_run(folder)))
        except (UserError, OSError) as error:
            damaged.append(Damaged(folder, " ".join(str(error).split())))
    return Runs(output, found, damaged, roles)


def _check_predictions(run: Run) -> None:
    path = run.folder / "predictions.npz"
    if path.exists():
        with open(path, "rb") as file, np.load(file) as arrays:  # NumPy would leave a damaged one open
            probabilities, labels = arrays["probabilities"], arrays["labels"]
        if probabilities.shape != (len(labels), len(run.config["dataset"]["classes"])):
            raise ValueError("predictions.npz has not a row for each image and a column for each class")


def _check(run: Run) -> Run:
    """The run; raises UserError if something is missing that the page shows."""
    if run.folder.parts[-4:] != place(run).parts:
        raise UserError(f"{run.folder} holds the run {place(run)}: a copy, or a folder that was renamed; move it there")
    check_whole(run.folder, SHOWN)
    try:
        if missing := [name for name in NEEDED if not isinstance(run.metrics[name], int | float | list)]:
            raise ValueError(f"metrics.json: {missing[0]} is not a number")
        if len(run.history) < run.evaluated_epoch:
            raise ValueError("history.csv ends before the evaluated epoch")
        classes = len(run.config["dataset"]["classes"])
        matrix = run.per_class["confusion_matrix"]
        if len(matrix) != classes or any(len(row) != classes for row in matrix):
            raise ValueError("per_class.json has not a row and a column for each class")
        for key in ("test_images", "sha256", "not_comparable"):
            run.config["dataset"][key]
        for values in ((run.script, run.name, run.seed), (run.timing["epoch_seconds"], run.environment[0])):
            if None in values:
                raise ValueError("a file lacks a value")
        if read_layer_table(run.folder) is None:
            raise ValueError("layer_table.md is missing or damaged")
        _check_predictions(run)
        if examples := read_examples(run):
            gallery(run, examples)
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        EOFError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{run.folder} does not hold a whole run ({reason}); use --force to train it again") from error
    return run
