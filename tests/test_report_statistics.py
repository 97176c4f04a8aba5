"""The page's statistics, against SciPy and numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from common.reporting.report import statistics, verdicts
from common.reporting.report.verdicts import Row


def test_a_summary_has_the_students_interval_of_the_mean():
    values = [0.428, 0.4356, 0.4292]
    summary = statistics.summarize(values)
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (summary.n, summary.mean) == (3, pytest.approx(np.mean(values)))
    assert summary.deviation == pytest.approx(np.std(values, ddof=1))
    assert (summary.low, summary.high) == pytest.approx(expected)


def test_one_run_has_a_mean_and_no_interval():
    summary = statistics.summarize([0.5])
    assert (summary.n, summary.mean, summary.deviation, summary.low, summary.high) == (1, 0.5, None, None, None)


def test_paired_differences_take_common_seeds_only():
    first, second = {0: 0.50, 1: 0.52, 2: 0.51, 7: 0.9}, {0: 0.53, 1: 0.54, 2: 0.55, 9: 0.1}
    difference = statistics.paired_difference(first, second)
    test = stats.ttest_rel([0.53, 0.54, 0.55], [0.50, 0.52, 0.51])
    interval = test.confidence_interval(0.95)
    assert difference.n == (3,)
    assert difference.mean == pytest.approx(0.03)
    assert difference.p == pytest.approx(test.pvalue)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))
    assert statistics.paired_difference({0: 1.0}, {1: 1.0}) is None


def test_welchs_interval_is_scipys_and_one_run_has_none():
    first, second = [0.736, 0.7416, 0.7636, 0.7668, 0.7492], [0.7436, 0.7236, 0.7348]
    difference = statistics.welch_difference(second, first)
    test = stats.ttest_ind(first, second, equal_var=False)
    assert difference.p == pytest.approx(test.pvalue)
    assert (difference.low, difference.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    alone = statistics.welch_difference([0.5], [0.6])
    assert alone.mean == pytest.approx(0.1)
    assert alone.low is None and alone.p is None
    assert statistics.welch_difference([3, 3], [3, 3]).low is None


def test_a_pooled_deviation_of_two_groups_is_that_of_students_two_sample_test():
    first, second = [1.0, 2.0, 4.0], [3.0, 3.5, 5.0, 6.0]
    pooled = statistics.pool([first, second, [9.0]])
    difference = statistics.pooled_difference(first, second, pooled)
    test = stats.ttest_ind(second, first)
    assert pooled.freedom == 5
    assert difference.p == pytest.approx(test.pvalue)
    assert (difference.low, difference.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert statistics.pool([[1.0], [2.0]]) is None


def test_the_verdict_is_a_prediction_interval_for_one_more_run():
    row = Row("a", printed=0.55, values=[0.50, 0.51, 0.52], test_images=2500)
    pooled = verdicts.pool_rows([row])
    verdict = verdicts.judge(row, pooled)
    assert verdict.t == pytest.approx((0.51 - 0.55) / (0.01 * math.sqrt(4 / 3)))
    assert verdict.critical == pytest.approx(stats.t.ppf(0.975, 2))
    assert verdict.word == verdicts.REPRODUCED  # 3.46 standard errors, of 4.30 with two degrees of freedom
    wider = math.sqrt(1e-4 * 4 / 3 + 2 * 0.51 * 0.49 / 2500)
    assert verdict.t_new_images == pytest.approx(-0.04 / wider)


@pytest.mark.parametrize(
    "printed, word", [(0.40, verdicts.BETTER), (0.60, verdicts.WORSE), (0.51, verdicts.REPRODUCED)]
)
def test_better_and_worse_are_ours(printed, word):
    rows = [Row("a", printed, [0.50, 0.51, 0.52]), *(Row("b", 0.5, [0.5, 0.51, 0.52]) for _ in range(9))]
    assert verdicts.judge(rows[0], verdicts.pool_rows(rows)).word == word


def test_of_losses_the_lower_is_the_better():
    rows = [Row("a", 2.3, [1.0, 1.02, 1.04], higher_is_better=False) for _ in range(5)]
    assert verdicts.judge(rows[0], verdicts.pool_rows(rows)).word == verdicts.BETTER
    worse = Row("a", 0.5, [1.0, 1.02, 1.04], higher_is_better=False)
    assert verdicts.judge(worse, verdicts.pool_rows(rows)).word == verdicts.WORSE


def test_under_the_null_hypothesis_verdicts_and_joint_tests_err_as_often_as_they_say():
    random = np.random.default_rng(0)
    beyond, joint, leaning, trials = 0, 0, 0, 150
    for _ in range(trials):
        rows = [Row("r", *draw) for draw in ((each[0], each[1:]) for each in random.normal(0.5, 0.01, (8, 4)))]
        pooled = verdicts.pool_rows(rows)
        judged = [verdicts.judge(row, pooled) for row in rows]
        test = verdicts.joint_test(judged, pooled)
        beyond += sum(each.word != verdicts.REPRODUCED for each in judged)
        joint += test.p < 0.05
        leaning += test.p_mean < 0.05
    assert beyond / (8 * trials) == pytest.approx(0.05, abs=0.02)
    assert joint / trials == pytest.approx(0.05, abs=0.045)
    assert leaning / trials == pytest.approx(0.05, abs=0.045)


def test_the_joint_test_finds_what_no_single_row_shows():
    rows = [Row("r", 0.515, [0.49, 0.50, 0.51]) for _ in range(11)]
    pooled = verdicts.pool_rows(rows)
    judged = [verdicts.judge(row, pooled) for row in rows]
    test = verdicts.joint_test(judged, pooled)
    assert {each.word for each in judged} == {verdicts.REPRODUCED}
    assert test.p_mean < 0.001
    assert test.mean_t < 0
    assert verdicts.joint_test([], pooled) is None
