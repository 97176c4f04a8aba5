import keras
import numpy as np
import pytest

import bonus_residual
import ex2_improvements
from common.errors import UserError
from common.models.layers import portable
from common.transfer.initial import take_weights
from common.trial import build_network


def network(experiment, classes=5):
    keras.backend.clear_session()
    return build_network(experiment, (32, 32, 3), classes)


def saved(model, path):
    """The file that a run leaves, with weights that no network begins with."""
    model.set_weights([np.full(weight.shape, 0.5 + index) for index, weight in enumerate(model.weights)])
    portable(model).save(path / "model.keras")
    return path / "model.keras"


def constants(model):
    """By layer, the one value that its first weight has; None: it has several."""
    firsts = {layer.name: layer.get_weights()[0] for layer in model.layers if layer.weights}
    return {name: float(first.flat[0]) if np.ptp(first) == 0 else None for name, first in firsts.items()}


def test_the_same_network_takes_all_and_another_head_none(tmp_path):
    file = saved(network(ex2_improvements.EARLY_STOPPING), tmp_path)
    same, other = network(ex2_improvements.EARLY_STOPPING), network(ex2_improvements.EARLY_STOPPING, classes=7)
    taken, left = take_weights(same, file)
    assert (len(taken), left) == (13, [])
    assert all(value is not None for value in constants(same).values())
    taken, left = take_weights(other, file)
    assert (len(taken), left) == (12, ["dense_1"])


def test_a_deeper_network_finds_what_both_have_though_it_is_numbered_otherwise(tmp_path):
    source = network(ex2_improvements.BATCHNORM)
    file = saved(source, tmp_path)
    deeper = network(ex2_improvements.DEPTH)
    taken, left = take_weights(deeper, file)
    assert {"conv2d", "dense", "dense_1"} <= {*taken}
    assert {"conv2d_1", "conv2d_2", "conv2d_3", "conv2d_4"} <= {*left}
    values, of_source = constants(deeper), constants(source)
    assert values["dense"] == of_source["dense"] and values["conv2d_1"] is None
    # The normalisation behind the first fully connected layer: the third of one network, the sixth of the other.
    assert values["fused_batch_normalization_5"] == of_source["fused_batch_normalization_2"]


def test_a_network_inside_the_saved_one_is_found(tmp_path):
    """With test-time augmentation the saved network holds the other, which it calls twice."""
    experiment = bonus_residual.RESIDUAL.with_settings(test_time_augmentation=True)
    taken, left = take_weights(network(bonus_residual.RESIDUAL), saved(network(experiment), tmp_path))
    assert taken and not left


def test_a_network_with_nothing_alike_and_a_damaged_file_are_refused(tmp_path):
    inputs = keras.Input((3,))
    other = keras.Model(inputs, keras.layers.Dense(4)(inputs))
    model = network(ex2_improvements.NORMALIZE)
    with pytest.raises(UserError, match="none of the network's 4 layers has weights of the shapes"):
        take_weights(model, saved(other, tmp_path))
    (tmp_path / "model.keras").write_bytes(b"PK\3\4")
    with pytest.raises(UserError, match="Keras cannot load"):
        take_weights(model, tmp_path / "model.keras")
