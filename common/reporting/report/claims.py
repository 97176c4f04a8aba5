"""What the report's text claims, each as a test on the runs at hand.

A claim of a difference is supported where its 95 % interval lies on the claimed side of zero, and contradicted where
it lies on the other. A claim that two things are similar is supported where the interval lies within ± ``SIMILAR``,
and contradicted where it lies outside. Else the runs leave it open. Differences of test accuracies take the standard
deviation over seeds that all experiments of the data set share, as the verdicts do; of other quantities, which need
not share one, the intervals are Welch's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean

from common.reporting.report.runs import Runs
from common.reporting.report.statistics import Difference, pool, pooled_difference, summarize, welch_difference
from common.reporting.run_folder import Run

SUPPORTED, CONTRADICTED, OPEN, UNTESTED = "supported", "contradicted", "open", "cannot be tested"
# The report calls differences of up to 1.1 points similar, and one of 2.6 points worse.
SIMILAR = 0.02
STABLE = 0.01  # of validation accuracy: within it of the best, a run has got there
EX1, EX2, EX3, BONUS = "ex1_basenet", "ex2_improvements", "ex3_resnet_birds", "bonus_residual"


@dataclass(frozen=True)
class Result:
    """What came of a claim: a word and the figures behind it."""

    word: str
    evidence: str


@dataclass(frozen=True)
class Claim:
    """A sentence of the report and its test.

    Attributes:
        key: names it in ``report.json``.
        section: of the report.
        text: what the report says, in English.
        test: what is tested, in words.
        figures: of the report, that show it.
        examine: the test.
    """

    key: str
    section: str
    text: str
    test: str
    figures: tuple[int, ...]
    examine: Callable[[Runs], Result]


@dataclass(frozen=True)
class Measure:
    """A number of a run, with its name and how it is written."""

    name: str
    of: Callable[[Run], float]
    unit: str
    scale: float = 1.0
    digits: int = 1

    def text(self, value: float, signed: bool = False) -> str:
        return f"{value * self.scale:{'+' if signed else ''}.{self.digits}f}"


def overfitting(run: Run) -> float:
    """Validation loss minus training loss in the last epoch."""
    return run.history[-1]["val_loss"] - run.history[-1]["loss"]


def early_accuracy(run: Run) -> float:
    """Mean validation accuracy of the first five epochs."""
    return mean(row["val_accuracy"] for row in run.history[:5])


def arrival(run: Run) -> int:
    """The first epoch whose validation accuracy is within ``STABLE`` of the run's best."""
    best = max(row["val_accuracy"] for row in run.history)
    return next(row["epoch"] for row in run.history if row["val_accuracy"] >= best - STABLE)


def loss_minimum(run: Run) -> int:
    """The epoch with the lowest validation loss."""
    return min(run.history, key=lambda row: row["val_loss"])["epoch"]


ACCURACY = Measure("test accuracy", lambda run: run.metrics["test_accuracy"], "points", 100)
OVERFITTING = Measure("validation minus training loss, last epoch", overfitting, "nats", digits=2)
EARLY = Measure("mean validation accuracy of the first five epochs", early_accuracy, "points", 100)
EPOCHS = Measure("epochs until the run stopped", lambda run: run.metrics["epochs"], "epochs")
BEST_EPOCH = Measure("best epoch", lambda run: run.metrics["best_epoch"], "epochs")
LOSS_MINIMUM = Measure("epoch with the lowest validation loss", loss_minimum, "epochs")
SECONDS = Measure("seconds of training", lambda run: run.timing["total_seconds"], "seconds", digits=0)

Place = tuple[str, str]  # script, NAME


def larger(measure: Measure, first: Place, second: Place) -> Callable[[Runs], Result]:
    """That a measure is larger in the second experiment than in the first."""
    return lambda runs: _compare(runs, measure, first, second, _is_larger)


def smaller(measure: Measure, first: Place, second: Place) -> Callable[[Runs], Result]:
    """That a measure is smaller in the second experiment than in the first."""
    return lambda runs: _compare(runs, measure, first, second, lambda low, high: _is_larger(-high, -low))


def similar(measure: Measure, first: Place, second: Place) -> Callable[[Runs], Result]:
    """That a measure differs by no more than ``SIMILAR``."""
    return lambda runs: _compare(runs, measure, first, second, _is_similar)


def each_run(places: Sequence[Place], is_so: Callable[[Run], bool], tell: Callable[[Run], str], what: str):
    """That something is so in every run: supported by all, contradicted by none or few (less than half), else open."""

    def examine(runs: Runs) -> Result:
        by_place = [runs.in_either_precision(*place) for place in places]
        if not all(by_place):
            return _missing([place for place, found in zip(places, by_place) if not found])
        found = [run for of_place in by_place for run in of_place]
        count = sum(map(is_so, found))
        word = SUPPORTED if count == len(found) else CONTRADICTED if 2 * count < len(found) else OPEN
        told = "; ".join(f"{name}: {', '.join(map(tell, of_place))}" for (_, name), of_place in zip(places, by_place))
        return Result(word, f"{count} of {len(found)} runs ({told}; {what})")

    return examine


