"""The features of frozen ResNet50, beside plain Keras."""

import contextlib
import io
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from common.datasets import cub200, loading
from common.datasets.image_data import DataFolder
from common.errors import UserError
from common.models import resnet50
from common.models.second_order import second_order
from common.transfer import features
from common.transfer.weights import read_weights

OPTIONS = {"weights": "none", "precision": "float32", "quiet": True, "data_options": {"image_size": 64}}


def load(data, kind, folder, **changes):
    return features.load(data, kind, folder, **{**OPTIONS, **changes})


@pytest.fixture(scope="module")
def few_birds(drawn_birds):
    """30 + 24 images of 64×64, of 6 species."""
    return cub200.read(drawn_birds, "synthetic", 64, "squash").select(tuple(range(6)))


def plain_keras(weights, images):
    """The maps of stage 4 and of stage 5."""
    stock = keras.applications.ResNet50(include_top=False, weights=None, input_shape=images.shape[1:])
    stock.set_weights(list(weights.values()))
    network = keras.Model(stock.input, [stock.get_layer("conv4_block6_out").output, stock.output])
    return network.predict(keras.applications.resnet.preprocess_input(images.copy()), verbose=0)


def test_features_are_those_of_plain_keras(few_birds, tmp_path):
    weights = read_weights("none")
    images = np.stack([few_birds.test_images.decode(p) for p in few_birds.test_images.absolute_paths()])
    _, maps = plain_keras(weights, images)
    pooled = np.asarray(load(few_birds, "pooled", tmp_path).test_images)
    assert np.abs(pooled - maps.mean(axis=(1, 2))).max() < 1e-4 * maps.max()
    both = (pooled + plain_keras(weights, images[:, :, ::-1])[1].mean(axis=(1, 2))) / 2
    averaged = np.asarray(load(few_birds, "pooled-flip-average", tmp_path).test_images)
    assert np.abs(averaged - both).max() < 1e-4 * maps.max()
    stored = np.asarray(load(few_birds, "map", tmp_path).test_images)
    assert stored.shape == (len(images), 2, 2, 2048)
    assert np.abs(stored - maps).max() < 1e-3 * maps.max()  # half precision


def test_second_order_features_are_the_mean_over_both_sides_of_those_of_plain_keras(few_birds, tmp_path):
    weights, few_birds = read_weights("none"), few_birds.select((0, 1))
    images = np.stack([few_birds.test_images.decode(p) for p in few_birds.test_images.absolute_paths()])
    kernels = resnet50.projections(weights)
    both = plain_keras(weights, np.concatenate([images, images[:, :, ::-1]]))
    features = np.asarray(second_order(*(tf.constant(maps @ kernel) for maps, kernel in zip(both, kernels))))
    expected = (features[: len(images)] + features[len(images) :]) / 2
    stored = load(few_birds, "second-order", tmp_path).test_images
    assert stored.values.dtype == np.float16 and stored.shape[1:] == expected.shape[1:]
    assert np.abs(np.asarray(stored) - expected).max() < 2e-3 * np.abs(expected).max()


def test_projections_keep_what_the_shortcut_reads_most_and_the_last_convolution_writes_most():
    weights = read_weights("none")
    for projection, block, transposed in zip(resnet50.projections(weights), ("1_0", "3_3"), (False, True)):
        scale = weights[f"conv5_block{block}_bn/gamma"] / np.sqrt(weights[f"conv5_block{block}_bn/moving_variance"])
        kernel = weights[f"conv5_block{block}_conv/kernel"][0, 0] * scale
        kernel = kernel.T if transposed else kernel
        assert projection.shape == (len(kernel), 256)
        np.testing.assert_allclose(projection.T @ projection, np.eye(256), atol=1e-4)
        strengths = np.linalg.norm(projection.T @ kernel, axis=1)
        np.testing.assert_allclose(strengths, np.linalg.svd(kernel, compute_uv=False)[:256], rtol=1e-3)
        assert (projection.max(axis=0) == np.abs(projection).max(axis=0)).all()  # one sign, whatever LAPACK's


