import pytest

from common.reporting import cost


def test_a_run_with_half_the_threads_of_those_published_is_expected_to_take_twice_as_long():
    runs = cost.published("bonus_residual", "champion,precision=bfloat16")
    assert {row["threads"] for run in runs for row in run.environment} == {2}
    as_published = cost.seconds(runs, None)
    assert cost.seconds(runs, None, threads=1) == pytest.approx(2 * as_published)
    assert cost.seconds(runs, None, threads=2) == cost.seconds(runs, None, threads=8) == as_published


def test_fewer_epochs_and_images_take_less_in_proportion_and_more_do_not_take_more():
    runs = cost.published("ex1_basenet", "adam")
    whole = cost.seconds(runs, 25)
    assert cost.seconds(runs, 5) == pytest.approx(whole / 5)
    assert cost.seconds(runs, 25, images_per_class=45) == pytest.approx(whole / 10)
    assert cost.seconds(runs, 500, images_per_class=10_000) == whole
