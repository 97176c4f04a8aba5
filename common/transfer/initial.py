"""The weights of a saved network, for one that may be another."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import keras

from common.errors import UserError


def take_weights(model: keras.Model, file: Path) -> tuple[list[str], list[str]]:
    """Gives layers the weights of their like in a saved network; returns the names of those that took some, and of
    those that did not.

    Layers are alike if their weights have the same names and shapes. They are paired in their order, as many as can
    be and, where there is a choice, those of one name: a network with more or fewer layers still finds those that both
    have, though Keras has numbered them in another way.

    Args:
        file: a ``.keras`` file of Keras's own layers.

    Raises:
        UserError: no layer has its like, or Keras cannot load the file.
    """
    try:
        saved = keras.models.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Keras, h5py and zipfile raise many kinds
        raise UserError(f"Keras cannot load {file}: {error}") from error
    layers = [*_with_weights(model)]
    taken = []
    for source, target in _pairs([*_with_weights(saved)], layers):
        target.set_weights(source.get_weights())
        taken.append(target)
    if not taken:
        raise UserError(f"none of the network's {len(layers)} layers has weights of the shapes of one in {file}")
    return [layer.name for layer in taken], [layer.name for layer in layers if layer not in taken]


def _with_weights(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers that have weights, in order, also those of networks inside the network."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _with_weights(layer)
        elif layer.weights:
            yield layer


def _pairs(
    sources: Sequence[keras.layers.Layer], targets: Sequence[keras.layers.Layer]
) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """A longest common subsequence: of those with the most pairs, one with the most equal names."""
    shapes_of_sources, shapes_of_targets = (
        [[(weight.name, tuple(weight.shape)) for weight in layer.weights] for layer in layers]
        for layers in (sources, targets)
    )
    # best[i][j]: pairs and equal names among the layers from sources[i] and from targets[j].
    best = [[(0, 0)] * (len(targets) + 1) for _ in range(len(sources) + 1)]
    with_pair = {}
    for i in reversed(range(len(sources))):
        for j in reversed(range(len(targets))):
            best[i][j] = max(best[i + 1][j], best[i][j + 1])
            if shapes_of_sources[i] == shapes_of_targets[j]:
                pairs, names = best[i + 1][j + 1]
                with_pair[i, j] = pairs + 1, names + (sources[i].name == targets[j].name)
                best[i][j] = max(best[i][j], with_pair[i, j])
    found, i, j = [], 0, 0
    while i < len(sources) and j < len(targets):
        if with_pair.get((i, j)) == best[i][j]:
            found.append((sources[i], targets[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return found
