import copy
from dataclasses import replace

import pytest
from conftest import ROOT

import ex1_basenet
import ex3_resnet_birds
from common.reporting.run_folder import Run, read_run
from common.reporting.tables import grid_table, mean_and_deviation, result_line, table

RUNS = [read_run(ROOT / f"published/cifar100/ex1_basenet/sgd/seed-{seed}") for seed in (0, 1, 2)]
BIRDS = read_run(ROOT / "published/cub200/ex3_resnet_birds/linear/seed-0")
REPORTED = ex1_basenet.EXERCISE.reported


def changed(run: Run, **changes) -> Run:
    """The run with another configuration: ``dataset`` and the like are merged, other keys replaced."""
    config = copy.deepcopy(run.config)
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return replace(run, config=config)


def test_the_table_has_seeds_mean_deviation_and_the_difference_to_the_report():
    title, _, row = table(RUNS, REPORTED).splitlines()
    assert title == "cifar100, test images"
    cells = row.split()
    accuracies = [run.metrics["test_accuracy"] for run in RUNS]
    assert cells[:4] == ["sgd", "0", "1", "2"]
    assert " ".join(cells[4:7]) == mean_and_deviation(accuracies)
    assert float(cells[7]) == pytest.approx(0.4416, abs=1e-4)
    assert float(cells[8]) == pytest.approx(sum(accuracies) / 3 - 0.4416, abs=1e-4)


def test_the_report_s_number_stands_only_beside_its_own_images():
    why = "not the report's 25 classes of CIFAR-100, whole"
    other = changed(RUNS[0], dataset={"not_comparable": why})
    *_, row, reason = table([other], REPORTED).splitlines()
    assert row.split()[-2:] == ["-", "-"]
    assert reason == f"(not comparable with the report: {why})"
    *_, row, _ = table([RUNS[1], other], REPORTED).splitlines()  # nor beside a mean that such a run is part of
    assert row.split()[-2:] == ["-", "-"]


def test_the_report_s_number_stands_only_beside_the_variant_as_it_is():
    turned = [changed(run, name="sgd,epochs=3") for run in RUNS]
    *_, as_it_is, other = table([*RUNS, *turned], REPORTED).splitlines()
    assert as_it_is.split()[-2] == "0.4416"
    assert other.split()[0] == "sgd,epochs=3" and other.split()[-2:] == ["-", "-"]
    unknown = changed(RUNS[0], name="mine", variant="mine")
    assert table([unknown], REPORTED).splitlines()[-1].split()[-2:] == ["-", "-"]


def test_no_published_run_on_cropped_birds_stands_beside_the_report_s_number():
    assert BIRDS.not_comparable
    reported = ex3_resnet_birds.EXERCISE.reported
    *_, row, reason = table([BIRDS], reported).splitlines()
    assert row.split()[-2:] == ["-", "-"] and BIRDS.not_comparable in reason
    official = changed(BIRDS, dataset={"not_comparable": None})
    assert table([official], reported).splitlines()[-1].split()[-2] == "0.4385"


def test_the_line_of_a_run_has_its_folder_interval_and_evaluated_epoch():
    line, metrics = result_line(RUNS[0]), RUNS[0].metrics
    low, high = metrics["test_accuracy_interval"]
    assert str(RUNS[0].folder) in line
    assert f"test accuracy {metrics['test_accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})" in line
    assert f"{metrics['epochs']} epochs (evaluated: {metrics['evaluated_epoch']})" in line
    assert " 1 epoch (" in result_line(replace(RUNS[0], metrics={**metrics, "epochs": 1}))


def test_mean_and_sample_standard_deviation():
    assert mean_and_deviation([0.1, 0.2, 0.3]) == "0.2000 ± 0.1000"
    assert mean_and_deviation([0.25]) == "0.2500"


def test_a_grid_is_ranked_by_validation_accuracy_and_shows_the_best_one_s_test_accuracy_alone():
    """Of the published runs of exercise 1: Adam is ahead of SGD on the validation images."""
    folder = ROOT / "published/cifar100/ex1_basenet"
    runs = [read_run(folder / name / f"seed-{seed}") for name in ("sgd", "adam") for seed in (0, 1)]
    title, _, first, second, hint = grid_table(runs, show_test=False).splitlines()
    assert title == "cifar100, best on the validation images first"
    validation, test = (
        mean_and_deviation([run.metrics[key] for run in runs[2:]]) for key in ("val_accuracy", "test_accuracy")
    )
    assert first.split("  ", 1)[0] == "adam" and first.endswith(test) and validation in first
    assert second.split()[0] == "sgd" and second.endswith("-") and "--show-test" in hint
    whole = grid_table(runs, show_test=True)
    assert mean_and_deviation([run.metrics["test_accuracy"] for run in runs[:2]]) in whole
    assert "--show-test" not in whole
