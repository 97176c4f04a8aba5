"""The networks, by the name an experiment gives."""

import keras

from common.experiment import Experiment
from common.models.basenet import basenet

NETWORKS = {"basenet": basenet}


def build(experiment: Experiment, image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """The experiment's network, not yet trained.

    It takes float images (batch, height, width, channels) and gives logits (batch, classes) in float32.
    """
    return NETWORKS[experiment.network](image_shape, classes, **experiment.network_options)
