"""Is a printed number reproduced? One rule for every row, and one test for all of them together.

The report's number is one run, of an unknown seed, on the same official test images as ours. Were the report's
procedure ours, its number would be one more draw from the distribution that our runs with other seeds come from.
For n runs with mean m and a printed number r,

    t = (r - m) / (s · sqrt(1 + 1/n))

then follows Student's distribution: s²  is the variance of the one printed run, s²/n that of our mean. The rule
does not add the binomial variance p (1 - p) / N of a test set of N images: both sides were tested on the same
images, so whether those are easy or hard cancels in the difference. That different networks err on different ones of
those N images does not cancel; it is in s, which is measured over networks on these very images.

Two or three runs say little on a standard deviation. So s is pooled over all rows that compare with the report, and
has the degrees of freedom of all of them together; Levene's test says whether they share one. Losses, which range
from 0.8 to 2.4, are compared by their logarithms.

Because readers may ask what would follow if the test images were drawn anew for each side, every row also has the
same quotient with 2 p (1 - p) / N added to the variance; it decides nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from common.reporting.report.statistics import CONFIDENCE, Pooled, pool, summarize

REPRODUCED, BETTER, WORSE = "reproduced within noise", "better", "worse"


@dataclass(frozen=True)
class Row:
    """A printed number and the runs beside it.

    Attributes:
        name: of the experiment.
        printed: the report's number.
        values: ours, one a run.
        test_images: how many; of a loss, None.
        higher_is_better: True of an accuracy, False of a loss.
    """

    name: str
    printed: float
    values: Sequence[float]
    test_images: int | None = None
    higher_is_better: bool = True


@dataclass(frozen=True)
class Verdict:
    """What the rule says of a row.

    Attributes:
        word: ``REPRODUCED``, ``BETTER`` or ``WORSE``: ours than the report's.
        t: (ours - printed) / its standard error, in units of which ``critical`` ends "within noise".
        p: two-sided, of the printed run being one of ours.
        t_new_images: the same quotient had each side test images of its own; None of a loss.
    """

    word: str
    t: float
    critical: float
    p: float
    t_new_images: float | None


@dataclass(frozen=True)
class JointTest:
    """All rows at once.

    Attributes:
        rows: how many.
        f: mean of the squares of the rows' t; follows F(rows, freedom) if every printed number is one of our runs.
        p: of a mean as large or larger.
        mean_t: of the rows; below 0: the report's numbers are better than ours, above 0: ours.
        p_mean: two-sided, of their mean being 0: whether the rows lean to one side together.
        smallest_p: the smallest p of a row after Holm's correction for as many rows.
    """

    rows: int
    freedom: int
    f: float
    p: float
    mean_t: float
    p_mean: float
    smallest_p: float


def pool_rows(rows: Sequence[Row]) -> Pooled | None:
    """The standard deviation over seeds that the rows share: of accuracies, or of the logarithms of losses."""
    return pool([_scaled(row) for row in rows])


def judge(row: Row, pooled: Pooled) -> Verdict:
    """The verdict on a row, with the standard deviation over seeds of all rows."""
    values, printed = _scaled(row), _scale(row, row.printed)
    n = len(values)
    difference = summarize(values).mean - printed
    variance = pooled.deviation**2 * (1 + 1 / n)
    t = difference / math.sqrt(variance)
    critical = float(stats.t.ppf((1 + CONFIDENCE) / 2, pooled.freedom))
    is_better = (difference > 0) == row.higher_is_better
    word = REPRODUCED if abs(t) <= critical else BETTER if is_better else WORSE
    t_new_images = None
    if row.test_images:
        accuracy = summarize(values).mean
        t_new_images = difference / math.sqrt(variance + 2 * accuracy * (1 - accuracy) / row.test_images)
    return Verdict(word, t, critical, float(2 * stats.t.sf(abs(t), pooled.freedom)), t_new_images)


def joint_test(verdicts: Sequence[Verdict], pooled: Pooled) -> JointTest | None:
    """Whether all printed numbers together can be runs of ours; None without rows.

    The rows' numerators are independent, and share the pooled standard deviation: mean of squares over the same
    variance, hence F. Their sum over the square root of their number is a Student t.
    """
    k = len(verdicts)
    if not k:
        return None
    f = sum(verdict.t**2 for verdict in verdicts) / k
    mean_t = sum(verdict.t for verdict in verdicts) / k
    return JointTest(
        rows=k,
        freedom=pooled.freedom,
        f=f,
        p=float(stats.f.sf(f, k, pooled.freedom)),
        mean_t=mean_t,
        p_mean=float(2 * stats.t.sf(abs(mean_t) * math.sqrt(k), pooled.freedom)),
        smallest_p=min(1.0, k * min(verdict.p for verdict in verdicts)),
    )


def _scale(row: Row, value: float) -> float:
    return value if row.higher_is_better else math.log(value)


def _scaled(row: Row) -> list[float]:
    return [_scale(row, value) for value in row.values]
