"""What logits are worth against labels."""

import numpy as np
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix

TOP = 5
BINS = 15  # of the confidence, as in Guo et al. 2017
AT_ONCE = 1 << 21  # numbers of the logits: in double precision those of 10,000 classes would take gigabytes


def evaluate(logits: np.ndarray, labels: np.ndarray) -> tuple[dict, dict]:
    """Test metrics of logits float32 (images, classes) against labels (images,).

    Returns:
        ``test_loss`` (mean categorical cross-entropy, nats), ``test_accuracy`` and
        ``test_top5_accuracy`` (0..1), ``test_accuracy_interval`` (95 %, Wilson 1927), and what ``calibration``
        gives; and, for each class, ``accuracy`` (0 for one without images) and ``confusion_matrix`` (rows: true
        class).
    """
    images, classes = logits.shape
    predicted = logits.argmax(axis=1)
    matrix = confusion_matrix(labels, predicted, labels=range(classes))
    rows = max(1, AT_ONCE // classes)
    parts = [_of_each(logits[start : start + rows], labels[start : start + rows]) for start in range(0, images, rows)]
    log_likelihood, in_top, confidence, correct = (np.concatenate(each) for each in zip(*parts))
    metrics = {
        "test_loss": float(-log_likelihood.mean()),
        "test_accuracy": float(accuracy_score(labels, predicted)),
        "test_accuracy_interval": accuracy_interval(int(matrix.trace()), images),
        "test_top5_accuracy": float(in_top.mean()),
        **calibration(confidence, correct),
    }
    per_class = {
        "accuracy": (matrix.diagonal() / matrix.sum(axis=1).clip(1)).tolist(),
        "confusion_matrix": matrix.tolist(),
    }
    return metrics, per_class


def _of_each(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """For each image: the log probability of its class, whether that is in the top 5, the confidence, whether right."""
    top = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    logits = logits.astype(np.float64)
    log_probabilities, probabilities = log_softmax(logits, axis=1), softmax(logits, axis=1)
    return (
        log_probabilities[np.arange(len(labels)), labels],
        (top == labels[:, None]).any(axis=1),
        probabilities.max(axis=1),
        probabilities.argmax(axis=1) == labels,
    )


def accuracy_interval(correct: int, images: int) -> list[float]:
    """The 95 % Wilson interval of an accuracy, as [low, high]."""
    interval = binomtest(correct, images).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> dict:
    """Whether a network is right as often as it is sure.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599.

    Args:
        confidence: float (images,), the highest probability.
        correct: bool (images,), whether its class is the image's.
        bins: of the confidence; equally wide over 0..1, a bin has its upper edge.

    Returns:
        ``test_calibration_error``, the expected calibration error: the mean over the images of
        |accuracy - confidence| of their bin, 0..1; and ``test_reliability``, lists with ``images``, mean
        ``confidence`` and ``accuracy`` of each bin, 0 for a bin without images.
    """
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    images = np.bincount(bin_of, minlength=bins)
    sums = np.stack([np.bincount(bin_of, confidence, bins), np.bincount(bin_of, correct, bins)])
    means = sums / images.clip(1)
    return {
        "test_calibration_error": float(np.abs(sums[1] - sums[0]).sum() / len(correct)),
        "test_reliability": {
            "images": images.tolist(),
            "confidence": means[0].tolist(),
            "accuracy": means[1].tolist(),
        },
    }
