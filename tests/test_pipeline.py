import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from common import augmentation
from common.datasets.image_data import ImageArray
from common.errors import UserError
from common.pipeline import Normalization, TrainingBatches, evaluation_batches, micro_batch_sizes, split


def batches(data, **changes):
    arguments = dict(
        images=data.train_images[::50],
        labels=data.train_labels[::50],
        classes=25,
        normalization=Normalization.to_unit_range(),
        batch_size=64,
        augment=None,
        seed=0,
    )
    return TrainingBatches(**{**arguments, **changes})


def collect(dataset):
    images, labels = zip(*dataset.as_numpy_iterator())
    return np.concatenate(images), np.concatenate(labels)


def test_split_is_stratified_disjoint_whole_and_seeded(synthetic_data):
    labels = synthetic_data.train_labels
    training, validation = split(labels, 0.1, seed=0)
    assert sorted([*training, *validation]) == list(range(len(labels)))
    assert np.bincount(labels[validation]).tolist() == [50] * 25
    assert np.array_equal(validation, split(labels, 0.1, seed=0)[1])
    assert not np.array_equal(validation, split(labels, 0.1, seed=1)[1])


def test_split_holds_out_one_image_of_each_class_where_the_fraction_is_less():
    labels = np.arange(25).repeat(3)
    training, validation = split(labels, 0.1, seed=0)
    assert sorted(labels[validation]) == list(range(25))
    assert sorted([*training, *validation]) == list(range(75))


@pytest.mark.parametrize("fraction", (0.01, 0.1, 0.5, 0.9, 0.99))
@pytest.mark.parametrize("sizes", ((200, 2), (100, 2), (2, 2, 2), (500, 3, 2, 40, 2), (2,) * 50 + (1000,)))
def test_split_gives_every_class_an_image_in_both_parts_however_unequal_they_are(sizes, fraction):
    labels = np.random.default_rng(0).permutation(np.arange(len(sizes)).repeat(sizes))
    for seed in range(3):
        training, validation = split(labels, fraction, seed)
        assert sorted([*training, *validation]) == list(range(len(labels)))
        assert set(labels[training]) == set(labels[validation]) == set(range(len(sizes)))
        wanted = np.clip(fraction * len(labels), len(sizes), len(labels) - len(sizes))
        assert abs(len(validation) - wanted) <= len(sizes)
        assert all(np.array_equal(*both) for both in zip(split(labels, fraction, seed), (training, validation)))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(2, 60), min_size=2, max_size=8), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1), st.randoms()
)
def test_any_split_is_disjoint_whole_and_in_proportion(sizes, fraction, seed, random):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    random.shuffle(labels)
    training, validation = split(labels, fraction, seed)
    assert not {*training.tolist()} & {*validation.tolist()}
    assert sorted([*training, *validation]) == list(range(len(labels)))
    assert np.array_equal(training, np.sort(training)) and np.array_equal(validation, np.sort(validation))
    held_out = np.bincount(labels[validation], minlength=len(sizes))
    assert (held_out >= 1).all() and (held_out < sizes).all()
    wanted = min(max(math.ceil(fraction * len(labels)), len(sizes)), len(labels) - len(sizes))
    shares = wanted * np.array(sizes) / len(labels)
    if ((shares >= 1) & (np.array(sizes) - shares >= 1)).all():  # no class needs more than its share
        assert len(validation) == wanted
        assert (abs(held_out - shares) < 1).all()


def test_split_names_a_class_of_one_image():
    with pytest.raises(UserError, match=r"class 1 \(owl\) has one training image.*--classes"):
        split(np.array([0, 0, 1]), 0.1, seed=0, class_names=("wren", "owl"))


def test_split_without_names_says_the_label_and_what_helps():
    with pytest.raises(UserError, match=r"class 1 has one training image, .*; add images, raise --limit, or leave"):
        split(np.array([0, 0, 1]), 0.1, seed=0)


