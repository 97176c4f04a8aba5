import hashlib
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import EX3, assert_done, assert_error, contents, read_json, run_script
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from common.errors import UserError
from common.models import resnet50
from common.transfer import weights
from common.transfer.weights import OFFICIAL, read_weights, warn_of_unusual_scales, weights_sha256


def save(model: keras.Model, path: Path) -> Path:
    """Weights in Keras's format, or in its older one, as the name says."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        with h5py.File(path, "w") as file:
            save_weights_to_hdf5_group(file, model)
    return path


@pytest.fixture(scope="module")
def stock() -> keras.Model:
    """Keras's ResNet50, the statistics of its normalisations drawn too."""
    keras.utils.set_random_seed(1)
    model = keras.applications.ResNet50(include_top=False, weights=None)
    random = np.random.default_rng(1)
    model.set_weights([w if w.ndim > 1 else random.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def legacy(stock, tmp_path_factory) -> Path:
    """The stock network's weights in the older format, under the official file's name."""
    return save(stock, tmp_path_factory.mktemp("legacy") / OFFICIAL)


@pytest.mark.slow
def test_the_older_format_gives_the_same_weights_and_features(stock, legacy, tmp_path):
    stock.save(tmp_path / "whole.h5")
    expected = {weight.path: array for weight, array in zip(stock.weights, stock.get_weights())}
    new = save(stock, tmp_path / "new.weights.h5")
    for path in (legacy, tmp_path / "whole.h5", new):
        found = read_weights(str(path))
        assert list(found) == list(expected)
        assert all(np.array_equal(array, expected[name]) for name, array in found.items()), path
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    first, second = (resnet50.Frozen(read_weights(str(path)), tf.float32)(images).fifth for path in (legacy, new))
    assert np.array_equal(first, second) and float(tf.math.reduce_std(first)) > 0


@pytest.mark.slow
def test_arrays_under_the_names_of_tensorflow_1_and_of_half_precision(stock, legacy, tmp_path):
    with h5py.File(legacy) as source, h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs.update(source.attrs)
        for layer in stock.layers:
            for weight in layer.weights:
                path = f"{layer.name}/{weight.path}"
                file[f"{path}:0"] = source[path][:].astype(np.float16)
    found = read_weights(str(tmp_path / "old.h5"))
    assert all(array.dtype == np.float32 for array in found.values())
    assert all(np.allclose(a, b, 1e-3, 1e-6) for a, b in zip(found.values(), stock.get_weights()))


def with_head(stock) -> keras.Model:
    pooled = keras.layers.GlobalAveragePooling2D(name="avg_pool")(stock.output)
    return keras.Model(stock.input, keras.layers.Dense(10, name="predictions")(pooled))


def small(*names: str) -> keras.Model:
    inputs = x = keras.Input((None, None, 3))
    for name in names:
        x = keras.layers.Conv2D(4, 3, name=name)(x)
    return keras.Model(inputs, x)


OTHERS = {
    "is of ResNet50 with its output layer, predictions": with_head,
    "has the layer names of an old Keras, such as res2a_branch2a": lambda stock: small("conv1", "res2a_branch2a"),
    "is of another network than ResNet50: it lacks conv1_conv and has block1_conv1": lambda stock: small(
        "block1_conv1", "block1_conv2"
    ),
    "is of another network than ResNet50: it lacks conv1_bn": lambda stock: small("conv1_conv"),
    "is of another network than ResNet50: it has conv4_block7_1_conv": lambda stock: keras.Model(
        stock.input, keras.layers.Conv2D(1, 1, name="conv4_block7_1_conv")(stock.output)
    ),
}


@pytest.mark.parametrize("words", OTHERS)
@pytest.mark.parametrize("name", ["other.h5", "other.weights.h5"])
def test_a_file_of_something_else_says_which(stock, tmp_path, words, name):
    path = save(OTHERS[words](stock), tmp_path / name)
    with pytest.raises(UserError, match=f"--weights {path} {words}; get https://.*{OFFICIAL}"):
        read_weights(str(path))


def test_a_layer_of_another_shape_is_named(legacy, tmp_path):
    (tmp_path / "shape.h5").write_bytes(legacy.read_bytes())
    with h5py.File(tmp_path / "shape.h5", "a") as file:
        del file["conv1_bn/conv1_bn/beta"]
        file["conv1_bn/conv1_bn/beta"] = np.zeros(32)
    with pytest.raises(UserError, match=r"conv1_bn/beta is \(32,\), not \(64,\)"):
        read_weights(str(tmp_path / "shape.h5"))


@pytest.mark.parametrize("kind", ["external link", "soft link", "external array"])
def test_what_lies_elsewhere_is_not_read(legacy, tmp_path, kind):
    path = tmp_path / "linked.h5"
    path.write_bytes(legacy.read_bytes())
    with h5py.File(path, "a") as file:
        name = "conv1_conv/conv1_conv/bias"
        del file[name]
        if kind == "external array":
            (tmp_path / "bytes").write_bytes(bytes(256))
            file.create_dataset(name, (64,), np.float32, external=[(str(tmp_path / "bytes"), 0, 256)])
        else:
            there = "conv1_bn/conv1_bn/beta"
            file[name] = h5py.SoftLink(f"/{there}") if kind == "soft link" else h5py.ExternalLink(legacy, there)
    with pytest.raises(UserError, match="conv1_conv/bias is missing"):
        read_weights(str(path))


@pytest.mark.parametrize("name", ["text.h5", "text.weights.h5"])
def test_a_text_file_is_no_file_of_weights(tmp_path, name):
    (tmp_path / name).write_text("no weights")
    with pytest.raises(UserError, match="is not an HDF5 file, or not whole"):
        read_weights(str(tmp_path / name))


@pytest.fixture
def svm(drawn_birds, tmp_path):
    """Flags of a short run that reads weights."""
    data = ("--dataset", "synthetic", "--image-size", 32, "--classes", "0-3", "--data-dir", drawn_birds.parent)
    return (EX3, *data, "--variant", "svm", "--output", tmp_path / "out")


@pytest.mark.slow
def test_a_run_from_the_older_format(svm, legacy, tmp_path):
    assert_done(run_script(*svm, "--weights", legacy, "--offline"))
    (config,) = (tmp_path / "out/synthetic/ex3_resnet_birds").glob("svm,*/seed-0/config.json")
    assert read_json(config)["backbone"]["weights_sha256"] == weights_sha256(str(legacy))


def test_offline_a_file_of_keras_that_is_not_the_official_one_is_left_alone(svm, legacy, proxy, tmp_path):
    """Keras itself would download it again."""
    cache = tmp_path / "keras" / "models" / OFFICIAL
    cache.parent.mkdir(parents=True)
    cache.write_bytes(legacy.read_bytes())
    before = contents(cache.parent)
    result = run_script(*svm, "--offline", env={**proxy.environment, "KERAS_HOME": str(tmp_path / "keras")})
    assert_error(
        result,
        f"{cache} is not whole: its MD5 is not {weights.MD5}",
        f"put {weights.URL} at {cache}, or give that file with --weights FILE",
    )
    assert contents(cache.parent) == before
    assert proxy.asked == []


@pytest.mark.slow
def test_a_proxy_s_refusal_says_the_address_and_the_place(svm, proxy, tmp_path):
    result = run_script(*svm, env={**proxy.environment, "KERAS_HOME": str(tmp_path)})
    assert_error(result, "407", f"put {weights.URL} at {tmp_path / 'models' / OFFICIAL}, or", "https_proxy")
    assert proxy.asked == ["storage.googleapis.com:443"]


def test_offline_the_file_that_keras_keeps_is_taken_if_it_is_the_official_one(legacy, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    cache = tmp_path / "models" / OFFICIAL
    with pytest.raises(UserError, match=f"--offline asks no network; put {weights.URL} at {cache}, or"):
        weights.without_network("imagenet")
    cache.parent.mkdir()
    cache.write_bytes(legacy.read_bytes())
    assert weights.without_network("imagenet", hashlib.md5(legacy.read_bytes()).hexdigest()) == str(cache)
    assert [weights.without_network(each) for each in ("none", "my.h5")] == ["none", "my.h5"]


def test_address_and_checksum_are_those_of_keras():
    source = Path(keras.applications.ResNet50.__code__.co_filename).read_text()
    base, name = weights.URL.rsplit("/", 1)
    assert f'"{base}/"' in source and f'"{weights.MD5}",\n    )' in source
    assert name == OFFICIAL


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
    with pytest.raises(UserError, match=r"ends with \.h5"):
        read_weights(str(tmp_path / "model.keras"))


def test_a_kernel_far_outside_the_usual_scale_is_named_and_no_other(capsys):
    arrays = dict(read_weights("none"))
    warn_of_unusual_scales(arrays)
    assert capsys.readouterr().err == ""
    arrays["conv1_conv/kernel"] = arrays["conv1_conv/kernel"] / 148
    warn_of_unusual_scales(arrays)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the kernel of conv1_conv has 0.0")


def test_reading_weights_does_not_count_up_the_names_of_layers():
    """Else a network would be saved with other bytes where the same process had read the weights before."""
    keras.backend.clear_session()
    read_weights.cache_clear()
    read_weights("none")
    assert keras.layers.InputLayer((2,)).name == "input_layer"
