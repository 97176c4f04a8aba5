"""Exercise 2: BaseNet improved one step at a time. Every variant keeps what the ones before it added.

    python ex2_improvements.py                    the network the report ends with: early-stopping
    python ex2_improvements.py --variant dropout
    python ex2_improvements.py --variant all --seed 0 1 2

The report goes from 0.443 (normalize) to 0.596 (early-stopping) and 0.614 (early-stopping-no-dropout).
"""

import sys
from dataclasses import replace

from common import cli
from common.experiment import Exercise, Experiment, Reported

NORMALIZE = Experiment(
    name="normalize",
    description="BaseNet, inputs with mean 0 and variance 1",
    network="basenet",
    normalize=True,
    reported=Reported(loss=2.190531015396118, accuracy=0.44279998540878296, figures=(7, 8)),
)
AUGMENT = replace(
    NORMALIZE,
    name="augment",
    description="+ flips, shifts, zooms and rotations of the training images",
    augment=True,
    reported=Reported(loss=1.698938250541687, accuracy=0.5012000203132629, figures=(9, 10)),
)
BATCHNORM = replace(
    AUGMENT,
    name="batchnorm",
    description="+ batch normalisation before each ReLU",
    network_options={"batch_normalization": "before-relu"},
    reported=Reported(loss=1.6722393035888672, accuracy=0.49959999322891235, figures=(11, 12)),
)
BATCHNORM_AFTER_RELU = replace(
    BATCHNORM,
    name="batchnorm-after-relu",
    description="batch normalisation after each ReLU instead (the report: similar)",
    network_options={"batch_normalization": "after-relu"},
    reported=None,
)
DEPTH = replace(
    BATCHNORM,
    name="depth",
    description="+ a wider convolution before each pooling",
    network_options={**BATCHNORM.network_options, "deep": True},
    reported=Reported(loss=1.4685183763504028, accuracy=0.5523999929428101, figures=(13, 14)),
)
DROPOUT = replace(
    DEPTH,
    name="dropout",
    description="+ dropout 0.2 before both fully connected layers",
    network_options={**DEPTH.network_options, "dropout": 0.2},
    reported=Reported(loss=1.557310700416565, accuracy=0.5267999768257141, figures=(15, 16)),
)
EARLY_STOPPING = replace(
    DROPOUT,
    name="early-stopping",
    description="+ up to 80 epochs, early stopping with patience 10, best weights back",
    epochs=80,
    patience=10,
    reported=Reported(loss=1.319244623184204, accuracy=0.5964000225067139, figures=(17, 18)),
)
EARLY_STOPPING_NO_DROPOUT = replace(
    EARLY_STOPPING,
    name="early-stopping-no-dropout",
    description="early stopping, but without dropout",
    network_options=DEPTH.network_options,
    reported=Reported(loss=1.2524240016937256, accuracy=0.6140000224113464),
)

EXERCISE = Exercise(
    name="ex2_improvements",
    description="Exercise 2: BaseNet improved one step at a time; every variant keeps the steps before it.",
    experiments=(
        NORMALIZE,
        AUGMENT,
        BATCHNORM,
        BATCHNORM_AFTER_RELU,
        DEPTH,
        DROPOUT,
        EARLY_STOPPING,
        EARLY_STOPPING_NO_DROPOUT,
    ),
    default=("early-stopping",),
)

if __name__ == "__main__":
    sys.exit(cli.main(EXERCISE))