def test_normalization_is_of_each_channel_in_double_precision():
    images = np.random.default_rng(0).normal(100, 0.1, (50, 8, 8, 3)).astype(np.float32) * [1, 2, 3]
    images = images.astype(np.float32)
    found = Normalization.of(images)
    exact = images.reshape(-1, 3).astype(np.float64)
    assert found.mean == pytest.approx(exact.mean(axis=0), rel=1e-13)
    assert found.standard_deviation == pytest.approx(exact.std(axis=0), rel=1e-11)
    one_color = Normalization.of(np.full((2, 4, 4, 3), 7, np.uint8))
    assert one_color == Normalization((7.0,) * 3, (1e-7,) * 3)


def test_no_normalization_leaves_values_as_they_are():
    values = np.array([[-1.5, 0.0, 3.0]], np.float32)
    assert np.array_equal(Normalization.none().apply(values), values)


def test_normalization_has_mean_0_and_variance_1_on_the_images_it_was_made_of(synthetic_data):
    images = synthetic_data.train_images.values[:1000]
    seen = Normalization.of(images).apply(images).numpy().astype(np.float64)
    np.testing.assert_allclose(seen.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(seen.var(axis=(0, 1, 2)), 1, atol=1e-4)


def test_an_epoch_shows_every_image_once_with_its_label(synthetic_data):
    training = batches(synthetic_data)
    images, labels = collect(training.epoch(3))
    seen = {image.tobytes(): label.argmax() for image, label in zip(np.rint(images * 255).astype(np.uint8), labels)}
    assert seen == {image.tobytes(): label for image, label in zip(training.images.values, training.labels)}
    assert [len(y) for _, y in training.epoch(3).as_numpy_iterator()] == [64, 64, 64, 58]


@pytest.mark.parametrize("augment", [None, "affine", "shift"])
def test_epochs_depend_on_seed_and_number_alone(synthetic_data, augment):
    first = collect(batches(synthetic_data, augment=augment).epoch(5))[0]
    again = batches(synthetic_data, augment=augment)
    others = [collect(again.epoch(number))[0] for number in (4, 6)]  # whatever ran before
    assert np.array_equal(first, collect(again.epoch(5))[0])
    others.append(collect(batches(synthetic_data, augment=augment, seed=1).epoch(5))[0])
    assert not any(np.array_equal(first, other) for other in others)


def test_order_and_augmentation_are_the_draws_of_seed_and_epoch_that_published_runs_had(synthetic_data):
    training = batches(synthetic_data, augment="affine", seed=5)
    order = tf.random.experimental.stateless_shuffle(tf.range(len(training.labels)), (5, 6)).numpy()
    images, labels = collect(training.epoch(3))
    assert np.array_equal(labels.argmax(axis=1), training.labels[order])
    originals = training.images.values[order].astype(np.float32)
    expected = augmentation.affine(originals, augmentation.draw(len(order), (5, 7)), 32, 32)
    np.testing.assert_allclose(images * 255, expected, atol=0.05)  # XLA rounds coordinates its own way


def test_augmentation_does_not_depend_on_the_batch_size(synthetic_data):
    small, large = (collect(batches(synthetic_data, augment="affine", batch_size=n).epoch(0))[0] for n in (16, 250))
    np.testing.assert_array_equal(small, large)


def test_training_images_are_augmented_and_evaluation_images_come_through_untouched(synthetic_data):
    training = batches(synthetic_data, augment="affine")
    originals = {image.tobytes() for image in training.images.values}
    augmented = np.rint(collect(training.epoch(0))[0] * 255).astype(np.uint8)
    assert not any(image.tobytes() in originals for image in augmented)
    images, labels = collect(evaluation_batches(training.images, training.labels, 25, training.normalization))
    assert np.array_equal(np.rint(images * 255), training.images.values)
    assert np.array_equal(labels.argmax(axis=1), training.labels)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_boxes_are_draws_of_their_own_and_come_from_the_micro_batch(synthetic_data, accumulate):
    training = batches(synthetic_data, cutmix=0.9, seed=5, batch_size=60, accumulate=accumulate)
    plain = batches(synthetic_data, seed=5, batch_size=60, accumulate=accumulate)
    numbers = augmentation.draw(250, (5, -4), 4).numpy()
    assert [len(y) for _, y in plain.epoch(3)] == ([60] * 4 + [10] if accumulate == 1 else [30] * 8 + [5] * 2)
    first = 0
    for (images, labels), found in zip(plain.epoch(3), training.epoch(3)):
        expected = augmentation.cutmix(images, labels, numbers[first : first + len(labels)], 32, 32, 0.9)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected))
        first += len(labels)


