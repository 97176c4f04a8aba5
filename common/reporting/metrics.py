"""What logits are worth against labels."""

import numpy as np
from scipy.special import log_softmax
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix

TOP = 5


def evaluate(logits: np.ndarray, labels: np.ndarray) -> tuple[dict, dict]:
    """Test metrics of logits float32 (images, classes) against labels (images,).

    Returns:
        ``test_loss`` (mean categorical cross-entropy, nats), ``test_accuracy`` and
        ``test_top5_accuracy`` (0..1), ``test_accuracy_interval`` (95 %, Wilson 1927); and, for each class,
        ``accuracy`` (0 for one without images) and ``confusion_matrix`` (rows: true class).
    """
    images, classes = logits.shape
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    predicted = logits.argmax(axis=1)
    matrix = confusion_matrix(labels, predicted, labels=range(classes))
    top = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    metrics = {
        "test_loss": float(-log_probabilities[np.arange(images), labels].mean()),
        "test_accuracy": float(accuracy_score(labels, predicted)),
        "test_accuracy_interval": accuracy_interval(int(matrix.trace()), images),
        "test_top5_accuracy": float((top == labels[:, None]).any(axis=1).mean()),
    }
    per_class = {
        "accuracy": (matrix.diagonal() / matrix.sum(axis=1).clip(1)).tolist(),
        "confusion_matrix": matrix.tolist(),
    }
    return metrics, per_class


def accuracy_interval(correct: int, images: int) -> list[float]:
    """The 95 % Wilson interval of an accuracy, as [low, high]."""
    interval = binomtest(correct, images).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]
