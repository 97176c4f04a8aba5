"""The bonus: a BaseNet wide enough for residual connections, with and without them, and what follows from it.

    python bonus_residual.py                      the network the report ends with: residual
    python bonus_residual.py --variant wide residual --seed 0 1 2
    python bonus_residual.py --variant champion --precision bfloat16

The report reaches 0.703 (wide) and 0.745 (residual).
"""

import sys

from common import cli
from common.experiment import Component, Exercise, Experiment, GradientDescent, Reported

RESIDUAL = Experiment(
    name="residual",
    description="the wide network with a shortcut around each pair of 3×3 convolutions",
    network="residual",
    shortcuts=True,
    block="plain",
    blocks=1,
    widths=(32, 64),
    dropout=0.5,
    normalize=True,
    augment=True,
    learning=GradientDescent(epochs=80, patience=10),
)
WIDE = RESIDUAL.vary(
    "wide",
    "a wider BaseNet with every improvement of exercise 2, up to 80 epochs with early stopping",
    shortcuts=False,
)

# The report's next steps, at about the multiply-adds of the residual network: more of what is cheaper, or narrower.
BOTTLENECK = RESIDUAL.vary(
    "bottleneck",
    "five blocks a stage, each 1×1, 3×3, 1×1 with half the channels inside",
    blocks=5,
    block="bottleneck",
)
DEEPER = RESIDUAL.vary(
    "deeper", "two blocks a stage in place of one, the first stage half as wide", blocks=2, widths=(16, 64)
)
DEEPER_3 = DEEPER.vary("deeper-3", "three blocks a stage, narrower in both", blocks=3, widths=(16, 48))
SELF_CALIBRATED = RESIDUAL.vary(
    "self-calibrated", "self-calibrated convolutions in place of the blocks' 3×3 ones", block="self-calibrated"
)

# Past the report: how the residual network is trained, one step at a time, each with the steps before it.
LABEL_SMOOTHING = RESIDUAL.vary(
    "label-smoothing",
    "the residual network with a tenth of each label spread over all classes",
    label_smoothing=0.1,
)
WEIGHT_DECAY = LABEL_SMOOTHING.vary(
    "weight-decay",
    "AdamW, weight decay 0.05, 40 epochs whose rate warms up to 0.003 and falls to 0 along a cosine",
    learning_rate=0.003,
    epochs=40,
    schedule=Component("CosineDecay"),
    warmup=0.1,
    patience=None,
    weight_decay=0.05,
)
FLIP_AVERAGE = WEIGHT_DECAY.vary(
    "flip-average",
    "test-time augmentation: logits are the mean over an image and its mirror image",
    test_time_augmentation=True,
)
# Keeps the smoothed labels, the schedule and the mirror image; Muon takes the place of AdamW.
CHAMPION = FLIP_AVERAGE.vary(
    "champion",
    "a residual network with more channels and global average pooling, trained for 45 epochs with Muon and CutMix",
    network="resnet9",
    widths=(48, 96, 192, 384),
    epochs=45,
    batch_size=128,
    optimizer=Component("Muon"),
    learning_rate=0.04,
    weight_decay=0.02,
    cutmix=0.5,
    shortcuts=None,
    block=None,
    blocks=None,
    dropout=None,
)
# Seconds count, not epochs: the report's accuracy in a minute or so.
FAST = CHAMPION.vary(
    "fast",
    "the report's accuracy in a minute: six epochs of Muon, a network with few operations on many pixels",
    network="resnet7",
    widths=(64, 128, 256),
    augmentation="shift",
    epochs=6,
    warmup=0.2,
    weight_decay=0.0,
    cutmix=0.0,
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
        FAST,
    ),
    default=("residual",),
    reported={
        "wide": Reported(loss=0.9592517614364624, accuracy=0.7027999758720398, figures=(27, 28)),
        "residual": Reported(loss=0.8284435272216797, accuracy=0.745199978351593, figures=(29, 30)),
    },
)

if __name__ == "__main__":
    sys.exit(cli.main(EXERCISE))
