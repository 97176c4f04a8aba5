"""What every data set gives: labelled images, in memory or in files."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from common.experiment import Flag

TEST_FRACTION = 0.2  # of the images of each class, where a data set has no test images of its own


class Images(Protocol):
    """Images, or features of them, that come in batches: ``ImageArray``, ``ImageFiles`` or frozen features."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, height, width, 3), or (images, ...) of features."""
        ...

    @property
    def names(self) -> np.ndarray | None:
        """str (images,), the files they come from, relative to their folder; None if they come from none."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> "Images":
        """Those of an int array, in its order."""
        ...

    def joined(self, others: Any) -> "Images":
        """These and, behind them, others of the same kind."""
        ...

    def reader(self) -> Callable:
        """A function from indices, an int tensor (batch,), to float32 (batch, ...), pixels in 0..255."""
        ...

    def verify(self) -> None:
        """Looks at every image once; UserError for one that cannot be read."""
        ...

    def content(self) -> bytes | memoryview:
        """What a fingerprint of them is made of."""
        ...


@dataclass(frozen=True)
class ImageArray:
    """Images in memory.

    Attributes:
        values: uint8 (images, height, width, 3), RGB in 0..255, or any array (images, ...).
    """

    values: np.ndarray
    names = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, indices: np.ndarray) -> "ImageArray":
        return ImageArray(self.values[indices])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.values, dtype)

    def joined(self, others: "ImageArray") -> "ImageArray":
        return ImageArray(np.concatenate([self.values, others.values]))

    def reader(self) -> Callable:
        import tensorflow as tf

        values = tf.constant(self.values)  # in TensorFlow's memory once, not once an epoch
        return lambda chosen: tf.cast(tf.gather(values, chosen), tf.float32)

    def verify(self) -> None:
        """Nothing to look at: they have been read."""

    def content(self) -> bytes | memoryview:
        return np.ascontiguousarray(self.values).data


@dataclass(frozen=True)
class ImageData:
    """Labelled images.

    Attributes:
        name: the data set's name, as ``--dataset`` takes it.
        train_images, test_images: the images.
        train_labels, test_labels: int64 (images,), in 0..classes - 1.
        class_names: one for each label.
    """

    name: str
    train_images: Images
    train_labels: np.ndarray
    test_images: Images
    test_labels: np.ndarray
    class_names: tuple[str, ...]

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of every pixel and label, in hexadecimal."""
        digest = hashlib.sha256()
        for images, labels in ((self.train_images, self.train_labels), (self.test_images, self.test_labels)):
            digest.update(images.content())
            digest.update(np.ascontiguousarray(labels, np.int64).data)
        return digest.hexdigest()

    def images_per_class(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts (classes,) of the training and of the test images."""
        train, test = (
            np.bincount(labels, minlength=len(self.class_names)) for labels in (self.train_labels, self.test_labels)
        )
        return train, test

    def select(self, classes: tuple[int, ...]) -> "ImageData":
        """The images of the given labels, relabelled 0, 1, ... in the order given."""
        new_label = np.full(len(self.class_names), -1)
        new_label[list(classes)] = np.arange(len(classes))
        train, test = (np.flatnonzero(new_label[y] >= 0) for y in (self.train_labels, self.test_labels))
        return replace(
            self,
            train_images=self.train_images[train],
            train_labels=new_label[self.train_labels[train]],
            test_images=self.test_images[test],
            test_labels=new_label[self.test_labels[test]],
            class_names=tuple(self.class_names[label] for label in classes),
        )

    def limit(self, images_per_class: int) -> "ImageData":
        """The first training images of each class, at most as many; the test images stay whole."""
        kept = np.sort(
            np.concatenate(
                [np.flatnonzero(self.train_labels == c)[:images_per_class] for c in range(len(self.class_names))]
            )
        )
        return replace(self, train_images=self.train_images[kept], train_labels=self.train_labels[kept])

    def for_seed(self, seed: int) -> "ImageData":
        """What a run of this seed trains on and is tested on."""
        return self


@dataclass(frozen=True)
class UnsplitData(ImageData):
    """Images without test images of their own: each run's seed draws some, a fifth of each class, at least one.

    Attributes:
        train_images, train_labels: all images, in an order that no seed changes; ``test_images`` is empty.
        train_limit: at most as many training images of each class are kept, once the test images are drawn.
    """

    train_limit: int | None = None

    def images_per_class(self) -> tuple[np.ndarray, np.ndarray]:
        images = np.bincount(self.train_labels, minlength=len(self.class_names))
        test = np.array([_test_images(count) for count in images])
        train = images - test
        return (train if self.train_limit is None else np.minimum(train, self.train_limit)), test

    def limit(self, images_per_class: int) -> "UnsplitData":
        return replace(self, train_limit=images_per_class)

    def for_seed(self, seed: int) -> ImageData:
        random = np.random.default_rng(seed)
        is_test = np.zeros(len(self.train_labels), bool)
        for label in range(len(self.class_names)):
            of_class = random.permutation(np.flatnonzero(self.train_labels == label))
            is_test[of_class[: _test_images(len(of_class))]] = True
        data = ImageData(
            name=self.name,
            train_images=self.train_images[np.flatnonzero(~is_test)],
            train_labels=self.train_labels[~is_test],
            test_images=self.train_images[np.flatnonzero(is_test)],
            test_labels=self.train_labels[is_test],
            class_names=self.class_names,
        )
        return data if self.train_limit is None else data.limit(self.train_limit)


def _test_images(images: int) -> int:
    """Of the images of a class, how many are drawn to test."""
    return min(images, max(1, round(TEST_FRACTION * images)))


@dataclass(frozen=True)
class DataFolder:
    """Where a data set is, and where it may go.

    Attributes:
        path: what ``--data-dir`` names: it holds the data, or what is downloaded goes there.
        spare: a folder below ``--output``: what is extracted goes there where ``path`` cannot be written.
        offline: never ask the network.
    """

    path: Path
    spare: Path
    offline: bool = False


@dataclass(frozen=True)
class DataSet:
    """A data set as a value: what ``--dataset`` may be, and all that the suite has to know of it.

    Attributes:
        name: what ``--dataset`` takes, and the run folder's first part.
        description: a few words for ``--help``.
        class_count: how many classes it has; or a function that counts those of the user's own data.
        default_classes: the labels used where ``--classes`` is not given; none: all.
        image_size: side of its square images, or of the square they are resized to.
        load: from the folder of the data, the labels wanted and the values of ``flags`` to the images. Classes beyond
            those may come along; all keep their labels.
        why_not_comparable: from the images chosen and the values of ``flags`` to None, if they are the report's own
            images, whole; else to a few words.
        flags: its own flags.
    """

    name: str
    description: str
    class_count: int | Callable[[DataFolder], int]
    default_classes: tuple[int, ...]
    image_size: int
    load: Callable[[DataFolder, tuple[int, ...], Mapping[str, Any]], ImageData]
    why_not_comparable: Callable[[ImageData, Mapping[str, Any]], str | None]
    flags: tuple[Flag, ...] = ()

    def image_shape(self, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """(height, width, channels) of its images with these values of its flags."""
        size = options.get("image_size", self.image_size)
        return size, size, 3

    def count_classes(self, folder: DataFolder) -> int:
        """How many classes it has.

        Raises:
            UserError: the user's own data is not there.
        """
        return self.class_count if isinstance(self.class_count, int) else self.class_count(folder)
