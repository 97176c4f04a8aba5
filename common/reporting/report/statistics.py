"""Means, intervals and differences over seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """A quantity over seeds.

    Attributes:
        n: how many runs.
        deviation: sample standard deviation; None of one run.
        low, high: the 95 % Student interval of the mean, n - 1 degrees of freedom; None of one run.
    """

    n: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """How much larger a quantity is in one experiment than in another.

    Attributes:
        mean: the difference of the means.
        low, high: its 95 % interval; None where there are too few runs.
        p: two-sided, of no difference; None where there are too few runs.
        method: "paired by seed", "pooled" or "Welch".
        n: runs, or pairs of runs, that it comes from.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    method: str
    n: tuple[int, ...]


@dataclass(frozen=True)
class Pooled:
    """A standard deviation from several groups that share it, and its degrees of freedom.

    Attributes:
        p_equal: Levene's test that they do share it (Brown and Forsythe 1974: deviations from medians); None of fewer
            than two groups.
    """

    deviation: float
    freedom: int
    p_equal: float | None


def summarize(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation and 95 % Student interval of at least one value."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Summary(n, mean, None, None, None)
    deviation = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(n)
    return Summary(n, mean, deviation, mean - half, mean + half)


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """Second minus first, seed by seed, with the Student interval of the mean difference; None without a common seed.

    Runs of one seed share their validation split and the order of their images, so part of the noise cancels.

    Args:
        first, second: a value for each seed.
    """
    seeds = sorted({*first} & {*second})
    if not seeds:
        return None
    differences = [second[seed] - first[seed] for seed in seeds]
    summary = summarize(differences)
    return Difference(
        summary.mean, summary.low, summary.high, _p_of_zero(summary), "paired by seed", (len(differences),)
    )


def welch_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Second minus first with Welch's interval (Welch 1947), which lets variances and numbers of runs differ.

    No interval without spread in either group, or of a group with one value.
    """
    mean, n = float(np.mean(second) - np.mean(first)), (len(first), len(second))
    if min(n) < 2 or not (np.ptp(first) or np.ptp(second)):
        return Difference(mean, None, None, None, "Welch", n)
    test = stats.ttest_ind(second, first, equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    return Difference(mean, float(interval.low), float(interval.high), float(test.pvalue), "Welch", n)


def pooled_difference(first: Sequence[float], second: Sequence[float], pooled: Pooled) -> Difference:
    """Second minus first, with the interval that a standard deviation shared by more groups than these two gives."""
    n = (len(first), len(second))
    mean = float(np.mean(second) - np.mean(first))
    error = pooled.deviation * math.sqrt(1 / n[0] + 1 / n[1])
    if not error:
        return Difference(mean, None, None, None, "pooled", n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, pooled.freedom)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, pooled.freedom))
    return Difference(mean, mean - half, mean + half, p, "pooled", n)


def pool(groups: Sequence[Sequence[float]]) -> Pooled | None:
    """The standard deviation that groups of values share; None if no group has two values."""
    groups = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return None
    squares = sum(float(np.var(group, ddof=1)) * (len(group) - 1) for group in groups)
    p = float(stats.levene(*groups, center="median").pvalue) if len(groups) > 1 else None
    return Pooled(math.sqrt(squares / freedom), freedom, p)


def _p_of_zero(summary: Summary) -> float | None:
    if not summary.deviation:
        return None
    t = summary.mean / (summary.deviation / math.sqrt(summary.n))
    return float(2 * stats.t.sf(abs(t), summary.n - 1))
