"""The networks, by the name an experiment gives."""

from common.models.basenet import basenet

NETWORKS = {"basenet": basenet}


def build(network: str, input_shape: tuple[int, int, int], classes: int, options: dict):
    """The Keras model of a network: images in, logits (batch, classes) in float32 out."""
    return NETWORKS[network](input_shape, classes, **options)