def all_of(*tests: Callable[[Runs], Result]) -> Callable[[Runs], Result]:
    """That several things are so."""

    def examine(runs: Runs) -> Result:
        results = [test(runs) for test in tests]
        words = [result.word for result in results]
        word = next((each for each in (UNTESTED, CONTRADICTED, OPEN) if each in words), SUPPORTED)
        return Result(word, "; ".join(result.evidence for result in results))

    return examine


def largest_step(places: Sequence[Place], winner: int) -> Callable[[Runs], Result]:
    """That of the steps from each experiment to the next, the one to ``places[winner]`` gains the most accuracy.

    Supported where it gains the most and its interval lies above the gain of every other step; contradicted where
    another step's interval lies above its gain.
    """

    def examine(runs: Runs) -> Result:
        groups = [_values(runs, place, ACCURACY) for place in places]
        if missing := [place for place, values in zip(places, groups) if len(values) < 2]:
            return _missing(missing)
        steps = [_difference(runs, ACCURACY, before, after) for before, after in pairwise(places)]
        told = ", ".join(f"{name} {ACCURACY.text(step.mean, True)}" for (_, name), step in zip(places[1:], steps))
        ours = steps[winner - 1]
        others = [step for step in steps if step is not ours]
        word = OPEN
        if ours.low is not None and all(ours.low > step.mean for step in others):
            word = SUPPORTED
        elif any(step.low is not None and step.low > ours.mean for step in others):
            word = CONTRADICTED
        return Result(word, f"gains in points: {told}; {places[winner][1]}{_interval(ACCURACY, ours)}")

    return examine


def at_least(measure: Measure, place: Place, bound: float) -> Callable[[Runs], Result]:
    """That the mean over seeds reaches a bound: supported or contradicted by its interval, else open."""

    def examine(runs: Runs) -> Result:
        values = _values(runs, place, measure)
        if not values:
            return _missing([place])
        summary = summarize(values)
        word = OPEN
        if summary.low is not None and summary.high is not None:
            word = SUPPORTED if summary.low >= bound else CONTRADICTED if summary.high < bound else OPEN
        return Result(word, f"{measure.name} {measure.text(summary.mean)}{_interval(measure, summary)}")

    return examine


def _compare(runs: Runs, measure: Measure, first: Place, second: Place, decide) -> Result:
    groups = [_values(runs, place, measure) for place in (first, second)]
    if missing := [place for place, values in zip((first, second), groups) if not values]:
        return _missing(missing)
    difference = _difference(runs, measure, first, second)
    evidence = (
        f"{measure.name}: {first[1]} {measure.text(mean(groups[0]))}, {second[1]} {measure.text(mean(groups[1]))}; "
        f"difference {measure.text(difference.mean, True)}{_interval(measure, difference)} {measure.unit}, "
        f"n = {difference.n[0]} and {difference.n[1]}"
    )
    if difference.low is None:
        return Result(OPEN, f"{evidence}; too few runs for an interval")
    return Result(decide(difference.low, difference.high), evidence)


def _difference(runs: Runs, measure: Measure, first: Place, second: Place) -> Difference:
    before, after = _values(runs, first, measure), _values(runs, second, measure)
    if measure is ACCURACY:
        dataset = runs.in_either_precision(*first)[0].dataset
        pooled = pool([[measure.of(run) for run in group] for group in runs.groups(dataset).values()])
        if pooled:
            return pooled_difference(before, after, pooled)
    return welch_difference(before, after)


def _is_larger(low: float, high: float) -> str:
    return SUPPORTED if low > 0 else CONTRADICTED if high < 0 else OPEN


def _is_similar(low: float, high: float) -> str:
    if low >= -SIMILAR and high <= SIMILAR:
        return SUPPORTED
    return CONTRADICTED if low > SIMILAR or high < -SIMILAR else OPEN


def _interval(measure: Measure, of) -> str:
    return "" if of.low is None else f" [{measure.text(of.low)}, {measure.text(of.high)}]"


def _values(runs: Runs, place: Place, measure: Measure) -> list[float]:
    return [float(measure.of(run)) for run in runs.in_either_precision(*place)]


def _missing(places: Sequence[Place]) -> Result:
    names = " and ".join(f"{script} {name}" for script, name in places)
    return Result(UNTESTED, f"too few runs of {names}")


def _overfits(run: Run) -> bool:
    last = run.history[-1]
    return loss_minimum(run) < last["epoch"] and last["val_loss"] > last["loss"]


