"""From uint8 images in memory to batches: split, statistics, order, augmentation."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from sklearn.model_selection import train_test_split

from common import augmentation
from common.errors import UserError

EVALUATION_BATCH_SIZE = 250
PARALLEL_CALLS = 2  # batches made at once
PREFETCHED = 4  # batches ready before they are asked for


def split(labels: np.ndarray, validation_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the validation images, stratified: every class in proportion.

    Raises:
        UserError: too few images for every class to stand on both sides.
    """
    try:
        training, validation = train_test_split(
            np.arange(len(labels)), test_size=validation_fraction, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise UserError(
            f"{len(labels)} training images are too few to split every class at {validation_fraction:g}; "
            "change --limit or --validation-fraction"
        ) from error
    return np.sort(training), np.sort(validation)


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
    def of(cls, images: np.ndarray) -> "Normalization":
        """Mean 0 and variance 1 on these uint8 images (images, height, width, channels)."""
        pixels = images.reshape(-1, images.shape[-1])
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
    made in parallel.

    Attributes:
        images: uint8 (images, height, width, channels).
        labels: int64 (images,).
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int
    normalization: Normalization
    batch_size: int
    augment: bool
    seed: int

    def __post_init__(self):
        # In TensorFlow's memory once, not once an epoch.
        self._images = tf.constant(self.images)
        self._labels = tf.one_hot(self.labels, self.classes)

    def epoch(self, number: int) -> tf.data.Dataset:
        """Batches of float32 images and one-hot labels; each image once, the last batch may be smaller."""
        count, height, width = self.images.shape[:3]
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=[self.seed, 2 * number])
        numbers = augmentation.draw(count, seed=[self.seed, 2 * number + 1])

        def make_batch(chosen, numbers):
            images = tf.cast(tf.gather(self._images, chosen), tf.float32)
            if self.augment:
                images = augmentation.transform(images, augmentation.affine_maps(numbers, height, width))
            return self.normalization.apply(images), tf.gather(self._labels, chosen)

        return _without_autotune(
            tf.data.Dataset.from_tensor_slices((order, numbers))
            .batch(self.batch_size)
            .map(make_batch, num_parallel_calls=PARALLEL_CALLS, deterministic=True)
            .prefetch(PREFETCHED)
        )


def evaluation_batches(
    images: np.ndarray, labels: np.ndarray, classes: int, normalization: Normalization
) -> tf.data.Dataset:
    """Batches of float32 images and one-hot labels in the order given, never augmented."""
    return _without_autotune(
        tf.data.Dataset.from_tensor_slices((images, labels))
        .batch(EVALUATION_BATCH_SIZE)
        .map(lambda x, y: (normalization.apply(x), tf.one_hot(y, classes)))
        .prefetch(PREFETCHED)
    )


def _without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """With tf.data's autotuning on, the end of an iterator, here of every epoch, waited: epochs of 7 s took 10.3 s."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
