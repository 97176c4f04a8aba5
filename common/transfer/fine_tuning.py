"""Fine-tuning: a pretrained backbone and its head, trained together in stages."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from common.experiment import FineTuning, Stage
from common.models import resnet50
from common.models.heads import BACKBONE, PROJECTIONS
from common.training.fit import Phase

EVERY_LAYER = ("conv",)


def phases(learning: FineTuning) -> Sequence[Phase]:
    """What ``common.training.fit`` makes of the stages that the epochs reach."""
    stages = learning.stages or (Stage(learning.epochs, EVERY_LAYER),)
    starts = [0, *(stage.last_epoch for stage in stages[:-1])]
    ends = [*(stage.last_epoch for stage in stages[:-1]), learning.epochs]
    return [
        Phase(min(end, learning.epochs) - start, stage.learning_rate_multiplier, _prepare(stage, learning))
        for stage, start, end in zip(stages, starts, ends)
        if start < learning.epochs
    ]


def _prepare(stage: Stage, learning: FineTuning):
    return lambda model: set_trainable(model, stage.trainable, learning.freeze_batch_norm)


def set_pretrained(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    """Gives the backbone its weights and, where the network projects its maps, ``resnet50.projections`` of them.

    Args:
        weights: as ``common.transfer.weights.read_weights`` gives them.
    """
    kernels = resnet50.projections(weights)
    pretrained: Mapping[str, list[np.ndarray]] = {
        BACKBONE: list(weights.values()),
        **{name: [kernel[None, None]] for name, kernel in zip(PROJECTIONS, kernels)},
    }
    for layer in model.layers:
        if layer.name in pretrained:
            layer.set_weights(pretrained[layer.name])


def set_trainable(model: keras.Model, trainable: tuple[str, ...], freeze_batch_norm: bool) -> None:
    """Says which layers of the backbone learn; to be compiled afterwards.

    A layer that does not learn computes in inference mode, also under ``fit``.

    Args:
        trainable: the beginnings of the names of the layers that learn, such as "conv5".
        freeze_batch_norm: no batch normalisation learns.
    """
    for layer in model.get_layer(BACKBONE).layers:
        is_frozen = freeze_batch_norm and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = layer.name.startswith(trainable) and not is_frozen
