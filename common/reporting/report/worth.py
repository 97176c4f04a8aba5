"""What each improvement is worth: one switch turned at a time, and each next step, seed by seed; and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from common.reporting.report.improvements import (
    BONUS,
    EX1,
    EX2,
    IMPROVEMENTS,
    STEPS,
    WITH_ALL,
    WITHOUT_ANY,
    Improvement,
)
from common.reporting.report.layers import read_layer_table
from common.reporting.report.runs import LOW_PRECISION, Runs
from common.reporting.report.statistics import Difference, paired_difference
from common.reporting.run_folder import Run


@dataclass(frozen=True)
class Gain:
    """A change and what it does to the test accuracy.

    Attributes:
        name: of the change.
        before, after: the runs' NAMEs.
        difference: after minus before, paired by seed; None where runs are missing.
    """

    name: str
    before: str
    after: str
    difference: Difference | None


def ablation(runs: Runs) -> list[tuple[Improvement, Gain, Gain]]:
    """Each improvement with what it gains alone on BaseNet, and in the network that has all the others."""
    return [
        (
            each,
            _gain(runs, each.name, EX1, WITHOUT_ANY, each.added),
            _gain(runs, each.name, EX2, each.removed, WITH_ALL),
        )
        for each in IMPROVEMENTS
    ]


def bonus_steps(runs: Runs) -> list[Gain]:
    """Each step of the bonus and beyond, in float32 or bfloat16: whichever has the more seeds in common."""
    found = []
    for before, after, name in STEPS:
        gains = [_gain(runs, name, BONUS, before + suffix, after + suffix) for suffix in ("", LOW_PRECISION)]
        found.append(max(gains, key=lambda gain: gain.difference.n if gain.difference else (0,)))
    return found


@dataclass(frozen=True)
class Cost:
    """What an experiment takes and gives.

    Attributes:
        script, name: whose runs.
        runs: how many.
        accuracy: mean test accuracy, 0..1.
        parameters: with moving statistics, as the report counts.
        multiply_adds: for one image, forward; None where the layer table does not say.
        seconds_an_epoch: median of an epoch's time, over the runs, on their processors.
        epochs: mean.
    """

    script: str
    name: str
    runs: int
    accuracy: float
    parameters: int
    multiply_adds: int | None
    seconds_an_epoch: float
    epochs: float


def costs(runs: Runs) -> list[Cost]:
    """Of every experiment on the page, in the order of scripts and names."""
    names = dict.fromkeys((run.script, runs.role(run)) for run in runs.found)
    return [_cost(script, name, runs.named(script, name)) for script, name in names]


def _cost(script: str, name: str, found: Sequence[Run]) -> Cost:
    table = read_layer_table(found[0].folder)
    return Cost(
        script=script,
        name=name,
        runs=len(found),
        accuracy=mean(run.metrics["test_accuracy"] for run in found),
        parameters=found[0].metrics["parameters"],
        multiply_adds=table.multiply_adds if table else None,
        seconds_an_epoch=median(median(run.timing["epoch_seconds"]) for run in found),
        epochs=mean(run.metrics["epochs"] for run in found),
    )


def _gain(runs: Runs, name: str, script: str, before: str, after: str) -> Gain:
    accuracies = [
        {run.seed: run.metrics["test_accuracy"] for run in runs.named(script, each)} for each in (before, after)
    ]
    return Gain(name, before, after, paired_difference(*accuracies))
