"""Ridge regression of the classes, for more features than images, as the weights of a network's last layer."""

from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from common.experiment import RidgeClassifier

TEMPERATURES = (1.0, 1000.0)  # logits are this many times the regression's outputs


def fit_classifier(
    classifier: RidgeClassifier, features: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Kernel float32 (features, classes), bias (classes,), and what leave-one-out predictions chose.

    The least squares solution for the one-hot labels with a penalty on the kernel. The outputs that each training image
    would get from the others are known without fitting anew: of them the penalty ``alpha`` has the highest accuracy,
    and the ``temperature``, by which outputs are multiplied to become logits, the lowest log loss, unless it is given.

    The time grows with the cube of the number of images, the memory with its square.

    Args:
        classifier: what to choose from.
        features: float32 (images, features).
        labels: int (images,).
        seed: not needed, as no chance is in it.

    Source: Hoerl and Kennard 1970, "Ridge Regression"; Golub, Heath and Wahba 1979, "Generalized Cross-Validation as a
    Method for Choosing a Good Ridge Parameter", on leaving one out.
    """
    one_hot = np.eye(labels.max() + 1)[labels]
    frequencies = one_hot.mean(axis=0)
    products = (features @ features.T).astype(np.float64)
    means = products.mean(axis=0)
    products += means.mean() - means - means[:, None]  # as if the features had mean 0
    variances, images = eigh(products, overwrite_a=True, check_finite=False)
    variances = np.maximum(variances, 0)
    targets = images.T @ (one_hot - frequencies)

    def leave_one_out(penalty: float) -> np.ndarray:
        kept = variances / (variances + penalty)
        residuals = one_hot - frequencies - images @ (kept[:, None] * targets)
        influences = np.square(images) @ kept + 1 / len(labels)  # of an image on its own output
        return one_hot - residuals / (1 - influences)[:, None]

    mean_squared_distance = variances.mean()
    outputs = {alpha: leave_one_out(alpha * mean_squared_distance) for alpha in classifier.grid}
    alpha = max(outputs, key=lambda each: ((outputs[each].argmax(axis=1) == labels).mean(), each))

    def log_loss(temperature: float) -> float:
        return -log_softmax(temperature * outputs[alpha], axis=1)[np.arange(len(labels)), labels].mean()

    temperature = classifier.temperature or float(minimize_scalar(log_loss, bounds=TEMPERATURES, method="bounded").x)
    weights = images @ (targets / (variances + alpha * mean_squared_distance)[:, None])
    kernel = features.T @ weights.astype(np.float32)
    bias = frequencies - features.mean(axis=0, dtype=np.float64) @ kernel
    chosen = {"alpha": alpha, "temperature": round(temperature, 4)}
    return np.float32(temperature) * kernel, (temperature * bias).astype(np.float32), chosen