@pytest.mark.parametrize("augment", [None, "affine", "shift"])
def test_cutmix_changes_a_share_of_the_images_and_their_labels_with_them(synthetic_data, augment):
    training = batches(synthetic_data, augment=augment, cutmix=0.5)
    images, labels = collect(training.epoch(3))
    plain, plain_labels = collect(batches(synthetic_data, augment=augment).epoch(3))
    changed = (np.abs(images - plain) > 1e-3).any(axis=(1, 2, 3))  # XLA rounds the two its own way each
    assert 0.4 < changed.mean() < 0.6
    assert np.array_equal(labels[~changed], plain_labels[~changed])
    assert ((labels > 0).sum(axis=1) == 2)[changed].mean() > 0.9  # but for two images of one class
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
    assert np.array_equal(images, collect(training.epoch(3))[0])
    others = [
        collect(batches(synthetic_data, augment=augment, cutmix=0.5, **change).epoch(4))[0]
        for change in ({}, {"seed": 1})
    ]
    assert not any(np.array_equal(images, other) for other in others)


def test_labels_are_smoothed_in_training_batches(synthetic_data):
    training = batches(synthetic_data, label_smoothing=0.1)
    _, labels = collect(training.epoch(0))
    np.testing.assert_allclose(np.sort(labels, axis=1)[:, [0, -2, -1]], [[0.004, 0.004, 0.904]] * 250, rtol=1e-5)


def test_large_images_are_evaluated_in_smaller_batches():
    for size, sizes in ((32, [250, 50]), (224, [16] * 18 + [12])):
        images = ImageArray(np.zeros((300, size, size, 3), np.uint8))
        dataset = evaluation_batches(images, np.zeros(300, int), 2, Normalization.none())
        assert [len(y) for _, y in dataset.as_numpy_iterator()] == sizes


@pytest.mark.parametrize(
    ("images", "batch_size", "accumulate", "sizes"),
    [
        (10, 4, 1, [4, 4, 2]),
        (12, 4, 2, [2, 2, 2, 2, 2, 2]),
        (11, 4, 2, [2, 2, 4, 3]),  # of three images, one would be alone in its micro-batch: they join the batch before
        (129, 64, 1, [64, 65]),
        (10, 10, 3, [4, 3, 3]),
        (6, 64, 3, [2, 2, 2]),
        (3, 1, 1, [1, 1, 1]),  # as asked for
        (130, 64, 4, [16, 16, 16, 16, 17, 17, 16, 16]),
    ],
)
def test_micro_batches_by_hand(images, batch_size, accumulate, sizes):
    assert micro_batch_sizes(images, batch_size, accumulate) == sizes


def test_every_batch_comes_in_whole_in_micro_batches_of_nearly_one_size():
    random = np.random.default_rng(0)
    for _ in range(500):
        batch_size, images = (int(number) for number in random.integers(1, 200, 2))
        accumulate = int(random.integers(1, batch_size + 1))
        if images < 2 * accumulate:
            with pytest.raises(UserError, match="too few for"):
                micro_batch_sizes(images, batch_size, accumulate)
            continue
        sizes = micro_batch_sizes(images, batch_size, accumulate)
        batches = np.array(sizes).reshape(-1, accumulate)  # whole optimizer steps
        assert batches.sum() == images
        assert batches.min() >= min(2, batch_size // accumulate) and (np.ptp(batches, axis=1) <= 1).all()
        assert (batches.sum(axis=1)[:-1] == batch_size).all()


def test_micro_batches_show_the_same_images_in_the_same_order(synthetic_data):
    whole, parts = (collect(batches(synthetic_data, augment="affine", accumulate=n).epoch(2))[0] for n in (1, 3))
    np.testing.assert_allclose(whole, parts, atol=1e-5)  # kernels round the end of a batch otherwise
