import keras
import numpy as np
import pytest

from common.errors import UserError
from common.transfer.weights import read_weights, warn_of_unusual_scales, weights_sha256


def test_a_file_of_weights_that_does_not_fit_names_the_layer(tmp_path):
    inputs = keras.Input((None, None, 3))
    small = keras.Model(inputs, keras.layers.Conv2D(32, 7, name="conv1_conv")(inputs))
    path = tmp_path / "small.weights.h5"
    small.save_weights(path)
    with pytest.raises(UserError, match="conv1_conv"):
        read_weights(str(path))
    (tmp_path / "text.weights.h5").write_text("no weights")
    with pytest.raises(UserError, match="does not fit"):
        read_weights(str(tmp_path / "text.weights.h5"))


def test_weights_that_are_no_numbers_name_the_layer(tmp_path):
    model = keras.applications.ResNet50(include_top=False, weights=None)
    layer = model.get_layer("conv5_block3_3_conv")
    layer.set_weights([layer.get_weights()[0], np.full(2048, np.nan)])
    model.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(UserError, match="conv5_block3_3_conv/bias holds values that are not numbers"):
        read_weights(str(tmp_path / "nan.weights.h5"))


def test_drawn_weights_are_the_same_every_time_whatever_the_policy_and_the_seed():
    first, fingerprint = read_weights("none"), weights_sha256("none")
    read_weights.cache_clear()
    weights_sha256.cache_clear()
    keras.utils.set_random_seed(5)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert weights_sha256("none") == fingerprint
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(np.array_equal(array, first[path]) for path, array in read_weights("none").items())


def test_a_file_with_another_ending_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"ends with \.weights\.h5"):
        read_weights(str(tmp_path / "model.keras"))


def test_a_kernel_far_outside_the_usual_scale_is_named_and_no_other(capsys):
    arrays = dict(read_weights("none"))
    warn_of_unusual_scales(arrays)
    assert capsys.readouterr().err == ""
    arrays["conv1_conv/kernel"] = arrays["conv1_conv/kernel"] / 148
    warn_of_unusual_scales(arrays)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the kernel of conv1_conv has 0.0")
