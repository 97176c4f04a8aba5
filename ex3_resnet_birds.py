"""Exercise 3: ResNet50, trained on ImageNet, tells 200 species of birds apart: as a frozen extractor, and fine-tuned.

    python ex3_resnet_birds.py                            what the report ends with: finetune
    python ex3_resnet_birds.py --variant linear svm
    python ex3_resnet_birds.py --dataset synthetic --weights none --variant all

The report goes from 0.381 (convolutional) to 0.449 (fully-connected); fine-tuning reaches 0.448.
"""

import sys

from common import cli
from common.experiment import (
    Component,
    Exercise,
    Experiment,
    FineTuning,
    Flag,
    GradientDescent,
    LinearClassifier,
    Reported,
    RidgeClassifier,
    Stage,
)

LINEAR = Experiment(
    name="linear",
    description="one linear layer on the pooled features of frozen ResNet50",
    network="linear",
    features="pooled",
    normalize=None,
    augment=None,
    augmentation=None,
    cutmix=None,
    test_time_augmentation=None,
    power_normalization=False,
    learning=GradientDescent(epochs=100, patience=10),  # the report does not say how many; validation decides
)
FULLY_CONNECTED = LINEAR.vary(
    "fully-connected",
    "three linear layers with dropout 0.4 and batch normalisation on the pooled features",
    network="fully-connected",
    power_normalization=None,
    dropout=0.4,
)
CONVOLUTIONAL = FULLY_CONNECTED.vary(
    "convolutional",
    "a convolution in place of the average pooling, then the three linear layers",
    network="convolutional",
    features="map",
)
SVM = LINEAR.vary(
    "svm",
    "a linear support vector machine on features of each image and its mirror image, power-normalised",
    features="pooled-flip-average",
    power_normalization=True,
    learning=LinearClassifier("svm", grid=(1e-4, 1e-3, 1e-2)),
)
LOGISTIC = SVM.vary(
    "logistic", "logistic regression on the same features", learning=LinearClassifier("logistic", (3e-3, 1e-2, 3e-2))
)
SECOND_ORDER = LINEAR.vary(
    "second-order",
    "ridge regression on how the channels of ResNet50's last two stages vary together, mirror image included",
    features="second-order",
    power_normalization=None,
    learning=RidgeClassifier((0.03, 0.1, 0.3, 1.0)),
)
FINETUNE = Experiment(
    name="finetune",
    description="every layer of ResNet50 trained with SGD, as the report did it",
    network="resnet50",
    normalize=None,  # ResNet50 has a preprocessing of its own
    learning=FineTuning(
        optimizer=Component("SGD", {"momentum": 0.9, "nesterov": True}),
        learning_rate=0.01,
        schedule=Component("InverseTimeDecay", {"decay_steps": 1, "decay_rate": 1e-6}),
        epochs=10,
    ),
)
FINETUNE_FROZEN_BN = FINETUNE.vary(
    "finetune-frozen-bn",
    "from a logistic regression's head on, batch normalisation frozen, augmentation, a rate that warms up and decays",
    augment=True,
    batch_size=32,
    learning_rate=0.001,
    epochs=4,
    schedule=Component("CosineDecay"),
    warmup=0.1,
    freeze_batch_norm=True,
    initial_head="logistic",  # a random one shrinks ResNet50's features to a tenth in 25 steps, and they are lost
)
FINETUNE_STAGED = FINETUNE_FROZEN_BN.vary(
    "finetune-staged",
    "the same in two parts: first ResNet50's last two stages, at twice the rate; then all of it, at half the rate",
    learning_rate=0.002,
    stages=(Stage(2, ("conv4", "conv5")), Stage(4, ("conv",), learning_rate_multiplier=0.25)),
)
FINETUNE_SECOND_ORDER = FINETUNE_FROZEN_BN.vary(
    "finetune-second-order",
    "from the head of second-order on, every layer of ResNet50 trained, with CutMix; mirror image included",
    network="resnet50-second-order",
    head_features="second-order",
    initial_head="ridge",
    cutmix=0.5,
    test_time_augmentation=True,
)


def parse_weights(text: str) -> str:
    if text in ("imagenet", "none"):
        return text
    try:
        return str(cli.weights_file(text))
    except ValueError as error:
        raise ValueError(f"{error}; give imagenet, none, or ResNet50's weights without its output layer") from error


WEIGHTS = Flag(
    "weights",
    "ResNet50's: imagenet (downloaded by Keras), a .h5 file of it without its output layer, or none",
    default="imagenet",
    parse=parse_weights,
    in_name=lambda weights: weights if weights == "none" else None,
)

EXERCISE = Exercise(
    name="ex3_resnet_birds",
    description="Exercise 3: ResNet50 on Caltech-UCSD Birds 200 (2010), frozen and fine-tuned.",
    experiments=(  # fine-tuning last: TensorFlow keeps the memory it took, and extraction would add to it
        LINEAR,
        FULLY_CONNECTED,
        CONVOLUTIONAL,
        SVM,
        LOGISTIC,
        SECOND_ORDER,
        FINETUNE,
        FINETUNE_FROZEN_BN,
        FINETUNE_STAGED,
        FINETUNE_SECOND_ORDER,
    ),
    default=("finetune",),
    reported={
        "linear": Reported(loss=2.349853754043579, accuracy=0.4385097324848175, figures=(19, 20)),
        "fully-connected": Reported(loss=2.340416669845581, accuracy=0.4493900537490845, figures=(21, 22)),
        "convolutional": Reported(loss=2.577955961227417, accuracy=0.381140798330307, figures=(23, 24)),
        "finetune": Reported(loss=2.258345603942871, accuracy=0.4477415084838867, figures=(25, 26)),
    },
    images="photographs",
    flags=(WEIGHTS,),
)

if __name__ == "__main__":
    sys.exit(cli.main(EXERCISE))
