"""Exercise 3: ResNet50, trained on ImageNet, tells 200 species of birds apart: as a frozen extractor, and fine-tuned.

    python ex3_resnet_birds.py                            what the report ends with: finetune
    python ex3_resnet_birds.py --variant linear svm
    python ex3_resnet_birds.py --dataset synthetic --weights none --variant all

The report goes from 0.381 (convolutional) to 0.449 (fully-connected); fine-tuning reaches 0.448.
"""

import sys
from dataclasses import replace

from common import cli
from common.experiment import Exercise, Experiment, Reported, Stage, Transfer

LAST_STAGES = ("conv4", "conv5")
# Pixels of 0..255 give the first convolution a gradient 80 times that of the others. Trained batch
# normalisation makes the scale of its weights harmless; where that is frozen, a step would destroy it.
ALL_BUT_CONV1 = ("conv2", "conv3", *LAST_STAGES)

LINEAR = Experiment(
    name="linear",
    description="one linear layer on the pooled features of frozen ResNet50",
    network="linear",
    epochs=100,  # the report does not say how many; validation decides
    patience=10,
    transfer=Transfer("pooled"),
    reported=Reported(loss=2.349853754043579, accuracy=0.4385097324848175, figures=(19, 20)),
)
FULLY_CONNECTED = replace(
    LINEAR,
    name="fully-connected",
    description="three linear layers with dropout 0.4 and batch normalisation on the pooled features",
    network="fully-connected",
    reported=Reported(loss=2.340416669845581, accuracy=0.4493900537490845, figures=(21, 22)),
)
CONVOLUTIONAL = replace(
    LINEAR,
    name="convolutional",
    description="a convolution in place of the average pooling, then the three linear layers",
    network="convolutional",
    transfer=Transfer("map"),
    reported=Reported(loss=2.577955961227417, accuracy=0.381140798330307, figures=(23, 24)),
)
SVM = replace(
    LINEAR,
    name="svm",
    description="a linear support vector machine on features of each image and its mirror image, power-normalised",
    network_options={"power_normalization": True},
    optimizer="svm",
    epochs=1,
    patience=None,
    transfer=Transfer("pooled-flip-average"),
    reported=None,
)
LOGISTIC = replace(
    SVM,
    name="logistic",
    description="logistic regression on the same features",
    optimizer="logistic",
)
FINETUNE = Experiment(
    name="finetune",
    description="every layer of ResNet50 trained with SGD, as the report did it",
    network="resnet50",
    optimizer="sgd",
    learning_rate=0.01,
    learning_rate_decay=1e-6,
    epochs=10,
    parts=4,  # a whole batch of 64 would take over 4 GB of memory
    transfer=Transfer("images"),
    reported=Reported(loss=2.258345603942871, accuracy=0.4477415084838867, figures=(25, 26)),
)
FINETUNE_FROZEN_BN = replace(
    FINETUNE,
    name="finetune-frozen-bn",
    description="fine-tuning with batch normalisation frozen, augmentation, a rate that warms up and decays",
    augment=True,
    batch_size=32,
    parts=2,
    learning_rate=0.005,
    learning_rate_decay=0.0,
    warmup=0.1,
    transfer=Transfer("images", frozen_batch_normalization=True, stages=(Stage(10, ALL_BUT_CONV1, 1.0),)),
    reported=None,
)
FINETUNE_STAGED = replace(
    FINETUNE_FROZEN_BN,
    name="finetune-staged",
    description="the head first (logistic regression), then ResNet50's last two stages, then all but its first layer",
    learning_rate=0.002,
    transfer=Transfer(
        "images",
        frozen_batch_normalization=True,
        head="logistic",
        stages=(Stage(6, LAST_STAGES, 1.0), Stage(10, ALL_BUT_CONV1, 0.25)),
    ),
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
        FINETUNE,
        FINETUNE_FROZEN_BN,
        FINETUNE_STAGED,
    ),
    default=("finetune",),
    dataset="cub200",
)

if __name__ == "__main__":
    sys.exit(cli.main(EXERCISE))
