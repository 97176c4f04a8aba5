"""From uint8 images in memory to batches: split, statistics, order, augmentation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.model_selection import train_test_split

from common import augmentation
from common.errors import UserError

EVALUATION_BATCH_SIZE = 250  # at most; large images come in smaller batches, of up to
EVALUATION_BATCH_BYTES = 10_000_000  # as float32: 16 of 224×224; on 64 ResNet50 is hardly faster and takes 0.6 GB more
PARALLEL_CALLS = 2  # batches made, or files read, at once
PREFETCHED = 4  # batches ready before they are asked for


def split(
    labels: np.ndarray, validation_fraction: float, seed: int, class_names: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the validation images, stratified: every class in proportion.

    Each class has an image in both, however few it has and however unequal the classes are.

    Args:
        labels: int (images,).
        validation_fraction: of the images, in (0, 1).
        class_names: by label, for the error.

    Raises:
        UserError: a class of one image.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        label = int(classes[counts.argmin()])
        name = f" ({class_names[label]})" if class_names else ""
        raise UserError(
            f"class {label}{name} has one training image, and a class needs two, to train and to validate; add images, "
            "raise --limit, or leave the class out with --classes"
        )
    held_out = min(max(math.ceil(validation_fraction * len(labels)), len(classes)), len(labels) - len(classes))
    training, validation = train_test_split(
        np.arange(len(labels)), test_size=held_out, stratify=labels, random_state=seed
    )
    random = np.random.default_rng(seed)
    parts = [set(training.tolist()), set(validation.tolist())]
    for part, other in (parts, parts[::-1]):  # in proportion, a small class may have no image at all in one of them
        for label in np.setdiff1d(classes, labels[[*part]]):
            moved = int(random.choice(np.flatnonzero(labels == label)))
            part.add(moved)
            other.remove(moved)
    return np.sort([*parts[0]]), np.sort([*parts[1]])


@dataclass(frozen=True)
class Normalization:
    """What a network sees of a pixel in 0..255: (pixel - mean) / standard_deviation, for each channel."""

    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]

    @classmethod
    def to_unit_range(cls) -> "Normalization":
        """Pixels in 0..1."""
        return cls((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))

    @classmethod
    def none(cls) -> "Normalization":
        """Values as they are, any number of channels."""
        return cls((0.0,), (1.0,))

    @classmethod
    def of(cls, images) -> "Normalization":
        """Mean 0 and variance 1 on these images (images, height, width, channels)."""
        pixels = np.asarray(images)
        pixels = pixels.reshape(-1, pixels.shape[-1])
        deviation = np.maximum(pixels.std(axis=0, dtype=np.float64), 1e-7)
        return cls(tuple(pixels.mean(axis=0, dtype=np.float64).tolist()), tuple(deviation.tolist()))

    def apply(self, images: tf.Tensor) -> tf.Tensor:
        """float32 or uint8 (..., channels) to float32."""
        scale = 1.0 / np.array(self.standard_deviation)
        offset = -np.array(self.mean) * scale
        return tf.cast(images, tf.float32) * scale.astype(np.float32) + offset.astype(np.float32)


@dataclass
class TrainingBatches:
    """The training images, shuffled and augmented anew each epoch.

    Order and augmentation depend on (seed, epoch) and on nothing else: each epoch draws all its
    random numbers at once from a stateless generator, so it can begin anywhere and batches may be
    made in parallel. CutMix also depends on the micro-batches, in which an image finds its other.

    Attributes:
        images: as ``common.datasets.image_data.Images``.
        labels: int64 (images,).
        batch_size: images in the batch of one optimizer step.
        augment: a key of ``common.augmentation.KINDS``; None: images as they are.
        cutmix: share of the images that get a box of another (``common.augmentation.cutmix``), in [0, 1).
        label_smoothing: share of each label that is spread over all classes, in [0, 1).
        accumulate: micro-batches that a batch comes in.
    """

    images: Any
    labels: np.ndarray
    classes: int
    normalization: Normalization
    batch_size: int
    augment: str | None
    seed: int
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    accumulate: int = 1

    def __post_init__(self):
        self._read = self.images.reader()
        self._sizes = micro_batch_sizes(len(self.labels), self.batch_size, self.accumulate)
        spread = self.label_smoothing / self.classes
        self._labels = tf.one_hot(self.labels, self.classes, 1 - self.label_smoothing + spread, spread)
        self._traced = tf.function(self._make_batch)  # once, not for each epoch anew
        # XLA makes a loop or two of it, in a quarter of the time that operations take one after the other.
        self._compiled = tf.function(self._change, jit_compile=True)

    @property
    def steps(self) -> int:
        """Micro-batches an epoch: steps, as ``keras.Model.fit`` counts them."""
        return len(self._sizes)

    def epoch(self, number: int) -> tf.data.Dataset:
        """Micro-batches of float32 images and one-hot labels; each image once, the last batch may be smaller."""
        count = len(self.labels)
        order = tf.random.experimental.stateless_shuffle(  # pyright: ignore[reportAttributeAccessIssue]
            tf.range(count), seed=(self.seed, 2 * number)
        )
        numbers = augmentation.draw(count, seed=(self.seed, 2 * number + 1))
        boxes = augmentation.draw(count, seed=(self.seed, -number - 1), draws=augmentation.CUTMIX_DRAWS)

        return without_autotune(
            tf.data.Dataset.from_tensors((order, numbers, boxes))
            .rebatch(tf.constant(self._sizes, tf.int64))
            .apply(tf.data.experimental.assert_cardinality(self.steps))
            .map(self._traced, num_parallel_calls=PARALLEL_CALLS, deterministic=True)
            .prefetch(PREFETCHED)
        )

    def _make_batch(self, chosen: tf.Tensor, numbers: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self._compiled(self._read(chosen), tf.gather(self._labels, chosen), numbers, boxes)

    def _change(self, images, labels, numbers, boxes):
        if self.augment:
            images = augmentation.KINDS[self.augment](images, numbers, *self.images.shape[1:3])
        images = self.normalization.apply(images)
        if self.cutmix:
            height, width = self.images.shape[1:3]
            images, labels = augmentation.cutmix(images, labels, boxes, height, width, self.cutmix)
        return images, labels


def micro_batch_sizes(images: int, batch_size: int, accumulate: int) -> list[int]:
    """The images in each micro-batch of an epoch.

    Every batch comes in ``accumulate`` micro-batches of nearly equal size, so an epoch ends on a whole optimizer
    step; a last batch with less than two images for each joins the one before it, since batch normalisation learns
    nothing from one.

    Raises:
        UserError: less than two images for each micro-batch of a batch.
    """
    if images < 2 * accumulate:
        raise UserError(f"{images} training images are too few for {accumulate} micro-batches; change --accumulate")
    batches = [batch_size] * (images // batch_size)
    rest = images % batch_size
    if rest >= 2 * accumulate:
        batches.append(rest)
    elif rest:
        batches[-1] += rest
    return [len(each) for batch in batches for each in np.array_split(np.arange(batch), accumulate)]


def evaluation_batch_size(shape: tuple[int, ...]) -> int:
    """How many images or features of this shape come at once where nothing is trained."""
    return min(EVALUATION_BATCH_SIZE, max(1, EVALUATION_BATCH_BYTES // (4 * math.prod(shape))))


def evaluation_batches(images, labels: np.ndarray, classes: int, normalization: Normalization) -> tf.data.Dataset:
    """Batches of float32 images and one-hot labels in the order given, never augmented."""
    read = images.reader()
    return without_autotune(
        tf.data.Dataset.from_tensor_slices((np.arange(len(labels)), labels))
        .batch(evaluation_batch_size(images.shape[1:]))
        .map(
            lambda chosen, y: (normalization.apply(read(chosen)), tf.one_hot(y, classes)),
            num_parallel_calls=PARALLEL_CALLS,
            deterministic=True,
        )
        .prefetch(PREFETCHED)
    )


def without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The data set without tf.data's autotuning, whose thread sleeps 10 ms, 20 ms, 40 ms and so on.

    The end of an iterator waits for it: epochs of 7 s took 10.3 s, an extraction of 12 s 20.8 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
