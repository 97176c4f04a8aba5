import copy
from dataclasses import replace

import pytest
from conftest import ROOT

import ex1_basenet
import ex3_resnet_birds
from common.results import read_run
from common.summary import mean_and_deviation, table

RUNS = [read_run(ROOT / f"docs/results/cifar100/ex1_basenet/sgd/seed-{seed}") for seed in (0, 1, 2)]


def test_the_table_has_seeds_mean_deviation_and_the_difference_to_the_report():
    cells = table([ex1_basenet.SGD], RUNS).splitlines()[-1].split()
    accuracies = [run.metrics["test_accuracy"] for run in RUNS]
    assert cells[:4] == ["sgd", "0", "1", "2"]
    assert " ".join(cells[4:7]) == mean_and_deviation(accuracies)
    assert float(cells[7]) == pytest.approx(0.4416, abs=1e-4)
    assert float(cells[8]) == pytest.approx(sum(accuracies) / 3 - 0.4416, abs=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "synthetic"},
        {"training_images": 100},
        {"classes": ["apple", *(f"trout {i}" for i in range(24))]},
        {"classes": ["apple", "baby"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_report_s_number_stands_only_beside_its_own_images(change):
    config = copy.deepcopy(RUNS[0].config)
    config["dataset"].update(change)
    assert table([ex1_basenet.SGD], [replace(RUNS[0], config=config)]).splitlines()[-1].split()[-2:] == ["-", "-"]


def test_the_report_s_number_stands_only_beside_birds_of_its_size():
    run = read_run(ROOT / "docs/results/cub200/ex3_resnet_birds/linear/seed-0")
    assert table([ex3_resnet_birds.LINEAR], [run]).split()[-2] == "0.4385"
    small = replace(run, config=run.config | {"images": {"size": 64, "resize": "squash"}})
    assert table([ex3_resnet_birds.LINEAR], [small]).split()[-2:] == ["-", "-"]


def test_mean_and_sample_standard_deviation():
    assert mean_and_deviation([0.1, 0.2, 0.3]) == "0.2000 ± 0.1000"
    assert mean_and_deviation([0.25]) == "0.2500"
