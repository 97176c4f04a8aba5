"""The bonus: a BaseNet wide enough for residual connections, with and without them, and what follows from it.

    python bonus_residual.py                      the network the report ends with: residual
    python bonus_residual.py --variant wide residual --seed 0 1 2

The report reaches 0.703 (wide) and 0.745 (residual).
"""

import sys
from dataclasses import replace

from common import cli
from common.experiment import Exercise, Experiment, Reported

RESIDUAL = Experiment(
    name="residual",
    description="the wide network with a shortcut around each pair of 3×3 convolutions",
    network="residual",
    normalize=True,
    augment=True,
    epochs=80,
    patience=10,
    reported=Reported(loss=0.8284435272216797, accuracy=0.745199978351593, figures=(29, 30)),
)
WIDE = replace(
    RESIDUAL,
    name="wide",
    description="a wider BaseNet with every improvement of exercise 2, up to 80 epochs with early stopping",
    network_options={"shortcuts": False},
    reported=Reported(loss=0.9592517614364624, accuracy=0.7027999758720398, figures=(27, 28)),
)

# The report's next steps, at about the multiply-adds of the residual network: more of what is cheaper, or narrower.
BOTTLENECK = replace(
    RESIDUAL,
    name="bottleneck",
    description="five modules a size, each 1×1, 3×3, 1×1 with half the channels inside",
    network_options={"modules": 5, "module": "bottleneck"},
    reported=None,
)
DEEPER = replace(
    RESIDUAL,
    name="deeper",
    description="two modules a size in place of one, the first size half as wide",
    network_options={"modules": 2, "widths": [16, 64]},
    reported=None,
)
DEEPER_3 = replace(
    DEEPER,
    name="deeper-3",
    description="three modules a size, narrower in both",
    network_options={"modules": 3, "widths": [16, 48]},
)
SELF_CALIBRATED = replace(
    RESIDUAL,
    name="self-calibrated",
    description="self-calibrated convolutions in place of the modules' 3×3 ones",
    network_options={"module": "self-calibrated"},
    reported=None,
)

# Past the report: how the residual network is trained, one step at a time, each with the steps before it.
LABEL_SMOOTHING = replace(
    RESIDUAL,
    name="label-smoothing",
    description="the residual network with a tenth of each label spread over all classes",
    label_smoothing=0.1,
    reported=None,
)
WEIGHT_DECAY = replace(
    LABEL_SMOOTHING,
    name="weight-decay",
    description="AdamW, weight decay 0.05, 40 epochs whose rate warms up to 0.003 and falls to 0 along a cosine",
    learning_rate=0.003,
    epochs=40,
    warmup=0.1,
    patience=None,
    weight_decay=0.05,
)
FLIP_AVERAGE = replace(
    WEIGHT_DECAY,
    name="flip-average",
    description="what the network says of an image is averaged with what it says of its mirror image",
    flip_average=True,
)
CHAMPION = replace(
    FLIP_AVERAGE,
    name="champion",
    description="60 such epochs of a residual network with more channels and global average pooling",
    network="compact",
    epochs=60,
)

EXERCISE = Exercise(
    name="bonus_residual",
    description="The bonus: a wide BaseNet, plain and with residual connections, and what follows from it.",
    experiments=(
        WIDE,
        RESIDUAL,
        BOTTLENECK,
        DEEPER,
        DEEPER_3,
        SELF_CALIBRATED,
        LABEL_SMOOTHING,
        WEIGHT_DECAY,
        FLIP_AVERAGE,
        CHAMPION,
    ),
    default=("residual",),
)

if __name__ == "__main__":
    sys.exit(cli.main(EXERCISE))
