"""From a network's name and switches to a model, not yet trained."""

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from common.errors import UserError
from common.models import NETWORKS
from common.models.layers import WithTestTimeAugmentation


def build(
    network: str,
    input_shape: tuple[int, ...],
    classes: int,
    switches: Mapping[str, Any],
    test_time_augmentation: bool | None = False,
) -> keras.Model:
    """A network that takes float32 (batch, *input_shape) and gives logits (batch, classes) in float32.

    Args:
        network: a name in ``NETWORKS``.
        switches: keyword arguments of its function.
        test_time_augmentation: outside of training, logits are the mean over an image and its mirror image.

    Raises:
        UserError: the network has no such switch, or more stages than images of this size can be halved.
    """
    check_switches(network, switches)
    try:
        model = NETWORKS[network](input_shape, classes, **switches)
    except ValueError as error:
        size = "×".join(map(str, input_shape))
        raise UserError(
            f"the network {network} cannot be built for images of {size} ({str(error).splitlines()[0]}); try fewer "
            "--widths, or larger images"
        ) from error
    return WithTestTimeAugmentation(model.input, model.output) if test_time_augmentation else model


def check_switches(network: str, switches: Mapping[str, Any]) -> None:
    """Raises UserError if the network has not one of these switches."""
    parameters = inspect.signature(NETWORKS[network]).parameters
    known = [name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY]
    for name in switches:
        if name not in known:
            raise UserError(f"the network {network} has no switch {name}; it has {', '.join(known) or 'none'}")
