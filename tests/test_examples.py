import keras
import numpy as np

from common import examples
from common.datasets.image_data import ImageArray
from common.models import heads
from common.models.build import build
from common.pipeline import Normalization

RANDOM = np.random.default_rng(0)


def test_the_images_chosen_are_the_surest_mistakes_the_least_sure_predictions_and_the_pairs_confused_most():
    labels = np.array([0, 0, 0, 1, 1, 2, 2])
    probabilities = np.array(
        [
            [0.90, 0.05, 0.05],  # correct
            [0.30, 0.60, 0.10],  # 0 taken for 1
            [0.20, 0.70, 0.10],  # again, with more confidence
            [0.10, 0.50, 0.40],  # correct, less confident
            [0.05, 0.90, 0.05],  # correct
            [0.15, 0.05, 0.80],  # correct
            [0.95, 0.03, 0.02],  # 2 taken for 0
        ]
    )
    found = examples.choose(probabilities, labels)
    assert found["mistakes"].tolist() == [6, 2, 1]
    assert found["correct"].tolist() == [3, 5, 4, 0]
    assert found["pairs"].tolist() == [[0, 1, 2, 4], [2, 0, 6, 0]]


def test_a_class_that_is_never_recognised_has_no_example_and_a_network_without_mistakes_no_pairs():
    never = examples.choose(np.array([[0.1, 0.9], [0.4, 0.6]]), np.array([0, 0]))
    assert never["pairs"].tolist() == [[0, 1, 0, -1]] and never["correct"].tolist() == []
    assert examples.choose(np.eye(2), np.array([0, 1]))["pairs"].shape == (0, 4)


def collected(model, images, classes=4):
    labels = np.arange(len(images)) % classes
    probabilities = RANDOM.dirichlet(np.ones(classes), len(images))
    return examples.collect(model, ImageArray(images), labels, probabilities, Normalization.to_unit_range())


def test_what_a_run_keeps_are_the_very_images_with_what_was_predicted():
    images = RANDOM.integers(0, 256, (60, 32, 32, 3), np.uint8)
    model = build("residual", (32, 32, 3), 4, {})
    found = collected(model, images)
    assert (found["image"] == images[found["index"]]).all()
    assert (found["label"] == found["index"] % 4).all()
    kept = {*found["index"].tolist()}
    assert kept >= {*found["mistakes"].tolist(), *found["correct"].tolist(), *found["heat_map_of"].tolist()}
    assert found["heat_map"].shape[0] == len(found["heat_map_of"]) == 8
    assert found["heat_map"].min() >= 0 and found["heat_map"].max() == 1
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert (found["filters"] == np.asarray(first.kernel)).all()


def test_a_head_on_features_keeps_the_images_but_looks_at_none():
    found = collected(heads.linear((2048,), 4), RANDOM.integers(0, 256, (20, 64, 64, 3), np.uint8))
    assert found["image"].shape[1:] == (64, 64, 3)
    assert "heat_map" not in found and "filters" not in found


def test_resnet50_looks_with_its_last_maps_and_shows_its_first_kernel():
    model = heads.resnet50_classifier((64, 64, 3), 4)
    found = collected(model, RANDOM.integers(0, 256, (12, 64, 64, 3), np.uint8))
    assert found["heat_map"].shape[1:] == (2, 2)
    assert found["filters"].shape == (7, 7, 3, 64)


def test_a_network_without_maps_keeps_the_images_alone():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    found = collected(model, RANDOM.integers(0, 256, (20, 8, 8, 3), np.uint8))
    assert "image" in found and "heat_map" not in found