@pytest.mark.slow
def test_features_of_real_birds_with_real_weights_are_those_of_plain_keras(real_data_dir, real_weights):
    data = loading.load(
        cub200.CUB200,
        DataFolder(real_data_dir, real_data_dir),
        (0, 50, 199),
        2,
        {"image_size": 224, "resize": "squash"},
    )
    images = np.stack([data.train_images.decode(p) for p in data.train_images.absolute_paths()])
    weights = read_weights(real_weights)
    _, expected = plain_keras(weights, images)
    found = resnet50.Frozen(weights, tf.float32)(images).fifth.numpy()
    assert expected.max() > 1
    assert np.abs(found - expected).max() < 1e-4 * expected.max()
    rough = resnet50.Frozen(weights, tf.bfloat16)(images).fifth.numpy()
    assert np.abs(rough - expected).mean() < 0.03 * expected.mean()


@pytest.mark.parametrize("kept", [pytest.param(40, marks=pytest.mark.slow), 580_000])
def test_an_extraction_that_was_stopped_goes_on_to_the_same_bytes(drawn_birds, tmp_path, kept):
    large = cub200.read(drawn_birds, "synthetic", 112, "squash").select(tuple(range(10)))  # 66 at once
    load(large, "pooled", tmp_path)
    (path,) = tmp_path.glob("pooled-*.npy")
    whole = path.read_bytes()
    path.unlink()
    path.with_name(f".{path.name}.partial").write_bytes(whole[:kept])
    load(large, "pooled", tmp_path)
    assert path.read_bytes() == whole
    assert not path.with_name(f".{path.name}.partial").exists()


def test_photographs_that_change_while_their_features_are_computed_leave_none_behind(drawn_birds, tmp_path):
    """Else the features of others would be found under their fingerprint, once they are as they were."""
    shutil.copytree(drawn_birds, tmp_path / "birds")
    birds = cub200.read(tmp_path / "birds", "synthetic", 64, "squash").select((0, 1))
    first, *_, last = (Path(path) for path in birds.train_images.absolute_paths())

    class Watched(io.StringIO):
        def write(self, text):
            if "are computed" in text:  # the photographs have been looked at, and none has been read for its features
                first.write_bytes(last.read_bytes())
            return super().write(text)

    whole = first.read_bytes()
    with (
        contextlib.redirect_stdout(Watched()),
        pytest.raises(tf.errors.OpError, match=f"{first.name} has changed since it was first read"),
    ):
        load(birds, "pooled", tmp_path / "features", quiet=False)
    assert not list((tmp_path / "features").glob("*.npy"))
    first.write_bytes(whole)
    found, expected = (load(birds, "pooled", tmp_path / name).train_images for name in ("features", "undisturbed"))
    assert found.content() == expected.content()


@pytest.mark.slow
def test_features_are_read_back_if_they_are_whole_and_other_weights_or_images_have_their_own(few_birds, tmp_path):
    few_birds = few_birds.select((0, 1))
    load(few_birds, "pooled", tmp_path)
    (path,) = tmp_path.glob("pooled-*.npy")
    path.write_bytes(path.read_bytes()[:-4] + np.float32(7).tobytes())
    assert np.asarray(load(few_birds, "pooled", tmp_path).test_images)[-1, -1] == 7
    for damaged in (path.read_bytes()[:-4], b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"pooled-.*\.npy is damaged .*; delete it"):
            load(few_birds, "pooled", tmp_path)
    load(few_birds.limit(3), "pooled", tmp_path)
    other = keras.applications.ResNet50(include_top=False, weights=None)
    other.save_weights(tmp_path / "other.weights.h5")
    load(few_birds, "pooled", tmp_path, weights=str(tmp_path / "other.weights.h5"))
    load(few_birds, "pooled", tmp_path, data_options={"image_size": 64, "resize": "pad"})
    load(few_birds, "pooled", tmp_path, precision="bfloat16")
    assert len(list(tmp_path.glob("pooled-*.npy"))) == 5
