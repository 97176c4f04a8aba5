import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import Ridge

from common.experiment import RidgeClassifier
from common.transfer.ridge import fit_classifier

RANDOM = np.random.default_rng(0)
CLASSES = 3


def drawn(images, features):
    """Features float32 of as many images, and their labels, which are not easy to tell."""
    labels = np.arange(images) % CLASSES
    centres = RANDOM.normal(0, 0.2, (CLASSES, features))
    return (centres[labels] + RANDOM.normal(1, 1, (images, features))).astype(np.float32), labels


def plain(features, labels, alpha, others):
    """Outputs of scikit-learn's regression for other images; the penalty in the units of the whole."""
    distances = np.square(features - features.mean(axis=0)).sum(axis=1).mean()
    chosen = others if isinstance(others, np.ndarray) else np.delete(np.arange(len(labels)), others)
    fitted = Ridge(alpha * distances).fit(features[chosen].astype(np.float64), np.eye(CLASSES)[labels[chosen]])
    return fitted.predict(features)


@pytest.mark.parametrize("shape", [(30, 100), (60, 10)], ids=["more features", "more images"])
def test_the_layer_is_scikit_learn_s_regression_times_the_temperature(shape):
    features, labels = drawn(*shape)
    kernel, bias, chosen = fit_classifier(RidgeClassifier((0.1,)), features, labels, seed=0)
    assert (kernel.dtype, bias.dtype, kernel.shape, bias.shape) == (np.float32, np.float32, (shape[1], 3), (3,))
    expected = plain(features, labels, 0.1, np.arange(len(labels))) * chosen["temperature"]
    np.testing.assert_allclose(features @ kernel + bias, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_penalty_and_temperature_are_chosen_by_leaving_each_image_out():
    features, labels = drawn(30, 100)
    grid = (1e-4, 0.1, 10.0)
    _, _, chosen = fit_classifier(RidgeClassifier(grid), features, labels, seed=0)
    left_out = {
        alpha: np.stack([plain(features, labels, alpha, image)[image] for image in range(len(labels))])
        for alpha in grid
    }
    accuracies = {alpha: (outputs.argmax(axis=1) == labels).mean() for alpha, outputs in left_out.items()}
    assert len({*accuracies.values()}) > 1
    assert chosen["alpha"] == max(grid, key=lambda alpha: (accuracies[alpha], alpha))

    def log_loss(temperature):
        logits = log_softmax(temperature * left_out[chosen["alpha"]], axis=1)
        return -logits[np.arange(len(labels)), labels].mean()

    best = min(np.linspace(1, 20, 1901), key=log_loss)
    assert chosen["temperature"] == pytest.approx(best, abs=0.05)


def test_a_given_temperature_changes_how_sure_the_layer_is_and_nothing_else():
    features, labels = drawn(30, 100)
    kernel, bias, chosen = fit_classifier(RidgeClassifier((0.1, 1.0)), features, labels, seed=0)
    other, other_bias, given = fit_classifier(RidgeClassifier((0.1, 1.0), temperature=3.0), features, labels, seed=0)
    assert given == {"alpha": chosen["alpha"], "temperature": 3.0}
    np.testing.assert_allclose(other * chosen["temperature"], kernel * 3, rtol=1e-3)
    np.testing.assert_allclose(other_bias * chosen["temperature"], bias * 3, rtol=1e-3, atol=1e-5)
