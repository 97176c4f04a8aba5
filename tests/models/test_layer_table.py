import pytest

import ex1_basenet
import ex2_improvements
from common.models.layer_table import layer_table, multiply_adds
from common.trial import build_network

BASENET = """
| 1 | Conv2D | 5 | 32 → 28 | 3 → 6 |
| 2 | Relu | - | 28 → 28 | - |
| 3 | MaxPooling2D | 2 | 28 → 14 | - |
| 4 | Conv2D | 5 | 14 → 10 | 6 → 16 |
| 5 | Relu | - | 10 → 10 | - |
| 6 | MaxPooling2D | 2 | 10 → 5 | - |
| 7 | Linear | - | 400 → 50 | - |
| 8 | Relu | - | 50 → 50 | - |
| 9 | Linear | - | 50 → 25 | - |
"""
IMPROVED = """
| 1 | Conv2D | 5 | 32 → 28 | 3 → 6 |
| 2 | BatchNormalization | - | 28 → 28 | - |
| 3 | Relu | - | 28 → 28 | - |
| 4 | Conv2D, same padding | 3 | 28 → 28 | 6 → 24 |
| 5 | BatchNormalization | - | 28 → 28 | - |
| 6 | Relu | - | 28 → 28 | - |
| 7 | MaxPooling2D | 2 | 28 → 14 | - |
| 8 | Conv2D | 5 | 14 → 10 | 24 → 16 |
| 9 | BatchNormalization | - | 10 → 10 | - |
| 10 | Relu | - | 10 → 10 | - |
| 11 | Conv2D, same padding | 3 | 10 → 10 | 16 → 64 |
| 12 | BatchNormalization | - | 10 → 10 | - |
| 13 | Relu | - | 10 → 10 | - |
| 14 | MaxPooling2D | 2 | 10 → 5 | - |
| 15 | Conv2D | 1 | 5 → 5 | 64 → 16 |
| 16 | BatchNormalization | - | 5 → 5 | - |
| 17 | Relu | - | 5 → 5 | - |
| 18 | Dropout (0.2) | - | 5 → 5 | - |
| 19 | Linear | - | 400 → 50 | - |
| 20 | BatchNormalization | - | 50 → 50 | - |
| 21 | Relu | - | 50 → 50 | - |
| 22 | Dropout (0.2) | - | 50 → 50 | - |
| 23 | Linear | - | 50 → 25 | - |
"""


@pytest.mark.parametrize(
    ("experiment", "lines", "parameters"),
    [
        (ex1_basenet.SGD, BASENET, "24,197"),
        (ex1_basenet.ADAM, BASENET, "24,197"),
        (ex2_improvements.DROPOUT, IMPROVED, "43,741"),
        (ex2_improvements.EARLY_STOPPING, IMPROVED, "43,741"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_tables_are_the_report_s(experiment, lines, parameters):
    table = layer_table(build_network(experiment, (32, 32, 3), 25)).splitlines()
    assert table[:2] == ["| no. | layer | kernel | size | channels |", "|---|---|---|---|---|"]
    assert table[2:-2] == lines.strip().splitlines()
    assert table[-1] == f"{parameters} parameters"


def layers_of(experiment):
    table = layer_table(build_network(experiment, (32, 32, 3), 25)).splitlines()[2:-2]
    return [line.split(" | ")[1].split(",")[0].split(" (")[0] for line in table]


def test_each_variant_of_exercise_2_adds_its_layers():
    plain = layers_of(ex2_improvements.AUGMENT)
    before = layers_of(ex2_improvements.BATCHNORM)
    after = layers_of(ex2_improvements.BATCHNORM_AFTER_RELU)
    assert [name for name in before if name != "BatchNormalization"] == plain
    assert [name for name in after if name != "BatchNormalization"] == plain
    assert before[:3] == ["Conv2D", "BatchNormalization", "Relu"]
    assert after[:3] == ["Conv2D", "Relu", "BatchNormalization"]
    assert layers_of(ex2_improvements.DEPTH) == layers_of(ex2_improvements.EARLY_STOPPING_NO_DROPOUT)
    assert [n for n in layers_of(ex2_improvements.DROPOUT) if n != "Dropout"] == layers_of(ex2_improvements.DEPTH)


def test_multiply_adds_are_those_of_convolutions_and_linear_layers():
    model = build_network(ex1_basenet.ADAM, (32, 32, 3), 25)
    first, second = 28 * 28 * 6 * 5 * 5 * 3, 10 * 10 * 16 * 5 * 5 * 6
    assert multiply_adds(model) == first + second + 400 * 50 + 50 * 25
