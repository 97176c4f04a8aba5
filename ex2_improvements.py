"""Exercise 2: BaseNet improved one step at a time. Every variant keeps what the ones before it added.

    python ex2_improvements.py                    the network the report ends with: early-stopping
    python ex2_improvements.py --variant dropout
    python ex2_improvements.py --variant dropout --no-augment
    python ex2_improvements.py --variant all --seed 0 1 2

The report goes from 0.443 (normalize) to 0.596 (early-stopping) and 0.614 (early-stopping-no-dropout).
"""

import sys

from common import cli
from common.experiment import Exercise, Experiment, GradientDescent, Reported

NORMALIZE = Experiment(
    name="normalize",
    description="BaseNet, inputs with mean 0 and variance 1",
    network="basenet",
    batch_normalization="none",
    deep=False,
    dropout=0.0,
    normalize=True,
    learning=GradientDescent(epochs=25, batch_size=64),
)
AUGMENT = NORMALIZE.vary("augment", "+ flips, shifts, zooms and rotations of the training images", augment=True)
BATCHNORM = AUGMENT.vary("batchnorm", "+ batch normalisation before each ReLU", batch_normalization="before-relu")
BATCHNORM_AFTER_RELU = BATCHNORM.vary(
    "batchnorm-after-relu",
    "batch normalisation after each ReLU instead (the report: similar)",
    batch_normalization="after-relu",
)
DEPTH = BATCHNORM.vary("depth", "+ a wider convolution before each pooling", deep=True)
DROPOUT = DEPTH.vary("dropout", "+ dropout 0.2 before both fully connected layers", dropout=0.2)
EARLY_STOPPING = DROPOUT.vary(
    "early-stopping", "+ up to 80 epochs, early stopping with patience 10, best weights back", epochs=80, patience=10
)
EARLY_STOPPING_NO_DROPOUT = EARLY_STOPPING.vary(
    "early-stopping-no-dropout", "early stopping, but without dropout", dropout=0.0
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
    reported={
        "normalize": Reported(loss=2.190531015396118, accuracy=0.44279998540878296, figures=(7, 8)),
        "augment": Reported(loss=1.698938250541687, accuracy=0.5012000203132629, figures=(9, 10)),
        "batchnorm": Reported(loss=1.6722393035888672, accuracy=0.49959999322891235, figures=(11, 12)),
        "depth": Reported(loss=1.4685183763504028, accuracy=0.5523999929428101, figures=(13, 14)),
        "dropout": Reported(loss=1.557310700416565, accuracy=0.5267999768257141, figures=(15, 16)),
        "early-stopping": Reported(loss=1.319244623184204, accuracy=0.5964000225067139, figures=(17, 18)),
        "early-stopping-no-dropout": Reported(loss=1.2524240016937256, accuracy=0.6140000224113464),
    },
    threads=1,
)

if __name__ == "__main__":
    sys.exit(cli.main(EXERCISE))
