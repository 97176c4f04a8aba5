import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from common.reporting import metrics, run_contents
from common.reporting.metrics import BINS, accuracy_interval, calibration, evaluate

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(200, 8)).astype(np.float32) * 3
LABELS = np.arange(200) % 8


def test_loss_accuracy_and_top5_are_keras_s():
    result, _ = evaluate(LOGITS, LABELS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(LABELS, LOGITS)
    assert result["test_loss"] == pytest.approx(float(loss), rel=1e-5)
    for key, metric in (
        ("test_accuracy", keras.metrics.SparseCategoricalAccuracy()),
        ("test_top5_accuracy", keras.metrics.SparseTopKCategoricalAccuracy(5)),
    ):
        metric.update_state(LABELS, LOGITS)
        assert result[key] == pytest.approx(float(metric.result()))


def test_confusion_matrix_has_the_true_class_in_rows():
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    result, per_class = evaluate(logits, np.array([0, 1, 1, 2]))
    assert per_class["confusion_matrix"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert per_class["accuracy"] == [1, 0.5, 1]
    assert result["test_top5_accuracy"] == 1  # fewer than five classes


def test_of_equal_logits_the_first_classes_are_the_top_five():
    labels = np.arange(200)  # NumPy's quicksort leaves few in their order as they are
    logits = np.tile(np.arange(200) % 2, (200, 1)).astype(np.float32)
    assert evaluate(logits, labels)[0]["test_top5_accuracy"] == 5 / 200
    assert evaluate(logits[:10], np.array([1, 3, 5, 7, 9] * 2))[0]["test_top5_accuracy"] == 1


def test_the_interval_is_that_of_the_accuracy():
    result, _ = evaluate(LOGITS, LABELS)
    correct = round(result["test_accuracy"] * len(LABELS))
    assert result["test_accuracy_interval"] == accuracy_interval(correct, len(LABELS))


def test_a_confidence_that_rounding_lifts_above_1_is_in_the_last_bin():
    found = calibration(np.array([np.nextafter(1, 2), 1.0]), np.array([True, True]))
    assert found["test_reliability"]["images"] == [0] * 14 + [2]


def test_a_class_without_images_is_at_0():
    assert evaluate(np.eye(3, dtype=np.float32)[[0, 1]], np.array([0, 1]))[1]["accuracy"] == [1, 1, 0]


def test_the_diagrams_that_are_read_back_have_the_bins_of_those_that_are_made():
    assert run_contents.BINS == BINS


def test_two_classes():
    assert evaluate(np.array([[1, 0], [1, 0]], np.float32), np.array([0, 1]))[0]["test_accuracy"] == 0.5


def test_interval_is_wilson_s():
    low, high = accuracy_interval(1104, 2500)  # the report's 0.4416
    p, n, z = 0.4416, 2500, 1.959964
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    assert (low, high) == pytest.approx((centre - half, centre + half), rel=1e-6)


def of_probabilities(probabilities, labels, **options):
    return calibration(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, **options)


def test_calibration_by_hand():
    # Two bins: 0.6 and 0.8 are confident, three of four right; 0.4 falls into the lower bin, wrong.
    probabilities = np.array([[0.6, 0.4], [0.8, 0.2], [0.2, 0.8], [0.4, 0.6], [0.3, 0.4]])
    labels = np.array([0, 0, 1, 0, 0])
    found = of_probabilities(probabilities, labels, bins=2)
    assert found["test_reliability"]["images"] == [1, 4]
    assert found["test_reliability"]["confidence"] == pytest.approx([0.4, 0.7])
    assert found["test_reliability"]["accuracy"] == pytest.approx([0.0, 0.75])
    assert found["test_calibration_error"] == pytest.approx((1 * 0.4 + 4 * 0.05) / 5)


def test_a_network_that_is_sure_and_right_is_calibrated_and_one_that_is_sure_and_wrong_is_not():
    sure = np.eye(3)[[0, 1, 2, 0]]
    assert of_probabilities(sure, np.array([0, 1, 2, 0]))["test_calibration_error"] == 0
    assert of_probabilities(sure, np.array([1, 2, 0, 1]))["test_calibration_error"] == 1


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(2, 12), st.floats(0.01, 3), st.integers(0, 2**32 - 1))
def test_metrics_are_scikit_learn_s_and_calibration_is_its_definition(images, classes, scale, seed):
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(images, classes)) * scale).astype(np.float32)
    labels = random.integers(0, classes, images)
    result, per_class = evaluate(logits, labels)
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    known = range(classes)
    assert result["test_loss"] == pytest.approx(theirs.log_loss(labels, probabilities, labels=known), abs=1e-9)
    assert result["test_accuracy"] == pytest.approx(theirs.accuracy_score(labels, logits.argmax(axis=1)))
    if classes > 5:
        top = theirs.top_k_accuracy_score(labels, logits, k=5, labels=known)
        assert result["test_top5_accuracy"] == pytest.approx(top)
    else:
        assert result["test_top5_accuracy"] == 1
    matrix = theirs.confusion_matrix(labels, logits.argmax(axis=1), labels=known)
    assert per_class["confusion_matrix"] == matrix.tolist()
    recall = theirs.recall_score(labels, logits.argmax(axis=1), labels=known, average=None, zero_division=0)
    assert per_class["accuracy"] == pytest.approx(recall)

    error, sizes = 0.0, []
    for low in np.arange(BINS) / BINS:  # Guo et al. 2017, equation 3; a bin holds its upper edge
        sure = probabilities.max(axis=1)
        inside = (sure > low) & (sure <= low + 1 / BINS)
        sizes.append(int(inside.sum()))
        if sizes[-1]:
            right = (probabilities.argmax(axis=1) == labels)[inside].mean()
            error += sizes[-1] / images * abs(right - sure[inside].mean())
    assert result["test_reliability"]["images"] == sizes
    assert result["test_calibration_error"] == pytest.approx(error, abs=1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 10_000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_intervals_solve_wilson_s_equation(counts):
    correct, images = counts
    p, z = correct / images, 1.959963984540054
    low, high = accuracy_interval(correct, images)
    assert 0 <= low <= p <= high <= 1
    for bound, end in ((low, 0), (high, 1)):  # |p - bound| = z * sqrt(bound (1 - bound) / n), Wilson 1927
        if bound != end:
            assert (p - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / images, rel=1e-6, abs=1e-12)


def test_the_calibration_of_logits_is_that_of_their_probabilities():
    result, _ = evaluate(LOGITS, LABELS)
    expected = of_probabilities(keras.ops.convert_to_numpy(keras.ops.softmax(LOGITS)).astype(float), LABELS)
    assert result["test_calibration_error"] == pytest.approx(expected["test_calibration_error"], rel=1e-5)
    reliability = result["test_reliability"]
    assert len(reliability["images"]) == 15 and sum(reliability["images"]) == len(LABELS)
    hits = np.dot(reliability["images"], reliability["accuracy"])
    assert hits / len(LABELS) == pytest.approx(result["test_accuracy"])


def test_many_classes_take_little_memory_and_some_images_at_a_time_give_the_same_bits(monkeypatch):
    monkeypatch.setattr(metrics, "AT_ONCE", 1 << 18)
    logits = RANDOM.normal(size=(3000, 1000)).astype(np.float32)
    labels = np.arange(3000) % 1000
    tracemalloc.start()
    found = evaluate(logits, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * logits.nbytes  # all at once: ten times
    monkeypatch.setattr(metrics, "AT_ONCE", logits.size)
    assert evaluate(logits, labels) == found
