from functools import partial

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ex3_resnet_birds
from common.datasets.image_data import ImageArray
from common.errors import UserError
from common.models.heads import linear
from common.pipeline import Normalization, TrainingBatches, evaluation_batches
from common.transfer.last_layer import fit
from common.transfer.linear import CLASSIFIERS, fit_classifier

SVM, LOGISTIC = ex3_resnet_birds.SVM.learning, ex3_resnet_birds.LOGISTIC.learning


def test_too_few_images_for_cross_validation_say_so():
    with pytest.raises(UserError, match="2 training images, too few"):
        fit_classifier(LOGISTIC, np.ones((6, 4)), np.arange(6) // 2, seed=0)


def test_a_feature_that_hardly_varies_gets_no_enormous_weight():
    features = np.random.default_rng(0).normal(0, 1, (60, 20))
    features[:, 0] = 0
    features[7, 0] = 1e-5
    kernel, _, _ = fit_classifier(LOGISTIC, features, np.arange(60) % 3, seed=0)
    assert np.abs(kernel[0]).max() < np.abs(kernel[1:]).max()


@pytest.mark.parametrize("classifier", [SVM, LOGISTIC], ids=lambda each: each.kind)
def test_with_fewer_images_than_features_the_solution_is_the_same(classifier):
    points = np.random.default_rng(0).normal(0, 1, (60, 300))
    labels = np.arange(60) % 3
    kernel, bias, chosen = fit_classifier(classifier, points, labels, seed=0)
    plain = make_pipeline(StandardScaler(), CLASSIFIERS[classifier.kind](0).set_params(**chosen, max_iter=10_000))
    expected = plain.fit(points.astype(np.float32), labels).decision_function(points)
    assert np.abs(points @ kernel + bias - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize("classifier", [SVM, LOGISTIC], ids=lambda each: each.kind)
@pytest.mark.parametrize("classes", [2, 4])
def test_scikit_learn_s_classifier_becomes_a_linear_layer(classifier, classes):
    rng = np.random.default_rng(0)
    labels = np.arange(120) % classes
    points = rng.normal(0, 1, (classes, 20))[labels] * 3 + rng.normal(5, 1, (120, 20))
    kernel, bias, chosen = fit_classifier(classifier, points[:90], labels[:90], seed=0)
    assert kernel.shape == (20, classes)
    assert chosen["C"] in classifier.grid
    assert ((points[90:] @ kernel + bias).argmax(axis=1) == labels[90:]).mean() > 0.95
    model = linear((20,), classes, power_normalization=True)
    squares = ImageArray((np.maximum(points, 0) ** 2).astype("float32"))
    batches = TrainingBatches(squares[np.arange(90)], labels[:90], classes, Normalization.none(), 32, None, seed=0)
    validation = evaluation_batches(squares[np.arange(90, 120)], labels[90:], classes, Normalization.none())
    result = fit(model, partial(fit_classifier, classifier), batches, validation)
    assert result.history[0]["val_accuracy"] > 0.95
    roots = np.sqrt(squares.values[:90])
    directions = roots / np.linalg.norm(roots, axis=1, keepdims=True)
    kernel, _, chosen = fit_classifier(classifier, directions, labels[:90], seed=0)
    assert result.chosen == chosen
    assert np.allclose(model.layers[-1].kernel, kernel, rtol=1e-2, atol=1e-3 * np.abs(kernel).max())