def _tell_overfitting(run: Run) -> str:
    last = run.history[-1]
    return f"lowest at {loss_minimum(run)}, then {last['val_loss'] - last['loss']:+.2f}"


SGD, ADAM = (EX1, "sgd"), (EX1, "adam")
NORMALIZE, AUGMENT, BATCHNORM = (EX2, "normalize"), (EX2, "augment"), (EX2, "batchnorm")
AFTER_RELU, DEPTH, DROPOUT = (EX2, "batchnorm-after-relu"), (EX2, "depth"), (EX2, "dropout")
STOPPED, WITHOUT = (EX2, "early-stopping"), (EX2, "early-stopping-no-dropout")
LINEAR, CONNECTED = (EX3, "linear"), (EX3, "fully-connected")
CONVOLUTIONAL, FINETUNE = (EX3, "convolutional"), (EX3, "finetune")
WIDE, RESIDUAL = (BONUS, "wide"), (BONUS, "residual")
_DIFFERENCE = "difference of the mean test accuracies"
_WITHIN = f"{_DIFFERENCE}, within ± {100 * SIMILAR:g} points"
_GAP = (
    "difference of validation minus training loss in the last epoch (training loss as Keras sums it up while "
    "weights change and augmentation and dropout are on, as in the report)"
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "adam-better",
        "Exercise 1",
        "Adam obtains better results than SGD.",
        _DIFFERENCE,
        (2, 4),
        larger(ACCURACY, SGD, ADAM),
    ),
    Claim(
        "adam-not-remarkable",
        "Exercise 1",
        "The difference between the two optimisers is not remarkable.",
        _WITHIN,
        (2, 4),
        similar(ACCURACY, SGD, ADAM),
    ),
    Claim(
        "adam-faster",
        "Exercise 1",
        "Adam learns faster than SGD (what the comparison of the two curves shows).",
        "difference of the mean validation accuracies of the first five epochs",
        (5, 6),
        larger(EARLY, SGD, ADAM),
    ),
    Claim(
        "both-overfit",
        "Exercise 1",
        "Both optimisers overfit: validation stands still while training goes on improving.",
        "in every run the validation loss is lowest before the last epoch, and ends above the training loss",
        (5, 6),
        each_run((SGD, ADAM), _overfits, _tell_overfitting, "validation minus training loss at the end"),
    ),
    Claim(
        "normalisation-little",
        "Exercise 2",
        "Normalisation changes little.",
        _WITHIN,
        (4, 8),
        similar(ACCURACY, ADAM, NORMALIZE),
    ),
    Claim(
        "augmentation-helps",
        "Exercise 2",
        "Augmentation improves the test results.",
        _DIFFERENCE,
        (8, 10),
        larger(ACCURACY, NORMALIZE, AUGMENT),
    ),
    Claim(
        "augmentation-half",
        "Exercise 2",
        "With augmentation the goal of 50 % is reached.",
        "mean test accuracy of at least 0.5",
        (10,),
        at_least(ACCURACY, AUGMENT, 0.5),
    ),
    Claim(
        "augmentation-overfitting",
        "Exercise 2",
        "Augmentation lowers the overfitting.",
        _GAP,
        (7, 9),
        smaller(OVERFITTING, NORMALIZE, AUGMENT),
    ),
    Claim(
        "batchnorm-little",
        "Exercise 2",
        "Batch normalisation does not change the result.",
        _WITHIN,
        (10, 12),
        similar(ACCURACY, AUGMENT, BATCHNORM),
    ),
    Claim(
        "batchnorm-place",
        "Exercise 2",
        "Batch normalisation before or after the ReLU: the results are similar.",
        _WITHIN,
        (12,),
        similar(ACCURACY, BATCHNORM, AFTER_RELU),
    ),
    Claim(
        "depth-helps",
        "Exercise 2",
        "Depth has a great impact, from 50 % to 55 %.",
        _DIFFERENCE,
        (12, 14),
        larger(ACCURACY, BATCHNORM, DEPTH),
    ),
    Claim(
        "depth-most",
        "Exercise 2",
        "Of the improvements at 25 epochs, depth and augmentation lead; depth helps most.",
        "the gain of each step over the one before: depth's is the largest, its interval above all others",
        (8, 10, 12, 14, 16),
        largest_step((ADAM, NORMALIZE, AUGMENT, BATCHNORM, DEPTH, DROPOUT), 4),
    ),
    Claim(
        "dropout-worse",
        "Exercise 2",
        "At 25 epochs, dropout makes the test results worse.",
        _DIFFERENCE,
        (14, 16),
        smaller(ACCURACY, DEPTH, DROPOUT),
    ),
    Claim(
        "dropout-overfitting",
        "Exercise 2",
        "Dropout lowers the overfitting.",
        _GAP,
        (13, 15),
        smaller(OVERFITTING, DEPTH, DROPOUT),
    ),
    Claim(
        "dropout-slower",
        "Exercise 2",
        "Dropout slows the learning down.",
        "difference of the mean validation accuracies of the first five epochs",
        (14, 16),
        smaller(EARLY, DEPTH, DROPOUT),
    ),
    Claim(
        "epochs-help",
        "Exercise 2",
        "With more epochs the results clearly improve.",
        _DIFFERENCE,
        (16, 18),
        larger(ACCURACY, DROPOUT, STOPPED),
    ),
    Claim(
        "stops-early",
        "Exercise 2",
        "With dropout, early stopping ends the run before 80 epochs (at 57).",
        "every run ends before epoch 80",
        (17, 18),
        each_run(
            (STOPPED,),
            lambda run: run.metrics["epochs"] < run.config["experiment"].get("epochs", 0),
            lambda run: f"{run.metrics['epochs']}",
            "epochs",
        ),
    ),
    Claim(
        "no-dropout-better",
        "Exercise 2",
        "Without dropout the long run is better still.",
        _DIFFERENCE,
        (),
        larger(ACCURACY, STOPPED, WITHOUT),
    ),
    Claim(
        "no-dropout-goes-on",
        "Exercise 2",
        "Without dropout it goes on improving: all 80 epochs run.",
        "no run stops before epoch 80",
        (),
        each_run(
            (WITHOUT,),
            lambda run: run.metrics["epochs"] == run.config["experiment"].get("epochs", 0),
            lambda run: f"{run.metrics['epochs']}",
            "epochs",
        ),
    ),
    Claim(
        "dropout-sooner",
        "Exercise 2",
        "With dropout the best state is reached in fewer epochs than without.",
        "difference of the best epochs",
        (),
        smaller(BEST_EPOCH, WITHOUT, STOPPED),
    ),
    Claim(
        "birds-plateau",
        "Exercise 3",
        "The bird heads overfit quickly: from epochs 4 to 5 on validation stands still.",
        f"every run of the linear head comes within {100 * STABLE:g} point of its best validation accuracy by epoch 5",
        (19, 20),
        each_run((LINEAR,), lambda run: arrival(run) <= 5, lambda run: f"{arrival(run)}", "epochs"),
    ),
    Claim(
        "birds-connected-better",
        "Exercise 3",
        "Three fully connected layers are slightly better than one.",
        _DIFFERENCE,
        (20, 22),
        larger(ACCURACY, LINEAR, CONNECTED),
    ),
    Claim(
        "birds-connected-overfits",
        "Exercise 3",
        "The three layers overfit as the single one does: after a few epochs validation gains no more.",
        "difference of the epochs with the lowest validation loss: not later",
        (19, 21),
        smaller(LOSS_MINIMUM, LINEAR, CONNECTED),
    ),
    Claim(
        "birds-convolution-worse",
        "Exercise 3",
        "A convolution in place of the average pooling makes it worse.",
        f"{_DIFFERENCE}, against both other heads",
        (20, 22, 24),
        all_of(smaller(ACCURACY, LINEAR, CONVOLUTIONAL), smaller(ACCURACY, CONNECTED, CONVOLUTIONAL)),
    ),
    Claim(
        "birds-finetune-similar",
        "Exercise 3",
        "Fine-tuning with SGD is similar to the three layers.",
        _WITHIN,
        (22, 26),
        similar(ACCURACY, CONNECTED, FINETUNE),
    ),
    Claim(
        "birds-adam",
        "Exercise 3",
        "Adam is not good for fine-tuning.",
        _DIFFERENCE,
        (26,),
        smaller(ACCURACY, FINETUNE, (EX3, "finetune,learning-rate=0.001,optimizer=adam")),
    ),
    Claim(
        "wide-better",
        "Bonus",
        "The wide network is much better than that of exercise 2.",
        _DIFFERENCE,
        (18, 28),
        larger(ACCURACY, STOPPED, WIDE),
    ),
    Claim(
        "wide-fewer-epochs",
        "Bonus",
        "The wide network needs fewer epochs (under 40 in place of 57).",
        "difference of the epochs until the run stopped",
        (17, 27),
        smaller(EPOCHS, STOPPED, WIDE),
    ),
    Claim(
        "residual-better",
        "Bonus",
        "Residual connections improve the accuracy.",
        _DIFFERENCE,
        (28, 30),
        larger(ACCURACY, WIDE, RESIDUAL),
    ),
    Claim(
        "residual-longer",
        "Bonus",
        "The residual network trains for more epochs than the plain one.",
        "difference of the epochs until the run stopped",
        (27, 29),
        larger(EPOCHS, WIDE, RESIDUAL),
    ),
)
