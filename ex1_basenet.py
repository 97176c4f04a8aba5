"""Exercise 1: BaseNet on 25 classes of CIFAR-100, with SGD and with Adam.

    python ex1_basenet.py                         both optimisers, then one figure that compares them
    python ex1_basenet.py --variant adam --seed 0 1 2
    python ex1_basenet.py --dataset synthetic     without any data set

Two convolutions, two fully connected layers, 24,197 parameters, pixels in 0..1, 25 epochs.
The report reaches 0.442 with SGD and 0.451 with Adam on the test images.
"""

import sys

from common import cli
from common.experiment import Component, Exercise, Experiment, GradientDescent, Reported

ADAM = Experiment(
    name="adam",
    description="BaseNet, Adam",
    network="basenet",
    batch_normalization="none",
    deep=False,
    dropout=0.0,
    learning=GradientDescent(epochs=25, batch_size=64),
)
SGD = ADAM.vary(
    name="sgd",
    description="BaseNet, SGD with Nesterov momentum",
    optimizer=Component("SGD", {"momentum": 0.9, "nesterov": True}),
    learning_rate=0.01,
    schedule=Component("InverseTimeDecay", {"decay_steps": 1, "decay_rate": 1e-6}),
)

EXERCISE = Exercise(
    name="ex1_basenet",
    description="Exercise 1: BaseNet on 25 classes of CIFAR-100, with SGD and with Adam.",
    experiments=(SGD, ADAM),
    default=("sgd", "adam"),
    reported={
        "sgd": Reported(loss=2.3230772018432617, accuracy=0.4415999948978424, figures=(1, 2)),
        "adam": Reported(loss=1.9802031517028809, accuracy=0.451200008392334, figures=(3, 4)),
    },
    threads=1,
    compare=("sgd", "adam"),
)

if __name__ == "__main__":
    sys.exit(cli.main(EXERCISE))
