"""The networks, by the name an experiment gives."""

import keras

from common.experiment import Experiment
from common.models import birds, resnet50
from common.models.basenet import basenet
from common.models.compact import compact
from common.models.layers import FlipAverage
from common.models.residual import residual

NETWORKS = {
    "basenet": basenet,
    "residual": residual,
    "compact": compact,
    "linear": birds.linear,
    "fully-connected": birds.fully_connected,
    "convolutional": birds.convolutional,
    "resnet50": birds.resnet50_classifier,
}


def build(experiment: Experiment, image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """The experiment's network, not yet trained.

    It takes float images (batch, height, width, channels), or features of images of that shape if the
    experiment learns from them, and gives logits (batch, classes) in float32.
    """
    if experiment.transfer and experiment.transfer.input != "images":
        image_shape = resnet50.feature_shape(experiment.transfer.input, image_shape)
    model = NETWORKS[experiment.network](image_shape, classes, **experiment.network_options)
    return FlipAverage(model.input, model.output) if experiment.flip_average else model
